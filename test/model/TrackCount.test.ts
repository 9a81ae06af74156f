/** What a track counts as kept is what it keeps, whatever is written, read, let go of and given up. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Evicted, Lagged } from "../../src/core/MoqError.ts"
import * as Body from "../../src/model/Body.ts"
import * as Group from "../../src/model/Group.ts"
import * as Track from "../../src/model/Track.ts"
import { choose, random } from "./fixtures.ts"

const steps = [
  ["begin", 4],
  ["below", 2],
  ["write", 14],
  ["start", 3],
  ["grow", 8],
  ["open", 8],
  ["take", 20],
  ["close", 3],
  ["finish", 2],
  ["fail", 1],
  ["drop", 1],
  ["evict", 1],
  ["wait", 2]
] as const

describe("Track", () => {
  it.effect.prop("counts what it keeps", [Schema.Int], ([seed]) =>
    Effect.gen(function*() {
      const next = random(seed)
      const counted = { bytes: 0, frames: 0, groups: 0 }
      const producer = yield* Track.make(["a"], {
        cache: {
          maxAge: 1000,
          maxBytes: 5000,
          maxTaken: 500,
          account: {
            change: (bytes, frames, groups) => {
              counted.bytes += bytes
              counted.frames += frames
              counted.groups += groups
            },
            spare: () => {}
          }
        }
      })
      const { impl } = producer.track as Track.Handle
      const groups: Array<Group.Producer> = []
      const places: Array<{ readonly body: Body.Body; readonly place: Body.Place; readonly kind: number }> = []
      for (let i = 0; i < 200; i++) {
        const [name, n] = [choose(steps, next()), Math.floor(next() * 1000)]
        const group = groups[n % Math.max(1, groups.length)]
        const reader = places[n % Math.max(1, places.length)]
        if (name === "begin") groups.push(yield* producer.appendGroup)
        else if (name === "below") {
          const begun = Track.beginUnsafe(producer, n % (impl.following + 3))
          if (!Track.isRefusal(begun)) groups.push(begun)
        } else if (name === "wait") yield* TestClock.adjust(n)
        else if (name === "evict") Track.evictUnsafe(producer, n % 2 === 0 ? undefined : n % 20)
        else if (name === "take" && reader !== undefined) {
          const { body, kind, place } = reader
          if (kind === 0) Body.takeBytesUnsafe(body, place, n, [])
          else if (kind === 1) Body.takePayloadsUnsafe(body, place)
          else Body.takeFramesUnsafe(body, place)
        } else if (name === "close" && reader !== undefined) {
          Body.closeUnsafe(reader.body, reader.place)
          places.splice(places.indexOf(reader), 1)
        }
        if (group !== undefined) {
          if (name === "write") group.writeFrameUnsafe(new Uint8Array(n % 3 === 0 ? n : n % 100))
          else if (name === "start") group.createFrameUnsafe(n)
          else if (name === "grow") {
            const { missing } = Group.bodyOf(group.group)
            if (missing > 0 && group.group.end === undefined) {
              Body.growUnsafe(Group.bodyOf(group.group), new Uint8Array(1 + n % missing))
            }
          } else if (name === "open") {
            const body = Group.bodyOf(group.group)
            places.push({ body, place: Body.openUnsafe(body, n % 5 === 0 ? 0 : undefined), kind: n % 3 })
          } else if (name === "finish") yield* group.finish.pipe(Effect.ignore)
          else if (name === "fail") yield* group.fail(new Evicted({}))
          else if (name === "drop") Track.dropUnsafe(producer, group, new Lagged({}))
        }
        let [bytes, frames, kept] = [0, 0, 0]
        for (const it of [...impl.kept.map(({ event }) => event), ...impl.detached]) {
          if (it._tag === "Gap") continue
          bytes += it.size
          frames += Group.held(it)
          kept++
        }
        assert.deepStrictEqual([impl.size, impl.frames], [bytes, frames], name)
        assert.deepStrictEqual(counted, { bytes, frames, groups: kept }, name)
      }
    }).pipe(Effect.scoped), { arbitrary: { runs: 40, seed: 1 } })
})
