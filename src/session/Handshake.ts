/**
 * The first exchange of a session: which version of the protocol both sides speak.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import {
  type BoundsExceeded,
  DecodeError,
  fromCode,
  ProtocolViolation,
  SessionClosed,
  type Timeout,
  type TransportError,
  type Unauthorized,
  UnexpectedStream,
  UnsupportedVersion
} from "../core/MoqError.ts"
import * as Greeting from "../message/Greeting.ts"
import * as Profile from "../message/Profile.ts"
import * as SessionClient from "../message/SessionClient.ts"
import * as SessionServer from "../message/SessionServer.ts"
import * as StreamType from "../message/StreamType.ts"
import type { BiStream, Connection } from "../transport/Transport.ts"
import type { Limits } from "./Limits.ts"
import { encode, inTime, MessageStream, type ReceiveError } from "./MessageStream.ts"
import type { Monitor } from "./Monitor.ts"
import * as Rank from "./Rank.ts"
import { requestBytes } from "./Requests.ts"

/**
 * How the handshake can fail: `Timeout` when the peer takes too long, `UnsupportedVersion` when no version is common,
 * `Unauthorized` when the server refuses this client, `SessionClosed` when the connection ends, the others when the peer
 * breaks the protocol.
 *
 * @category errors
 * @since 0.1.0
 */
export type HandshakeError =
  | Timeout
  | UnsupportedVersion
  | Unauthorized
  | SessionClosed
  | DecodeError
  | BoundsExceeded
  | UnexpectedStream
  | ProtocolViolation

/**
 * How opening a session can fail: `TransportError` when there is no connection to be had, else as the handshake fails.
 *
 * @category errors
 * @since 0.1.0
 */
export type ConnectError = TransportError | HandshakeError

/**
 * What one side brings to the handshake.
 *
 * @internal
 */
export interface Terms {
  /** The versions that it speaks, the preferred one first. */
  readonly profiles: ReadonlyArray<Profile.Profile>
  readonly limits: Limits
  /** What it says of itself. */
  readonly greeting: Greeting.Greeting
  readonly monitor: Monitor
}

/**
 * What the handshake leaves: the version, and the Session stream, which stays open for as long as the session.
 *
 * @internal
 */
export interface Agreed {
  readonly profile: Profile.Profile
  /** What the peer said of itself. */
  readonly greeting: Greeting.Greeting
  readonly stream: MessageStream
}

/**
 * Opens the Session stream and offers the versions. Who offers only versions of the crate says no
 * more than the crate does.
 *
 * @internal
 */
export const client = (
  connection: Connection,
  { greeting, limits, monitor, profiles }: Terms
): Effect.Effect<Agreed, HandshakeError, Scope.Scope> =>
  Effect.gen(function*() {
    const stream = new MessageStream(yield* connection.openBi, monitor)
    yield* stream.send.setPriority(Rank.control)
    const versions = profiles.map((profile) => profile.version)
    yield* stream.send.write([hello(versions, profiles.includes(Profile.draft03) ? greeting : {})])
    const { extensions, version } = yield* stream.expect(SessionServer.decode, Profile.draft03)
    const profile = profiles.find((profile) => profile.version === version)
    if (profile === undefined) {
      return yield* new ProtocolViolation({ detail: `version ${hex(version)} was not offered` })
    }
    return { profile, greeting: Greeting.fromExtensions(extensions), stream }
  }).pipe(bounded({ limits, monitor }))

/**
 * Takes the stream that the client opens first, and answers on it with the first of its own versions that is offered; `agreed`
 * runs before the answer leaves, so that whatever follows it finds the session in place. `greeting` is for clients that
 * say something of themselves.
 *
 * @internal
 */
export const server = (
  opened: Effect.Effect<BiStream, SessionClosed, Scope.Scope>,
  { greeting, limits, monitor, profiles }: Terms,
  agreed: (agreed: Agreed) => Effect.Effect<void>
): Effect.Effect<void, HandshakeError, Scope.Scope> =>
  Effect.gen(function*() {
    const stream = new MessageStream(yield* opened, monitor)
    yield* stream.send.setPriority(Rank.control)
    const type = yield* stream.expect(StreamType.decodeBi, Profile.draft03)
    if (type !== "session") {
      return yield* new UnexpectedStream({ detail: `the first stream has type ${type}, not session` })
    }
    const { extensions, versions } = yield* stream.expect(SessionClient.decode, Profile.draft03)
    const profile = profiles.find((profile) => versions.includes(profile.version))
    if (profile === undefined) {
      const error = new UnsupportedVersion({
        detail: `offered ${list(versions)}, here ${list(profiles.map(versionOf))}`
      })
      yield* stream.abort(9)
      return yield* error
    }
    const theirs = Greeting.fromExtensions(extensions)
    yield* agreed({ profile, greeting: theirs, stream })
    yield* stream.send.write([answer(profile.version, Greeting.isEmpty(theirs) ? {} : greeting)])
  }).pipe(bounded({ limits, monitor }))

// internal

const hello = (versions: ReadonlyArray<number>, greeting: Greeting.Greeting): Uint8Array =>
  requestBytes<SessionClient.SessionClient>(
    "session",
    SessionClient.encode,
    { _tag: "SessionClient", versions, extensions: Greeting.toExtensions(greeting) },
    Profile.draft03
  )

const answer = (version: number, greeting: Greeting.Greeting): Uint8Array =>
  encode(
    SessionServer.encode,
    { _tag: "SessionServer", version, extensions: Greeting.toExtensions(greeting) },
    Profile.draft03
  )

const versionOf = (profile: Profile.Profile): number => profile.version

const hex = (version: number): string => `0x${version.toString(16)}`

const list = (versions: ReadonlyArray<number>): string => versions.map(hex).join(" ") || "none"

const bounded =
  (terms: Pick<Terms, "limits" | "monitor">) =>
  <A, R>(effect: Effect.Effect<A, ReceiveError | HandshakeError, R>): Effect.Effect<A, HandshakeError, R> =>
    Effect.mapError(inTime(terms, "the handshake of the session", "setup")(effect), toHandshakeError)

// a refusal may arrive as a reset of the Session stream or as the close of the connection
const toHandshakeError = (error: ReceiveError | HandshakeError): HandshakeError => {
  switch (error._tag) {
    case "MoqStreamReset":
      return refusal(error.code, "") ?? new SessionClosed({ code: error.code, reason: "", by: "remote" })
    case "MoqSessionClosed":
      return (error.by === "remote" ? refusal(error.code, error.reason) : undefined) ?? error
    case "MoqFrameTooLarge":
    case "MoqNotSupportedByPeer":
      return new DecodeError({ detail: error.message })
    default:
      return error
  }
}

const refusal = (code: number, reason: string): UnsupportedVersion | Unauthorized | undefined => {
  const error = fromCode(code, reason)
  return error._tag === "MoqUnsupportedVersion" || error._tag === "MoqUnauthorized" ? error : undefined
}
