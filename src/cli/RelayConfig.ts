/**
 * The configuration of a relay: flags, then `MOQ_*`, then a TOML file, then defaults, as one value that has been checked.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Toml from "effect/encoding/Toml"
import * as Result from "effect/Result"
import { readFile } from "node:fs/promises"
import { basename, dirname, resolve } from "node:path"
import * as Path from "../core/Path.ts"
import * as Admission from "../relay/Admission.ts"
import * as Limits from "../session/Limits.ts"
import * as Bind from "./Bind.ts"
import { transportNames } from "./Flags.ts"
import * as Quantity from "./Quantity.ts"
import * as Setting from "./Setting.ts"

/**
 * The settings of a relay, but for the limits of its sessions, in the order in which the help tells them.
 *
 * @category settings
 * @since 0.1.0
 */
export const settings = {
  bind: Setting.value("bind", "localhost:4443", Bind.parse, {
    aliases: ["server-bind"],
    metavar: "host:port",
    description:
      "Where to listen: localhost (both loopbacks), an address, or :4443 for all of the machine; port 0 is a " +
      "free one; localhost:4443 by default"
  }),
  tlsCert: Setting.optional("tls.cert", Setting.text, {
    isPath: true,
    metavar: "file",
    description: "The certificate, in PEM"
  }),
  tlsKey: Setting.optional("tls.key", Setting.text, {
    isPath: true,
    metavar: "file",
    description: "Its private key, in PEM"
  }),
  tlsGenerate: Setting.list("tls.generate", Setting.text, {
    aliases: ["tls-self-sign"],
    metavar: "hosts",
    description: "Generate a certificate for these names, for development; localhost by default"
  }),
  stateDir: Setting.optional("tls.state-dir", Setting.text, {
    flag: "state-dir",
    isPath: true,
    metavar: "dir",
    description: "Where the generated certificate and its key are kept; without it they last as long as the process"
  }),
  renewGrace: Setting.value("tls.renew-grace", "60s", Quantity.duration, {
    flag: "renew-grace",
    metavar: "duration",
    description:
      "How long HTTP/3 sessions live on when the certificate changes, 60s by default; others are not affected"
  }),
  transport: Setting.list("transport", transportOf, {
    metavar: "auto|h3,websocket,h2",
    description: "What to offer; auto, the default, is the best that there is: h3 and websocket"
  }),
  allowOrigin: Setting.list("allow-origin", originOf, {
    metavar: "origins",
    description: "The web pages that may connect over TLS, such as https://example.com; all by default"
  }),
  trustProxy: Setting.isOn("trust-proxy", {
    description:
      "A proxy in front tells the address of each client in X-Forwarded-For; off by default: only when nobody " +
      "else reaches the port"
  }),
  authKey: Setting.list("auth.key", Setting.text, {
    isPath: true,
    metavar: "file",
    description:
      "A key (JWK) that tokens are checked with; repeat for several; without a key everybody may do everything"
  }),
  authKeyDir: Setting.optional("auth.key-dir", Setting.text, {
    isPath: true,
    metavar: "dir",
    description: "A directory of keys, <kid>.jwk, looked up by the kid of a token"
  }),
  authPublic: Setting.list("auth.public", (text) => Path.fromString(text), {
    metavar: "prefix",
    description:
      "A path below which everybody may publish and subscribe without a token; repeat for several; alone, it " +
      "closes everything else"
  }),
  upstream: Setting.list("cluster.upstream", Setting.url("https:", "wss:"), {
    flag: "upstream",
    aliases: ["cluster-connect", "cluster-root"],
    isUrl: true,
    metavar: "url",
    description: "Another relay: each serves the tracks of the other; repeat for several"
  }),
  upstreamFingerprint: Setting.list("cluster.fingerprint", Setting.text, {
    flag: "upstream-fingerprint",
    metavar: "hex",
    description: "SHA-256 of the certificate of an upstream; one on localhost is asked for it"
  }),
  upstreamTlsRoot: Setting.optional("cluster.tls-root", Setting.text, {
    flag: "upstream-tls-root",
    isPath: true,
    metavar: "file",
    description: "Certificates of authorities to trust for upstreams instead of the system's, in PEM"
  }),
  upstreamInsecure: Setting.isOn("cluster.insecure", {
    flag: "upstream-insecure",
    description: "Accept any certificate of an upstream: for development only"
  }),
  linger: Setting.value("linger", "5s", Quantity.duration, {
    aliases: ["cluster-linger"],
    metavar: "duration",
    description:
      "How long the tracks of a publisher that was lost wait for it to come back; 5s by default, 0 for not at all"
  }),
  cache: Setting.number("cache", "256MiB", Setting.bytes, {
    aliases: ["cache-capacity"],
    metavar: "bytes",
    description: "How much all tracks together may keep, the oldest groups go first; 256MiB by default"
  }),
  maxSessions: limit("sessions", "max-sessions", "How many sessions may be open at once"),
  maxSessionsPerAddress: limit(
    "sessionsPerAddress",
    "max-sessions-per-address",
    "How many sessions one address may have open at once"
  ),
  handshakeRate: limit("handshakeRate", "handshake-rate", "How many clients a second may begin a session"),
  handshakeRatePerAddress: limit(
    "handshakeRatePerAddress",
    "handshake-rate-per-address",
    "How many clients a second may begin a session from one address"
  ),
  httpRequests: Setting.number("limits.http-requests", "64", Setting.integer(1), { flag: "" }),
  drain: Setting.value("drain", "10s", Quantity.duration, {
    metavar: "duration",
    description: "How long groups that have begun may take to their end when the relay ends; 10s by default"
  }),
  internal: Setting.optional("internal", Bind.parse, {
    aliases: ["internal-listen"],
    metavar: "host:port",
    description:
      "Where to serve /metrics, /health, /ready, /sessions and /tree over plain HTTP, such as localhost:9101; " +
      "nowhere by default"
  }),
  otlp: Setting.optional("otlp", Setting.url("http:", "https:"), {
    isUrl: true,
    metavar: "url",
    description: "Send traces, metrics and logs to this OpenTelemetry collector, such as http://localhost:4318"
  }),
  logFormat: Setting.value("log.format", "plain", wordOf("plain", "text", "json"), {
    metavar: "plain|text|json",
    description: "How the log on stderr is written: the words alone, the default, or with time and level, or as objects"
  }),
  logLevel: Setting.optional("log.level", levelOf, { flag: "" })
}

/**
 * What the settings of a relay come to.
 *
 * @category models
 * @since 0.1.0
 */
export type Values = {
  readonly [K in keyof typeof settings]: (typeof settings)[K] extends Setting.Setting<infer A> ? A : never
}

/**
 * A level of the log.
 *
 * @category models
 * @since 0.1.0
 */
export type Level = "All" | "Trace" | "Debug" | "Info" | "Warn" | "Error" | "Fatal" | "None"

/**
 * One setting as it is in force: its texts, and where they come from.
 *
 * @category models
 * @since 0.1.0
 */
export interface Entry {
  readonly setting: Setting.Setting<unknown>
  readonly texts: ReadonlyArray<string> | undefined
  /** The flag, the variable, or the file; `"default"` for none of them. */
  readonly source: string
}

/**
 * A configuration that has been checked.
 *
 * @category models
 * @since 0.1.0
 */
export interface RelayConfig {
  /** The file that was read. */
  readonly file: string | undefined
  readonly values: Values
  /** The limits of each session. */
  readonly session: Partial<Limits.Limits>
  readonly entries: ReadonlyArray<Entry>
}

/**
 * What is wrong with a configuration: a line each, which says where.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConfigError extends Data.TaggedError("ConfigError")<{ readonly problems: ReadonlyArray<string> }> {
  override get message() {
    return this.problems.join("\n")
  }
}

/**
 * What was given to the command.
 *
 * @category models
 * @since 0.1.0
 */
export interface Given {
  /** By flag, without dashes. */
  readonly flags: Readonly<Record<string, ReadonlyArray<string>>>
  /** The variables of the environment. */
  readonly env: Readonly<Record<string, string | undefined>>
  readonly file: string | undefined
}

/**
 * The settings of the help, as flags.
 *
 * @category flags
 * @since 0.1.0
 */
export const flags = Setting.flags(Object.values(settings))

/**
 * Reads the file, if any, and the environment, and checks all of it. Fails with {@link ConfigError}, which has every problem
 * that was found.
 *
 * @category constructors
 * @since 0.1.0
 */
export const load: (given: Given) => Effect.Effect<RelayConfig, ConfigError> = Effect.fnUntraced(
  function*({ env, file, flags }) {
    const problems: Array<string> = []
    const filed = file === undefined ? noFile : yield* read(file, problems)
    const entries: Array<Entry> = []
    const resolved = new Map<string, unknown>()
    for (const setting of all) {
      const entry = fromFlags(setting, flags) ?? fromEnvironment(setting, env) ?? filed.get(setting.key) ??
        { setting, texts: setting.fallback, source: "default" }
      entries.push(entry)
      try {
        resolved.set(setting.key, setting.parse(entry.texts))
      } catch (error) {
        const { source, texts = [] } = entry
        const where = source.startsWith("-") || source.startsWith("MOQ_") ? source : `${source}: ${setting.key}`
        // what is no URL may still hold a secret
        const found = setting.isUrl || texts.length === 0
          ? ""
          : `, not ${texts.map((text) => JSON.stringify(text)).join(", ")}`
        problems.push(`${where}: expected ${(error as Error).message}${found}`)
      }
    }
    const values = Object.fromEntries(
      Object.entries(settings).map(([name, { key }]) => [name, resolved.get(key)])
    ) as Values
    problems.push(...contradictions(values))
    if (problems.length > 0) return yield* new ConfigError({ problems })
    const session = Object.fromEntries(
      Object.entries(sessionLimits).map(([name, { key }]) => [name, resolved.get(key)])
    ) as Partial<Limits.Limits>
    return { file, values, session: { ...session, drain: values.drain }, entries }
  }
)

/**
 * The keys of what differs between two configurations.
 *
 * @category getters
 * @since 0.1.0
 */
export const differences = (self: RelayConfig, that: RelayConfig): ReadonlyArray<string> =>
  self.entries.flatMap(({ setting, texts }, i) => String(texts) === String(that.entries[i]!.texts) ? [] : [setting.key])

/**
 * The first, but what `isTaken` says by its key as in the second.
 *
 * @category combinators
 * @since 0.1.0
 */
export const merge = (self: RelayConfig, that: RelayConfig, isTaken: (key: string) => boolean): RelayConfig => ({
  ...that,
  entries: that.entries.map((entry, i) => isTaken(entry.setting.key) ? entry : self.entries[i]!)
})

/**
 * What is in force, as a file that says the same, each line with where it comes from. Without secrets.
 *
 * @category formatting
 * @since 0.1.0
 */
export const toText = ({ entries }: RelayConfig): string => {
  const tables = new Map<string, Array<string>>([["", []]])
  for (const { setting, source, texts } of entries) {
    if (texts === undefined) continue
    const [table, name] = nameOf(setting.key)
    if (!tables.has(table)) tables.set(table, [])
    tables.get(table)!.push(`${name} = ${JSON.stringify(shown(setting, texts))} # ${source}`)
  }
  return Array.from(tables, ([table, lines]) => (table === "" ? lines : [`[${table}]`, ...lines]).join("\n"))
    .join("\n\n")
}

/**
 * The same as an object, with the sources by key.
 *
 * @category formatting
 * @since 0.1.0
 */
export const toJson = ({ entries }: RelayConfig): object => {
  const tables: Record<string, unknown> = {}
  const sources: Record<string, string> = {}
  for (const { setting, source, texts } of entries) {
    if (texts === undefined) continue
    const [table, name] = nameOf(setting.key)
    const place = table === "" ? tables : (tables[table] ??= {}) as Record<string, unknown>
    place[name] = shown(setting, texts)
    sources[setting.key] = source
  }
  return { event: "config", config: tables, sources }
}

// internal

// hoisted, as far as the settings above are made of it

function transportOf(text: string) {
  return wordOf("auto", ...transportNames)(text)
}

function originOf(text: string): string {
  if (URL.canParse(text) && new URL(text).origin === text) return text
  throw new Error("origins such as https://example.com, without a path")
}

function wordOf<const A extends string>(...words: ReadonlyArray<A>) {
  return (text: string): A => {
    const word = words.find((word) => word === text)
    if (word === undefined) throw new Error(`one of ${words.join(", ")}`)
    return word
  }
}

function levelOf(text: string): Level {
  const name = text.toLowerCase() === "warning" ? "warn" : text.toLowerCase()
  const levels: ReadonlyArray<Level> = ["All", "Trace", "Debug", "Info", "Warn", "Error", "Fatal", "None"]
  const level = levels.find((level) => level.toLowerCase() === name)
  if (level === undefined) throw new Error(levels.join(", ").toLowerCase())
  return level
}

function limit(name: keyof Admission.Limits, flag: string, description: string) {
  const fallback = String(Admission.defaults[name])
  return Setting.number(`limits.${kebab(name)}`, fallback, Setting.integer(1), {
    flag,
    metavar: "n",
    description: `${description}; ${fallback} by default`
  })
}

function kebab(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
}

const sizes = new Set<string>(["unsent", "unread"])

// by their names, in the table [limits]: those that are durations by default are durations
const sessionLimits: Record<string, Setting.Setting<number | Duration.Duration>> = Object.fromEntries(
  Object.entries(Limits.defaults).filter(([name]) => name !== "drain").map(([name, value]) => {
    const key = `limits.${kebab(name)}`
    const fallback = String(value)
    return [
      name,
      typeof value === "number"
        ? Setting.number(key, fallback, sizes.has(name) ? Setting.bytes : Setting.integer(1), { flag: "" })
        : Setting.value(key, fallback, Quantity.duration, { flag: "" })
    ] as const
  })
)

const all: ReadonlyArray<Setting.Setting<unknown>> = [...Object.values(settings), ...Object.values(sessionLimits)]

type Filed = ReadonlyMap<string, Entry>

const noFile: Filed = new Map()

const fromFlags = (setting: Setting.Setting<unknown>, flags: Given["flags"]): Entry | undefined => {
  const { aliases, flag, kind } = setting
  const name = [flag ?? "", ...aliases].find((name) => (flags[name]?.length ?? 0) > 0)
  if (name === undefined) return undefined
  const texts = flags[name]!
  return { setting, texts: kind === "list" ? texts.flatMap(Setting.split) : texts, source: `--${name}` }
}

// an empty one is a mistake: it may have been meant to name a key
const fromEnvironment = (setting: Setting.Setting<unknown>, env: Given["env"]): Entry | undefined => {
  const source = Setting.variables(setting).find((name) => env[name] !== undefined)
  if (source === undefined) return undefined
  const text = env[source]!
  return { setting, texts: setting.kind === "list" ? Setting.split(text) : [text], source }
}

const read = (file: string, problems: Array<string>): Effect.Effect<Filed> =>
  Effect.tryPromise({ try: () => readFile(file, "utf8"), catch: (error) => error as NodeJS.ErrnoException }).pipe(
    Effect.match({
      onFailure: ({ code }) => {
        problems.push(`${file} cannot be read: ${code}`)
        return noFile
      },
      onSuccess: (text) =>
        Result.match(Toml.parse(text), {
          onFailure: ({ message }) => {
            problems.push(`${file}: ${message}`)
            return noFile
          },
          onSuccess: (table) => fromTable(file, table, problems)
        })
    })
  )

const fromTable = (file: string, table: Readonly<Record<string, unknown>>, problems: Array<string>): Filed => {
  const source = basename(file)
  const entries = new Map<string, Entry>()
  const visit = (place: Readonly<Record<string, unknown>>, prefix: string): void => {
    for (const [name, value] of Object.entries(place)) {
      const key = `${prefix}${name}`
      const setting = all.find((setting) => setting.key === key)
      if (setting !== undefined) {
        const texts = textsOf(setting, value)
        if (texts === undefined) {
          problems.push(`${source}: ${key}: expected ${kinds[setting.kind]}, not ${typeOf(value)}`)
        } else {
          const place = setting.isPath ? texts.map((text) => resolve(dirname(file), text)) : texts
          entries.set(key, { setting, texts: place, source })
        }
      } else if (prefix === "" && typeOf(value) === "a table" && tables.has(name)) {
        // whoever writes it wants to keep somebody out
        if (name === "auth" && Object.keys(value as object).length === 0) {
          problems.push(`${source}: [auth] is empty: name a key, a key-dir or a public prefix in it, or leave it out`)
        }
        visit(value as Record<string, unknown>, `${name}.`)
      } else {
        problems.push(
          `${source}: ${key} is no setting; ${prefix === "" ? "there are" : `[${prefix.slice(0, -1)}] has`} ${
            namesIn(prefix).join(", ")
          }`
        )
      }
    }
  }
  visit(table, "")
  return entries
}

const tables = new Set(all.flatMap(({ key }) => key.includes(".") ? [key.split(".")[0]!] : []))

const namesIn = (prefix: string): ReadonlyArray<string> =>
  prefix === ""
    ? [...all.flatMap(({ key }) => key.includes(".") ? [] : [key]), ...Array.from(tables, (table) => `[${table}]`)]
    : all.flatMap(({ key }) => key.startsWith(prefix) ? [key.slice(prefix.length)] : [])

const kinds = {
  text: "a text",
  number: "a number, or a text",
  list: "a list of texts",
  switch: "true or false"
} satisfies Record<Setting.Setting<unknown>["kind"], string>

const textsOf = ({ kind }: Setting.Setting<unknown>, value: unknown): ReadonlyArray<string> | undefined => {
  if (kind === "switch") return typeof value === "boolean" ? [String(value)] : undefined
  if (kind === "number" && (typeof value === "number" || typeof value === "bigint")) return [String(value)]
  if (typeof value === "string") return [value]
  return kind === "list" && Array.isArray(value) && value.every((item) => typeof item === "string") ? value : undefined
}

const typeOf = (value: unknown): string =>
  Array.isArray(value)
    ? "a list"
    : value instanceof Date
    ? "a date"
    : typeof value === "object"
    ? "a table"
    : typeof value === "string"
    ? "a text"
    : String(value)

const contradictions = ({ stateDir, tlsCert, tlsGenerate, tlsKey, transport }: Values): ReadonlyArray<string> => {
  const problems: Array<string> = []
  if ((tlsCert === undefined) !== (tlsKey === undefined)) problems.push("--tls-cert and --tls-key belong together")
  else if (tlsCert !== undefined) {
    if (tlsGenerate !== undefined) problems.push("--tls-generate excludes --tls-cert")
    if (stateDir !== undefined) problems.push("--state-dir is for generated certificates")
  }
  if (transport?.includes("auto") && transport.length > 1) {
    problems.push(`--transport: expected auto, or some of ${transportNames.join(", ")}`)
  }
  return problems
}

const nameOf = (key: string): readonly [table: string, name: string] => {
  const at = key.indexOf(".")
  return [key.slice(0, Math.max(0, at)), key.slice(at + 1)]
}

const shown = (setting: Setting.Setting<unknown>, texts: ReadonlyArray<string>): unknown => {
  const safe = setting.isUrl ? texts.map(withoutSecrets) : texts
  if (setting.kind === "list") return safe
  if (setting.kind === "switch") return setting.parse(texts)
  return setting.kind === "number" && /^\d+$/.test(safe[0]!) ? Number(safe[0]) : safe[0]
}

const withoutSecrets = (text: string): string => {
  if (!URL.canParse(text)) return ""
  const url = new URL(text)
  url.password = ""
  url.username = ""
  url.search = url.search === "" ? "" : "?..."
  return url.href
}
