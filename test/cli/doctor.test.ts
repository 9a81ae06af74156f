import { assert, describe, it } from "@effect/vitest"
import * as Diagnosis from "../../src/cli/Diagnosis.ts"
import * as Trust from "../../src/cli/Trust.ts"
import * as Verdict from "../../src/cli/Verdict.ts"
import {
  ProtocolViolation,
  SessionClosed,
  Timeout,
  TransportError,
  Unauthorized,
  UnsupportedVersion
} from "../../src/core/MoqError.ts"
import type * as Probe from "../../src/node/Probe.ts"

const place = { host: "relay.example", port: 4443 }

const day = 86_400_000

const now = Date.parse("2026-06-15T12:00:00Z")

const fingerprint = "ab".repeat(32)

const shown: Probe.Shown = {
  fingerprint,
  key: "ECDSA P-256",
  names: ["relay.example"],
  from: now - day / 2,
  to: now + 13 * day,
  selfSigned: false,
  forHost: true
}

const trust: Trust.Trust = {
  host: "relay.example",
  pinned: undefined,
  told: undefined,
  believed: false,
  roots: false,
  insecure: false,
  now
}

/** What is said of a certificate. */
const certificate = (ask: Partial<Trust.Trust>, has: Partial<Probe.Shown>) =>
  Trust.certificate({ ...trust, ...ask }, { ...shown, ...has })

const selfSigned = { selfSigned: true, problem: "DEPTH_ZERO_SELF_SIGNED_CERT" }

const open: Probe.Port = { address: "192.0.2.1", state: "open", millis: 12.34 }

const line = (step: Diagnosis.Step, ok: boolean | undefined, rest?: Partial<Diagnosis.Line>): Diagnosis.Line => ({
  step,
  ok,
  seen: `${step} was seen`,
  ...(ok === false ? { cause: `${step} is the cause` } : {}),
  ...rest
})

/** A failure has a cause and says what to do. */
const assertFails = (line: Diagnosis.Line, seen: RegExp, cause: RegExp, advice: RegExp) => {
  assert.strictEqual(line.ok, false)
  assert.match(line.seen, seen)
  assert.match(line.cause ?? "", cause)
  assert.match(line.advice ?? "", advice)
}

describe("name", () => {
  it("tells the addresses", () => {
    const { ok, seen } = Diagnosis.name("relay.example", { addresses: ["192.0.2.1", "2001:db8::1"] })
    assert.deepStrictEqual([ok, seen], [true, "relay.example is 192.0.2.1, 2001:db8::1"])
  })

  it("tells an unknown host from a name server that does not answer", () => {
    assertFails(Diagnosis.name("a.invalid", { addresses: [], code: "ENOTFOUND" }), /has no address/, /misspelt/, /URL/)
    for (const code of ["EAI_AGAIN", "ETIMEDOUT"]) {
      assertFails(Diagnosis.name("a", { addresses: [], code }), /no name server/, /offline/, /network/)
    }
  })
})

describe("tcp", () => {
  const tcp = (...ports: ReadonlyArray<Probe.Port>) => Diagnosis.tcp(place, ports)

  const at = (address: string, state: Probe.Port["state"], code?: string): Probe.Port => ({
    address,
    state,
    ...(code === undefined ? {} : { code })
  })

  it("tells each address", () => {
    const { cause, ok, seen } = tcp(open, { ...open, address: "2001:db8::1", millis: 1 })
    assert.deepStrictEqual(
      [ok, cause, seen],
      [true, undefined, "192.0.2.1:4443 is open (12.3 ms); [2001:db8::1]:4443 is open (1.0 ms)"]
    )
  })

  it("warns when only some answer", () => {
    const { cause, ok } = tcp(open, at("2001:db8::1", "refused"))
    assert.strictEqual(ok, true)
    assert.match(cause ?? "", /2001:db8::1 first/)
  })

  it("tells why none does", () => {
    assertFails(tcp(at("192.0.2.1", "refused")), /refuses/, /does not run.*for its own machine alone/, /--bind :4443/)
    assertFails(tcp(at("127.0.0.1", "refused")), /refuses/, /at another port$/, /start it/)
    assertFails(
      tcp(at("192.0.2.1", "silent")),
      /does not answer/,
      /a firewall drops.* TCP port 4443/,
      /allow TCP port 4443/
    )
    assertFails(tcp(at("192.0.2.1", "unreachable", "ENETUNREACH")), /\(ENETUNREACH\)/, /no way from here/, /network/)
  })
})

describe("udp", () => {
  const udp = (answer: Omit<Probe.Quic, "address">, tcp = line("tcp", true)) =>
    Diagnosis.udp(place, [{ address: "192.0.2.1", ...answer }], tcp)

  it("tells the versions of QUIC", () => {
    const { ok, seen } = udp({ state: "quic", versions: [1, 0x6b3343cf, 0xff00001d, 0x51303433] })
    assert.deepStrictEqual(
      [ok, seen],
      [true, "192.0.2.1:4443 speaks QUIC, version 1, 2, draft-29, 0x51303433"]
    )
  })

  it("tells silence from a closed port, and that from a relay that does not run", () => {
    assertFails(udp({ state: "silent" }), /does not answer/, /a firewall drops.* or the relay offers no/, /allow UDP/)
    assertFails(udp({ state: "refused" }), /nothing listens/, /^the relay offers no HTTP\/3$/, /it tells why/)
    assertFails(udp({ state: "refused" }, line("tcp", false)), /nothing listens/, /does not run/, /start it/)
  })
})

describe("tls", () => {
  it("tells what answers instead", () => {
    const tls = (spoken: Probe.Spoken, host = "relay.example") => Diagnosis.tls({ host, port: 4443 }, spoken)
    assert.isTrue(tls({ _tag: "Tls", version: "TLSv1.3", http2: true, certificate: shown }).ok)
    assertFails(tls({ _tag: "NotTls" }), /not with TLS/, /another service/, /^check the port in the URL$/)
    assertFails(tls({ _tag: "NotTls" }, "localhost"), /not with TLS/, /another service/, /ws:\/\/localhost:4443/)
    assertFails(tls({ _tag: "Closed" }), /closed during/, /proxy/, /port/)
    assertFails(tls({ _tag: "Silent" }), /no answer/, /hangs/, /restart/)
    assertFails(tls({ _tag: "Refused", reason: "no cipher" }), /no cipher/, /in common/, /log/)
  })
})

describe("certificate", () => {
  const seen = (line: Diagnosis.Line) => [line.ok, line.cause, line.seen.split(":")[0]]

  it("is good when an authority, a pin, the relay on this machine or nobody at all vouches for it", () => {
    assert.deepStrictEqual(seen(certificate({}, {})), [true, undefined, "trusted"])
    assert.deepStrictEqual(seen(certificate({ roots: true }, {})), [true, undefined, "trusted by --tls-root"])
    assert.deepStrictEqual(seen(certificate({ pinned: [fingerprint] }, selfSigned)), [true, undefined, "as pinned"])
    assert.deepStrictEqual(
      seen(certificate({ told: fingerprint, believed: true }, selfSigned)),
      [true, undefined, "as the relay tells"]
    )
    assert.deepStrictEqual(seen(certificate({ insecure: true }, selfSigned)), [true, undefined, "accepted as any"])
  })

  it("tells about itself", () => {
    const { note, seen } = certificate({ pinned: [fingerprint] }, selfSigned)
    assert.strictEqual(
      seen,
      "as pinned: self-signed, ECDSA P-256, for relay.example, valid until 2026-06-28 (13 days left)"
    )
    assert.strictEqual(note, `fingerprint ${fingerprint}; browsers take it when pinned (h3)`)
  })

  it("is not believed when only the relay tells, over a network", () => {
    assertFails(certificate({ told: fingerprint }, selfSigned), /not trusted/, /self-signed/, /--fingerprint abab/)
  })

  it("tells another one from one that was renewed", () => {
    const pinned = ["cd".repeat(32)]
    assertFails(certificate({ pinned }, selfSigned), /not the pinned/, /something on the way/, /--fingerprint abab/)
    assertFails(certificate({ pinned, told: fingerprint }, selfSigned), /not the pinned/, /since/, /--fingerprint abab/)
    assertFails(
      certificate({ told: pinned[0]!, believed: true }, selfSigned),
      /not the one that the relay tells/,
      /something on the way/,
      /--fingerprint abab/
    )
  })

  it("tells dates before everything else", () => {
    const expired = { ...selfSigned, from: now - 30 * day, to: now - 2 * day, forHost: false }
    assertFails(certificate({}, expired), /expired on 2026-06-13 \(2 days ago\)/, /expired/, /renew/)
    assertFails(certificate({}, { from: now + day, to: now + 9 * day }), /not valid yet/, /clock/, /clocks/)
  })

  it("tells a missing authority from another host", () => {
    const problem = "UNABLE_TO_VERIFY_LEAF_SIGNATURE"
    assertFails(certificate({}, { problem, forHost: false }), /UNABLE_TO/, /whole chain/, /--tls-root/)
    assertFails(certificate({ roots: true }, { problem }), /UNABLE_TO/, /authorities of --tls-root/, /--tls-root/)
    assertFails(certificate({}, { forHost: false }), /another host/, /for relay\.example, not for relay/, /URL/)
  })

  it("warns of what browsers refuse, though it is good here", () => {
    const pinned = { pinned: [fingerprint] }
    for (const has of [{ key: "RSA 2048" }, { to: now + 13.6 * day }, { key: "ECDSA P-384" }]) {
      const { cause, ok } = certificate(pinned, { ...selfSigned, ...has })
      assert.strictEqual(ok, true)
      assert.match(cause ?? "", /browsers refuse to pin it/)
    }
    assert.match(certificate(pinned, { to: now - day, from: now - 9 * day }).cause ?? "", /browsers refuse it.*expired/)
    // an authority's is as good for them, whatever its key
    assert.isUndefined(certificate(pinned, { key: "RSA 2048" }).cause)
  })

  it("tells programs what it tells people", () => {
    assert.deepStrictEqual(certificate({ told: fingerprint }, selfSigned).details, {
      fingerprint,
      key: "ECDSA P-256",
      names: ["relay.example"],
      validFrom: "2026-06-15T00:00:00.000Z",
      validTo: "2026-06-28T12:00:00.000Z",
      selfSigned: true,
      trusted: false,
      browsers: "pinned",
      told: fingerprint
    })
  })
})

describe("transport", () => {
  const failed = (
    error: Extract<Diagnosis.Attempt, { _tag: "NoSession" }>["error"],
    connected = true,
    step: "h3" | "websocket" = "websocket",
    udp?: Diagnosis.Line
  ) => Diagnosis.transport(step, { _tag: "NoSession", connected, error }, udp)

  const answered = (status: number) => failed(new TransportError({ detail: `it said no (HTTP ${status})` }), false)

  it("tells version and times of a session", () => {
    const { ok, seen } = Diagnosis.transport("websocket", {
      _tag: "Session",
      profile: "fork04",
      connecting: 12.34,
      roundTrip: 0.56
    })
    assert.deepStrictEqual(
      [ok, seen],
      [true, "a session with fork04 (0xff0bad04); connecting took 12.3 ms, a round trip 0.6 ms"]
    )
  })

  it("tells why there is no session on an open connection", () => {
    assertFails(failed(new Unauthorized({ detail: "no token" })), /no token/, /refuses this client: no token/, /token/)
    assertFails(failed(new UnsupportedVersion({})), /no common version/, /no version/, /draft03 \(0xff0bad03\), fork04/)
    assertFails(failed(new Timeout({})), /timed out/, /no relay of MoQ Transfork, or hangs/, /log/)
    assertFails(failed(new ProtocolViolation({})), /violation/, /something else/, /URL/)
    const closed = (by: "remote" | "transport") => new SessionClosed({ code: 7, reason: "", by })
    assertFails(failed(closed("remote")), /code 7/, /the relay ended the session: code 7/, /log/)
    assertFails(failed(closed("transport")), /lost/, /cuts the connection/, /proxies/)
  })

  it("tells what answers HTTP and is no relay", () => {
    assertFails(answered(404), /no/, /a web server answers/, /upgrades/)
    assertFails(answered(200), /no/, /a web server answers/, /upgrades/)
    assertFails(answered(403), /no/, /refuses this client/, /token/)
    assertFails(answered(503), /no/, /full or busy/, /log/)
    assertFails(failed(new Timeout({}), false), /timed out/, /hangs/, /URL/)
  })

  it("of HTTP/3 has the cause of UDP when that is in its way", () => {
    const udp = line("udp", false, { advice: "allow it" })
    assertFails(failed(new Timeout({}), false, "h3", udp), /timed out/, /udp is the cause/, /allow it/)
    assertFails(failed(new Timeout({}), false, "h3", line("udp", true)), /timed out/, /QUIC listens there/, /path/)
  })
})

describe("verdict", () => {
  const { notTried } = Diagnosis
  const fine = [line("name", true), line("tcp", true), line("tls", true), line("certificate", true)]
  const cause = (lines: ReadonlyArray<Diagnosis.Line>) => {
    const verdict = Verdict.of(lines)
    return verdict.ok ? verdict.transports : verdict.cause
  }

  it("is good when one transport is, whatever else is not", () => {
    assert.deepStrictEqual(
      cause([...fine, line("udp", false), notTried("h3", "no QUIC"), line("websocket", true), line("h2", false)]),
      ["websocket"]
    )
  })

  it("names the first obstacle on the way over TCP, not UDP", () => {
    for (const step of ["name", "tcp", "tls", "certificate", "websocket"] as const) {
      const steps = ["name", "tcp", "tls", "certificate", "udp", "h3", "websocket"] as const
      const lines = steps.map((other) => other === step || other === "udp" ? line(other, false) : notTried(other, "-"))
      assert.strictEqual(cause(lines), `${step} is the cause`)
    }
  })

  it("prefers what got a connection", () => {
    const connected = { details: { connected: true } }
    assert.strictEqual(
      cause([line("tcp", false), line("udp", true), line("h3", false, connected), notTried("websocket", "-")]),
      "h3 is the cause"
    )
  })

  it("believes HTTP over TCP more than over QUIC", () => {
    assert.strictEqual(cause([line("h3", false), line("websocket", false)]), "websocket is the cause")
  })

  it("leaves TCP aside when only HTTP/3 was asked for", () => {
    assert.strictEqual(cause([line("tcp", false), line("udp", false), notTried("h3", "no QUIC")]), "udp is the cause")
    assert.strictEqual(cause([line("tcp", false), line("udp", true), line("h3", false)]), "h3 is the cause")
    assert.strictEqual(
      cause([...fine.slice(0, 3), line("certificate", false), line("udp", true), notTried("h3", "-")]),
      "certificate is the cause"
    )
  })

  it("says when what is missing is missing here", () => {
    const missing = Diagnosis.unavailable("h3", "the binding is not installed")
    assert.match(missing.advice ?? "", /^install it/)
    for (const lines of [[line("tcp", true)], [line("tcp", false), notTried("websocket", "TCP is closed")]]) {
      assert.strictEqual(
        cause([...lines, line("udp", true), missing]),
        "only HTTP/3 answers there, and it cannot be had here: the binding is not installed"
      )
    }
    assert.strictEqual(cause([line("udp", true), missing, line("websocket", false)]), "websocket is the cause")
    assert.strictEqual(cause([line("udp", false), missing]), "udp is the cause")
    assert.strictEqual(cause([Diagnosis.unavailable("h2", "it needs more")]), "it needs more")
    assert.strictEqual(cause([...fine, Diagnosis.noHttp2]), "the relay offers no HTTP/2")
  })
})

describe("formats", () => {
  it("for people: a mark, then what was seen, the cause and what to do", () => {
    const text = [
      line("tcp", true),
      line("certificate", true, { cause: "old", note: "more" }),
      line("udp", false, { advice: "open it" }),
      Diagnosis.notTried("h3", "no QUIC")
    ].map(Diagnosis.toText).join("\n")
    assert.strictEqual(
      text,
      [
        "✓ tcp          tcp was seen",
        "! certificate  certificate was seen",
        "               more",
        "               likely: old",
        "✗ udp          udp was seen",
        "               likely: udp is the cause",
        "               do: open it",
        "- h3           not tried: no QUIC"
      ].join("\n")
    )
  })

  it("for programs: null for what was not tried, and the details", () => {
    assert.deepStrictEqual(Diagnosis.toJson(Diagnosis.notTried("h3", "no QUIC")), {
      event: "step",
      step: "h3",
      ok: null,
      seen: "not tried: no QUIC"
    })
    assert.deepStrictEqual(
      Diagnosis.toJson(line("tcp", false, { advice: "start it", details: { port: 1 }, note: "x" })),
      {
        event: "step",
        step: "tcp",
        ok: false,
        seen: "tcp was seen",
        cause: "tcp is the cause",
        advice: "start it",
        port: 1
      }
    )
  })
})
