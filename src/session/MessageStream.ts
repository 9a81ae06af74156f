/**
 * A stream of messages: a transport's stream with the codec on top.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Reader from "../coding/Reader.ts"
import * as Wire from "../coding/Wire.ts"
import * as Writer from "../coding/Writer.ts"
import { errorOf } from "../core/ErrorOf.ts"
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
import * as Direct from "./Direct.ts"
import * as Monitor from "./Monitor.ts"
import * as Rank from "./Rank.ts"
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
 * What becomes of a stream that the peer opened in vain: it is ended with the code of the error; one of an unknown type
 * costs the session, where the version says so, and else has a `code` of its own.
 *
 * @internal
 */
export const refusal = (
  context: SessionContext,
  error: MoqError,
  abort: (code: number) => Effect.Effect<void>,
  code: number = context.profile.unknownStreamCode
): Effect.Effect<void> => {
  if (error._tag !== "MoqUnexpectedStream") return abort(resetCode(error, context))
  return context.profile.unknownStreamCloses === "session" ? context.end(error) : abort(code)
}

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
 * Hears the messages of a stream. Its methods must not throw.
 *
 * @internal
 */
export interface Ear<A> {
  /** One message. Whether it wants more now. */
  readonly message: (message: A) => boolean
  /** The peer has finished the stream, or what it failed with. It hears nothing more. */
  readonly over: (exit: Exit.Exit<void, ReceiveError>) => void
}

/**
 * Both halves of a stream, with what has arrived and is not read yet.
 *
 * @internal
 */
export class MessageStream implements Transport.Listener {
  readonly send: Transport.SendStream
  readonly receive: Transport.ReceiveStream
  readonly reader: Reader.Reader
  readonly monitor: Monitor.Monitor
  // how to read the messages that somebody hears
  private profile: Profile.Profile | undefined
  private decode: Decode<unknown> | undefined
  private ear: Ear<unknown> | undefined
  constructor(stream: Transport.BiStream, monitor: Monitor.Monitor = Monitor.none) {
    this.send = stream.send
    this.receive = stream.receive
    this.reader = Reader.make()
    this.monitor = monitor
    this.profile = undefined
    this.decode = undefined
    this.ear = undefined
  }

  /** Reads one message, or gives `undefined` when the peer has finished the stream before it. */
  read<A>(decode: Decode<A>, profile: Profile.Profile): Effect.Effect<A | undefined, ReceiveError> {
    return expect(this.receive, this.reader, (reader) => decode(reader, profile), this.monitor, Effect.undefined)
  }

  /** Reads one message. The end of the stream in its place is a {@link DecodeError}. */
  expect<A>(decode: Decode<A>, profile: Profile.Profile): Effect.Effect<A, ReceiveError> {
    return expect(this.receive, this.reader, (reader) => decode(reader, profile), this.monitor)
  }

  /**
   * Hands over the messages as they come, without a fiber where the transport can: what is there on the stack of the
   * caller. Once one has wanted no more, the next is for whoever asks then, by this or by `read`.
   */
  hear<A>(context: SessionContext, decode: Decode<A>, ear: Ear<A>): void {
    this.profile = context.profile
    this.decode = decode
    this.ear = ear as Ear<unknown>
    if (this.next()) Direct.pull(context, this.receive, this)
  }

  chunks(chunks: ReadonlyArray<Uint8Array>): boolean {
    for (const chunk of chunks) this.reader.push(chunk)
    return this.next()
  }

  end(exit: Exit.Exit<never, StreamReset | SessionClosed | Cause.Done>): void {
    const error = errorOf(exit)
    const failed = error === undefined ? exit as Exit.Exit<never> : ending(error, this.reader)
    this.ear!.over(failed ?? Exit.void)
  }

  // whether more is wanted
  private next(): boolean {
    const { reader } = this
    const [decode, ear, profile] = [this.decode!, this.ear!, this.profile!]
    while (reader.available > 0) {
      let message
      try {
        message = decode(reader, profile)
      } catch (error) {
        ear.over(failure(error, this.monitor))
        return false
      }
      if (message === Reader.NeedMore) return true
      if (!ear.message(message)) return false
    }
    return true
  }

  /** Sends a message, ahead of what is not for the session itself, and calls a function with how that went. */
  say(
    context: SessionContext,
    message: Uint8Array,
    said: (exit: Exit.Exit<void, StreamReset | SessionClosed>) => void
  ): void {
    const { connection, fibers } = context
    const { send } = this
    if (connection.capabilities.priority) fibers.fork(send.setPriority(Rank.control))
    if (send.offer?.([message])) said(Exit.void)
    else Direct.watch(fibers, send.write([message]), said)
  }

  /** Suspends until the peer finishes its side; anything that it still sends is a {@link DecodeError}. */
  get finished(): Effect.Effect<void, ReceiveError> {
    return expect(this.receive, this.reader, decodeNothing, undefined, Effect.void)
  }

  /** Ends both halves at once. */
  abort(code: number): Effect.Effect<void> {
    return Effect.andThen(this.send.reset(code), this.receive.stop(code))
  }
}

/**
 * Runs a decoder on what has arrived, and pulls more while it needs more; then `ended`, by default a {@link DecodeError},
 * when the stream ends before the first byte of what is decoded.
 *
 * @internal
 */
export const expect = <A, B = never>(
  stream: Transport.ReceiveStream,
  reader: Reader.Reader,
  decode: (reader: Reader.Reader) => A | Reader.NeedMore,
  monitor?: Monitor.Monitor,
  ended: Effect.Effect<B, ReceiveError> = failedBefore
): Effect.Effect<A | B, ReceiveError> => {
  const next: Effect.Effect<A | B, ReceiveError> = Effect.suspend(() => {
    try {
      const message = decode(reader)
      return message === Reader.NeedMore ? more : Effect.succeed(message)
    } catch (error) {
      return failure(error, monitor)
    }
  })
  const more = Effect.matchEffect(stream.pull, {
    onSuccess: (chunks): Effect.Effect<A | B, ReceiveError> => {
      for (const chunk of chunks) reader.push(chunk)
      return next
    },
    onFailure: (error): Effect.Effect<B, ReceiveError> => ending(error, reader) ?? ended
  })
  return next
}

/**
 * The end of a stream in place of a message.
 *
 * @internal
 */
export const endedBefore = new DecodeError({ detail: "the stream ended where a message was due" })

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
 * What the codec has thrown, as a failure; `monitor` hears of limits that the peer broke. Anything else is a defect.
 *
 * @internal
 */
export const failure = (
  error: unknown,
  monitor?: Monitor.Monitor
): Exit.Exit<never, Wire.CodecError | UnexpectedStream> => {
  if (monitor !== undefined) Monitor.refused(monitor, error)
  if (Wire.isCodecError(error) || error instanceof UnexpectedStream) return Exit.fail(error)
  throw error
}

// internal

// how reading fails at the end of a stream; `undefined` where that is between two messages
const ending = (
  error: StreamReset | SessionClosed | Cause.Done,
  reader: Reader.Reader
): Exit.Exit<never, ReceiveError> | undefined => {
  if (!Cause.isDone(error)) return Exit.fail(error)
  return reader.available === 0 ? undefined : insideMessage
}

const failedBefore = Exit.fail(endedBefore)

const insideMessage = Exit.fail(new DecodeError({ detail: "the stream ended inside a message" }))

const decodeNothing = ({ available }: Reader.Reader): Reader.NeedMore => {
  if (available > 0) throw new DecodeError({ detail: "bytes after the last message" })
  return Reader.NeedMore
}
