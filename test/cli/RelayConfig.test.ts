import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as RelayConfig from "../../src/cli/RelayConfig.ts"
import * as Admission from "../../src/relay/Admission.ts"
import * as Limits from "../../src/session/Limits.ts"

const load = (
  { env = {}, file, flags = {} }: {
    readonly flags?: Record<string, ReadonlyArray<string>>
    readonly env?: Record<string, string>
    readonly file?: string
  }
) =>
  Effect.gen(function*() {
    const path = file === undefined ? undefined : yield* write(file)
    return yield* RelayConfig.load({ flags, env, file: path })
  })

const directory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "effect-moq-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true }))
)

const write = (text: string) =>
  Effect.map(directory, (path) => {
    writeFileSync(join(path, "relay.toml"), text)
    return join(path, "relay.toml")
  })

const problems = (given: Parameters<typeof load>[0]) => Effect.map(Effect.flip(load(given)), ({ problems }) => problems)

const sourceOf = ({ entries }: RelayConfig.RelayConfig, key: string) =>
  entries.find(({ setting }) => setting.key === key)?.source

describe("the configuration of a relay", () => {
  it.effect("is the defaults of the library, where nothing is given", () =>
    Effect.gen(function*() {
      const { session, values } = yield* load({})
      assert.deepStrictEqual(values.bind, { host: "localhost", port: 4443 })
      assert.deepStrictEqual(
        {
          sessions: values.maxSessions,
          sessionsPerAddress: values.maxSessionsPerAddress,
          handshakeRate: values.handshakeRate,
          handshakeRatePerAddress: values.handshakeRatePerAddress
        } satisfies Admission.Limits,
        Admission.defaults
      )
      assert.strictEqual(values.cache, 256 * 1024 * 1024)
      // the only one of which the command thinks otherwise
      const { drain, ...others } = session
      assert.deepStrictEqual(drain, Duration.seconds(10))
      for (const [name, value] of Object.entries(others)) {
        const expected = Limits.defaults[name as keyof Limits.Limits]
        assert.deepStrictEqual(
          value,
          typeof expected === "number" ? expected : Duration.fromInputUnsafe(expected),
          name
        )
      }
      assert.sameMembers(Object.keys(session), Object.keys(Limits.defaults))
    }))

  it.effect("takes flags before the environment, that before the file, and that before defaults", () =>
    Effect.gen(function*() {
      const file = "bind = \":1\"\ncache = \"1KiB\"\nlinger = \"1s\"\n"
      const config = yield* load({ file, env: { MOQ_BIND: ":2", MOQ_CACHE: "2KiB" }, flags: { bind: [":3"] } })
      const { values } = config
      assert.deepStrictEqual(
        [values.bind.port, values.cache, values.linger, values.drain],
        [3, 2048, Duration.seconds(1), Duration.seconds(10)]
      )
      assert.deepStrictEqual(
        ["bind", "cache", "linger", "drain"].map((key) => sourceOf(config, key)),
        ["--bind", "MOQ_CACHE", "relay.toml", "default"]
      )
    }))

  it.effect("reads lists with commas, repeated flags and arrays", () =>
    Effect.gen(function*() {
      const one = yield* load({ flags: { "auth-public": ["a/b, c", "d"] } })
      assert.deepStrictEqual(one.values.authPublic, [["a", "b"], ["c"], ["d"]])
      const two = yield* load({ env: { MOQ_UPSTREAM: "https://a.example,https://b.example" } })
      assert.deepStrictEqual(two.values.upstream?.map(String), ["https://a.example/", "https://b.example/"])
      const three = yield* load({ file: "[auth]\npublic = [\"/\", \"a,b\"]\n[tls]\ngenerate = \"one.example\"" })
      assert.deepStrictEqual(three.values.authPublic, [[], ["a,b"]])
      assert.deepStrictEqual(three.values.tlsGenerate, ["one.example"])
    }))

  it.effect("understands some names of the reference relay", () =>
    Effect.gen(function*() {
      const { values } = yield* load({
        flags: { "server-bind": [":7"], "cluster-connect": ["https://a.example"] },
        env: { MOQ_INTERNAL_LISTEN: "localhost:9" }
      })
      assert.strictEqual(values.bind.port, 7)
      assert.strictEqual(values.upstream?.length, 1)
      assert.deepStrictEqual(values.internal, { host: "localhost", port: 9 })
    }))

  it.effect("finds files beside the file that names them", () =>
    Effect.gen(function*() {
      const file = yield* write("[tls]\ncert = \"a.pem\"\nkey = \"/b.pem\"\n[auth]\nkey = [\"c.jwk\"]")
      const { values } = yield* RelayConfig.load({ flags: {}, env: {}, file })
      assert.deepStrictEqual(
        [values.tlsCert, values.tlsKey, values.authKey],
        [file.replace("relay.toml", "a.pem"), "/b.pem", [file.replace("relay.toml", "c.jwk")]]
      )
    }))

  const secret = "https://user:hidden@relay.example/room?jwt=hidden"

  it.effect("shows what is in force, and where it comes from, as a file that says the same; and no secret", () =>
    Effect.gen(function*() {
      const given = { flags: { upstream: [secret], otlp: [secret] }, env: { MOQ_TRUST_PROXY: "yes" } }
      const config = yield* load(given)
      const text = RelayConfig.toText(config)
      assert.include(text, "trust-proxy = true # MOQ_TRUST_PROXY")
      assert.include(text, "upstream = [\"https://relay.example/room?...\"] # --upstream")
      assert.notInclude(text + JSON.stringify(RelayConfig.toJson(config)), "hidden")
      const again = yield* load({ file: text })
      assert.deepStrictEqual(
        { ...again.values, upstream: config.values.upstream, otlp: config.values.otlp },
        config.values
      )
      assert.deepStrictEqual(again.session, config.session)
    }))

  it.effect.each([
    { file: "bnd = 1", says: /^relay\.toml: bnd is no setting; there are bind, .*\[tls\]/ },
    { file: "[tls]\ncrt = \"a\"", says: /^relay\.toml: tls\.crt is no setting; \[tls\] has cert, key, / },
    { file: "[nonsense]\na = 1", says: /^relay\.toml: nonsense is no setting/ },
    { file: "[tls.cert]\na = 1", says: /^relay\.toml: tls\.cert: expected a text, not a table$/ },
    { file: "tls = 3", says: /^relay\.toml: tls is no setting/ },
    { file: "bind = 4443", says: /^relay\.toml: bind: expected a text, not 4443$/ },
    { file: "trust-proxy = \"yes\"", says: /^relay\.toml: trust-proxy: expected true or false, not a text$/ },
    { file: "allow-origin = [1]", says: /^relay\.toml: allow-origin: expected a list of texts, not a list$/ },
    { file: "cache = -1", says: /^relay\.toml: cache: expected a number of bytes .*, not "-1"$/ },
    { file: "linger = \"soon\"", says: /^relay\.toml: linger: expected a duration .*, not "soon"$/ },
    { file: "[limits]\nsubscriptions = 0", says: /^relay\.toml: limits\.subscriptions: expected a whole number/ },
    { file: "[log]\nlevel = \"loud\"", says: /^relay\.toml: log\.level: expected all, trace/ },
    { file: "bind = ", says: /relay\.toml: .* at line 1/ },
    { env: { MOQ_CACHE: "lots" }, says: /^MOQ_CACHE: expected a number of bytes .*, not "lots"$/ },
    { env: { MOQ_TRUST_PROXY: "maybe" }, says: /^MOQ_TRUST_PROXY: expected true or false, not "maybe"$/ },
    // what is meant to close a relay must not open it
    { env: { MOQ_AUTH_KEY: "" }, says: /^MOQ_AUTH_KEY: expected a text that is not empty$/ },
    { flags: { "auth-key": [""] }, says: /^--auth-key: expected a text that is not empty$/ },
    { flags: { "auth-key-dir": [""] }, says: /^--auth-key-dir: expected a text that is not empty/ },
    { flags: { "auth-public": [","] }, says: /^--auth-public: expected at least one$/ },
    { file: "[auth]", says: /^relay\.toml: \[auth\] is empty: name a key, / },
    { file: "[auth]\nkey = []", says: /^relay\.toml: auth\.key: expected a text that is not empty$/ },
    { flags: { bind: ["a:b:c"] }, says: /^--bind: expected an address .*, not "a:b:c"$/ },
    { flags: { upstream: ["ftp://hidden"] }, says: /^--upstream: expected a URL with https:\/\/ or wss:\/\/$/ },
    { flags: { "tls-cert": ["a"] }, says: /^--tls-cert and --tls-key belong together$/ },
    { flags: { transport: ["auto,h3"] }, says: /^--transport: expected auto, or some of h3, websocket, h2$/ }
  ])("says in a line what is wrong: $says", ({ says, ...given }) =>
    Effect.gen(function*() {
      const found = yield* problems(given)
      assert.strictEqual(found.length, 1, found.join("\n"))
      assert.match(found[0]!, says)
      assert.notInclude(found[0]!, "hidden")
    }))

  it.effect("says all that is wrong at once", () =>
    Effect.gen(function*() {
      const found = yield* problems({ file: "a = 1\nbind = 2\n[limits]\nidle = \"x\"", env: { MOQ_CACHE: "x" } })
      assert.deepStrictEqual(found.map((line) => line.split(/[ :]/, 3).join(" ").trim()).sort(), [
        "MOQ_CACHE  expected",
        "relay.toml  a",
        "relay.toml  bind",
        "relay.toml  limits.idle"
      ])
      assert.deepStrictEqual(
        yield* Effect.map(
          Effect.flip(RelayConfig.load({ flags: {}, env: {}, file: "/nowhere/relay.toml" })),
          ({ message }) => message
        ),
        "/nowhere/relay.toml cannot be read: ENOENT"
      )
    }))

  it.effect("tells two configurations apart by what differs", () =>
    Effect.gen(function*() {
      const one = yield* load({ file: "linger = \"1s\"\n[auth]\npublic = [\"a\"]" })
      const two = yield* load({ file: "linger = \"2s\"\n[auth]\npublic = [\"b\"]" })
      assert.sameMembers([...RelayConfig.differences(one, two)], ["linger", "auth.public"])
      const merged = RelayConfig.merge(one, two, (key) => key.startsWith("auth."))
      assert.deepStrictEqual(RelayConfig.differences(merged, two), ["linger"])
      assert.deepStrictEqual(RelayConfig.differences(merged, one), ["auth.public"])
    }))
})

describe("docs/relay.md", () => {
  const page = readFileSync(new URL("../../docs/relay.md", import.meta.url), "utf8")

  it.effect("has an example of a file with every setting that can be together, and the defaults of all limits", () =>
    Effect.gen(function*() {
      const example = /```toml\n([\s\S]*?)```/.exec(page)![1]!
      const config = yield* load({ file: example })
      const given = config.entries.filter(({ source }) => source === "relay.toml").map(({ setting }) => setting.key)
      const without = ["tls.generate", "tls.state-dir", "cluster.fingerprint", "cluster.tls-root", "cluster.insecure"]
      assert.sameMembers([...given, ...without], config.entries.map(({ setting }) => setting.key))
      for (const key of without) assert.include(example, `# ${key.split(".")[1]} = `)
      assert.deepStrictEqual(config.session, (yield* load({})).session)
      const { values } = yield* load({})
      for (
        const name of ["maxSessions", "maxSessionsPerAddress", "handshakeRate", "handshakeRatePerAddress"] as const
      ) {
        assert.strictEqual(config.values[name], values[name], name)
      }
      assert.strictEqual(config.values.httpRequests, values.httpRequests)
    }))

  it("tells of every name that is understood beside the flags of the help", () => {
    for (const { aliases } of Object.values(RelayConfig.settings)) {
      for (const alias of aliases) assert.include(page, `\`--${alias}\``)
    }
  })
})
