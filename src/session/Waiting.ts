/**
 * The groups of a subscription that have not begun, by sequence.
 *
 * @since 0.1.0
 */
import * as Group from "../model/Group.ts"

/**
 * A group that has not begun; without `group`, whatever the track's cache still has of it then.
 *
 * @internal
 */
export interface Item {
  readonly sequence: number
  readonly group: Group.Group | undefined
}

/** @internal */
export interface Waiting {
  // lowest sequence first
  items: Array<Item>
}

/** @internal */
export const make = (): Waiting => ({ items: [] })

/** @internal */
export const clear = (self: Waiting): void => {
  for (const item of self.items) release(item)
  self.items = []
}

/**
 * A group that waits does not count as taken.
 *
 * @internal
 */
export const add = (self: Waiting, sequence: number, group: Group.Group | undefined): void => {
  if (group !== undefined) Group.holdUnsafe(group)
  let at = self.items.length
  while (at > 0 && self.items[at - 1]!.sequence > sequence) at--
  if (at === self.items.length) self.items.push({ sequence, group })
  else self.items.splice(at, 0, { sequence, group })
}

/**
 * The first one in order.
 *
 * @internal
 */
export const peek = (self: Waiting, isAscending: boolean): Item | undefined =>
  isAscending ? self.items[0] : self.items.at(-1)

/** @internal */
export const remove = (self: Waiting, item: Item): void => {
  if (self.items.at(-1) === item) self.items.pop()
  else if (self.items[0] === item) self.items.shift()
  else self.items.splice(self.items.lastIndexOf(item), 1)
  release(item)
}

/**
 * Forgets those out of a range.
 *
 * @internal
 */
export const narrow = (self: Waiting, min: number, max: number): void => {
  self.items = self.items.filter((item) => {
    const isKept = item.sequence >= min && item.sequence <= max
    if (!isKept) release(item)
    return isKept
  })
}

// internal

const release = ({ group }: Item): void => {
  if (group !== undefined) Group.releaseUnsafe(group)
}
