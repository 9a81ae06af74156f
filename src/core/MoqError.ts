/**
 * Everything that can go wrong, one small tagged class per thing that a caller can react to, and the map to and from the
 * codes that travel on the wire.
 *
 * **Details**
 *
 * Stream resets, SUBSCRIBE_GAP and session closes carry a number. {@link toCode} and {@link fromCode} are total: a code
 * that has no class of its own becomes {@link App} (64 and above) or {@link Remote}, and keeps its number, so a relay
 * passes the original on.
 *
 * @since 0.1.0
 */
import type * as Cause from "effect/Cause"
import * as Data from "effect/Data"

// `detail` says what exactly, in words; it never travels except as the reason of a session's close
type Detail = { readonly detail?: string }

// what the reason of a peer's close says begins like that already
const describe = (summary: string, detail = ""): string =>
  detail === "" ? summary : detail.startsWith(`${summary}: `) ? detail : `${summary}: ${detail}`

// most say what has happened, and the detail
const Described = <Tag extends string>(
  tag: Tag,
  summary: string
): new(fields: Detail) => Cause.YieldableError & Detail & { readonly _tag: Tag } =>
  class extends Data.TaggedError(tag)<Detail> {
    override get message() {
      return describe(summary, this.detail)
    }
  }

/**
 * Code 0: the other side, or a relay between, let go before the end: a publisher was interrupted, or a subscriber left.
 *
 * @category errors
 * @since 0.1.0
 */
export class Cancelled extends Described("MoqCancelled", "cancelled") {}

/**
 * Code 1: the peer demands an extension that this side does not speak.
 *
 * @category errors
 * @since 0.1.0
 */
export class RequiredExtension extends Described("MoqRequiredExtension", "a required extension is missing") {}

/**
 * Code 2: a group was dropped because its `expires` had passed since it finished.
 *
 * @category errors
 * @since 0.1.0
 */
export class Expired extends Described("MoqExpired", "expired") {}

/**
 * Code 3: something that a limit gives a time to did not happen in that time: the handshake, the first message of a
 * stream, an answer.
 *
 * @category errors
 * @since 0.1.0
 */
export class Timeout extends Described("MoqTimeout", "timed out") {}

/**
 * Code 4: the transport under a session could not be opened, or broke.
 *
 * @category errors
 * @since 0.1.0
 */
export class TransportError extends Described("MoqTransportError", "transport failed") {}

/**
 * Code 5: bytes are not the message that they should be: a value out of its set, text that is not UTF-8, a message cut
 * off by the end of its stream.
 *
 * @category errors
 * @since 0.1.0
 */
export class DecodeError extends Described("MoqDecodeError", "malformed message") {}

/**
 * Code 6: the relay refuses this session or this path.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unauthorized extends Described("MoqUnauthorized", "not authorised") {}

/**
 * Code 9: client and server share no version of the protocol.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnsupportedVersion extends Described("MoqUnsupportedVersion", "no common version") {}

/**
 * Code 10: a stream of an unknown type, or one that must not be opened now.
 *
 * @category errors
 * @since 0.1.0
 */
export class UnexpectedStream extends Described("MoqUnexpectedStream", "unexpected stream") {}

/**
 * Code 11: a number, a length or a count is beyond what the protocol or this side allows.
 *
 * @category errors
 * @since 0.1.0
 */
export class BoundsExceeded extends Described("MoqBoundsExceeded", "out of bounds") {}

/**
 * Code 12: something that must be unique exists already: a second publisher of a path, a group sequence written twice.
 *
 * @category errors
 * @since 0.1.0
 */
export class Duplicate extends Described("MoqDuplicate", "duplicate") {}

/**
 * Code 13: nobody publishes that path, or nobody has that group.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotFound extends Described("MoqNotFound", "not found") {}

/**
 * Code 14: a frame got more or fewer bytes than its announced size.
 *
 * @category errors
 * @since 0.1.0
 */
export class WrongSize extends Described("MoqWrongSize", "wrong frame size") {}

/**
 * Code 15: the peer broke a rule of the protocol that no other code names.
 *
 * @category errors
 * @since 0.1.0
 */
export class ProtocolViolation extends Described("MoqProtocolViolation", "protocol violation") {}

/**
 * Code 26: a reader of a group was overtaken: the frames that it had not read were cut to keep memory bounded.
 *
 * @category errors
 * @since 0.1.0
 */
export class Lagged extends Described("MoqLagged", "lagged") {}

/**
 * Code 27: a frame is larger than the limit.
 *
 * @category errors
 * @since 0.1.0
 */
export class FrameTooLarge extends Described("MoqFrameTooLarge", "frame too large") {}

/**
 * Code 31: a group, or its beginning, was cached once and is no longer.
 *
 * @category errors
 * @since 0.1.0
 */
export class Evicted extends Described("MoqEvicted", "evicted") {}

/**
 * An application's own code, 0 and up; it travels as 64 + `code`. A `code` that is no such integer throws a `RangeError`.
 *
 * @category errors
 * @since 0.1.0
 */
export class App extends Data.TaggedError("MoqApp")<Detail & { readonly code: number }> {
  constructor(fields: Detail & { readonly code: number }) {
    if (!Number.isSafeInteger(fields.code) || fields.code < 0) {
      throw new RangeError(`${fields.code} is not an application code`)
    }
    super(fields)
  }

  override get message() {
    return describe(`application code ${this.code}`, this.detail)
  }
}

/**
 * A code that the peer sent and that has no class of its own; `code` is the number on the wire.
 *
 * @category errors
 * @since 0.1.0
 */
export class Remote extends Data.TaggedError("MoqRemote")<Detail & { readonly code: number }> {
  override get message() {
    return describe(`remote error code ${this.code}`, this.detail)
  }
}

/**
 * The session, or the connection under it, is over. It has no code of its own; `code` and `reason` are those of the
 * close.
 *
 * **Details**
 *
 * `by` tells who ended it: `"local"` this side, `"remote"` the peer, `"transport"` nobody (the network or the peer's
 * process died; `code` is 4 then).
 *
 * @category errors
 * @since 0.1.0
 */
export class SessionClosed extends Data.TaggedError("MoqSessionClosed")<{
  readonly code: number
  readonly reason: string
  readonly by: "local" | "remote" | "transport"
}> {
  override get message() {
    const ends = { local: "session closed here", remote: "session closed by the peer", transport: "connection lost" }
    return describe(ends[this.by], this.reason === "" ? `code ${this.code}` : `${this.reason} (code ${this.code})`)
  }
}

/**
 * One stream ended early: the peer reset it (or asked for no more of it), with the code that it gave. The session turns
 * it into the error of that code; only code that works on a `Transport` sees it.
 *
 * @category errors
 * @since 0.1.0
 */
export class StreamReset extends Data.TaggedError("MoqStreamReset")<{ readonly code: number }> {
  override get message() {
    return `stream reset with code ${this.code}`
  }
}

/**
 * A producer that may not suspend has no room left, and was told to fail rather than drop. Local: it has no code.
 *
 * @category errors
 * @since 0.1.0
 */
export class Overflow extends Described("MoqOverflow", "no room") {}

/**
 * The peer's version of the protocol, or the peer itself, cannot do what was asked. Local: it has no code.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotSupportedByPeer extends Described("MoqNotSupportedByPeer", "not supported by the peer") {}

/**
 * The errors that a code on the wire can stand for.
 *
 * @category models
 * @since 0.1.0
 */
export type WireError =
  | Cancelled
  | RequiredExtension
  | Expired
  | Timeout
  | TransportError
  | DecodeError
  | Unauthorized
  | UnsupportedVersion
  | UnexpectedStream
  | BoundsExceeded
  | Duplicate
  | NotFound
  | WrongSize
  | ProtocolViolation
  | Lagged
  | FrameTooLarge
  | Evicted
  | App
  | Remote

/**
 * How a request for a track can fail: `NotFound` when nobody has it, `Unauthorized` when this side may not have it,
 * `Timeout` when there is no answer in time, `BoundsExceeded` when the path is empty or too long, `Cancelled` when
 * whoever was to answer has gone, `App` with a code of the publishing application, `DecodeError` or `ProtocolViolation`
 * when one side does not follow the protocol, `SessionClosed` when the session is over, and {@link Remote} with any other
 * code.
 *
 * @category models
 * @since 0.1.0
 */
export type RequestError =
  | Cancelled
  | Timeout
  | DecodeError
  | Unauthorized
  | BoundsExceeded
  | NotFound
  | ProtocolViolation
  | App
  | Remote
  | SessionClosed

/**
 * How fetching a group can fail: as any request, with {@link Evicted} when the group, or the frame to begin with, is no
 * longer there, and with {@link NotSupportedByPeer} when the peer serves no FETCH.
 *
 * @category models
 * @since 0.1.0
 */
export type FetchError = RequestError | Evicted | NotSupportedByPeer

/**
 * How offering a track can fail: {@link Duplicate} when its path is taken, {@link BoundsExceeded} when its path is empty
 * or too long.
 *
 * @category models
 * @since 0.1.0
 */
export type PublishError = Duplicate | BoundsExceeded

/**
 * How changing a subscription can fail: {@link BoundsExceeded} when its range would become wider or a number is none
 * that can travel, {@link NotSupportedByPeer} when the peer's version takes no changes, {@link SessionClosed} when the
 * session is over.
 *
 * @category models
 * @since 0.1.0
 */
export type UpdateError = BoundsExceeded | NotSupportedByPeer | SessionClosed

/**
 * Every error of this library.
 *
 * @category models
 * @since 0.1.0
 */
export type MoqError = WireError | SessionClosed | StreamReset | Overflow | NotSupportedByPeer

/**
 * The code that an error travels as.
 *
 * **Details**
 *
 * The local errors have none of their own: {@link SessionClosed} and {@link StreamReset} pass on the code that they
 * carry, {@link Overflow} becomes 26 (lagged) and {@link NotSupportedByPeer} 15 (protocol violation).
 *
 * @category wire codes
 * @since 0.1.0
 */
export const toCode = (error: MoqError): number => byTag.get(error._tag)! + ("code" in error ? error.code : 0)

/**
 * The error that a code from the wire stands for; `detail` is the reason that came with it, if any.
 *
 * @category wire codes
 * @since 0.1.0
 */
export const fromCode = (code: number, detail?: string): WireError => {
  const props = detail === undefined || detail === "" ? {} : { detail }
  if (code >= 64) return new App({ code: code - 64, ...props })
  const make = byCode.get(code)
  return make === undefined ? new Remote({ code, ...props }) : new make(props)
}

/**
 * The same error as one that a request can fail with: a code that means nothing for a request becomes {@link Remote}.
 *
 * @category wire codes
 * @since 0.1.0
 */
export const toRequestError = (error: MoqError): RequestError =>
  requestErrors.has(error._tag)
    ? error as RequestError
    : new Remote({ code: toCode(error), ...(error.message === "" ? {} : { detail: error.message }) })

/**
 * Tells whether a value is an error of this library.
 *
 * @category guards
 * @since 0.1.0
 */
export const isMoqError = (u: unknown): u is MoqError =>
  typeof u === "object" && u !== null && "_tag" in u && typeof u._tag === "string" && byTag.has(u._tag)

// internal

type Coded = Exclude<WireError, App | Remote>

const coded: ReadonlyArray<readonly [code: number, make: new(fields: Detail) => Coded]> = [
  [0, Cancelled],
  [1, RequiredExtension],
  [2, Expired],
  [3, Timeout],
  [4, TransportError],
  [5, DecodeError],
  [6, Unauthorized],
  [9, UnsupportedVersion],
  [10, UnexpectedStream],
  [11, BoundsExceeded],
  [12, Duplicate],
  [13, NotFound],
  [14, WrongSize],
  [15, ProtocolViolation],
  [26, Lagged],
  [27, FrameTooLarge],
  [31, Evicted]
]

const byCode = new Map(coded)

// those that carry their code, or stand for another, are last
const byTag = new Map<string, number>([
  ...coded.map(([code, make]) => [make.prototype.name, code] as const),
  ["MoqApp", 64],
  ["MoqRemote", 0],
  ["MoqSessionClosed", 0],
  ["MoqStreamReset", 0],
  ["MoqOverflow", 26],
  ["MoqNotSupportedByPeer", 15]
])

const requestErrors = new Set<string>(
  [
    Cancelled,
    Timeout,
    DecodeError,
    Unauthorized,
    BoundsExceeded,
    NotFound,
    ProtocolViolation,
    App,
    Remote,
    SessionClosed
  ].map(({ prototype }) => prototype.name)
)
