/**
 * A relay as an operator starts it, with its default limits, and somebody who attacks it: each attack costs the attacker
 * what it must, an honest publisher and viewer lose nothing by it, and it leaves nothing behind. `HOSTILE_RUNS` says how
 * often each is run; from three on the results go to docs/hostile.md.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Attack, Target } from "./Attack.ts"
import { attacks } from "./attacks/index.ts"
import type { End } from "./Peer.ts"
import { attack, innocents, relay } from "./processes.ts"
import { median, type Result, write } from "./results.ts"
import { everything, keyPair, signed } from "./tokens.ts"

const runs = Number(process.env["HOSTILE_RUNS"] ?? 1)

// With one run there is no median, and the processes share their cores with everything else: only a relay that stands
// still is told. With several, twice the baseline is the rule, and 20 milliseconds are within the noise.
const allowed = (baseline: number, attack: Attack): number =>
  Math.max(attack.p99 ?? 0, runs === 1 ? 5000 : 20, 2 * baseline)

// what a heap may keep that has grown for the first time: compiled code, pools
const kept = 6

const local = (url: string, key: Target["key"]): Target => ({
  url,
  key,
  // limits by address are the attacker's own
  from: process.platform === "linux" ? "127.0.0.2" : undefined,
  track: ["fine", "numbers"]
})

interface Run {
  readonly ends: ReadonlyArray<End>
  readonly baseline: number
  readonly p99: number
  readonly max: number
  readonly kept: number
  readonly rss: number
}

// a file of its own for a public key
const keyFile = (key: object) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "hostile-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
    ),
    (folder) => {
      writeFileSync(join(folder, "key.jwk"), JSON.stringify(key))
      return join(folder, "key.jwk")
    }
  )

const once = (name: string, isGuarded: boolean) =>
  Effect.gen(function*() {
    const { privateKey, publicKey } = keyPair()
    const flags = isGuarded ? ["--auth-key", yield* keyFile(publicKey)] : []
    const { errors, memory, sessions, url } = yield* relay(...flags)
    const measured = yield* innocents(isGuarded ? `${url}?jwt=${signed(everything(3600), privateKey)}` : url)
    // the first second is compilation
    yield* Effect.sleep("1 second")
    yield* measured
    yield* Effect.sleep(runs === 1 ? "1 second" : "3 seconds")
    const { p99: baseline } = yield* measured
    const { used: before } = yield* memory
    const ends = yield* attack(name, local(url, isGuarded ? privateKey : undefined), runs === 1 ? 1000 : 3000)
    const during = yield* measured
    const { rss } = yield* memory
    assert.strictEqual(during.lost, 0, "lost frames")
    assert.strictEqual(during.disordered, 0, "frames out of order")
    assert.isAbove(during.sent, 0)
    yield* sessions.pipe(Effect.repeat({ schedule: Schedule.spaced("100 millis"), until: (open) => open === 2 }))
    // what is cached of lost publishers lasts for seconds
    const after = yield* Effect.map(memory, ({ used }) => used - before).pipe(
      Effect.repeat({ schedule: Schedule.spaced("500 millis"), until: (more) => more < kept, times: 60 })
    )
    assert.isBelow(after, kept, "MB of memory that did not come back")
    assert.deepStrictEqual(errors.filter((line) => /^\s+at /.test(line)), [], "stack traces that the relay printed")
    return { ends, baseline, p99: during.p99, max: during.max, kept: after, rss } satisfies Run
  }).pipe(Effect.scoped)

const summary = (ends: ReadonlyArray<End>): Record<End, number> => {
  const counts: Record<End, number> = {}
  for (const end of ends) counts[end] = (counts[end] ?? 0) + 1
  return counts
}

describe("an attack leaves its victims what they had, and its author with less", () => {
  const results = new Map<Attack, Result>()
  const test = ([name, attack]: readonly [string, Attack]) =>
    it.live(`${name}: ${attack.name}`, () =>
      Effect.gen(function*() {
        const all: Array<Run> = []
        for (let run = 0; run < runs; run++) all.push(yield* once(name, attack.isGuarded === true))
        const ends = summary(all.flatMap(({ ends }) => ends))
        const of = (key: "baseline" | "p99" | "max" | "kept" | "rss") => median(all.map((run) => run[key]))
        const result: Result = {
          attack,
          ends,
          baseline: of("baseline"),
          p99: of("p99"),
          max: of("max"),
          kept: of("kept"),
          rss: of("rss")
        }
        results.set(attack, result)
        for (const end of attack.ends) assert.property(ends, end)
        assert.includeMembers([...attack.ends, ...attack.also ?? []], Object.keys(ends))
        assert.isAtMost(result.p99, allowed(result.baseline, attack), "99th percentile of latency, in ms")
      }), runs * 120_000)

  const [slow, quick] = [true, false].map((isSlow) =>
    Object.entries(attacks).filter(([, attack]) => (attack.isSlow === true) === isSlow)
  )
  // they wait for timeouts, most of the time: where latency is not measured, all at once
  const together = runs === 1 ? describe.concurrent : describe
  together("slowly", () => slow!.forEach(test))
  describe("quickly", () => quick!.forEach(test))

  if (runs >= 3) {
    it(
      "(results)",
      () => write(Object.values(attacks).flatMap((attack) => results.get(attack) ?? []), runs)
    )
  }
})
