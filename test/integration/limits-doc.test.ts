import { assert, describe, it } from "@effect/vitest"
import { Effect, Metric } from "effect"
import { PrometheusMetrics } from "effect/observability"
import { readFileSync } from "node:fs"
import * as RelayConfig from "../../src/cli/RelayConfig.ts"
import * as Reader from "../../src/coding/Reader.ts"
import * as Path from "../../src/core/Path.ts"
import * as Frame from "../../src/message/Frame.ts"
import * as Group from "../../src/model/Group.ts"
import * as Admission from "../../src/relay/Admission.ts"
import * as Metrics from "../../src/relay/Metrics.ts"
import * as Limits from "../../src/session/Limits.ts"
import * as Bounds from "../../src/transport/Bounds.ts"

/** The tables of the page by their headings: a row by its first cell, a cell by its column. */
const tables = (() => {
  const page = readFileSync(new URL("../../docs/limits.md", import.meta.url), "utf8")
  return Object.fromEntries(
    page.split(/^## /m).slice(1).map((section) => {
      const [header, , ...rows] = section.split("\n").filter((line) => line.startsWith("|")).map((line) =>
        line.split("|").slice(1, -1).map((cell) => cell.trim().replaceAll("`", ""))
      )
      return [
        section.split("\n")[0]!,
        Object.fromEntries(
          rows.map((row) => [row[0]!, Object.fromEntries(header!.map((column, i) => [column, row[i]!]))])
        )
      ]
    })
  )
})()

const column = (table: string, column: string): Record<string, string> =>
  Object.fromEntries(Object.entries(tables[table]!).map(([name, row]) => [name, row[column]!]))

/** A size or a number as people write it. */
const shown = (value: unknown): string => {
  if (typeof value !== "number") return String(value)
  if (value % 1024 === 0 && value >= 256 * 1024) {
    return value % 1024 ** 2 === 0 ? `${value / 1024 ** 2} MiB` : `${value / 1024} KiB`
  }
  return value.toLocaleString("en-US")
}

const shownAll = (values: object): Record<string, string> =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, shown(value)]))

/** The values of a label that a metric of a relay has. */
const labels = (metric: string, label: string) =>
  Effect.gen(function*() {
    yield* Metrics.make
    const page = yield* PrometheusMetrics.format()
    return [...page.matchAll(new RegExp(`^${metric}\\{${label}="([a-z_]+)"\\}`, "gm"))].map(([, value]) => value!)
  }).pipe(Effect.scoped, Effect.provideService(Metric.MetricRegistry, new Map()))

describe("docs/limits.md", () => {
  it("has the limits of a session", () => {
    assert.deepStrictEqual(column("A session", "default"), shownAll(Limits.defaults))
  })

  it("has those of messages and groups", () => {
    const values = column("A message", "value")
    assert.deepStrictEqual(values["parts of a path"], shown(Path.maxParts))
    assert.deepStrictEqual(values["bytes of a path"], shown(Path.maxBytes))
    assert.deepStrictEqual(values["a control message"], `${Reader.maxMessage / 1024} KiB`)
    assert.deepStrictEqual(values["a number"], shown(Number.MAX_SAFE_INTEGER))
    assert.deepStrictEqual(values["a frame"], shown(Frame.maxSize))
    assert.deepStrictEqual(column("A track", "default")["bytes of a group"], shown(Group.maxBytes))
    assert.deepStrictEqual(column("A track", "default")["frames of a group"], shown(Group.maxFrames))
    assert.deepStrictEqual(column("A track", "default")["taken of a group"], shown(Group.maxTaken))
  })

  it("has those of a relay, with their flags", () => {
    assert.deepStrictEqual(column("A relay", "default"), shownAll(Admission.defaults))
    const flags = Object.values(RelayConfig.settings).map(({ flag }) => `--${flag}`)
    for (const flag of Object.values(column("A relay", "flag"))) assert.include(flags, flag)
  })

  it("has those of a connection", () => {
    const seconds = Object.fromEntries(
      Object.entries(Bounds.resolve()).map((
        [name, value]
      ) => [name, name.endsWith("Timeout") ? `${value / 1000} seconds` : shown(value)])
    )
    assert.deepStrictEqual(column("A connection", "default"), seconds)
  })

  it.effect("has a counter for each, and each counter", () =>
    Effect.gen(function*() {
      const told = [
        ...Object.values(column("A session", "counter")),
        ...Object.values(column("A message", "counter"))
      ].filter((name) => name !== "")
      assert.deepStrictEqual([...new Set(told)].sort(), (yield* labels("moq_relay_limits_total", "limit")).sort())
      const refused = yield* labels("moq_relay_sessions_refused_total", "reason")
      for (const reason of Object.values(column("A relay", "counter"))) assert.include(refused, reason)
      for (const name of Object.keys(Admission.defaults)) {
        assert.strictEqual(
          tables["A relay"]![name]!["counter"],
          name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
        )
      }
    }))
})
