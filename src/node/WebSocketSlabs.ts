/**
 * Memory that frames are put together in before a socket takes them. A slab is used again once every write that holds a
 * part of it is done: memory outside the heap is what makes V8 collect all of the heap, again and again.
 *
 * @internal
 */
import { Buffer } from "node:buffer"

/** A piece of memory that is filled from its beginning. */
export class Slab {
  readonly bytes: Buffer
  /** The same memory. */
  readonly words: Int32Array
  /** How many bytes are in use. */
  filled = 0
  private holders = 0
  private readonly pool: Slabs

  constructor(pool: Slabs, size: number) {
    this.pool = pool
    // not filled with zeros
    this.bytes = Buffer.allocUnsafeSlow(size)
    this.words = new Int32Array(this.bytes.buffer, 0, size >> 2)
  }

  /** Somebody has put something there. */
  hold(): void {
    this.holders++
  }

  /** One who held it needs it no more. */
  release(): void {
    if (--this.holders > 0) return
    this.filled = 0
    this.pool.giveBack(this)
  }
}

/** The slabs that all sockets of one kind share. One whose last holder is never done is left to the garbage collector. */
export class Slabs {
  private readonly size: number
  private readonly mostSpare: number
  private readonly spare: Array<Slab> = []
  private current: Slab | undefined = undefined

  /** Slabs of `size` bytes, of which `mostSpare` are kept while nobody holds them, and the current one. */
  constructor(size: number, mostSpare: number) {
    this.size = size
    this.mostSpare = mostSpare
  }

  /** The current slab, if it has room for so many bytes, or another one, which has. Whoever fills it holds it. */
  withRoom(length: number): Slab {
    const { current } = this
    if (current !== undefined && current.filled + length <= this.size) return current
    return this.current = this.spare.pop() ?? new Slab(this, this.size)
  }

  /** Nobody holds this one. */
  giveBack(slab: Slab): void {
    if (slab !== this.current && this.spare.length < this.mostSpare) this.spare.push(slab)
  }
}

/** What a socket is given at once, in pieces: parts of slabs, and memory of others. */
export class Batch {
  readonly chunks: Array<Uint8Array> = []
  private slabs: Array<Slab> = []

  /** Keeps a slab until all is written. */
  hold(slab: Slab): void {
    if (this.slabs.at(-1) === slab) return
    slab.hold()
    this.slabs.push(slab)
  }

  /** Keeps no slab for small parts: a peer that does not read would have us keep one for each few bytes. */
  own(): void {
    const { chunks } = this
    for (let i = 0; i < chunks.length; i++) {
      if (chunks[i]!.length < small) chunks[i] = Uint8Array.prototype.slice.call(chunks[i])
    }
    const isLeft = (slab: Slab) => chunks.some(({ buffer }) => buffer === slab.bytes.buffer)
    for (const slab of this.slabs) if (!isLeft(slab)) slab.release()
    this.slabs = this.slabs.filter(isLeft)
  }

  /** All is written, or nothing will be. */
  readonly release = (): void => {
    for (const slab of this.slabs) slab.release()
    this.slabs = []
  }
}

/** Parts from this size on are not copied where they need not be: a write costs about as much as a copy of so much. */
export const small = 4096
