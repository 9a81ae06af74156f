/**
 * `effect-moq token`: keys, and the tokens that they sign.
 *
 * @since 0.1.0
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { writeFile } from "node:fs/promises"
import { text as readAll } from "node:stream/consumers"
import * as Path from "../core/Path.ts"
import { Failure, usage } from "./Failure.ts"
import * as Output from "./Output.ts"
import * as Quantity from "./Quantity.ts"

/**
 * The verb, with what it does to keys and tokens. Its flags are not mirrored by the environment: what a token allows is
 * seen where it is made.
 *
 * @category commands
 * @since 0.1.0
 */
export const token = Command.make("token").pipe(
  Command.withDescription(
    "Makes keys, and tokens that say what a client of a relay may do: JSON Web Tokens with the claims of moq-token. A " +
      "client puts its token into the URL: https://relay.example/room?jwt=TOKEN."
  ),
  Command.withShortDescription("Make and check tokens"),
  Command.withExamples([
    {
      command: "effect-moq token generate --algorithm ES256 --out private.jwk --public public.jwk",
      description: "A key that signs, and one for the relay: relay --auth-key public.jwk"
    },
    {
      command: "effect-moq token sign --key private.jwk --root room/123 --publish alice --subscribe '' --expires 1h",
      description: "A token to publish room/123/alice and to see all of room/123, for an hour"
    },
    {
      command: "effect-moq token verify --key public.jwk < token.jwt",
      description: "What a token says, when it is good"
    }
  ]),
  Command.withSubcommands([
    Command.make(
      "generate",
      {
        algorithm: plain("algorithm", "name", "How it signs: HS256, the default, ES256, EdDSA, RS256 and others").pipe(
          Flag.withDefault("HS256")
        ),
        id: plain("id", "kid", "Its name, which its tokens carry: letters, digits, - and _; a random one by default")
          .pipe(
            Flag.optional
          ),
        out: plain("out", "file", "Where to write it, for you alone; stdout by default").pipe(Flag.optional),
        public: plain("public", "file", "Where to write its public half, which only verifies").pipe(Flag.optional),
        ...paths("its tokens may at most")
      },
      Effect.fnUntraced(function*({ algorithm, id, out, public: publicFile, publish, root, subscribe }) {
        const { TokenKey } = yield* modules
        const known = TokenKey.algorithms.find((name) => name === algorithm)
        if (known === undefined) {
          return yield* usage("token generate", `--algorithm is one of ${TokenKey.algorithms.join(", ")}`)
        }
        const hasScope = publish.length + subscribe.length > 0
        if (!hasScope && root !== "") return yield* usage("token generate", "--root needs --publish or --subscribe")
        const key = yield* explained(TokenKey.generate({
          algorithm: known,
          kid: Option.getOrUndefined(id),
          scope: hasScope ? { root, put: publish, get: subscribe } : undefined
        }))
        const publicKey = Option.isSome(publicFile) ? yield* explained(TokenKey.toPublic(key)) : undefined
        if (Option.isSome(out)) yield* writeKey(out.value, TokenKey.format(key), 0o600)
        if (Option.isSome(publicFile)) yield* writeKey(publicFile.value, TokenKey.format(publicKey!), 0o644)
        if (Option.isNone(out)) yield* Output.line(TokenKey.format(key))
      })
    ).pipe(
      Command.withDescription(
        "Makes a key. HS256 and the other HS are one secret, which the relay has to know as well; all others are a pair: " +
          "the private key signs, and the relay only needs the public one. No file is overwritten."
      ),
      Command.withShortDescription("Make a key"),
      Command.withExamples([
        { command: "effect-moq token generate --out secret.jwk", description: "A secret for both sides" },
        {
          command: "effect-moq token generate --algorithm EdDSA --out private.jwk --public keys/live.jwk --id live",
          description: "A pair, with the public key in the directory of relay --auth-key-dir keys"
        }
      ])
    ),
    Command.make(
      "sign",
      {
        key: plain("key", "file", "The key that signs"),
        ...paths("the client may"),
        expires: plain("expires", "duration", "How long it is good for, such as 30m or 12h").pipe(
          Flag.mapTryCatch(Quantity.duration, (error) => (error as Error).message),
          Flag.optional
        ),
        expiresAt: plain("expires-at", "time", "When it expires: 2030-01-31T12:00:00Z, or seconds since 1970").pipe(
          Flag.mapTryCatch(timeOf, (error) => (error as Error).message),
          Flag.optional
        )
      },
      Effect.fnUntraced(function*({ expires, expiresAt, key: file, publish, root, subscribe }) {
        if (publish.length + subscribe.length === 0) {
          return yield* usage("token sign", "a token without --publish and --subscribe allows nothing")
        }
        if (Option.isSome(expires) && Option.isSome(expiresAt)) {
          return yield* usage("token sign", "--expires and --expires-at exclude each other")
        }
        const { Token, TokenKey } = yield* modules
        const keys = (yield* explained(TokenKey.readFileKeys(file))).filter((key) => key.signing !== undefined)
        if (keys.length !== 1) {
          const problem = keys.length === 0 ? "no key that signs" : "several keys"
          return yield* new Failure({ message: `there ${keys.length === 0 ? "is" : "are"} ${problem} in ${file}` })
        }
        const now = yield* Clock.currentTimeMillis
        const exp = Option.isSome(expires)
          ? Math.floor((now + Duration.toMillis(expires.value)) / 1000)
          : Option.getOrUndefined(expiresAt)
        if (exp !== undefined && exp * 1000 <= now) {
          return yield* new Failure({ message: "the token would have expired already" })
        }
        yield* Output.line(yield* explained(Token.sign(keys[0]!, { root, put: publish, get: subscribe, exp })))
      })
    ).pipe(
      Command.withDescription(
        "Prints a token, and nothing else on stdout. Without --expires it is good for as long as its key is."
      ),
      Command.withShortDescription("Sign a token"),
      Command.withExamples([
        {
          command:
            "effect-moq token sign --key private.jwk --root room/123 --publish alice --subscribe '' --expires 1h",
          description: "To publish room/123/alice and to see all of room/123"
        },
        {
          command: "effect-moq token sign --key private.jwk --subscribe '' --expires-at 2030-01-31T12:00:00Z",
          description: "To see everything that the relay has"
        }
      ])
    ),
    Command.make(
      "verify",
      {
        key: plain("key", "file", "The key, or several, that may have signed it").pipe(Flag.optional),
        keyDir: plain("key-dir", "dir", "A directory of such keys: <kid>.jwk").pipe(Flag.optional),
        root: plain(
          "root",
          "path",
          "Tell what it allows a session at this path of the URL, and fail when that is nothing"
        )
          .pipe(Flag.optional),
        token: Argument.String("token").pipe(
          Argument.withDescription("The token; it is read from stdin by default, where no list of processes shows it"),
          Argument.optional
        )
      },
      Effect.fnUntraced(function*({ key, keyDir, root, token }) {
        if (Option.isNone(key) && Option.isNone(keyDir)) {
          return yield* usage("token verify", "--key or --key-dir is needed")
        }
        const { Token, TokenKey } = yield* modules
        const keys = [
          ...(Option.isSome(key) ? yield* explained(TokenKey.readFileKeys(key.value)) : []),
          ...(Option.isSome(keyDir) ? yield* explained(TokenKey.readDir(keyDir.value)) : [])
        ]
        const given = Option.isSome(token) ? token.value : yield* Effect.promise(() => readAll(process.stdin))
        const claims = yield* explained(Token.verify(keys, given.trim()))
        if (Option.isNone(root)) return yield* Output.json(claims)
        const at = Path.fromString(root.value)
        const grant = Token.grantAt(claims, at)
        if (grant === undefined) {
          return yield* new Failure({ message: `the token is not valid at /${Path.format(at)}` })
        }
        const below = (prefixes: ReadonlyArray<Path.Path>) => prefixes.map((path) => Path.format(path.slice(at.length)))
        yield* Output.json({
          ...claims,
          at: { path: Path.format(at), publish: below(grant.publish), subscribe: below(grant.subscribe) }
        })
      })
    ).pipe(
      Command.withDescription(
        "Prints what a token says, as a line of JSON, when one of the keys has signed it and it has not expired; otherwise " +
          "exits with 1 and says why. It is looked at as a relay does."
      ),
      Command.withShortDescription("Check a token"),
      Command.withExamples([
        { command: "effect-moq token verify --key public.jwk < token.jwt", description: "What a token says" },
        {
          command: "effect-moq token verify --key-dir keys --root room/123 < token.jwt",
          description: "And what it allows at https://relay.example/room/123"
        }
      ])
    )
  ])
)

// internal

const modules = Effect.promise(async () => {
  const [Token, TokenKey] = await Promise.all([import("../node/Token.ts"), import("../node/TokenKey.ts")])
  return { Token, TokenKey }
})

const explained = <A>(effect: Effect.Effect<A, { readonly message: string }>): Effect.Effect<A, Failure> =>
  Effect.mapError(effect, ({ message }) => new Failure({ message }))

// what is there is somebody's key
const writeKey = (file: string, key: string, mode: number): Effect.Effect<void, Failure> =>
  Effect.tryPromise({
    try: () => writeFile(file, `${key}\n`, { flag: "wx", mode, flush: true }),
    catch: (error) => {
      const { code } = error as NodeJS.ErrnoException
      return new Failure({
        message: code === "EEXIST" ? `${file} is there already` : `${file} cannot be written: ${code}`
      })
    }
  })

// hoisted: the flags above are made while this module loads

function plain(name: string, metavar: string, description: string) {
  return Flag.String(name).pipe(Flag.withMetavar(metavar), Flag.withDescription(description))
}

function paths(who: string) {
  const list = (name: string) =>
    plain(name, "prefix", `What ${who} ${name}, below --root; '' is all of it. It may be given several times`).pipe(
      Flag.atLeast(0)
    )
  return {
    root: plain("root", "path", "Where --publish and --subscribe begin; the whole relay by default").pipe(
      Flag.withDefault("")
    ),
    publish: list("publish"),
    subscribe: list("subscribe")
  }
}

function timeOf(text: string): number {
  const seconds = /^\d+$/.test(text) ? Number(text) : Math.floor(Date.parse(text) / 1000)
  if (Number.isSafeInteger(seconds)) return seconds
  throw new Error("a time such as 2030-01-31T12:00:00Z, or seconds since 1970")
}
