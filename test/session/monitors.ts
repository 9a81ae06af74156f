/** A monitor that keeps what it is told. */
import type * as Monitor from "../../src/session/Monitor.ts"

type BySide = Record<Monitor.Side, number>

const bySide = (): BySide => ({ received: 0, sent: 0 })

/** What a session, or several, have told. Names are as in the monitor; gauges are what there is now. */
export const record = () => {
  const told = {
    limits: {} as Record<string, number>,
    drops: {} as Record<string, number>,
    subscription: bySide(),
    announce: bySide(),
    fetch: bySide(),
    group: bySide(),
    frames: bySide(),
    bytes: bySide(),
    latency: [] as Array<number>
  }
  const add = (counts: Record<string, number>, key: string, count: number): void => {
    counts[key] = (counts[key] ?? 0) + count
  }
  const monitor: Monitor.Monitor = {
    limit: (limit) => add(told.limits, limit, 1),
    subscription: (side, change) => void (told.subscription[side] += change),
    announce: (side, change) => void (told.announce[side] += change),
    fetch: (side) => void told.fetch[side]++,
    group: (side) => void told.group[side]++,
    traffic: (side, frames, bytes) => {
      told.frames[side] += frames
      told.bytes[side] += bytes
    },
    drop: (side, reason, groups) => add(told.drops, `${side} ${reason}`, groups),
    latency: (millis) => void told.latency.push(millis)
  }
  return { ...told, monitor }
}
