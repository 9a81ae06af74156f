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
import * as Http from "node:http"
import { type BoundsExceeded, Duplicate, type RequestError } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import * as Loopback from "../node/Loopback.ts"
import type * as Session from "../session/Session.ts"
import { Failure } from "./Failure.ts"
import * as Flags from "./Flags.ts"

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
  insecure: Flags.isSet("insecure", "Accept any certificate: for development only"),
  transport: Flags.oneOf("transport", ["websocket"], "How to connect").pipe(Flag.withDefault("websocket" as const))
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
  readonly insecure: boolean
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
 * Opens a session for as long as the scope.
 *
 * **Details**
 *
 * For a loopback address without a fingerprint, the relay is asked for that of its certificate first, over plain HTTP
 * and for 5 seconds at most; one that does not tell has a certificate that is trusted, or not, like any other. Fails
 * with {@link Failure} when the URL is none, and as `Session.connect` does.
 *
 * @category constructors
 * @since 0.1.0
 */
export const connect: (
  target: Target
) => Effect.Effect<Session.Session, Session.ConnectError | Failure, Scope.Scope> = Effect.fnUntraced(
  function*(target) {
    if (!URL.canParse(target.url)) {
      return yield* new Failure({ message: `${target.url} is not a URL; one is https://localhost:4443` })
    }
    const url = new URL(target.url)
    const pinned = Option.map(target.fingerprint, (text) => text.split(",").filter((part) => part.trim() !== ""))
    const asks = Option.isNone(pinned) && !target.insecure && isSecure(url) && Loopback.isLoopbackName(url.hostname)
    const [{ NodeTransport, Session }, found] = yield* Effect.all(
      [modules, asks ? askFingerprint(url) : Effect.succeed([])],
      { concurrency: 2 }
    )
    return yield* Effect.provide(
      Session.connect(url, { fingerprints: Option.getOrElse(pinned, () => found), insecure: target.insecure }),
      NodeTransport.layer
    )
  }
)

/**
 * Fails with {@link Duplicate} when somebody publishes a track already, and as `trackInfo` of a session does.
 *
 * **Details**
 *
 * A relay keeps a second publisher in reserve without a word, so whoever publishes asks before.
 *
 * @category publishing
 * @since 0.1.0
 */
export const refuseTaken = (session: Session.Session, path: Path.Path): Effect.Effect<void, Duplicate | RequestError> =>
  session.trackInfo(path).pipe(
    Effect.andThen(Effect.fail(new Duplicate({ detail: `${Path.format(path)} is published already` }))),
    Effect.catchTag("MoqNotFound", () => Effect.void)
  )

// internal

// sockets and WebSockets take a while to load, and `--help` needs none
const modules = Effect.promise(async () => {
  const [NodeTransport, Session] = await Promise.all([
    import("../node/NodeTransport.ts"),
    import("../session/Session.ts")
  ])
  return { NodeTransport, Session }
})

const isSecure = (url: URL): boolean => url.protocol === "https:" || url.protocol === "wss:"

const askFingerprint = (url: URL): Effect.Effect<ReadonlyArray<string>> =>
  Effect.callback<ReadonlyArray<string>>((resume) => {
    const found = (text: string): void => resume(Effect.succeed(/^[0-9a-f]{64}$/i.test(text) ? [text] : []))
    const request = Http.get({
      host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
      port: url.port === "" ? 443 : Number(url.port),
      path: "/certificate.sha256",
      agent: false
    }, (response) => {
      let text = ""
      response.setEncoding("utf8")
      response.on("data", (part: string) => {
        text += part
        if (text.length > 1024) response.destroy()
      })
      response.on("close", () => found(response.statusCode === 200 ? text.trim() : ""))
    })
    request.on("error", () => found(""))
    return Effect.sync(() => request.destroy())
  }).pipe(Effect.timeoutOption("5 seconds"), Effect.map(Option.getOrElse(() => [])))
