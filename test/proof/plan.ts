/** What happens in one run of the proof: made from a seed, so that a number is enough to see it again. */
import type { GroupOrder } from "../../src/core/GroupOrder.ts"
import type { Name } from "../../src/message/Profile.ts"

/** One step. Peers, tracks and subscriptions are indices; what does not exist when its turn comes is left out. */
export type Step =
  | { readonly do: "connect" | "disconnect" | "interrupt" | "drop"; readonly peer: number }
  | { readonly do: "publish"; readonly peer: number; readonly track: number; readonly order: GroupOrder }
  | {
    readonly do: "group"
    readonly peer: number
    readonly track: number
    /** How many sequences to leave out before it. */
    readonly skip: number
    /** The sizes of its frames, in bytes. */
    readonly frames: ReadonlyArray<number>
    readonly chunks: number
    readonly end: "finish" | "fail" | "open"
  }
  | { readonly do: "write"; readonly peer: number; readonly track: number; readonly frames: ReadonlyArray<number> }
  | { readonly do: "finish" | "fail" | "abandon"; readonly peer: number; readonly track: number }
  | {
    readonly do: "subscribe"
    readonly peer: number
    readonly track: number
    readonly from: "latest" | number
    readonly to: number | undefined
    readonly priority: number
    readonly order: GroupOrder
    readonly expires: number
    readonly wait: boolean
    /** Which face of the track is read, and how long each batch takes, in milliseconds. */
    readonly face: "events" | "frames"
    readonly pace: number
  }
  | {
    readonly do: "update"
    readonly subscription: number
    readonly priority: number
    readonly order: GroupOrder
    readonly narrow: number
  }
  | { readonly do: "leave"; readonly subscription: number }
  | {
    readonly do: "fetch"
    readonly peer: number
    readonly track: number
    /** How far before the newest group. */
    readonly back: number
    readonly frame: number
    /** After how long it is interrupted, in milliseconds. */
    readonly patience: number
  }
  | { readonly do: "info"; readonly peer: number; readonly track: number }
  | { readonly do: "network"; readonly peer: number; readonly fault: "partition" | "slow" | "heal" }
  | { readonly do: "sleep"; readonly millis: number }

/** How a peer is connected. */
export interface PeerPlan {
  readonly reconnects: boolean
  readonly profile: Name
}

/** A whole run. */
export interface Plan {
  readonly seed: number
  readonly peers: ReadonlyArray<PeerPlan>
  /** Whether so little may be kept that some of it has to go. */
  readonly isTight: boolean
  readonly network: {
    readonly latency: number
    readonly jitter: number
    readonly loss: number
    readonly bandwidth: number | "unlimited"
    readonly reset: number
    readonly stop: number
    readonly reorder: number
    readonly death: number
  }
  readonly steps: ReadonlyArray<Step>
}

/** The paths of the tracks; the second is below the first. */
export const paths: ReadonlyArray<ReadonlyArray<string>> = [["a"], ["a", "b"], ["c"]]

/** Numbers from a seed: the same ones each time. */
export const random = (seed: number) => {
  let state = (seed ^ 0x9e3779b9) >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  return {
    /** 0 up to, and without, `n`. */
    below: (n: number): number => Math.floor(next() * n),
    chance: (p: number): boolean => next() < p,
    pick: <A>(of: ReadonlyArray<A>): A => of[Math.floor(next() * of.length)]!
  }
}

type Random = ReturnType<typeof random>

/** The plan of a seed. */
export const make = (seed: number): Plan => {
  const r = random(seed)
  const count = 2 + r.below(3)
  const profiles = r.pick<ReadonlyArray<Name>>([["draft03"], ["draft03"], ["draft03", "fork02", "fork04"]])
  const peers = Array.from({ length: count }, () => ({ reconnects: r.chance(0.3), profile: r.pick(profiles) }))
  const isTight = r.chance(0.25)
  const bad = r.chance(0.7)
  const network = {
    latency: r.pick([0, 5, 40]),
    jitter: bad ? r.pick([0, 10, 60]) : 0,
    loss: bad ? r.pick([0, 0.02, 0.1]) : 0,
    bandwidth: bad ? r.pick<number | "unlimited">(["unlimited", 1_000_000, 100_000]) : "unlimited" as const,
    reset: bad && r.chance(0.3) ? 0.01 : 0,
    stop: bad && r.chance(0.3) ? 0.01 : 0,
    reorder: bad && r.chance(0.3) ? 0.2 : 0,
    death: bad && r.chance(0.3) ? 0.005 : 0
  }
  const steps: Array<Step> = [
    { do: "publish", peer: 0, track: 0, order: "default" },
    { do: "subscribe", ...viewer(r, count), peer: 1, track: 0 }
  ]
  const length = 4 + r.below(14)
  for (let i = 0; i < length; i++) steps.push(step(r, count))
  return { seed, peers, isTight, network, steps }
}

const orders: ReadonlyArray<GroupOrder> = ["default", "asc", "desc"]

const sizes = (r: Random): ReadonlyArray<number> =>
  Array.from({ length: r.pick([0, 1, 1, 2, 3, 5]) }, () => r.pick([0, 1, 20, 20, 300, 3_000, 20_000]))

const viewer = (r: Random, peers: number) => {
  const from = r.pick<"latest" | number>(["latest", "latest", 0, 0, 1, 3])
  return {
    peer: r.below(peers),
    track: r.below(paths.length),
    from,
    to: r.chance(0.15) ? (from === "latest" ? 0 : from) + r.below(6) : undefined,
    priority: r.pick([0, 0, -5, 7, 100]),
    order: r.pick(orders),
    expires: r.pick([0, 0, 0, 50, 500]),
    wait: r.chance(0.7),
    face: r.pick(["events", "events", "frames"] as const),
    pace: r.pick([0, 0, 0, 30, 400])
  }
}

const step = (r: Random, peers: number): Step => {
  const peer = r.below(peers)
  const track = r.pick([0, 0, 0, 1, 2])
  const dice = r.below(100)
  if (dice < 30) {
    return {
      do: "group",
      peer: r.pick([0, peer]),
      track,
      skip: r.pick([0, 0, 0, 0, 1, 3]),
      frames: sizes(r),
      chunks: r.pick([1, 1, 3]),
      end: r.pick(["finish", "finish", "finish", "fail", "open"])
    }
  }
  if (dice < 36) return { do: "write", peer: r.pick([0, peer]), track, frames: sizes(r) }
  if (dice < 50) return { do: "subscribe", ...viewer(r, peers) }
  if (dice < 56) return { do: "publish", peer, track, order: r.pick(orders) }
  if (dice < 60) return { do: r.pick(["finish", "fail", "abandon"] as const), peer, track }
  if (dice < 65) {
    return {
      do: "update",
      subscription: r.below(4),
      priority: r.pick([-1, 0, 50]),
      order: r.pick(orders),
      narrow: r.below(3)
    }
  }
  if (dice < 69) return { do: "leave", subscription: r.below(4) }
  if (dice < 74) {
    return {
      do: "fetch",
      peer,
      track,
      back: r.below(3),
      frame: r.pick([0, 0, 1, 4]),
      patience: r.pick([20_000, 20_000, 30])
    }
  }
  if (dice < 76) return { do: "info", peer, track }
  if (dice < 80) return { do: r.pick(["disconnect", "interrupt", "drop", "drop"] as const), peer }
  if (dice < 85) return { do: "connect", peer }
  if (dice < 89) return { do: "network", peer, fault: r.pick(["partition", "slow", "heal", "heal"] as const) }
  return { do: "sleep", millis: r.pick([1, 10, 100, 700, 3_000, 12_000]) }
}

/** A plan with one of its steps left out, for each of them: what a failure is made smaller with. */
export const smaller = function*(plan: Plan): Generator<Plan> {
  for (let i = plan.steps.length - 1; i >= 0; i--) yield { ...plan, steps: plan.steps.filter((_, at) => at !== i) }
}
