/**
 * A stream of messages: a transport's stream with the codec on top.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Reader from "../coding/Reader.ts"
import * as Wire from "../coding/Wire.ts"
import * as Writer from "../coding/Writer.ts"
import {
  DecodeError,
  fromCode,
  type MoqError,
  type SessionClosed,
  type StreamReset,
  Timeout,
  toCode,
  UnexpectedStream
} from "../core/MoqError.ts"
import type * as Profile from "../message/Profile.ts"
import type { ReadError } from "../model/Frame.ts"
import type * as Transport from "../transport/Transport.ts"
import * as Monitor from "./Monitor.ts"
import type { SessionContext } from "./SessionContext.ts"

/**
 * How reading a message can fail: the peer broke its format, ended the stream early, or is gone.
 *
 * @internal
 */
export type ReceiveError = Wire.CodecError | UnexpectedStream | StreamReset | SessionClosed

/** @internal */
export type Encode<A> = Wire.Layout<A, Profile.Profile>["encode"]

/** @internal */
export type Decode<A> = Wire.Layout<A, Profile.Profile>["decode"]

// one for the program: encoding is synchronous, and what it hands out is never rewritten
const writer = Writer.make()

/**
 * The bytes of a message. A message that does not fit the profile is a defect: whoever builds one checks before.
 *
 * @internal
 */
export const encode = <A>(layout: Encode<A>, message: A, profile: Profile.Profile): Uint8Array =>
  Writer.encode(writer, layout, message, profile)

/**
 * The code to reset or stop a stream with: that of the error, as far as the peer's version and the transport can carry
 * it.
 *
 * @internal
 */
export const resetCode = (error: MoqError, options: CodeOptions): number => toResetCode(toCode(error), options)

/**
 * A code to reset or stop a stream with, as far as the peer's version and the transport can carry it.
 *
 * @internal
 */
export const toResetCode = (code: number, { connection, profile }: CodeOptions): number => {
  const known = profile.toWireCode(code)
  return connection.capabilities.codes === "any" ? known : Math.min(known, 255)
}

interface CodeOptions {
  readonly connection: Transport.Connection
  readonly profile: Profile.Profile
}

/**
 * The error that readers of a track or a group see when the session met this one.
 *
 * @internal
 */
export const toReadError = (error: MoqError): ReadError => {
  switch (error._tag) {
    case "MoqStreamReset":
      return fromCode(error.code)
    case "MoqOverflow":
    case "MoqNotSupportedByPeer":
      return fromCode(toCode(error), error.message)
    default:
      return error
  }
}

/**
 * Both halves of a stream, with what has arrived and is not read yet.
 *
 * @internal
 */
export class MessageStream {
  readonly send: Transport.SendStream
  readonly receive: Transport.ReceiveStream
  readonly reader: Reader.Reader
  readonly monitor: Monitor.Monitor
  constructor(stream: Transport.BiStream, monitor: Monitor.Monitor = Monitor.none) {
    this.send = stream.send
    this.receive = stream.receive
    this.reader = Reader.make()
    this.monitor = monitor
  }

  /** Reads one message, or gives `undefined` when the peer has finished the stream before it. */
  read<A>(decode: Decode<A>, profile: Profile.Profile): Effect.Effect<A | undefined, ReceiveError> {
    return read(this.receive, this.reader, (reader) => decode(reader, profile), this.monitor)
  }

  /** Reads one message. The end of the stream in its place is a {@link DecodeError}. */
  expect<A>(decode: Decode<A>, profile: Profile.Profile): Effect.Effect<A, ReceiveError> {
    return expect(this.receive, this.reader, (reader) => decode(reader, profile), this.monitor)
  }

  /** Suspends until the peer finishes its side; anything that it still sends is a {@link DecodeError}. */
  get end(): Effect.Effect<void, ReceiveError> {
    return read(this.receive, this.reader, decodeNothing)
  }

  /** Ends both halves at once. */
  abort(code: number): Effect.Effect<void> {
    return Effect.andThen(this.send.reset(code), this.receive.stop(code))
  }
}

/**
 * Runs a decoder on what has arrived, and pulls more while it needs more; `undefined` when the stream ends before the
 * first byte of what is decoded.
 *
 * @internal
 */
export const read = <A>(
  stream: Transport.ReceiveStream,
  reader: Reader.Reader,
  decode: (reader: Reader.Reader) => A | Reader.NeedMore,
  monitor?: Monitor.Monitor
): Effect.Effect<A | undefined, ReceiveError> => decodeNext(stream, reader, decode, monitor, Effect.undefined)

/**
 * As {@link read}, but the end of the stream in place of what is decoded is a {@link DecodeError}.
 *
 * @internal
 */
export const expect = <A>(
  stream: Transport.ReceiveStream,
  reader: Reader.Reader,
  decode: (reader: Reader.Reader) => A | Reader.NeedMore,
  monitor?: Monitor.Monitor
): Effect.Effect<A, ReceiveError> => decodeNext(stream, reader, decode, monitor, endedBefore)

/**
 * Lets something take so long and no longer; then it fails with {@link Timeout}, after `late`.
 *
 * @internal
 */
export const within =
  (duration: Duration.Input, detail: string, late?: () => void) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | Timeout, R> =>
    Effect.timeoutOrElse(effect, {
      duration,
      orElse: () => {
        late?.()
        return Effect.fail(new Timeout({ detail }))
      }
    })

/**
 * Lets the peer take as long for something as a limit of the session says; an answer, if nothing else is said.
 *
 * @internal
 */
export const inTime = (
  { limits, monitor }: Pick<SessionContext, "limits" | "monitor">,
  detail: string,
  limit: "setup" | "firstMessage" | "request" | "drain" = "request"
) => within(limits[limit], detail, () => monitor.limit(limit))

/**
 * Runs something that may throw the errors of the codec; they become a failure. `monitor` hears of limits that the peer
 * broke.
 *
 * @internal
 */
export const attempt = <A>(
  run: () => A,
  monitor?: Monitor.Monitor
): A | Effect.Effect<never, Wire.CodecError | UnexpectedStream> => {
  try {
    return run()
  } catch (error) {
    if (monitor !== undefined) Monitor.refused(monitor, error)
    if (Wire.isCodecError(error) || error instanceof UnexpectedStream) return Effect.fail(error)
    throw error
  }
}

// internal

const endedBefore = Effect.fail(new DecodeError({ detail: "the stream ended where a message was due" }))

const decodeNothing = ({ available }: Reader.Reader): Reader.NeedMore => {
  if (available > 0) throw new DecodeError({ detail: "bytes after the last message" })
  return Reader.NeedMore
}

const decodeNext = <A, B>(
  stream: Transport.ReceiveStream,
  reader: Reader.Reader,
  decode: (reader: Reader.Reader) => A | Reader.NeedMore,
  monitor: Monitor.Monitor | undefined,
  ended: Effect.Effect<B, ReceiveError>
): Effect.Effect<A | B, ReceiveError> => {
  const next: Effect.Effect<A | B, ReceiveError> = Effect.suspend(() => {
    const message = attempt(() => decode(reader), monitor)
    if (Effect.isEffect(message)) return message
    return message === Reader.NeedMore ? more : Effect.succeed(message)
  })
  const more = Effect.matchEffect(stream.pull, {
    onSuccess: (chunks): Effect.Effect<A | B, ReceiveError> => {
      for (const chunk of chunks) reader.push(chunk)
      return next
    },
    onFailure: (error): Effect.Effect<B, ReceiveError> => {
      if (!Cause.isDone(error)) return Effect.fail(error)
      return reader.available === 0
        ? ended
        : Effect.fail(new DecodeError({ detail: "the stream ended inside a message" }))
    }
  })
  return next
}
