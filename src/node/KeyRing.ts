/**
 * The certificate that a server shows now, and those that take its place.
 *
 * **Details**
 *
 * A server takes one of these as its `tls`, or what {@link make} makes one of. Whoever shows the certificate reads
 * `currentUnsafe` and follows `changes`; sessions that are open go on.
 *
 * **Example** (A server that reads its certificate again every day)
 *
 * ```ts
 * import { Stream } from "effect"
 * import { NodeTransport } from "effect-moq/node"
 *
 * const ServerLive = NodeTransport.layerServer({
 *   port: 443,
 *   host: "",
 *   tls: { certFile: "fullchain.pem", keyFile: "privkey.pem" },
 *   reload: Stream.tick("1 day")
 * })
 * ```
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { randomUUID, X509Certificate } from "node:crypto"
import { link, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises"
import { isIP } from "node:net"
import { dirname, join } from "node:path"
import { TransportError } from "../core/MoqError.ts"
import * as Certificate from "./Certificate.ts"

/**
 * Where a server's certificate comes from.
 *
 * **Details**
 *
 * - `cert` and `key`: yours, as PEM texts.
 * - `certFile` and `keyFile`: yours, from files (PEM), which can be read again.
 * - `generate`: made for these hosts, for development; renewed 3 days before it expires, which is every 10 days. With
 *   `stateDir` it is kept in the file `generated.pem` of that directory, so that the fingerprint that clients have
 *   pinned outlives a restart. The directory is made when it is not there, and only you can read what is in it.
 *   Several servers for the same hosts may share it.
 * - A {@link KeyRing}: whatever you make of it, such as one that asks an authority for certificates.
 *
 * @category models
 * @since 0.1.0
 */
export type ServerCertificate =
  | { readonly cert: string; readonly key: string }
  | Files
  | Generated
  | KeyRing

/**
 * A certificate and its key in files, in PEM.
 *
 * @category models
 * @since 0.1.0
 */
export interface Files {
  readonly certFile: string
  readonly keyFile: string
}

/**
 * A certificate that is generated for names and IP addresses.
 *
 * @category models
 * @since 0.1.0
 */
export interface Generated {
  readonly generate: ReadonlyArray<string>
  readonly stateDir?: string | undefined
}

/**
 * A certificate in force.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeyRing {
  /** It was generated here, for development: clients have to pin it. */
  readonly generated: boolean
  readonly currentUnsafe: () => Certificate.Certificate
  /**
   * Each certificate that takes the place of the one before, from the moment that this is run; the newest alone when
   * several came meanwhile.
   */
  readonly changes: Stream.Stream<Certificate.Certificate>
}

/**
 * Loads or makes the certificate, and keeps it in force for as long as the scope.
 *
 * **Details**
 *
 * With each element of `reload` the files are read again. Files that cannot be used then, because one is missing, is no
 * PEM, or they do not belong together, are logged as a warning, and the certificate before stays; so are a state
 * directory that cannot be written and a file in it that is of no use, which is replaced. Fails with
 * {@link TransportError} when there is no certificate to begin with, or no place for it in `stateDir`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: (
  tls: ServerCertificate,
  reload?: Stream.Stream<unknown>
) => Effect.Effect<KeyRing, TransportError, Scope.Scope> = Effect.fnUntraced(
  function*(tls, reload = Stream.empty) {
    if ("currentUnsafe" in tls) return tls
    let current = yield* issue(tls)
    const changes = yield* PubSub.sliding<Certificate.Certificate>(1)
    yield* Effect.addFinalizer(() => PubSub.shutdown(changes))
    const replace = (next: Certificate.Certificate): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (next.cert === current.cert && next.key === current.key) {
          return Effect.logInfo("the certificate is the same as before")
        }
        current = next
        return Effect.asVoid(PubSub.publish(changes, next))
      })

    if ("certFile" in tls) {
      const again = Effect.matchEffect(fromFiles(tls), {
        onSuccess: replace,
        onFailure: ({ detail }) => Effect.logWarning(`the certificate before stays in force: ${detail}`)
      })
      yield* Effect.forkScoped(Stream.runForEach(reload, () => again), { startImmediately: true })
    }
    if ("generate" in tls) {
      const renew = Clock.currentTimeMillis.pipe(
        Effect.flatMap((now) => isGood(validity(current), now) ? Effect.void : Effect.flatMap(reissue(tls), replace)),
        Effect.catch(({ detail }) => Effect.logWarning(`the certificate could not be renewed: ${detail}`))
      )
      // looks at the clock rather than sleeping until then, because timers stand still while a machine is suspended
      yield* Effect.forkScoped(Effect.repeat(renew, Schedule.spaced("1 hour")))
    }
    return {
      generated: "generate" in tls,
      currentUnsafe: () => current,
      changes: Stream.fromPubSub(changes)
    }
  }
)

// internal

const issue = (tls: Exclude<ServerCertificate, KeyRing>): Effect.Effect<Certificate.Certificate, TransportError> => {
  if ("certFile" in tls) return fromFiles(tls)
  if ("cert" in tls) return Certificate.fromPem(tls)
  return tls.stateDir === undefined || tls.generate.length === 0
    ? Certificate.generate({ hosts: tls.generate })
    : fromState(tls.generate, join(tls.stateDir, "generated.pem"))
}

// where it cannot be kept, a server that runs goes on with one that is not
const reissue = (tls: Generated): Effect.Effect<Certificate.Certificate, TransportError> =>
  Effect.catch(issue(tls), ({ detail }) =>
    Effect.andThen(
      Effect.logWarning(`the new certificate is not kept: ${detail}`),
      Certificate.generate({ hosts: tls.generate })
    ))

const fromFiles = ({ certFile, keyFile }: Files): Effect.Effect<Certificate.Certificate, TransportError> =>
  Effect.all({ cert: readOwn(certFile), key: readOwn(keyFile) }).pipe(
    Effect.flatMap((pem) =>
      Effect.mapError(
        Certificate.fromPem(pem),
        ({ detail }) => new TransportError({ detail: `${certFile}, ${keyFile}: ${detail}` })
      )
    )
  )

const readOwn = (file: string): Effect.Effect<string, TransportError> =>
  Effect.mapError(read(file), (error) => new TransportError({ detail: `${file} cannot be read: ${error.code}` }))

const read = (file: string): Effect.Effect<string, NodeJS.ErrnoException> =>
  Effect.tryPromise({ try: () => readFile(file, "utf8"), catch: (error) => error as NodeJS.ErrnoException })

// the certificate that is kept, or else a new one in its place
const fromState: (
  hosts: ReadonlyArray<string>,
  file: string
) => Effect.Effect<Certificate.Certificate, TransportError> = Effect.fnUntraced(function*(hosts, file) {
  const found = yield* look(hosts, file)
  if (typeof found !== "string") return found
  const made = yield* Certificate.generate({ hosts })
  if (yield* keep(file, made, found === "useless")) return made
  // of several servers that start together the first one wins
  const theirs = yield* look(hosts, file)
  if (typeof theirs !== "string") return theirs
  yield* keep(file, made, true)
  return made
})

type Found = Certificate.Certificate | "absent" | "useless"

const look: (hosts: ReadonlyArray<string>, file: string) => Effect.Effect<Found> = Effect.fnUntraced(
  function*(hosts, file) {
    const text = yield* Effect.result(read(file))
    if (Result.isFailure(text)) {
      if (text.failure.code === "ENOENT") return "absent"
      return yield* useless(file, `it cannot be read: ${text.failure.code}`)
    }
    const [key = "", cert = ""] = text.success.split(/(?=-----BEGIN CERTIFICATE-----)/)
    const kept = yield* Effect.result(Certificate.fromPem({ cert, key }))
    if (Result.isFailure(kept)) return yield* useless(file, `${kept.failure.detail}`)
    const certificate = new X509Certificate(cert)
    const missing = hosts.find((host) => !isFor(certificate, host))
    if (missing !== undefined) return yield* useless(file, `it is not for ${missing}`)
    const { from, to } = validity(kept.success)
    if (to - from > 14 * day) return yield* useless(file, "it is valid for more than 14 days")
    return isGood({ from, to }, yield* Clock.currentTimeMillis) ? kept.success : "useless"
  }
)

const useless = (file: string, why: string): Effect.Effect<"useless"> =>
  Effect.as(Effect.logWarning(`${file} is replaced: ${why}`), "useless")

const isFor = (certificate: X509Certificate, host: string): boolean => {
  if (isIP(host) !== 0) return certificate.checkIP(host) !== undefined
  const names = certificate.subjectAltName?.toLowerCase().split(", ") ?? []
  return names.includes(`dns:${host.toLowerCase()}`)
}

// Certificate and key are one file, so that they always belong together. Gives whether it is ours now: always when it
// may replace another one.
const keep = (file: string, { cert, key }: Certificate.Certificate, replace: boolean) =>
  Effect.tryPromise({
    try: async () => {
      await mkdir(dirname(file), { recursive: true, mode: 0o700 })
      const temporary = `${file}.${randomUUID()}`
      try {
        await writeFile(temporary, `${key.trim()}\n${cert}`, { flag: "wx", mode: 0o600, flush: true })
        return await place(temporary, file, replace)
      } finally {
        await rm(temporary, { force: true })
      }
    },
    catch: (error) =>
      new TransportError({ detail: `${file} cannot be written: ${(error as NodeJS.ErrnoException).code}` })
  })

const place = async (temporary: string, file: string, replace: boolean): Promise<boolean> => {
  try {
    if (!replace) {
      await link(temporary, file)
      return true
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false
    // there are file systems without links
  }
  await rename(temporary, file)
  return true
}

interface Validity {
  readonly from: number
  readonly to: number
}

const validity = ({ cert }: Certificate.Certificate): Validity => {
  const { validFrom, validTo } = new X509Certificate(cert)
  return { from: Date.parse(validFrom), to: Date.parse(validTo) }
}

// good now, and for long enough that it can be handed out
const isGood = ({ from, to }: Validity, now: number): boolean => now >= from && now < to - 3 * day

const day = 86_400_000
