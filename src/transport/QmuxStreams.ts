/**
 * Which streams of QMux there are: those of one kind that one side opens.
 *
 * @internal
 */
import { Fifo } from "./QmuxStream.ts"

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

/** Those that are opened here. Who comes when no place is free waits. */
export class Opening {
  private opened = 0
  private over = 0
  // how many there may be at once, and how many the peer has allowed in all
  private most = 0
  private allowed = 0
  private readonly waiting = new Fifo<{ readonly open: () => void; readonly fail: (error: Error) => void }>()
  private error: Error | undefined = undefined

  start(most: number, allowed: number): void {
    this.most = most
    this.allow(allowed)
  }

  /** What `make` makes of the index of the next one, once it may be opened. */
  open<A>(make: (index: number) => A): Promise<A> {
    if (this.error !== undefined) return Promise.reject(this.error)
    if (this.isFree && this.waiting.length === 0) return Promise.resolve(make(this.opened++))
    return new Promise((resolve, fail) => this.waiting.push({ open: () => resolve(make(this.opened++)), fail }))
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
    for (let next = this.waiting.shift(); next !== undefined; next = this.waiting.shift()) next.fail(error)
  }

  private get isFree(): boolean {
    return this.opened < this.allowed && this.opened - this.over < this.most
  }

  private admit(): void {
    while (this.waiting.length > 0 && this.isFree) this.waiting.shift()!.open()
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
  private waiting:
    | { readonly resolve: (result: Result<S>) => void; readonly reject: (error: Error) => void }
    | undefined = undefined
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

  read(): Promise<Result<S>> {
    const next = this.arrived.shift()
    if (next !== undefined) {
      next.place.leave()
      return Promise.resolve({ done: false, value: next.stream })
    }
    if (this.error !== undefined) return Promise.reject(this.error)
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject }
    })
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
    if (this.waiting === undefined) return this.arrived.push({ stream, place })
    const { resolve } = this.waiting
    this.waiting = undefined
    place.leave()
    resolve({ done: false, value: stream })
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
    this.waiting?.reject(error)
    this.waiting = undefined
  }
}
