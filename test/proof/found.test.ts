/** What the proof has found, each as the plan that it was found with, made smaller. */
import { describe, it } from "@effect/vitest"
import type { Plan } from "./plan.ts"
import { provePlan } from "./prove.ts"

const draft03 = { reconnects: false, profile: "draft03" } as const

const perfect: Plan["network"] = {
  latency: 5,
  jitter: 0,
  loss: 0,
  bandwidth: "unlimited",
  reset: 0,
  stop: 0,
  reorder: 0,
  death: 0
}

const viewer = { do: "subscribe", priority: 0, order: "default", expires: 0, wait: true, pace: 0 } as const

const found: Readonly<Record<string, Plan>> = {
  "a publisher whose Announce stream broke was never heard of again": {
    seed: 74,
    peers: [draft03, draft03],
    isTight: false,
    network: { ...perfect, bandwidth: 1_000_000, reset: 0.01 },
    steps: []
  },
  "a group whose stream was stopped before its header, and after its end had left, was never told of": {
    seed: 5757,
    peers: [{ ...draft03, reconnects: true }, draft03, { ...draft03, reconnects: true }, draft03],
    isTight: false,
    network: { ...perfect, latency: 40, jitter: 10, bandwidth: 100_000, stop: 0.01, death: 0.005 },
    steps: [
      { do: "publish", peer: 0, track: 0, order: "default" },
      {
        ...viewer,
        peer: 1,
        track: 0,
        from: 0,
        to: undefined,
        priority: 100,
        order: "desc",
        expires: 50,
        face: "events"
      },
      { do: "group", peer: 0, track: 0, skip: 0, frames: [20, 0], chunks: 1, end: "finish" },
      { do: "group", peer: 0, track: 0, skip: 0, frames: [1], chunks: 1, end: "finish" },
      {
        ...viewer,
        peer: 0,
        track: 2,
        from: 0,
        to: undefined,
        wait: false,
        face: "events"
      },
      { do: "sleep", millis: 700 }
    ]
  },
  "a simulated stream was stopped and ended all the same, before its last bytes": {
    seed: 203737,
    peers: [{ reconnects: true, profile: "fork02" }, draft03, { reconnects: false, profile: "fork04" }, draft03],
    isTight: true,
    network: { ...perfect, latency: 0, loss: 0.1, bandwidth: 100_000, reset: 0.01, stop: 0.01 },
    steps: [
      { do: "publish", peer: 0, track: 0, order: "default" },
      { ...viewer, peer: 1, track: 0, from: "latest", to: undefined, face: "events", pace: 30 },
      { do: "info", peer: 3, track: 1 },
      { do: "group", peer: 0, track: 0, skip: 1, frames: [20_000, 1], chunks: 3, end: "finish" },
      { do: "sleep", millis: 3_000 }
    ]
  },
  "the frames of a range spun when all of it was told of and its last group still grew": {
    seed: 1257,
    peers: [draft03, draft03],
    isTight: false,
    network: perfect,
    steps: [
      { do: "publish", peer: 0, track: 0, order: "default" },
      { ...viewer, peer: 1, track: 0, from: 1, to: 1, face: "frames" },
      { do: "sleep", millis: 100 },
      { do: "group", peer: 0, track: 0, skip: 1, frames: [20], chunks: 1, end: "open" },
      { do: "sleep", millis: 100 }
    ]
  }
}

describe("what the proof has found", () => {
  for (const [name, plan] of Object.entries(found)) it(name, () => provePlan(plan))
})
