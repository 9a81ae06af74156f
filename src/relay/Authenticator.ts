/**
 * Who may do what in a relay.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { Unauthorized } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import type * as Transport from "../transport/Transport.ts"

/**
 * A client that wants a session.
 *
 * @category models
 * @since 0.1.0
 */
export interface Client {
  /** The URL that it asked for. Its query may hold a token: it is not for logs. */
  readonly url: URL
  /** The path of the URL: the root of its session. */
  readonly root: Path.Path
  readonly headers: ReadonlyMap<string, string> | undefined
  /** Its address, where the transport tells it. */
  readonly peer: string | undefined
  readonly transport: Transport.TransportName
}

/**
 * What a client may do. Prefixes are paths of the relay, not of the session: `[]` is everything. One covers what is at or
 * below it, part by part: `["foo"]` does not cover `["foobar"]`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Grant {
  /** The prefixes below which it may publish. */
  readonly publish: ReadonlyArray<Path.Path>
  /** The prefixes below which it may subscribe, fetch, ask and hear of announces. */
  readonly subscribe: ReadonlyArray<Path.Path>
  /** When that ends, in milliseconds since 1970: its session is closed then, with `Unauthorized`. Never by default. */
  readonly expires?: number | undefined
}

/**
 * Decides what a client may do, before there is anything of its session. One that may neither publish nor subscribe
 * anything below its root is refused.
 *
 * **Example** (An application's own rule)
 *
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { MoqError } from "effect-moq"
 * import { Authenticator } from "effect-moq/relay"
 *
 * const FromHeaders = Layer.succeed(Authenticator.Authenticator)({
 *   authenticate: ({ headers, root }) =>
 *     headers?.get("x-user") === undefined
 *       ? Effect.fail(new MoqError.Unauthorized({ detail: "who are you?" }))
 *       : Effect.succeed({ publish: [root], subscribe: [[]] })
 * })
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export interface Authenticator {
  /**
   * Fails with `Unauthorized` to refuse; its `detail` is told to the client. One that takes longer than a handshake may
   * (`session.limits.setup`) is interrupted, and its client refused with status 503.
   */
  readonly authenticate: (client: Client) => Effect.Effect<Grant, Unauthorized>
}

/**
 * Everybody may do everything.
 *
 * @category grants
 * @since 0.1.0
 */
export const everything: Grant = { publish: [Path.empty], subscribe: [Path.empty] }

/**
 * The service that decides. By default everybody may do everything.
 *
 * @category services
 * @since 0.1.0
 */
export const Authenticator: Context.Reference<Authenticator> = Context.Reference<Authenticator>(
  "effect-moq/relay/Authenticator",
  { defaultValue: () => ({ authenticate: () => Effect.succeed(everything) }) }
)

/**
 * Whether one of the prefixes covers a path.
 *
 * @category predicates
 * @since 0.1.0
 */
export const covers = (prefixes: ReadonlyArray<Path.Path>, path: Path.Path): boolean =>
  prefixes.some((prefix) => Path.hasPrefix(path, prefix))

/**
 * What of the prefixes is at or below a root: of one that covers the root, the root; of one beside it, nothing.
 *
 * @category combinators
 * @since 0.1.0
 */
export const within = (prefixes: ReadonlyArray<Path.Path>, root: Path.Path): ReadonlyArray<Path.Path> =>
  covers(prefixes, root) ? [root] : prefixes.filter((prefix) => Path.hasPrefix(prefix, root))
