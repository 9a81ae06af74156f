/**
 * Groups: series of frames, each sent on a stream of its own, and the places where a new reader of a track can join.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { errorOf } from "../core/ErrorOf.ts"
import { FrameTooLarge, Lagged, WrongSize } from "../core/MoqError.ts"
import * as Body from "./Body.ts"
import * as Frame from "./Frame.ts"
import * as Log from "./Log.ts"
import * as Wire from "./Wire.ts"

/**
 * The largest frame: 16 MiB.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxFrameBytes: number = Wire.maxFrameBytes

/**
 * The most bytes of payload that a group holds: 32 MiB. Above that its oldest frames are cut.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxBytes = 32 * 1024 * 1024

/**
 * The most frames that a group holds: 65,536. Above that its oldest frames are cut.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxFrames = 65_536

/**
 * The most bytes of payload that a received group keeps for readers that come later: 256 KiB. Beyond that, frames that
 * every open reader has taken go.
 *
 * **Details**
 *
 * It holds for the groups of a subscription of a session, and as long as somebody reads the group: what nobody has taken
 * stays up to {@link maxBytes} and {@link maxFrames}, and so does the last frame, until the group has ended. A group that
 * has lost its beginning is no place to join any more.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxTaken = 256 * 1024

/**
 * A group to read. Every reader gets every frame, from the first one on, at its own pace.
 *
 * **Gotchas**
 *
 * A group that was received over a session lets go of what its readers have taken, beyond {@link maxTaken}: a reader that
 * opens when others have had more than that gets {@link Lagged}.
 *
 * @category models
 * @since 0.1.0
 */
export interface Group {
  readonly _tag: "Group"
  /** Its place in the track: 0, 1, 2... A sequence may be missing. */
  readonly sequence: number
  /** How many bytes of payload it holds now. */
  readonly size: number
  /** How many frames it has had so far. */
  readonly count: number
  /** The index of the first frame that is still here: that of the first frame there was, until frames are cut. */
  readonly first: number
  /** How the group ended, once it has. */
  readonly end: Exit.Exit<void, Frame.ReadError> | undefined
  /**
   * The payloads of the frames, in order; a growing frame comes once it is complete. Ends when the group is finished.
   *
   * Fails as the group does, and with {@link Lagged} when frames that this run had not read were cut. Each run reads
   * from the first frame.
   */
  readonly frames: Stream.Stream<Uint8Array, Frame.ReadError>
  /** Takes frames in batches, growing ones included: see `effect/Pull`. */
  readonly reader: Effect.Effect<Pull.Pull<NonEmptyReadonlyArray<Frame.Frame>, Frame.ReadError>, never, Scope.Scope>
}

/**
 * Writes a group. Writing never suspends.
 *
 * @category models
 * @since 0.1.0
 */
export interface Producer {
  readonly sequence: number
  /** The group that this writes, to read. */
  readonly group: Group
  /**
   * Appends a whole frame; its bytes must not be changed afterwards.
   *
   * Fails with {@link FrameTooLarge} above {@link maxFrameBytes}, with {@link WrongSize} when the frame before it is not
   * complete, and with `WriteError` when the group has ended.
   */
  readonly writeFrame: (bytes: Uint8Array) => Effect.Effect<void, FrameTooLarge | WrongSize | Frame.WriteError>
  /** The same from a callback: `false` when it could not. */
  readonly writeFrameUnsafe: (bytes: Uint8Array) => boolean
  /**
   * Starts a frame of the given size in bytes, to be written in chunks. Fails as `writeFrame` does, and with
   * {@link WrongSize} for a size that is no whole number.
   */
  readonly createFrame: (
    size: number
  ) => Effect.Effect<Frame.Producer, FrameTooLarge | WrongSize | Frame.WriteError>
  /** The same from a callback: `undefined` when it could not. */
  readonly createFrameUnsafe: (size: number) => Frame.Producer | undefined
  /** Ends the group. When its last frame is not complete the group fails with {@link WrongSize}, and so does this. */
  readonly finish: Effect.Effect<void, WrongSize>
  /** The same from a callback: `false` when its last frame was not complete. */
  readonly finishUnsafe: () => boolean
  /** Fails the group: its readers get the frames that are here, then the error. Does nothing once it has ended. */
  readonly fail: (error: Frame.ReadError) => Effect.Effect<void>
  /**
   * Suspends until every reader that is open has taken every frame that is here, or the group has failed. A reader whose
   * frames were cut is not waited for.
   */
  readonly taken: Effect.Effect<void>
}

/**
 * Makes a group that stands alone; `Track` makes those that belong to a track.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeUnsafe = (sequence: number, options?: {
  /** The index of its first frame: above 0 for the end of a group that others have from its beginning; 0 by default. */
  readonly first?: number | undefined
}): Producer => new GroupImpl(sequence, options?.first ?? 0, undefined)

/**
 * Whoever keeps groups.
 *
 * @internal
 */
export interface Keeper {
  /** Beyond how many bytes of payload the group lets go of what every reader has taken. */
  readonly maxTaken: number
  /** Hears how many bytes and frames the group gained, or lost when frames were cut. */
  readonly resize: (group: Group, bytes: number, frames: number) => void
  /** Hears once that the group has ended. */
  readonly release: (group: Group) => void
}

/**
 * Makes a group that is kept.
 *
 * @internal
 */
export const keptUnsafe = (sequence: number, keeper: Keeper): Producer => new GroupImpl(sequence, 0, keeper)

/**
 * The same group, for readers that begin at a frame of the given index, be it there already or still to come; `first`
 * tells it, and frames below it are not read. A reader whose first frame was cut lags.
 *
 * @category combinators
 * @since 0.1.0
 */
export const tail = (self: Group, frame: number): Group =>
  frame <= 0
    ? self
    : new Tail((self as GroupImpl | Tail).impl, self instanceof Tail ? Math.max(self.frame, frame) : frame)

/** @internal */
export const endUnsafe = (self: Producer | Group, error?: Frame.ReadError): void => {
  ;(self as GroupImpl).close(error)
}

/**
 * Has somebody hear of frames that a reader takes, and that the group is no longer kept for others.
 *
 * @internal
 */
export const onTakeUnsafe = (self: Producer, taker: Wire.Taker | undefined): void => {
  ;(self as GroupImpl).taker = taker
}

/**
 * Tells that a group is no longer kept for others.
 *
 * @internal
 */
export const letGoUnsafe = (self: Group): void => (self as GroupImpl).taker?.taken()

/**
 * Gives up a group, ended or not, and the memory of its frames: whoever has not read them gets the error.
 *
 * @internal
 */
export const dropUnsafe = (self: Producer, error: Lagged): void => (self as GroupImpl).drop(error)

/**
 * Whether a frame more of that size would cut frames that a reader has still to take; `isAwaited` tells whether there is
 * one who has not begun to.
 *
 * @internal
 */
export const overflows = (self: Group, bytes: number, isAwaited: (self: Group) => boolean): boolean => {
  const { impl } = self as GroupImpl | Tail
  if (!impl.isOverfull(bytes, 1)) return false
  const cut = Body.cutFor(impl, impl.size + bytes - maxBytes, held(impl) + 1 - maxFrames)
  return isAwaited(self) || Body.isAwaited(impl, cut)
}

/**
 * What frames count for where memory is limited: their bytes, and beyond some thousands of them also what each costs
 * beside its bytes, so that many small ones do not pass below a limit that large ones would meet.
 *
 * @internal
 */
export const weigh = (bytes: number, frames: number): number => bytes + frameCost * Math.max(0, frames - freeFrames)

/**
 * How many frames it holds now.
 *
 * @internal
 */
export const held = (self: Group): number => self.count - self.first

/** @internal */
export const tooLarge = (size: number): FrameTooLarge =>
  new FrameTooLarge({ detail: `${size} bytes, at most ${maxFrameBytes} are allowed` })

/**
 * Tells that a reader has not done with the group: until it is released the group does not count as taken.
 *
 * @internal
 */
export const holdUnsafe = (self: Group): void => {
  ;(self as GroupImpl | Tail).impl.held++
}

/** @internal */
export const releaseUnsafe = (self: Group): void => {
  const { impl } = self as GroupImpl | Tail
  impl.held--
  if (impl.held === 0) Body.wakeWatchersUnsafe(impl)
}

/**
 * Whether there is nothing left for any reader to take; that of a failed group is not waited for.
 *
 * @internal
 */
export const isTaken = (self: Group): boolean => {
  const { impl } = self as GroupImpl | Tail
  return impl.end?._tag === "Failure" || (impl.held === 0 && !Body.isAwaited(impl))
}

/** @internal */
export const taken = (self: Group): Effect.Effect<void> => Body.awaitReaders(bodyOf(self), () => isTaken(self))

/**
 * The frames of a group as they are on the wire.
 *
 * @internal
 */
export const bodyOf = (self: Group): Body.Body => (self as GroupImpl | Tail).impl

/**
 * Opens a place in the body of a group, where its readers begin.
 *
 * @internal
 */
export const openUnsafe = (self: Group): Body.Place => {
  const { impl } = self as GroupImpl | Tail
  return Body.openUnsafe(impl, self instanceof Tail ? Math.max(self.frame, impl.start) : impl.start)
}

/**
 * When the group ended, in milliseconds; `undefined` before, and for a group that belongs to no track.
 *
 * @internal
 */
export const endedAt = (self: Group): number | undefined => (self as GroupImpl | Tail).impl.endedAt

/** @internal */
export const setEndedAt = (self: Group, time: number): void => {
  ;(self as GroupImpl | Tail).impl.endedAt = time
}

/**
 * When the first byte of the group came, in milliseconds of a clock that never goes back; `undefined` for one that
 * nobody measures, or that was not received.
 *
 * @internal
 */
export const arrivedAt = (self: Group): number | undefined => (self as GroupImpl | Tail).impl.arrivedAt

/** @internal */
export const setArrivedAt = (self: Group, time: number): void => {
  ;(self as GroupImpl | Tail).impl.arrivedAt = time
}

// internal

const frameCost = 256

const freeFrames = 8_192

const isFrameSize = (size: number): boolean => Number.isInteger(size) && size >= 0 && size <= maxFrameBytes

const lagged = () => new Lagged({ detail: "the group outgrew its limits before it was read" })

// takes in batches from a frame on
const pullFrom = <A>(
  impl: GroupImpl,
  frame: number,
  take: (body: Body.Body, place: Body.Place) => A | undefined,
  isReady: (body: Body.Body, place: Body.Place) => boolean
): Effect.Effect<Pull.Pull<A, Frame.ReadError>, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => Body.openUnsafe(impl, Math.max(frame, impl.start))),
      (place) => Effect.sync(() => Body.closeUnsafe(impl, place))
    ),
    (place) => {
      const wait = Body.awaitUntil(impl, () => isReady(impl, place))
      return Log.handingOut<A, Frame.ReadError | Cause.Done>(
        () => take(impl, place),
        (again) => {
          if (Body.isLagging(impl, place)) return Effect.fail(lagged())
          return impl.end === undefined ? Effect.andThen(wait, again) : Log.endOf(impl.end)
        }
      )
    }
  )

const readerOf = (impl: GroupImpl, frame: number): Group["reader"] =>
  pullFrom(impl, frame, Body.takeFramesUnsafe, Body.hasFrame)

const framesOf = (impl: GroupImpl, frame: number): Group["frames"] =>
  Log.toStream(pullFrom(impl, frame, Body.takePayloadsUnsafe, Body.hasPayload))

class Tail implements Group {
  readonly _tag = "Group"
  readonly impl: GroupImpl
  readonly frame: number
  constructor(impl: GroupImpl, frame: number) {
    this.impl = impl
    this.frame = frame
  }
  get sequence(): number {
    return this.impl.sequence
  }
  get size(): number {
    return this.impl.size
  }
  get count(): number {
    return this.impl.count
  }
  get first(): number {
    return Math.max(this.frame, this.impl.first)
  }
  get end(): Exit.Exit<void, Frame.ReadError> | undefined {
    return this.impl.end
  }
  get frames(): Group["frames"] {
    return framesOf(this.impl, this.frame)
  }
  get reader(): Group["reader"] {
    return readerOf(this.impl, this.frame)
  }
}

class GroupImpl extends Wire.Wire implements Group, Producer {
  readonly _tag = "Group"
  readonly group: Group
  readonly impl: GroupImpl
  readonly sequence: number
  readonly start: number
  readonly keeper: Keeper | undefined
  endedAt: number | undefined
  arrivedAt: number | undefined
  held: number
  constructor(sequence: number, start: number, keeper: Keeper | undefined) {
    super(start)
    this.sequence = sequence
    this.start = start
    this.keeper = keeper
    this.endedAt = undefined
    this.arrivedAt = undefined
    this.held = 0
    this.group = this
    this.impl = this
  }

  // reading

  get count(): number {
    return this.next
  }
  get frames(): Group["frames"] {
    return framesOf(this, 0)
  }
  get reader(): Group["reader"] {
    return readerOf(this, 0)
  }

  // writing

  override changed(bytes: number, frames: number): void {
    this.keeper?.resize(this, bytes, frames)
    if (this.isOverfull(0, 0)) Body.cutUnsafe(this, maxBytes, maxFrames)
  }
  // once it is no place to join, what was taken is of no use to anybody, and once it has ended, nor is its last frame
  override took(): void {
    const { end, held, keeper, readers, size, start } = this
    if (keeper === undefined || keeper.maxTaken === Infinity || held > 0) return
    if (size > keeper.maxTaken || this.first > start) Body.letGoUnsafe(this)
    if (end !== undefined && this.first > start && readers > 0 && !Body.isAwaited(this)) Body.dropUnsafe(this)
  }
  // with so many bytes and frames more
  isOverfull(bytes: number, frames: number): boolean {
    return this.size + bytes > maxBytes || this.next + frames - this.first > maxFrames
  }
  get isOpen(): boolean {
    return this.end === undefined && this.missing === 0
  }
  write(bytes: Uint8Array): boolean {
    if (!this.isOpen || bytes.length > maxFrameBytes) return false
    Body.writeUnsafe(this, bytes)
    return true
  }
  get writeFrameUnsafe(): Producer["writeFrameUnsafe"] {
    return (bytes) => this.write(bytes)
  }
  get writeFrame(): Producer["writeFrame"] {
    return (bytes) => Effect.suspend(() => this.write(bytes) ? Effect.void : Effect.fail(this.refusal(bytes.length)))
  }
  get createFrameUnsafe(): Producer["createFrameUnsafe"] {
    return (size) => {
      if (!this.isOpen || !isFrameSize(size)) return undefined
      Body.beginUnsafe(this, size)
      return new FrameProducer(this, size)
    }
  }
  get createFrame(): Producer["createFrame"] {
    return (size) =>
      Effect.suspend(() => {
        const producer = this.createFrameUnsafe(size)
        return producer === undefined ? Effect.fail(this.refusal(size)) : Effect.succeed(producer)
      })
  }
  refusal(size: number): FrameTooLarge | WrongSize | Frame.WriteError {
    if (this.end !== undefined) return Frame.toWriteError(this.failure)
    if (size > maxFrameBytes) return tooLarge(size)
    if (!isFrameSize(size)) return new WrongSize({ detail: `${size} is not a number of bytes` })
    return this.incomplete()
  }
  incomplete(): WrongSize {
    return new WrongSize({ detail: `${this.missing} bytes of the last frame are missing` })
  }

  // ending

  get failure(): Frame.ReadError | undefined {
    return this.end && errorOf(this.end)
  }
  get finish(): Effect.Effect<void, WrongSize> {
    return Effect.suspend(() => this.finishUnsafe() ? Effect.void : Effect.fail(this.failure as WrongSize))
  }
  get finishUnsafe(): Producer["finishUnsafe"] {
    return () => !this.close() || this.end?._tag === "Success"
  }
  get fail(): Producer["fail"] {
    return (error) => Effect.sync(() => void this.close(error))
  }
  // `false` when it had ended before
  close(error?: Frame.ReadError): boolean {
    const failure = error ?? (this.missing > 0 ? this.incomplete() : undefined)
    const isNew = Body.endUnsafe(this, failure === undefined ? Exit.void : Exit.fail(failure))
    if (isNew) this.keeper?.release(this)
    if (isNew && failure === undefined) this.took()
    return isNew
  }
  drop(error: Lagged): void {
    this.close(error)
    Body.dropUnsafe(this)
  }
  get taken(): Effect.Effect<void> {
    return taken(this)
  }
}

// writes a frame of the group in chunks
class FrameProducer implements Frame.Producer {
  readonly group: GroupImpl
  readonly size: number
  readonly index: number
  constructor(group: GroupImpl, size: number) {
    this.group = group
    this.size = size
    this.index = group.next - 1
  }
  get missing(): number {
    return this.index === this.group.next - 1 ? this.group.missing : 0
  }
  get isLost(): boolean {
    return this.missing > 0 && this.group.end !== undefined
  }
  put(chunk: Uint8Array): boolean {
    if (chunk.length > this.missing || this.isLost) return false
    if (chunk.length > 0) Body.growUnsafe(this.group, chunk)
    return true
  }
  get writeUnsafe(): Frame.Producer["writeUnsafe"] {
    return (chunk) => this.put(chunk)
  }
  get write(): Frame.Producer["write"] {
    return (chunk) => Effect.suspend(() => this.put(chunk) ? Effect.void : Effect.fail(this.refusal(chunk.length)))
  }
  get finish(): Effect.Effect<void, WrongSize | Frame.WriteError> {
    return Effect.suspend(() => this.missing === 0 ? Effect.void : Effect.fail(this.refusal(0)))
  }
  refusal(length: number): WrongSize | Frame.WriteError {
    if (this.isLost) return Frame.toWriteError(this.group.failure)
    const { missing, size } = this
    return new WrongSize({
      detail: length > missing
        ? `${length} bytes for a frame that lacks ${missing} of ${size}`
        : `${missing} of ${size} bytes are missing`
    })
  }
}
