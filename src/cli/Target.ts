/**
 * The relay that a verb talks to: where it is, how its certificate is trusted, and which track is meant.
 *
 * @since 0.1.0
 */
import * as Argument from "effect/cli/Argument"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { readFile } from "node:fs/promises"
import { type BoundsExceeded, Duplicate, type RequestError } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import * as Certificate from "../node/Certificate.ts"
import * as Loopback from "../node/Loopback.ts"
import type { Name } from "../node/NodeTransport.ts"
import * as Probe from "../node/Probe.ts"
import type * as Session from "../session/Session.ts"
import type { ConnectOptions } from "../transport/Transport.ts"
import { Failure } from "./Failure.ts"
import * as Flags from "./Flags.ts"
import * as Output from "./Output.ts"

/**
 * The arguments and flags of every verb that connects.
 *
 * @category flags
 * @since 0.1.0
 */
export const config = {
  url: Argument.String("url").pipe(
    Argument.withDescription(
      "Where the relay is, such as https://localhost:4443; its path is put before every track path"
    )
  ),
  fingerprint: Flags.text(
    "fingerprint",
    "hex",
    "SHA-256 of the certificate to accept, or several with commas; for localhost the relay is asked for it"
  ).pipe(Flag.optional),
  tlsRoot: Flags.text("tls-root", "file", "Certificates of authorities to trust instead of the system's, in PEM").pipe(
    Flag.optional
  ),
  insecure: Flags.isSet("insecure", "Accept any certificate: for development only"),
  transport: Flags.transports(
    "How to connect: what is named first is preferred; auto, the default, is the best of h3 and websocket that works"
  )
}

/**
 * The track path of a verb.
 *
 * @category flags
 * @since 0.1.0
 */
export const path: Argument.Argument<string> = Argument.String("path").pipe(
  Argument.withDescription("A track, its parts separated by /, such as demo/clock")
)

/**
 * What {@link config} gives.
 *
 * @category models
 * @since 0.1.0
 */
export interface Target {
  readonly url: string
  readonly fingerprint: Option.Option<string>
  readonly tlsRoot: Option.Option<string>
  readonly insecure: boolean
  readonly transport: ReadonlyArray<Name> | undefined
}

/**
 * A target that has been read: where the relay is, and what makes its certificate a good one.
 *
 * @category models
 * @since 0.1.0
 */
export interface Parsed {
  readonly url: URL
  readonly trust: Pick<ConnectOptions, "fingerprints" | "roots" | "insecure">
  /** Nothing says which certificate to expect, and the address is one of this machine: the relay may tell. */
  readonly asks: boolean
}

/**
 * Reads a track path. Fails with {@link BoundsExceeded} when it has no part, or is beyond the limits of a path.
 *
 * @category parsing
 * @since 0.1.0
 */
export const parsePath = (text: string): Effect.Effect<Path.Path, BoundsExceeded> =>
  Path.validateTrack(Path.fromString(text))

/**
 * Reads a target, and the file that it names. Fails with {@link Failure} when the URL is none, when there is a fingerprint
 * that is empty, and when the file cannot be read or has no certificate in it.
 *
 * @category parsing
 * @since 0.1.0
 */
export const parse: (target: Target) => Effect.Effect<Parsed, Failure> = Effect.fnUntraced(function*(target) {
  if (!URL.canParse(target.url)) {
    // its query may hold a token
    return yield* new Failure({ message: `${target.url.split("?")[0]} is not a URL; one is https://localhost:4443` })
  }
  const url = new URL(target.url)
  const fingerprints = Option.getOrUndefined(target.fingerprint)?.split(",").filter((part) => part.trim() !== "")
  if (fingerprints?.length === 0) {
    return yield* new Failure({ message: "--fingerprint is empty: it takes 64 hex digits, or leave it out" })
  }
  const roots = Option.isSome(target.tlsRoot) ? yield* readRoots(target.tlsRoot.value) : undefined
  return {
    url,
    trust: { fingerprints, roots, insecure: target.insecure },
    asks: fingerprints === undefined && roots === undefined && !target.insecure &&
      (url.protocol === "https:" || url.protocol === "wss:") && Loopback.isLoopbackName(url.hostname)
  }
})

/**
 * Opens a session for as long as the scope, and says over which transport to people who watch, when there was a choice.
 *
 * **Details**
 *
 * For a loopback address, when nothing says which certificate to expect, the relay is asked for the fingerprint of its
 * own first, over plain HTTP and for 5 seconds at most; one that does not tell has a certificate that is trusted, or not,
 * like any other. Fails with {@link Failure} as {@link parse} does, and as `Session.connect` does.
 *
 * @category constructors
 * @since 0.1.0
 */
export const connect: (
  target: Target
) => Effect.Effect<Session.Session, Session.ConnectError | Failure, Scope.Scope | Output.Output> = Effect.fnUntraced(
  function*(target) {
    const { asks, trust, url } = yield* parse(target)
    const [{ NodeTransport, Session }, told] = yield* Effect.all(
      [modules, asks ? Probe.fingerprint(Probe.placeOf(url), "5 seconds") : Effect.succeed(undefined)],
      { concurrency: 2 }
    )
    const session = yield* Effect.provide(
      Session.connect(url, told === undefined ? trust : { ...trust, fingerprints: [told] }),
      NodeTransport.layerWith({ transports: target.transport })
    )
    if (target.transport?.length !== 1) {
      yield* Output.Output.use(({ progress }) => progress(`connected over ${session.transport.transport}`))
    }
    return session
  }
)

/**
 * Fails with {@link Duplicate} when somebody publishes a track already, and as `trackInfo` of a session does.
 *
 * **Details**
 *
 * A relay gives a path to whoever publishes it last, and sends the one before away; so whoever does not mean that asks
 * before.
 *
 * @category publishing
 * @since 0.1.0
 */
export const refuseTaken = (session: Session.Session, path: Path.Path): Effect.Effect<void, Duplicate | RequestError> =>
  session.trackInfo(path).pipe(
    Effect.andThen(Effect.fail(new Duplicate({ detail: `${Path.format(path)} is published already` }))),
    Effect.catchTag("MoqNotFound", () => Effect.void)
  )

/**
 * Reads certificates of authorities. Fails with {@link Failure} when the file cannot be read, or has none in it.
 *
 * @category parsing
 * @since 0.1.0
 */
export const readRoots = (file: string): Effect.Effect<ReadonlyArray<string>, Failure> =>
  Effect.tryPromise({
    try: () => readFile(file, "utf8"),
    catch: (error) => new Failure({ message: `${file} cannot be read: ${(error as NodeJS.ErrnoException).code}` })
  }).pipe(Effect.flatMap((pem) => {
    const found = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? []
    return found.length > 0 && found.every(Certificate.isPem)
      ? Effect.succeed(found)
      : Effect.fail(new Failure({ message: `${file} has no certificate in PEM` }))
  }))

// internal

// sockets and WebSockets take a while to load, and `--help` needs none
const modules = Effect.promise(async () => {
  const [NodeTransport, Session] = await Promise.all([
    import("../node/NodeTransport.ts"),
    import("../session/Session.ts")
  ])
  return { NodeTransport, Session }
})
