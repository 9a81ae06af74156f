/**
 * Groups: series of frames, each sent on a stream of its own, and the places where a new reader of a track can join.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { FrameTooLarge, Lagged, WrongSize } from "../core/MoqError.ts"
import * as Frame from "./Frame.ts"
import * as Log from "./Log.ts"

/**
 * The largest frame: 16 MiB.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxFrameBytes = 16 * 1024 * 1024

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
 * A group to read. Every reader gets every frame, from the first one on, at its own pace.
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
  /** Hears how many bytes and frames the group gained, or lost when frames were cut. */
  readonly onChange?: (bytes: number, frames: number) => void
  /** Hears once that the group has ended. */
  readonly onEnd?: () => void
}): Producer => new GroupImpl(sequence, options?.first ?? 0, options?.onChange, options?.onEnd)

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
export const endUnsafe = (self: Producer, error?: Frame.ReadError): void => (self as GroupImpl).close(error)

/**
 * Has a function called whenever a reader takes frames, and when the group is no longer kept for others.
 *
 * @internal
 */
export const onTakeUnsafe = (self: Producer, onTake: () => void): void => (self as GroupImpl).watch(onTake)

/**
 * Tells that a group is no longer kept for others.
 *
 * @internal
 */
export const letGoUnsafe = (self: Group): void => (self as GroupImpl).onTake?.()

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
  const { index } = impl.whatFits(bytes, 1)
  return isAwaited(self) || Log.unreadUnsafe(impl.log) < index
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
  if (impl.held === 0) Log.wakeWatchersUnsafe(impl.log)
}

/**
 * Whether there is nothing left for any reader to take; that of a failed group is not waited for.
 *
 * @internal
 */
export const isTaken = (self: Group): boolean => {
  const { held, log } = (self as GroupImpl | Tail).impl
  return log.end?._tag === "Failure" || (held === 0 && Log.isTaken(log))
}

/** @internal */
export const taken = (self: Group): Effect.Effect<void> => Log.awaitReaders(logOf(self), () => isTaken(self))

/** @internal */
export const logOf = (self: Group): Log.Log<Frame.Frame, Frame.ReadError> => (self as GroupImpl | Tail).impl.log

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

/**
 * Turns a pull of frames into one of their payloads: it suspends on a frame that still grows.
 *
 * @internal
 */
export const payloads = <E>(
  frames: Pull.Pull<NonEmptyReadonlyArray<Frame.Frame>, E>
): Pull.Pull<NonEmptyReadonlyArray<Uint8Array>, E | Frame.ReadError> => {
  let growing: Frame.Frame | undefined
  const next: Pull.Pull<NonEmptyReadonlyArray<Uint8Array>, E | Frame.ReadError> = Effect.suspend(() =>
    growing === undefined ? Effect.flatMap(frames, complete) : Effect.map(growing.bytes, (bytes) => {
      growing = undefined
      return [bytes] as const
    })
  )
  const complete = (batch: NonEmptyReadonlyArray<Frame.Frame>) => {
    const out: Array<Uint8Array> = []
    for (const frame of batch) {
      const payload = frame.payload
      // a frame starts only when the one before it is complete, so this is the last of its batch
      if (payload === undefined) growing = frame
      else out.push(payload)
    }
    return out.length === 0 ? next : Effect.succeed(out as unknown as NonEmptyReadonlyArray<Uint8Array>)
  }
  return next
}

// internal

const frameCost = 256

const freeFrames = 8_192

const isFrameSize = (size: number): boolean => Number.isInteger(size) && size >= 0 && size <= maxFrameBytes

const lagged = () => new Lagged({ detail: "the group outgrew its limits before it was read" })

const framesOf = (reader: Group["reader"]): Group["frames"] =>
  Stream.unwrap(Effect.map(reader, (pull) => Stream.fromPull(Effect.succeed(payloads(pull)))))

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
  get frames(): Stream.Stream<Uint8Array, Frame.ReadError> {
    return framesOf(this.reader)
  }
  get reader(): Group["reader"] {
    return this.impl.readerFrom(this.frame)
  }
}

class GroupImpl implements Group, Producer {
  readonly _tag = "Group"
  readonly sequence: number
  readonly log: Log.Log<Frame.Frame, Frame.ReadError>
  readonly onChange: ((bytes: number, frames: number) => void) | undefined
  readonly onEnd: (() => void) | undefined
  readonly start: number
  onTake: (() => void) | undefined
  size: number
  open: Frame.Growing | undefined
  failure: Frame.ReadError | undefined
  endedAt: number | undefined
  arrivedAt: number | undefined
  held: number
  constructor(
    sequence: number,
    start: number,
    onChange: ((bytes: number, frames: number) => void) | undefined,
    onEnd: (() => void) | undefined
  ) {
    this.sequence = sequence
    this.start = start
    this.onTake = undefined
    this.onChange = onChange
    this.onEnd = onEnd
    this.size = 0
    this.open = undefined
    this.failure = undefined
    this.endedAt = undefined
    this.arrivedAt = undefined
    this.held = 0
    this.log = Log.makeUnsafe(start)
  }
  get group(): Group {
    return this
  }
  get impl(): GroupImpl {
    return this
  }

  // reading

  get first(): number {
    return this.log.first
  }
  get count(): number {
    return this.log.next
  }
  get end(): Exit.Exit<void, Frame.ReadError> | undefined {
    return this.log.end
  }
  get frames(): Stream.Stream<Uint8Array, Frame.ReadError> {
    return framesOf(this.reader)
  }
  get reader(): Group["reader"] {
    return this.readerFrom(0)
  }
  readerFrom(frame: number): Group["reader"] {
    return Effect.map(Log.open(this.log, Math.max(frame, this.start)), (cursor) => Log.pull(this.log, cursor, lagged))
  }

  // writing

  grow(bytes: number, frames: number): void {
    this.size += bytes
    this.onChange?.(bytes, frames)
    if (this.isOverfull(0, 0)) this.cut()
  }
  // with so many bytes and frames more
  isOverfull(bytes: number, frames: number): boolean {
    return this.size + bytes > maxBytes || this.log.next + frames - this.log.first > maxFrames
  }
  // the index of the oldest frame that can stay, and how many bytes there are then
  whatFits(bytes: number, frames: number): { readonly index: number; readonly size: number } {
    const next = this.log.next + frames
    let size = this.size + bytes
    let index = this.log.first
    while (index < this.log.next && (size > maxBytes || next - index > maxFrames)) {
      size -= Log.getUnsafe(this.log, index)!.size
      index++
    }
    return { index, size }
  }
  cut(): void {
    const { index, size } = this.whatFits(0, 0)
    this.trim(index, size)
  }
  trim(index: number, size: number): void {
    const bytes = size - this.size
    const frames = this.log.first - index
    Log.trimUnsafe(this.log, index)
    this.size = size
    if (frames !== 0) this.onChange?.(bytes, frames)
  }
  watch(onTake: () => void): void {
    this.onTake = onTake
    Log.onTakeUnsafe(this.log, onTake)
  }
  drop(error: Lagged): void {
    this.close(error)
    this.trim(this.log.next, 0)
    Log.wakeUnsafe(this.log)
  }
  get isOpen(): boolean {
    return this.log.end === undefined && (this.open === undefined || this.open.missing === 0)
  }
  readonly writeFrameUnsafe = (bytes: Uint8Array): boolean => {
    if (!this.isOpen || !isFrameSize(bytes.length)) return false
    Log.appendUnsafe(this.log, Frame.fromBytes(bytes))
    this.grow(bytes.length, 1)
    return true
  }
  readonly writeFrame = (bytes: Uint8Array): ReturnType<Producer["writeFrame"]> =>
    Effect.suspend(() => this.writeFrameUnsafe(bytes) ? Effect.void : Effect.fail(this.refusal(bytes.length)))
  readonly createFrameUnsafe = (size: number): Frame.Producer | undefined => {
    if (!this.isOpen || !isFrameSize(size)) return undefined
    const open = Frame.makeGrowing(size, (bytes) => this.grow(bytes, 0))
    this.open = open
    Log.appendUnsafe(this.log, open.frame)
    // the frame may be one too many, and end the group
    this.grow(0, 1)
    return open.producer
  }
  readonly createFrame = (size: number): ReturnType<Producer["createFrame"]> =>
    Effect.suspend(() => {
      const producer = this.createFrameUnsafe(size)
      return producer === undefined ? Effect.fail(this.refusal(size)) : Effect.succeed(producer)
    })
  refusal(size: number): FrameTooLarge | WrongSize | Frame.WriteError {
    if (this.log.end !== undefined) return Frame.toWriteError(this.failure)
    if (size > maxFrameBytes) return tooLarge(size)
    if (!isFrameSize(size)) return new WrongSize({ detail: `${size} is not a number of bytes` })
    return this.incomplete()
  }
  incomplete(): WrongSize {
    return new WrongSize({ detail: `${this.open!.missing} bytes of the last frame are missing` })
  }
  get finish(): Effect.Effect<void, WrongSize> {
    return Effect.suspend(() => this.finishUnsafe() ? Effect.void : Effect.fail(this.failure as WrongSize))
  }
  readonly finishUnsafe = (): boolean => {
    const wasOpen = this.log.end === undefined
    this.close()
    return !wasOpen || this.failure === undefined
  }
  readonly fail = (error: Frame.ReadError): Effect.Effect<void> => Effect.sync(() => this.close(error))
  close(error?: Frame.ReadError): void {
    const failure = error ?? (this.isOpen || this.log.end !== undefined ? undefined : this.incomplete())
    if (!Log.endUnsafe(this.log, failure === undefined ? Exit.void : Exit.fail(failure))) return
    this.failure = failure
    if (failure !== undefined) this.open?.fail(failure)
    this.open = undefined
    this.onEnd?.()
  }
  get taken(): Effect.Effect<void> {
    return taken(this)
  }
}
