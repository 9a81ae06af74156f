import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { createPrivateKey, X509Certificate } from "node:crypto"
import * as Certificate from "../../src/node/Certificate.ts"

const day = 86_400_000

describe("Certificate", () => {
  it.effect("generates P-256 for every host, valid for at most 14 days around now", () =>
    Effect.gen(function*() {
      const now = Date.UTC(2027, 4, 1)
      yield* TestClock.setTime(now)
      const made = yield* Certificate.generate({ hosts: ["localhost", "127.0.0.1", "::1", "*.example.com"] })
      const certificate = new X509Certificate(made.cert)
      assert.strictEqual(certificate.publicKey.asymmetricKeyDetails?.namedCurve, "prime256v1")
      assert.strictEqual(
        certificate.subjectAltName,
        "DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, DNS:*.example.com"
      )
      const from = Date.parse(certificate.validFrom)
      const to = Date.parse(certificate.validTo)
      assert.isTrue(from < now && to > now)
      assert.isAtMost(to - from, 14 * day)
      assert.strictEqual(to, now + 13 * day)
      assert.isTrue(certificate.checkPrivateKey(createPrivateKey(made.key)))
      assert.isFalse(certificate.ca)
    }))

  it.effect("tells the fingerprint as lower-case hex, from the PEM as well", () =>
    Effect.gen(function*() {
      const made = yield* Certificate.generate({ hosts: ["localhost"], days: 1 })
      const node = new X509Certificate(made.cert).fingerprint256
      assert.strictEqual(made.fingerprint, node.replaceAll(":", "").toLowerCase())
      assert.strictEqual(yield* Certificate.fingerprintOf(made.cert), made.fingerprint)
      assert.strictEqual(Certificate.normalizeFingerprint(node), made.fingerprint)
    }))

  it.effect("never makes the same one twice", () =>
    Effect.gen(function*() {
      const options = { hosts: ["localhost"] }
      const [one, two] = yield* Effect.all([Certificate.generate(options), Certificate.generate(options)])
      assert.notStrictEqual(one.fingerprint, two.fingerprint)
    }))

  it.effect.each([
    { options: { hosts: ["localhost"], days: 14 }, detail: "1 to 13 days" },
    { options: { hosts: ["localhost"], days: 0 }, detail: "1 to 13 days" },
    { options: { hosts: ["localhost"], days: Number.NaN }, detail: "1 to 13 days" },
    { options: { hosts: [] }, detail: "at least one host" },
    { options: { hosts: ["localhost", "a b"] }, detail: "\"a b\"" },
    { options: { hosts: ["CN=x,O=y"] }, detail: "neither a DNS name nor an IP address" }
  ])("refuses $detail", ({ options, detail }) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Certificate.generate(options))
      assert.strictEqual(error._tag, "MoqTransportError")
      assert.include(error.detail, detail)
    }))

  it.effect("takes a certificate of yours with its key, and says what is wrong with others", () =>
    Effect.gen(function*() {
      const [one, other] = yield* Effect.all([
        Certificate.generate({ hosts: ["localhost"] }),
        Certificate.generate({ hosts: ["localhost"] })
      ])
      assert.deepStrictEqual(yield* Certificate.fromPem({ cert: one.cert, key: one.key }), one)
      // the first one is the server's
      const chain = `${one.cert}\n${other.cert}`
      assert.strictEqual((yield* Certificate.fromPem({ cert: chain, key: one.key })).fingerprint, one.fingerprint)
      const encrypted = createPrivateKey(one.key).export({
        type: "pkcs8",
        format: "pem",
        cipher: "aes-256-cbc",
        passphrase: "secret"
      })
      for (
        const [pem, words] of [
          [{ cert: "nonsense", key: one.key }, "the certificate is not in PEM"],
          [{ cert: one.key, key: one.key }, "the certificate is not in PEM"],
          [{ cert: one.cert, key: one.cert }, "the key is not in PEM"],
          [{ cert: one.cert, key: String(encrypted) }, "the key is encrypted"],
          [{ cert: one.cert, key: other.key }, "they do not belong together"],
          [{ cert: chain.slice(0, -100), key: one.key }, "certificate and key cannot be used: "]
        ] as const
      ) {
        const error = yield* Effect.flip(Certificate.fromPem(pem))
        assert.strictEqual(error._tag, "MoqTransportError")
        assert.include(error.detail, "certificate and key cannot be used: ")
        assert.include(error.detail, words)
        assert.notInclude(error.detail, "\n")
      }
    }))

  it.effect("refuses what is not a certificate", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Certificate.fingerprintOf("-----BEGIN NOTHING-----"))
      assert.strictEqual(error._tag, "MoqTransportError")
      assert.isUndefined(Certificate.normalizeFingerprint("abc"))
      assert.isUndefined(Certificate.normalizeFingerprint("g".repeat(64)))
    }))
})
