/**
 * How a session asks its peer: a stream with its type and first message, and what the answers mean.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import { errorOf } from "../core/ErrorOf.ts"
import {
  BoundsExceeded,
  Cancelled,
  isMoqError,
  type MoqError,
  NotFound,
  type RequestError,
  SessionClosed,
  toCode,
  toRequestError
} from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import * as Priority from "../core/Priority.ts"
import type { Profile } from "../message/Profile.ts"
import * as StreamType from "../message/StreamType.ts"
import type * as Subscription from "../model/Subscription.ts"
import { type Encode, encode, MessageStream, type ReceiveError, resetCode, toReadError } from "./MessageStream.ts"
import * as Rank from "./Rank.ts"
import type { SessionContext } from "./SessionContext.ts"

/**
 * Opens a stream for as long as the scope; when that closes with an error, the peer is told of that one.
 *
 * @internal
 */
export const open = (context: SessionContext): Effect.Effect<MessageStream, ReceiveError, Scope.Scope> =>
  Effect.flatMap(context.connection.openBi, (opened) => {
    const stream = new MessageStream(opened, context.monitor)
    const opening = Effect.acquireRelease(Effect.succeed(stream), (_, exit) => tell(context, stream, exit))
    return Effect.tap(opening, stream.send.setPriority(Rank.control))
  })

/**
 * Tells the peer of the error that something has ended with; of nothing else.
 *
 * @internal
 */
export const tell = (
  context: SessionContext,
  stream: MessageStream,
  exit: Exit.Exit<unknown, unknown>
): Effect.Effect<void> => {
  const error = errorOf(exit)
  return isMoqError(error) ? stream.abort(resetCode(error, context)) : Effect.void
}

/** @internal */
export const requestBytes = <A>(
  type: StreamType.Bi,
  layout: Encode<A>,
  message: A,
  profile: Profile
): Uint8Array =>
  encode<A>(
    (writer, message, profile) => {
      StreamType.encodeBi(writer, type)
      layout(writer, message, profile)
    },
    message,
    profile
  )

/**
 * Opens a stream with its type and first message, in one write.
 *
 * @internal
 */
export const request = <A>(
  context: SessionContext,
  type: StreamType.Bi,
  layout: Encode<A>,
  message: A
): Effect.Effect<MessageStream, ReceiveError, Scope.Scope> =>
  Effect.tap(open(context), (stream) => stream.send.write([requestBytes(type, layout, message, context.profile)]))

/**
 * What readers of a subscription see that was closed here.
 *
 * @internal
 */
export const left = new Cancelled({ detail: "the subscription was closed" })

/**
 * How a session ends that was closed here, with nothing to say.
 *
 * @internal
 */
export const closedHere = new SessionClosed({ code: 0, reason: "", by: "local" })

/**
 * What the failure of a request for a path means; a code says that something was not found, but not what.
 *
 * @internal
 */
export const requestErrorOf = (path: Path.Path) => (error: MoqError): RequestError =>
  error._tag === "MoqStreamReset" && error.code === codeNotFound
    ? new NotFound({ detail: Path.format(path) })
    : toRequestError(toReadError(error))

/**
 * Why the numbers of a request cannot travel, if so.
 *
 * @internal
 */
export const problemOf = (
  { expires, from, priority, to }: Pick<Subscription.Request, "priority" | "expires" | "to"> & {
    readonly from?: Subscription.Request["from"] | undefined
  }
): BoundsExceeded | undefined => {
  const detail = problem(priority, Priority.min, Priority.max, "a priority") ??
    problem(from === "latest" ? undefined : from, 0, maxSequence, "the number of a group or frame") ??
    problem(to, 0, maxSequence, "the number of a group or frame") ??
    problem(expires, 0, Number.MAX_SAFE_INTEGER, "a number of milliseconds")
  return detail === undefined ? undefined : new BoundsExceeded({ detail })
}

// internal

const codeNotFound = toCode(new NotFound({}))

const maxSequence = Number.MAX_SAFE_INTEGER - 1

const problem = (value: number | undefined, min: number, max: number, what: string): string | undefined =>
  value === undefined || (Number.isInteger(value) && value >= min && value <= max)
    ? undefined
    : `${value} is not ${what}: ${min}..${max}`
