import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Logger, Queue, Stream } from "effect"
import { TestClock } from "effect/testing"
import { createPrivateKey, X509Certificate } from "node:crypto"
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Certificate from "../../src/node/Certificate.ts"
import * as KeyRing from "../../src/node/KeyRing.ts"

const day = 86_400_000
const start = Date.UTC(2027, 4, 1)

const directory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "effect-moq-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true }))
)

/** What is logged as a warning or worse, and a layer that collects it. */
const logged = () => {
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => {
    if (logLevel !== "Info") lines.push(String(message))
  })
  return { lines, layer: Logger.layer([logger]) }
}

/** The changes of a ring, in a queue. */
const following = Effect.fnUntraced(function*(ring: KeyRing.KeyRing) {
  const changes = yield* Queue.unbounded<Certificate.Certificate>()
  yield* Effect.forkScoped(Stream.runForEach(ring.changes, (change) => Queue.offer(changes, change)), {
    startImmediately: true
  })
  return changes
})

const assertPair = ({ cert, fingerprint, key }: Certificate.Certificate) => {
  const certificate = new X509Certificate(cert)
  assert.isTrue(certificate.checkPrivateKey(createPrivateKey(key)))
  assert.strictEqual(certificate.fingerprint256.replaceAll(":", "").toLowerCase(), fingerprint)
}

/** Makes a ring, and gives its certificate; the ring is closed again, as by a server that ends. */
const once = (tls: KeyRing.ServerCertificate) =>
  Effect.scoped(Effect.map(KeyRing.make(tls), (ring) => ring.currentUnsafe()))

describe("a generated certificate", () => {
  it.effect("is renewed every 10 days, for weeks, and each is good from then on", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(start)
      const ring = yield* KeyRing.make({ generate: ["localhost"] })
      assert.isTrue(ring.generated)
      const changes = yield* following(ring)
      const seen = new Set([ring.currentUnsafe().fingerprint])
      for (let renewal = 1; renewal <= 5; renewal++) {
        yield* TestClock.adjust("10 days")
        const next = yield* Queue.take(changes)
        assert.strictEqual(ring.currentUnsafe(), next)
        assertPair(next)
        const { validFrom, validTo } = new X509Certificate(next.cert)
        const now = start + renewal * 10 * day
        assert.deepStrictEqual([Date.parse(validFrom), Date.parse(validTo)], [now - day / 2, now + 13 * day])
        seen.add(next.fingerprint)
      }
      assert.strictEqual(seen.size, 6)
      assert.strictEqual(Queue.sizeUnsafe(changes), 0)
    }))

  it.effect("stays until there are 3 days left, and is renewed within the hour", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(start)
      const ring = yield* KeyRing.make({ generate: ["localhost"] })
      const changes = yield* following(ring)
      yield* TestClock.adjust("239 hours")
      yield* TestClock.adjust("59 minutes")
      const renewing = yield* Effect.forkChild(Queue.take(changes), { startImmediately: true })
      yield* TestClock.adjust("1 minute")
      const { validFrom } = new X509Certificate((yield* Fiber.join(renewing)).cert)
      assert.strictEqual(Date.parse(validFrom), start + 9.5 * day)
    }))

  it.effect("is renewed within the hour after the machine was suspended for too long", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(start)
      const clock = yield* Clock.Clock
      // timers stand still meanwhile, the clock does not
      let suspended = 0
      const now = () => clock.currentTimeMillisUnsafe() + suspended
      const shifted = Object.assign(Object.create(clock) as Clock.Clock, {
        currentTimeMillisUnsafe: now,
        currentTimeMillis: Effect.sync(now)
      })
      const ring = yield* KeyRing.make({ generate: ["localhost"] }).pipe(Effect.provideService(Clock.Clock, shifted))
      const changes = yield* following(ring)
      yield* TestClock.adjust("30 minutes")
      suspended = 20 * day
      const renewing = yield* Effect.forkChild(Queue.take(changes), { startImmediately: true })
      yield* TestClock.adjust("30 minutes")
      const { validTo } = new X509Certificate((yield* Fiber.join(renewing)).cert)
      assert.isAbove(Date.parse(validTo), start + 32 * day)
    }))

  it.effect("is not renewed any more when its scope has closed, and the changes end", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(start)
      const { draining, ring } = yield* Effect.scoped(Effect.gen(function*() {
        const ring = yield* KeyRing.make({ generate: ["localhost"] })
        return { ring, draining: yield* Effect.forkDetach(Stream.runDrain(ring.changes), { startImmediately: true }) }
      }))
      yield* Fiber.join(draining)
      const { fingerprint } = ring.currentUnsafe()
      yield* TestClock.adjust("20 days")
      yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      assert.strictEqual(ring.currentUnsafe().fingerprint, fingerprint)
    }))

  it.effect("needs hosts, also when one is kept", () =>
    Effect.gen(function*() {
      const stateDir = yield* directory
      yield* once({ generate: ["localhost"], stateDir })
      const error = yield* Effect.flip(once({ generate: [], stateDir }))
      assert.include(error.detail, "at least one host")
    }))
})

describe("a state directory", () => {
  it.effect("is made for its owner alone, and so is what it holds, whatever the umask", () =>
    Effect.gen(function*() {
      const stateDir = join(yield* directory, "a", "b")
      const before = process.umask(0)
      yield* Effect.addFinalizer(() => Effect.sync(() => process.umask(before)))
      const made = yield* once({ generate: ["localhost"], stateDir })
      assert.strictEqual(statSync(stateDir).mode & 0o777, 0o700)
      // nothing half written is left
      assert.deepStrictEqual(readdirSync(stateDir), ["generated.pem"])
      const file = join(stateDir, "generated.pem")
      assert.strictEqual(statSync(file).mode & 0o777, 0o600)
      assert.include(readFileSync(file, "utf8"), made.cert)
    }))

  it.effect("gives the same certificate after a restart, until it is due", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(start)
      const tls = { generate: ["localhost", "::1", "*.Example.com"], stateDir: yield* directory }
      const { layer, lines } = logged()
      const first = yield* once(tls)
      assertPair(first)
      yield* TestClock.adjust("9 days")
      const again = yield* once(tls).pipe(Effect.provide(layer))
      assert.strictEqual(again.fingerprint, first.fingerprint)
      assertPair(again)
      assert.notInclude(again.cert, "PRIVATE")
      // some of its hosts are fine too
      assert.strictEqual((yield* once({ ...tls, generate: ["0:0::1"] })).fingerprint, first.fingerprint)
      yield* TestClock.adjust("1 day")
      const due = yield* once(tls).pipe(Effect.provide(layer))
      assert.notStrictEqual(due.fingerprint, first.fingerprint)
      assert.strictEqual((yield* once(tls)).fingerprint, due.fingerprint)
      assert.deepStrictEqual(lines, [])
    }))

  it.effect("keeps what is renewed, and servers that share it renew together", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(start)
      const tls = { generate: ["localhost"], stateDir: yield* directory }
      const one = yield* KeyRing.make(tls)
      yield* TestClock.adjust("30 minutes")
      const two = yield* KeyRing.make(tls)
      assert.strictEqual(one.currentUnsafe().fingerprint, two.currentUnsafe().fingerprint)
      const ones = yield* following(one)
      const twos = yield* following(two)
      yield* TestClock.adjust("239 hours")
      yield* TestClock.adjust("30 minutes")
      const renewed = yield* Queue.take(ones)
      yield* TestClock.adjust("30 minutes")
      assert.strictEqual((yield* Queue.take(twos)).fingerprint, renewed.fingerprint)
      assert.strictEqual((yield* once(tls)).fingerprint, renewed.fingerprint)
    }))

  it.effect("serves servers that start at the same moment with one certificate", () =>
    Effect.gen(function*() {
      const tls = { generate: ["localhost"], stateDir: yield* directory }
      const made = yield* Effect.all(Array.from({ length: 8 }, () => once(tls)), { concurrency: "unbounded" })
      for (const certificate of made) assertPair(certificate)
      assert.deepStrictEqual([...new Set(made.map((one) => one.fingerprint))], [(yield* once(tls)).fingerprint])
      assert.deepStrictEqual(readdirSync(tls.stateDir), ["generated.pem"])
    }))

  const other = Certificate.generate({ hosts: ["localhost"] })
  it.effect.each([
    { content: () => Effect.succeed(""), why: "not in PEM" },
    { content: (kept: string) => Effect.succeed(kept.slice(0, 300)), why: "not in PEM" },
    { content: (kept: string) => Effect.succeed(kept.slice(kept.indexOf("-----BEGIN CERT"))), why: "not in PEM" },
    {
      content: (kept: string) =>
        Effect.map(other, ({ key }) => `${key}\n${kept.slice(kept.indexOf("-----BEGIN CERT"))}`),
      why: "do not belong together"
    },
    {
      content: () =>
        Effect.map(Certificate.generate({ hosts: ["elsewhere.example"] }), ({ cert, key }) => `${key}\n${cert}`),
      why: "not for localhost"
    }
  ])("replaces a file that is of no use, and says so in one line: $why", ({ content, why }) =>
    Effect.gen(function*() {
      const tls = { generate: ["localhost"], stateDir: yield* directory }
      const first = yield* once(tls)
      const file = join(tls.stateDir, "generated.pem")
      writeFileSync(file, yield* content(readFileSync(file, "utf8")))
      const { layer, lines } = logged()
      const second = yield* once(tls).pipe(Effect.provide(layer))
      assertPair(second)
      assert.notStrictEqual(second.fingerprint, first.fingerprint)
      assert.strictEqual(lines.length, 1)
      assert.include(lines[0], `${file} is replaced: `)
      assert.include(lines[0], why)
      assert.notInclude(lines[0], "\n")
      assert.strictEqual((yield* once(tls)).fingerprint, second.fingerprint)
    }))

  it.effect("replaces a link that leads nowhere", () =>
    Effect.gen(function*() {
      const tls = { generate: ["localhost"], stateDir: yield* directory }
      symlinkSync(join(tls.stateDir, "gone"), join(tls.stateDir, "generated.pem"))
      assert.strictEqual((yield* once(tls)).fingerprint, (yield* once(tls)).fingerprint)
    }))

  it.effect("is said to be of no use at the start, and while running costs no renewal", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(start)
      const parent = yield* directory
      const file = join(parent, "file")
      writeFileSync(file, "")
      const error = yield* Effect.flip(once({ generate: ["localhost"], stateDir: file }))
      assert.strictEqual(error._tag, "MoqTransportError")
      assert.include(error.detail, `${join(file, "generated.pem")} cannot be written: `)

      const stateDir = join(parent, "state")
      const { layer, lines } = logged()
      const ring = yield* KeyRing.make({ generate: ["localhost"], stateDir }).pipe(Effect.provide(layer))
      const changes = yield* following(ring)
      rmSync(stateDir, { recursive: true })
      writeFileSync(stateDir, "")
      yield* TestClock.adjust("10 days")
      assertPair(yield* Queue.take(changes))
      assert.include(lines.at(-1), "the new certificate is not kept: ")
    }))
})

describe("certificate files", () => {
  /** A pair of files, and what writes them. */
  const files = Effect.gen(function*() {
    const path = yield* directory
    const tls = { certFile: join(path, "cert.pem"), keyFile: join(path, "key.pem") }
    const write = ({ cert, key }: { readonly cert?: string; readonly key?: string }) => {
      if (cert !== undefined) writeFileSync(tls.certFile, cert)
      if (key !== undefined) writeFileSync(tls.keyFile, key)
    }
    return { tls, write }
  })
  const generate = Certificate.generate({ hosts: ["relay.example"] })

  it.effect("are read again when told so; a pair that does not match is kept out", () =>
    Effect.gen(function*() {
      const { tls, write } = yield* files
      const [one, two] = yield* Effect.all([generate, generate])
      write(one)
      const hangups = yield* Queue.unbounded<void>()
      const handled = yield* Queue.unbounded<void>()
      // each element is asked for when the one before has been dealt with
      const reload = Stream.fromEffectRepeat(Effect.andThen(Queue.offer(handled, undefined), Queue.take(hangups)))
      const hangUp = Effect.andThen(Queue.offer(hangups, undefined), Queue.take(handled))
      const { layer, lines } = logged()
      const ring = yield* KeyRing.make(tls, reload).pipe(Effect.provide(layer))
      yield* Queue.take(handled)
      assert.isFalse(ring.generated)
      assert.strictEqual(ring.currentUnsafe().fingerprint, one.fingerprint)
      const changes = yield* following(ring)

      yield* hangUp
      write({ cert: two.cert })
      yield* hangUp
      write({ cert: "nonsense" })
      yield* hangUp
      rmSync(tls.certFile)
      yield* hangUp
      assert.strictEqual(ring.currentUnsafe().fingerprint, one.fingerprint)
      assert.strictEqual(Queue.sizeUnsafe(changes), 0)
      assert.deepStrictEqual(lines, [
        `the certificate before stays in force: ${tls.certFile}, ${tls.keyFile}: ` +
        "certificate and key cannot be used: they do not belong together",
        `the certificate before stays in force: ${tls.certFile}, ${tls.keyFile}: ` +
        "certificate and key cannot be used: the certificate is not in PEM",
        `the certificate before stays in force: ${tls.certFile} cannot be read: ENOENT`
      ])

      write(two)
      yield* hangUp
      assert.strictEqual((yield* Queue.take(changes)).fingerprint, two.fingerprint)
      assert.strictEqual(ring.currentUnsafe().fingerprint, two.fingerprint)
      yield* hangUp
      assert.strictEqual(Queue.sizeUnsafe(changes), 0)
      assert.strictEqual(lines.length, 3)
    }))

  it.effect("have to be good to begin with", () =>
    Effect.gen(function*() {
      const { tls, write } = yield* files
      const [one, two] = yield* Effect.all([generate, generate])
      const detail = Effect.map(Effect.flip(once(tls)), (error) => {
        assert.strictEqual(error._tag, "MoqTransportError")
        return error.detail
      })
      assert.strictEqual(yield* detail, `${tls.certFile} cannot be read: ENOENT`)
      write({ cert: one.cert })
      assert.strictEqual(yield* detail, `${tls.keyFile} cannot be read: ENOENT`)
      write({ key: two.key })
      assert.include(yield* detail, "do not belong together")
      write({ key: one.key })
      assertPair(yield* once(tls))
    }))
})

describe("a ring of one's own", () => {
  it.effect("is taken as it is", () =>
    Effect.gen(function*() {
      const certificate = yield* Certificate.generate({ hosts: ["localhost"] })
      const own: KeyRing.KeyRing = { generated: false, currentUnsafe: () => certificate, changes: Stream.empty }
      assert.strictEqual(yield* KeyRing.make(own), own)
    }))
})
