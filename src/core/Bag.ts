/**
 * Things that come and go, in no order, each in one bag at a time.
 *
 * For what lives shortly and is many: a `Set` or a `Map` copies itself into a larger table now and then, and each table
 * leads to the next, so once one of them has grown old, V8 keeps all that ever passed through them, with whatever it
 * leads to, until a full collection (measured on Node 20: every object of 300,000). An item that knows its place costs
 * nothing of that.
 *
 * @internal
 */

/** What can be in a bag. */
export interface Item {
  /** Of the bag alone; -1 while it is in none. */
  place: number
}

export class Bag<A extends Item> {
  private items: Array<A> = []

  get size(): number {
    return this.items.length
  }

  get all(): ReadonlyArray<A> {
    return this.items
  }

  has(item: A): boolean {
    return item.place >= 0 && this.items[item.place] === item
  }

  /** An item that is in a bag already must not be added again. */
  add(item: A): void {
    item.place = this.items.length
    this.items.push(item)
  }

  /** Tells whether it was there. */
  delete(item: A): boolean {
    const { items } = this
    const { place } = item
    if (place < 0 || items[place] !== item) return false
    const last = items.pop()!
    if (last !== item) {
      items[place] = last
      last.place = place
    }
    item.place = -1
    return true
  }

  /** Empties it, and gives what was in it. */
  drain(): ReadonlyArray<A> {
    const { items } = this
    this.items = []
    for (const item of items) item.place = -1
    return items
  }
}
