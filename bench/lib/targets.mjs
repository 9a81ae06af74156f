// What the library is to reach: ratios to @moq/lite and to floor, and a few absolute numbers.
const all = (n) => ({ memory: n, ws: n, h3: n })

export const targets = [
  { measure: "frames-100", title: "frames of 100 B", "moq-lite": { memory: 10, ws: 14, h3: 8 }, floor: all(0.5) },
  { measure: "frames-1200", title: "frames of 1,200 B", "moq-lite": { memory: 6, ws: 4.5, h3: 2.5 }, floor: all(0.65) },
  {
    measure: "frames-16384",
    title: "frames of 16 KiB",
    "moq-lite": { memory: 2.5, ws: 1.4, h3: 1.1 },
    floor: all(0.8)
  },
  {
    measure: "groups-1200",
    title: "one group per frame",
    "moq-lite": { memory: 3, ws: 2.2, h3: 1.8 },
    floor: all(0.75)
  },
  { measure: "fanout-100", title: "fan-out to 100", "moq-lite": { memory: 15, ws: 4.5, h3: 2.5 }, floor: all(0.65) },
  { measure: "join", title: "join", "moq-lite": { memory: 0.5, ws: 0.7, h3: 0.7 }, floor: all(1.5) },
  { measure: "latency", title: "latency p50", "moq-lite": { memory: 0.7, ws: 0.75, h3: 0.75 }, floor: all(1.4) },
  { measure: "latency p99", title: "latency p99", "moq-lite": { memory: 0.7, ws: 0.75, h3: 0.75 }, floor: all(1.4) },
  { measure: "mem-session", title: "an idle session", "moq-lite": { memory: 0.75 }, floor: { memory: 1.6 } },
  // both ends together: 100 + 32
  { measure: "retained", title: "kept of a frame of 100 B", absolute: 132 },
  { measure: "retained-distinct", title: "the same, all different", absolute: 132 },
  // 70,000 frames are beyond the 65,536 of a group
  { measure: "retained-beyond", title: "the same, group full", absolute: 2 },
  { measure: "subscribe-encode", title: "SUBSCRIBE encode", absolute: 400_000 },
  { measure: "subscribe-decode", title: "SUBSCRIBE decode", absolute: 600_000 }
]

export const titles = new Map([
  ["fanout-1", "fan-out to 1"],
  ["fanout-10", "fan-out to 10"],
  ["join-fresh", "join, new session"],
  ["mem-track", "an idle subscription"],
  ...targets.map(({ measure, title }) => [measure, title])
])
