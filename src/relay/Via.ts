/**
 * The way that a track takes through relays, and how relays call tracks among themselves.
 *
 * **Details**
 *
 * The wire has no field for it, so it is a part of a path: relay `X` asks relay `Y` for what is announced below
 * `[".relay", X]`, and hears of `[".relay", X, way, ...path]`. It subscribes, asks and fetches by the same name.
 *
 * @since 0.1.0
 */
import * as Path from "../core/Path.ts"
import { reserved } from "./Intake.ts"

/**
 * A way. Relays and publishers have 16 hex digits each.
 *
 * @internal
 */
export interface Via {
  /** The relays, the nearest first: there is at least one. */
  readonly hops: ReadonlyArray<string>
  /** The publisher: two that differ have nothing to do with each other, or it is not known that they do. */
  readonly publisher: string
}

/**
 * As a part of a path: `hop.hop.hop!publisher`.
 *
 * @internal
 */
export const format = ({ hops, publisher }: Via): string => `${hops.join(".")}!${publisher}`

/**
 * What a part of a path says; `undefined` when it is none of {@link format}.
 *
 * @internal
 */
export const parse = (part: string): Via | undefined => {
  if (!pattern.test(part)) return undefined
  const [hops, publisher] = part.split("!") as [string, string]
  return { hops: hops.split("."), publisher }
}

/**
 * Where it leads: the relay that the publisher is connected to, and the publisher.
 *
 * @internal
 */
export const endOf = ({ hops, publisher }: Via): string => `${hops.at(-1)}!${publisher}`

/**
 * The way that is told of a track which does not come by this relay any more, though it may not have ended: it leads back
 * to the relay that asks.
 *
 * @internal
 */
export const lost = (from: string, to: string): string => `${from}.${to}!0000000000000000`

/**
 * What the relay `to` hears of a track whose way is `way`.
 *
 * @internal
 */
export const nameFor = (to: string, way: string, path: Path.Path): Path.Path => Path.concat([reserved, to, way], path)

// internal

const pattern = /^[0-9a-f]{16}(\.[0-9a-f]{16})*![0-9a-f]{16}$/
