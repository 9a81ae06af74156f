import { assert, describe, it } from "@effect/vitest"
import { Effect, Logger, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Logging from "../../src/cli/Logging.ts"
import type * as Relay from "../../src/relay/Relay.ts"

const settle = Effect.gen(function*() {
  for (let i = 0; i < 50; i++) yield* Effect.yieldNow
})

/** Runs an effect with its log, and gives the lines. */
const logged = <A, E>(format: Logging.Format, effect: Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const lines: Array<string> = []
    const write = (line: string) => void lines.push(line)
    yield* Effect.provide(effect, Logging.layer({ format, write }))
    for (const line of lines) assert.match(line, /^[^\n]*\n$/)
    return lines.map((line) => line.slice(0, -1))
  })

const jsonOf = (lines: ReadonlyArray<string>) => lines.map((line) => JSON.parse(line) as Record<string, unknown>)

const refused: Relay.Event = {
  _tag: "SessionRefused",
  why: "sessions",
  reason: "1000 sessions are open",
  peer: "1.2.3.4:5"
}

const happenings: ReadonlyArray<Relay.Event> = [
  { _tag: "SessionOpened", session: 3, root: ["room", "a"], transport: "h3", peer: "1.2.3.4:5" },
  { _tag: "Announced", path: ["room", "a\u001b[31m", "b"] },
  { _tag: "LimitBroken", session: 3, limit: "announceRate", peer: undefined },
  refused,
  { _tag: "RelayLost", url: "https://a.example/room", reason: "no answer", retryIn: 500 },
  { _tag: "SessionClosed", session: 3, code: 4, reason: "", by: "remote" }
]

describe("what is logged", () => {
  it.effect("is the words alone, as ever", () =>
    Effect.gen(function*() {
      const lines = yield* logged(
        "plain",
        Effect.andThen(Logging.events(Stream.fromIterable(happenings)), Effect.logWarning("mind\nthe gap"))
      )
      assert.deepStrictEqual(lines, [
        "session 3 opened from 1.2.3.4:5 over h3 below room/a",
        "+ room/a[31m/b",
        "session 3 from somewhere broke a limit: announceRate",
        "a session from 1.2.3.4:5 was refused: 1000 sessions are open",
        "no connection to the relay at https://a.example/room: no answer",
        "session 3 closed by its peer with code 4",
        "warn: mind the gap"
      ])
    }))

  it.effect("has the time and the level before the words", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(Date.UTC(2026, 0, 1))
      const lines = yield* logged("text", Logging.events(Stream.fromIterable(happenings.slice(0, 3))))
      assert.deepStrictEqual(lines, [
        "2026-01-01T00:00:00.000Z info session 3 opened from 1.2.3.4:5 over h3 below room/a",
        "2026-01-01T00:00:00.000Z info + room/a[31m/b",
        "2026-01-01T00:00:00.000Z warn session 3 from somewhere broke a limit: announceRate"
      ])
    }))

  it.effect("is objects, which steer no terminal", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(Date.UTC(2026, 0, 1))
      const lines = yield* logged(
        "json",
        Effect.andThen(
          Logging.events(Stream.fromIterable([...happenings.slice(0, 2), { ...refused, reason: "\u009b31m" }])),
          Effect.logError("it died", new Error("of this"))
        )
      )
      // oxlint-disable-next-line no-control-regex
      for (const line of lines) assert.notMatch(line, /[\u0000-\u001f\u007f-\u009f]/)
      const time = "2026-01-01T00:00:00.000Z"
      assert.deepStrictEqual(jsonOf(lines), [
        {
          time,
          level: "info",
          event: "session-opened",
          session: 3,
          root: "room/a",
          transport: "h3",
          peer: "1.2.3.4:5",
          message: "session 3 opened from 1.2.3.4:5 over h3 below room/a"
        },
        { time, level: "info", event: "announced", path: "room/a\u001b[31m/b", message: "+ room/a[31m/b" },
        {
          time,
          level: "warn",
          event: "session-refused",
          why: "sessions",
          reason: "\u009b31m",
          peer: "1.2.3.4:5",
          message: "a session from 1.2.3.4:5 was refused: \u009b31m"
        },
        { time, level: "error", event: "log", message: "it died of this" }
      ])
    }))

  it.effect("has no token, however it came there", () =>
    Effect.gen(function*() {
      const secret = "eyJhbGciOiJIUzI1NiJ9.e30.secret"
      const url = `https://user:${secret}@a.example:4443/room?jwt=${secret}#${secret}`
      const lines = yield* logged(
        "json",
        Effect.gen(function*() {
          yield* Effect.logWarning(`${url} is not a URL, "${url}" neither`, new Error(`GET ${url}`))
          yield* Effect.logWarning("no", { url })
          yield* Logging.events(Stream.make({ ...refused, reason: `bad jwt=${secret}&x=1` }))
          yield* Effect.sync(() => console.error("connecting to", url))
        })
      )
      assert.strictEqual(lines.length, 4)
      for (const line of lines) assert.notInclude(line, "secret")
      assert.strictEqual(
        jsonOf(lines)[0]!["message"],
        "https://a.example:4443/room is not a URL, \"https://a.example:4443/room\" neither GET https://a.example:4443/room"
      )
    }))

  it.effect("repeats a kind of line 60 times a minute, and then counts", () =>
    Effect.gen(function*() {
      const lines = yield* logged(
        "plain",
        Effect.gen(function*() {
          const flood = Array.from({ length: 4273 }, (_, i) => ({ ...refused, reason: `${i} sessions are open` }))
          yield* Logging.events(Stream.fromIterable(flood))
          yield* Logging.events(Stream.make({ ...refused, why: "draining" as const }))
          yield* Logging.events(Stream.make(happenings[0]!))
          for (let i = 0; i < 100; i++) yield* Effect.logWarning(`no HTTP/3 for now: reason ${i}`)
          yield* TestClock.adjust("1 minute")
          yield* settle
          yield* Logging.events(Stream.make(refused))
        })
      )
      assert.deepStrictEqual(lines.slice(60, 62), [
        "a session from 1.2.3.4:5 was refused: 1000 sessions are open",
        "session 3 opened from 1.2.3.4:5 over h3 below room/a"
      ])
      assert.deepStrictEqual(lines.slice(122), [
        "... 4,213 more in the last minute: session-refused sessions",
        "... 40 more in the last minute: warn no HTTP/# for now",
        "a session from 1.2.3.4:5 was refused: 1000 sessions are open"
      ])
    }))

  it.effect("keeps few kinds, whatever is in the lines, and errors are not lost among warnings", () =>
    Effect.gen(function*() {
      const lines = yield* logged(
        "plain",
        Effect.gen(function*() {
          const word = (n: number) => Array.from(String(n), (digit) => "abcdefghij"[Number(digit)]).join("")
          for (let i = 0; i < 10_000; i++) yield* Effect.logWarning(`left out ${word(i)}`)
          yield* Effect.logError("something else")
        })
      )
      assert.deepStrictEqual(lines.slice(256 + 60), [
        "error: something else",
        "... 9,684 more in the last minute: other lines (warn)"
      ])
    }))

  it.effect("has what others print, and gives the console back", () =>
    Effect.gen(function*() {
      const before = { ...console }
      const listeners = process.listeners("warning")
      const lines = yield* logged(
        "plain",
        Effect.gen(function*() {
          console.log("a %s of %d", "dependency", 1)
          console.error(new Error("broken").message)
          process.emit(
            "warning",
            Object.assign(new Error("11 listeners added"), { name: "MaxListenersExceededWarning" })
          )
          console.info("x".repeat(5000))
          yield* settle
        })
      )
      assert.deepStrictEqual(lines, [
        "warn: a dependency of 1",
        "warn: broken",
        "warn: MaxListenersExceededWarning: 11 listeners added",
        `warn: ${"x".repeat(1000)}...`
      ])
      assert.deepStrictEqual({ ...console }, before)
      assert.deepStrictEqual(process.listeners("warning"), listeners)
    }))

  it.effect("goes nowhere else, unless that is there for it", () =>
    Effect.gen(function*() {
      const others: Array<unknown> = []
      const other = Logger.make<unknown, void>(({ message }) => void others.push(message))
      const lines = yield* logged("plain", Effect.logInfo("hello")).pipe(
        Effect.provide(Logger.layer([Logging.notes, other]))
      )
      assert.deepStrictEqual(lines, ["info: hello"])
      assert.deepStrictEqual(others, [])
    }))
})
