/**
 * Which streams of QMux there are: those of one kind that one side opens.
 *
 * @internal
 */
import { Fifo, Later, settled } from "./QmuxStream.ts"

/**
 * Streams by their ids. Unlike a `Map`, which copies itself now and then and so keeps what passes through it alive (see
 * `core/Bag`), and like any table of its kind: what is taken out leaves no trace, and what follows it moves up.
 */
export class ById<S extends { readonly id: number }> {
  private slots: Array<S | undefined> = empty(8)
  private count = 0

  get(id: number): S | undefined {
    return this.slots[this.find(id)]
  }

  /** There must be none of its id. */
  add(stream: S): void {
    const { slots } = this
    if (++this.count * 2 > slots.length) {
      this.slots = empty(slots.length * 2)
      for (const one of slots) if (one !== undefined) this.slots[this.find(one.id)] = one
      // it has grown old, and would keep them
      slots.fill(undefined)
    }
    this.slots[this.find(stream.id)] = stream
  }

  delete(id: number): void {
    const { slots } = this
    const last = slots.length - 1
    let gap = this.find(id)
    if (slots[gap] === undefined) return
    this.count--
    for (let at = gap + 1 & last; slots[at] !== undefined; at = at + 1 & last) {
      const stream = slots[at]!
      // those that are where they belong, or behind the gap all the way from there, stay
      if ((at - home(stream.id) & last) < (at - gap & last)) continue
      slots[gap] = stream
      gap = at
    }
    slots[gap] = undefined
  }

  /** Empties it, and gives what was in it. */
  drain(): ReadonlyArray<S> {
    const { slots } = this
    this.slots = empty(8)
    this.count = 0
    return slots.filter((stream) => stream !== undefined)
  }

  // where it is, or would be
  private find(id: number): number {
    const { slots } = this
    const last = slots.length - 1
    let at = home(id) & last
    for (let stream = slots[at]; stream !== undefined && stream.id !== id; stream = slots[at]) at = at + 1 & last
    return at
  }
}

/** The place of a stream among those that may be open; free again once all that holds it has left. */
export class Place {
  private holders: number
  private readonly of: { free(): void }

  constructor(of: { free(): void }, holders: number) {
    this.of = of
    this.holders = holders
  }

  leave(): void {
    if (--this.holders === 0) this.of.free()
  }
}

/** One that is open at once, as a promise of it. */
class Opened<A> implements PromiseLike<A> {
  private readonly stream: A

  constructor(stream: A) {
    this.stream = stream
  }

  // oxlint-disable-next-line unicorn/no-thenable -- it is one, in place of a promise
  then<B = A>(onValue?: ((stream: A) => B | PromiseLike<B>) | null | undefined): PromiseLike<B> {
    onValue?.(this.stream)
    return settled
  }
}

/** Those that are opened here. Who comes when no place is free waits. */
export class Opening {
  private opened = 0
  private over = 0
  // how many there may be at once, and how many the peer has allowed in all
  private most = 0
  private allowed = 0
  // in their order
  private readonly waiting = new Set<{ readonly open: () => void; readonly fail: (error: Error) => void }>()
  private error: Error | undefined = undefined

  start(most: number, allowed: number): void {
    this.most = most
    this.allow(allowed)
  }

  /**
   * What `make` makes of the index of the next one, once it may be opened. Whoever waits can `withdraw`: a peer that never
   * allows another stream would have us keep whoever ever waited.
   */
  open<A>(make: (index: number) => A): PromiseLike<A> & { readonly withdraw?: () => void } {
    if (this.error !== undefined) return Promise.reject(this.error)
    if (this.isFree && this.waiting.size === 0) return new Opened(make(this.opened++))
    const later = new Later<A>()
    const one = { open: () => later.resolve(make(this.opened++)), fail: (error: Error) => later.reject(error) }
    this.waiting.add(one)
    return Object.assign(later, { withdraw: () => void this.waiting.delete(one) })
  }

  /** The peer allows so many in all. */
  allow(allowed: number): void {
    this.allowed = Math.max(this.allowed, allowed)
    this.admit()
  }

  free(): void {
    this.over++
    this.admit()
  }

  fail(error: Error): void {
    this.error = error
    const waiting = [...this.waiting]
    this.waiting.clear()
    for (const one of waiting) one.fail(error)
  }

  private get isFree(): boolean {
    return this.opened < this.allowed && this.opened - this.over < this.most
  }

  private admit(): void {
    for (const next of this.waiting) {
      if (!this.isFree) return
      this.waiting.delete(next)
      next.open()
    }
  }
}

type Result<S> = { readonly done: false; readonly value: S } | { readonly done: true; readonly value: undefined }

/** Those that the peer opens, in the shape of a web stream: it is its own reader. Each waits here until it is accepted. */
export class Arriving<S> {
  private readonly window: number
  private readonly grant: (max: number) => void
  // how many the peer may open in all, as it has been told, and how many more are free
  private granted: number
  private freed = 0
  private highest = -1
  // below the highest, and not seen yet
  private readonly skipped = new Set<number>()
  private readonly arrived = new Fifo<{ readonly stream: S; readonly place: Place }>()
  private waiting: Later<Result<S>> | undefined = undefined
  private error: Error | undefined = undefined

  constructor(window: number, grant: (max: number) => void) {
    this.window = window
    this.granted = window
    this.grant = grant
  }

  getReader(): this {
    return this
  }

  /** Nobody asks how it ends but by reading. */
  get closed(): Promise<void> {
    return new Promise(() => {})
  }

  read(): PromiseLike<Result<S>> {
    const next = this.arrived.shift()
    if (next !== undefined) {
      next.place.leave()
      return Promise.resolve({ done: false, value: next.stream })
    }
    if (this.error !== undefined) return Promise.reject(this.error)
    return this.waiting = new Later()
  }

  /** Whether nothing was heard of this one before. Throws when the peer may not open it. */
  isNew(index: number): boolean {
    if (index <= this.highest) return this.skipped.delete(index)
    if (index >= this.granted) throw new Error("stream limit exceeded")
    for (let skipped = this.highest + 1; skipped < index; skipped++) this.skipped.add(skipped)
    this.highest = index
    return true
  }

  push(stream: S, place: Place): void {
    const { waiting } = this
    if (waiting === undefined) return this.arrived.push({ stream, place })
    this.waiting = undefined
    place.leave()
    waiting.resolve({ done: false, value: stream })
  }

  // the peer is told in batches: a message for each would cost as much as the stream
  free(): void {
    if (++this.freed * 4 < this.window) return
    this.granted += this.freed
    this.freed = 0
    this.grant(this.granted)
  }

  fail(error: Error): void {
    this.error = error
    this.arrived.clear()
    const { waiting } = this
    this.waiting = undefined
    waiting?.reject(error)
  }
}

// internal

const empty = <S>(length: number): Array<S | undefined> => Array.from({ length }, () => undefined)

// scattered: ids rise, and would have to pass those that stay open, all side by side, again and again
const home = (id: number): number => Math.imul(id, 0x9e37_79b1) >>> 12
