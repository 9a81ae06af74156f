/**
 * Things that come and go, each in one chain at a time, the one that came first at its beginning.
 *
 * As a `Bag` is for what has no order: a `Set` would remember for long what has left it.
 *
 * @internal
 */

/** What can be in a chain. */
export interface Link<A> {
  /** Of the chain alone; nobody's while it is in none, so that what is kept keeps no others. */
  previous: A | undefined
  next: A | undefined
}

export class Chain<A extends Link<A>> {
  first: A | undefined = undefined
  private last: A | undefined = undefined

  /** Adds what is in none. */
  add(item: A): void {
    const { last } = this
    item.previous = last
    this.last = item
    if (last === undefined) this.first = item
    else last.next = item
  }

  /** Takes out what is in it. */
  delete(item: A): void {
    const { next, previous } = item
    if (previous === undefined) this.first = next
    else previous.next = next
    if (next === undefined) this.last = previous
    else next.previous = previous
    item.previous = undefined
    item.next = undefined
  }
}
