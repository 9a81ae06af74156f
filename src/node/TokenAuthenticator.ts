/**
 * A relay that takes tokens: whoever comes with one may do what it says, everybody what is public, and nobody anything
 * else.
 *
 * **Details**
 *
 * A client puts its token into the URL: `https://relay.example/room/123?jwt=...`. The path of the URL is at or below the
 * `root` of the token. A token that is not good is refused even where everything is public, with `Unauthorized` and the
 * reason; the token itself, and what is in it, goes into no error and no log.
 *
 * **Example** (A relay with a key, and a public part)
 *
 * ```ts
 * import { Layer } from "effect"
 * import { NodeTransport, TokenAuthenticator } from "effect-moq/node"
 * import { Relay } from "effect-moq/relay"
 *
 * const RelayLayer = Relay.layer().pipe(
 *   Layer.provide(NodeTransport.layerServer({ port: 4443, tls: { generate: ["localhost"] } })),
 *   Layer.provide(TokenAuthenticator.layer({ keyFiles: ["public.jwk"], public: [["anon"]] }))
 * )
 * ```
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Unauthorized } from "../core/MoqError.ts"
import type * as Path from "../core/Path.ts"
import * as Authenticator from "../relay/Authenticator.ts"
import * as Token from "./Token.ts"
import * as TokenKey from "./TokenKey.ts"

/**
 * Whose tokens are taken, and what needs none. Keys from all places count together.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Keys that you have. */
  readonly keys?: ReadonlyArray<TokenKey.Key> | undefined
  /** Files with keys: see `TokenKey.readFileKeys`. */
  readonly keyFiles?: ReadonlyArray<string> | undefined
  /** A directory with a file for each key: see `TokenKey.readDir`. */
  readonly keyDir?: string | undefined
  /** Prefixes below which everybody may publish and subscribe without a token: paths of the relay. */
  readonly public?: ReadonlyArray<Path.Path> | undefined
  /** With each element of this the files are read again. */
  readonly reload?: Stream.Stream<unknown> | undefined
}

/**
 * Reads the keys, and decides by them for as long as the scope.
 *
 * **Details**
 *
 * A client with a token gets what it grants and what is public; one without what is public. It is for the part of that
 * which is at or below the root of the session: when nothing is, `Unauthorized`.
 *
 * When the files are read again and one of them cannot be used, that is logged as a warning, and the keys before stay.
 * Sessions that are open go on until their token expires, whatever becomes of its key. Fails with `InvalidKey` when there
 * is a key that cannot be used, or does not verify, or two of the same name.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: (
  options: Options
) => Effect.Effect<Authenticator.Authenticator, TokenKey.InvalidKey, Scope.Scope> = Effect.fnUntraced(
  function*(options) {
    const everybody = options.public ?? []
    let keys = yield* read(options)
    const again = Effect.matchEffect(read(options), {
      onSuccess: (read) => {
        keys = read
        return Effect.logInfo(`the keys of tokens have been read again: ${read.length}`)
      },
      onFailure: ({ detail }) => Effect.logWarning(`the keys of tokens before stay in force: ${detail}`)
    })
    yield* Effect.forkScoped(Stream.runForEach(options.reload ?? Stream.empty, () => again), { startImmediately: true })
    return {
      authenticate: ({ root, url }) =>
        Effect.gen(function*() {
          const open = Authenticator.within(everybody, root)
          // an empty one is none
          const tokens = url.searchParams.getAll("jwt").filter((token) => token !== "")
          if (tokens.length === 0) {
            return open.length > 0 ? { publish: open, subscribe: open } : yield* refused("a token is needed: ?jwt=")
          }
          if (tokens.length > 1) return yield* refused("there is more than one token")
          const claims = yield* Effect.catch(Token.verify(keys, tokens[0]!), ({ detail }) => refused(detail))
          const grant = Token.grantAt(claims, root)
          if (grant === undefined) return yield* refused("the token is not valid here")
          return {
            publish: [...grant.publish, ...open],
            subscribe: [...grant.subscribe, ...open],
            expires: grant.expires
          }
        })
    }
  }
)

/**
 * The authenticator of {@link make}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<never, TokenKey.InvalidKey> =>
  Layer.effect(Authenticator.Authenticator, make(options))

// internal

const refused = (detail: string): Effect.Effect<never, Unauthorized> => Effect.fail(new Unauthorized({ detail }))

const read: (options: Options) => Effect.Effect<ReadonlyArray<TokenKey.Key>, TokenKey.InvalidKey> = Effect.fnUntraced(
  function*({ keyDir, keyFiles = [], keys = [] }) {
    const all = [
      ...keys,
      ...(yield* Effect.forEach(keyFiles, TokenKey.readFileKeys)).flat(),
      ...(keyDir === undefined ? [] : yield* TokenKey.readDir(keyDir))
    ]
    const kids = new Set<string | undefined>()
    for (const { kid, verifying } of all) {
      const name = kid === undefined ? "a key without a name" : `the key ${kid}`
      if (verifying === undefined) return yield* new TokenKey.InvalidKey({ detail: `${name} may not verify (key_ops)` })
      if (kids.has(kid)) return yield* new TokenKey.InvalidKey({ detail: `there is ${name} twice` })
      kids.add(kid)
    }
    return all
  }
)
