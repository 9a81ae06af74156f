/**
 * What a relay counts of itself, as metrics of Effect.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Monitor from "../session/Monitor.ts"
import type { TransportName } from "../transport/Transport.ts"
import type * as Admission from "./Admission.ts"

/**
 * Where a relay counts.
 *
 * @internal
 */
export interface Metrics {
  /** What its sessions tell. */
  readonly monitor: Monitor.Monitor
  readonly session: (change: 1 | -1, transport: TransportName) => void
  readonly refused: (limit: keyof Admission.Limits) => void
  readonly unauthorized: () => void
  /** What the caches of all tracks hold now. */
  readonly cache: (bytes: number, groups: number) => void
}

/** @internal */
export const make: Effect.Effect<Metrics> = Effect.succeed({
  monitor: Monitor.none,
  session: () => {},
  refused: () => {},
  unauthorized: () => {},
  cache: () => {}
})
