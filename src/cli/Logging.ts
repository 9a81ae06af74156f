/**
 * The log of a relay, on stderr: a line for each event that its operator cares about, and for each warning.
 *
 * **Details**
 *
 * Lines of one kind are written 60 times a minute, the rest of them is counted in one more line. What dependencies print
 * to the console ends here as well. Queries of URLs are left out, whoever wrote them: they hold tokens.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as LogLevel from "effect/LogLevel"
import { CurrentLogAnnotations } from "effect/References"
import * as Stream from "effect/Stream"
import { format } from "node:util"
import type * as Relay from "../relay/Relay.ts"
import * as Capture from "./Capture.ts"
import * as Output from "./Output.ts"
import * as RelayEvents from "./RelayEvents.ts"
import * as Text from "./Text.ts"

/**
 * How lines look: `plain` is the words alone, warnings with `warn:` before them; `text` has the time and the level before
 * the words; `json` is an object with `time`, `level`, `event`, the fields of the event, and `message`.
 *
 * @category models
 * @since 0.1.0
 */
export type Format = "plain" | "text" | "json"

/**
 * What is written to stderr unless a layer of this module is provided: everything, as `plain`.
 *
 * @category loggers
 * @since 0.1.0
 */
export const notes: Logger.Logger<unknown, void> = Logger.make((options) => {
  process.stderr.write(`${render("plain", cleared(lineOf(options)))}\n`)
})

/**
 * Writes what is logged to stderr in a format, in place of {@link notes}, and sends it to a collector with traces and
 * metrics, if one is given or named by `OTEL_EXPORTER_OTLP_ENDPOINT`. The console is captured for as long as the scope.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: {
  readonly format: Format
  /** The base URL of a collector: see `Otlp`. */
  readonly otlp?: string | URL | undefined
  /** Takes a whole line, with its end; that of stderr by default. */
  readonly write?: ((line: string) => void) | undefined
}): Layer.Layer<never> =>
  Layer.effectContext(Effect.gen(function*() {
    const gate = new Gate()
    const write = options.write ?? toStderr()
    const others = new Set<Logger.Logger<unknown, unknown>>()
    const logger = Logger.make<unknown, void>((log) => {
      const raw = lineOf(log)
      if (!gate.passes(raw)) return
      const line = cleared(raw)
      write(`${render(options.format, line)}\n`)
      for (const other of others) other.log({ ...log, message: line.message })
    })
    const loggers: ReadonlySet<Logger.Logger<unknown, unknown>> = new Set([logger])
    const logs = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      Effect.provideService(effect, Logger.CurrentLoggers, loggers)
    const context = yield* Layer.build(
      Layer.provideMerge(yield* exporting(options.otlp), Logger.layer([logger]))
    )
    for (const other of Context.get(context, Logger.CurrentLoggers)) if (other !== logger) others.add(other)

    const turn = Effect.suspend(() => Effect.forEach(gate.turn(), repeated, { discard: true }))
    // what has not been told of at the end is told then
    yield* Effect.addFinalizer(() => logs(turn))
    yield* Effect.forkScoped(logs(Effect.forever(Effect.andThen(Effect.sleep(window), turn))))
    const run = Effect.runForkWith(yield* Effect.context<never>())
    yield* Effect.acquireRelease(
      Effect.sync(() => Capture.begin((line) => void run(logs(event("console", line, { level: "Warn" }))))),
      (release) => Effect.sync(release)
    )
    return Context.add(context, Logger.CurrentLoggers, loggers)
  }))

/**
 * Logs something that has happened, under a name for programs and in words for people.
 *
 * @category logging
 * @since 0.1.0
 */
export const event = (
  name: string,
  words: string,
  options?: {
    /** `"Info"` by default. */
    readonly level?: LogLevel.Severity | undefined
    readonly fields?: Readonly<Record<string, unknown>> | undefined
  }
): Effect.Effect<void> =>
  Effect.logWithLevel(options?.level ?? "Info")(words).pipe(
    Effect.annotateLogs({ event: name, ...options?.fields })
  )

/**
 * Logs what happens in a relay.
 *
 * @category logging
 * @since 0.1.0
 */
export const events = (happenings: Stream.Stream<Relay.Event>): Effect.Effect<void> =>
  Stream.runForEach(happenings, (happening) => {
    const { event: name, ...fields } = RelayEvents.toJson(happening)
    return event(name, RelayEvents.toText(happening), { level: warnings.has(happening._tag) ? "Warn" : "Info", fields })
  })

// internal

const warnings: ReadonlySet<Relay.Event["_tag"]> = new Set(["SessionRefused", "LimitBroken", "RelayLost"])

// loaded only where it is needed
const exporting = (url: string | URL | undefined): Effect.Effect<Layer.Layer<never>> =>
  url === undefined && (process.env["OTEL_EXPORTER_OTLP_ENDPOINT"] ?? "") === ""
    ? Effect.succeed(Layer.empty)
    : Effect.map(Effect.promise(() => import("../node/Otlp.ts")), (Otlp) => Otlp.layer(url))

interface Line {
  readonly time: Date
  readonly level: LogLevel.LogLevel
  readonly event: string | undefined
  readonly fields: Readonly<Record<string, unknown>>
  readonly message: string
}

const lineOf = ({ cause, date, fiber, logLevel, message }: Logger.Options<unknown>): Line => {
  const { event, ...fields } = fiber.getRef(CurrentLogAnnotations)
  const parts = (Array.isArray(message) ? message : [message]).map(wordOf)
  if (cause.reasons.length > 0) parts.push(wordOf(Cause.squash(cause)))
  return {
    time: date,
    level: logLevel,
    event: typeof event === "string" ? event : undefined,
    fields,
    message: parts.join(" ")
  }
}

const wordOf = (part: unknown): string =>
  typeof part === "string" ? part : part instanceof Error ? part.message : format("%o", part)

const render = (format: Format, { event, fields, level, message, time }: Line): string => {
  const name = level.toLowerCase()
  switch (format) {
    case "plain":
      return Text.line(event === undefined || event === "console" ? `${name}: ${message}` : message)
    case "text":
      return `${time.toISOString()} ${name} ${Text.line(message)}`
    case "json":
      return Output.jsonText({
        time: time.toISOString(),
        level: name,
        event: event ?? "log",
        ...fields,
        message
      })
  }
}

const cleared = (line: Line): Line => ({
  ...line,
  fields: Object.fromEntries(
    Object.entries(line.fields).map((
      [name, value]
    ) => [name, typeof value === "string" ? withoutSecrets(value) : value])
  ),
  message: withoutSecrets(line.message)
})

// the query and the user of a URL, and a token wherever else it stands
const withoutSecrets = (text: string): string =>
  text
    .replace(/([a-z][a-z+.-]*:\/\/)[^\s/?#@"'<>]*@/gi, "$1")
    .replace(/([a-z][a-z+.-]*:\/\/[^\s?#"'<>]*)[?#][^\s"'<>]*/gi, "$1")
    .replace(/\bjwt=[^\s&"'<>]+/gi, "jwt=...")

// how long lines of one kind are counted together, and how many of them are written in that time
const window = "1 minute"
const burst = 60

// more kinds than there are lines in this program: only words from outside make so many
const maxKinds = 256

const repeatedName = "repeated"

interface Repeated {
  readonly kind: string
  readonly level: LogLevel.Severity
  count: number
}

// Lets lines pass, but of each kind only so many within a window.
class Gate {
  private kinds: Map<string, Repeated>
  constructor() {
    this.kinds = new Map()
  }
  passes(line: Line): boolean {
    if (line.event === repeatedName) return true
    const level = line.level as LogLevel.Severity
    const kind = kindOf(line)
    let entry = this.kinds.get(kind)
    if (entry === undefined) {
      const key = this.kinds.size < maxKinds ? kind : `other lines (${level.toLowerCase()})`
      entry = this.kinds.get(key) ?? { kind: key, level, count: 0 }
      this.kinds.set(key, entry)
    }
    return ++entry.count <= burst
  }
  /** The window is over: gives the kinds of which something was left out. */
  turn(): ReadonlyArray<Repeated> {
    const { kinds } = this
    this.kinds = new Map()
    return Array.from(kinds.values()).filter(({ count }) => count > burst)
  }
}

// by what it is about, not by the numbers and names in it
const kindOf = ({ event, fields, level, message }: Line): string => {
  if (event === undefined || event === "console") {
    return `${level.toLowerCase()} ${message.split(/[:"\n]/, 1)[0]!.replace(/\d+/g, "#").slice(0, 60).trim()}`
  }
  const about = fields["why"] ?? fields["limit"] ?? fields["by"]
  return typeof about === "string" ? `${event} ${about}` : event
}

const repeated = ({ count, kind, level }: Repeated): Effect.Effect<void> =>
  event(repeatedName, `... ${(count - burst).toLocaleString("en-US")} more in the last minute: ${kind}`, {
    level,
    fields: { kind, count: count - burst }
  })

// Nobody waits for a log. When stderr takes nothing more, lines are lost, and that is told once it does again.
const toStderr = (): (line: string) => void => {
  let lost = 0
  return (line) => {
    if (process.stderr.writableLength > maxUnwritten) return void lost++
    const told = lost === 0 ? line : `${line}(${lost} lines are missing here: stderr was not read)\n`
    lost = 0
    process.stderr.write(told)
  }
}

const maxUnwritten = 1024 * 1024
