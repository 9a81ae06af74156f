/**
 * `effect-moq codec`: single messages, to bytes and back.
 *
 * @since 0.1.0
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import type * as Message from "../message/Message.ts"
import { Failure, usage } from "./Failure.ts"
import * as Flags from "./Flags.ts"
import * as Output from "./Output.ts"

/**
 * The verb, with its two directions.
 *
 * @category commands
 * @since 0.1.0
 */
export const codec = Command.make("codec").pipe(
  Command.withDescription(
    "Turns one message of the protocol into bytes in hexadecimal, or back. What cannot be turned exits with 1 and the tag " +
      "of the error."
  ),
  Command.withShortDescription("Encode and decode single messages"),
  Command.withExamples([
    {
      command: `effect-moq codec encode --profile draft03 GROUP '{"subscribe":7,"sequence":1}'`,
      description: "Prints 0701"
    },
    {
      command: "effect-moq codec decode --profile draft03 GROUP 0701",
      description: "Prints {\"subscribe\":7,\"sequence\":1}"
    }
  ]),
  Command.withSubcommands([
    Command.make(
      "encode",
      {
        profile: profileFlag(),
        message: messageArgument(),
        json: Argument.String("json").pipe(Argument.withDescription("Its fields, as a JSON object"))
      },
      Effect.fnUntraced(function*({ json, message, profile }) {
        const { entry, module } = yield* lookup("codec encode", message, profile)
        const value = yield* Effect.try({
          try: () => JSON.parse(json) as unknown,
          catch: (error) => new Failure({ message: `MoqDecodeError: this is not JSON: ${(error as Error).message}` })
        })
        yield* Output.line(yield* tagged(module.encodeHex(entry, value)))
      })
    ).pipe(
      Command.withDescription("Prints the bytes of a message in hexadecimal."),
      Command.withExamples([
        {
          command: `effect-moq codec encode --profile fork02 ANNOUNCE '{"status":"active","suffix":["demo","clock"]}'`,
          description: "A message to hexadecimal"
        }
      ])
    ),
    Command.make(
      "decode",
      {
        profile: profileFlag(),
        message: messageArgument(),
        hex: Argument.String("hex").pipe(Argument.withDescription("Its bytes, in hexadecimal"))
      },
      Effect.fnUntraced(function*({ hex, message, profile }) {
        const { entry, module } = yield* lookup("codec decode", message, profile)
        yield* Output.line(JSON.stringify(yield* tagged(module.decodeHex(entry, hex))))
      })
    ).pipe(
      Command.withDescription("Prints a message as JSON."),
      Command.withExamples([
        {
          command: "effect-moq codec decode --profile fork02 ANNOUNCE 01020464656d6f05636c6f636b",
          description: "Hexadecimal to a message"
        }
      ])
    )
  ])
)

// internal

function profileFlag() {
  return Flags.oneOf("profile", ["fork02", "fork04", "draft03"], "Which version of the protocol, as spoken by whom")
}

function messageArgument() {
  return Argument.String("message").pipe(Argument.withDescription("The name of the message, such as SUBSCRIBE"))
}

const lookup = Effect.fnUntraced(function*(verb: string, name: string, profileName: "fork02" | "fork04" | "draft03") {
  const [module, Profile] = yield* Effect.promise(() =>
    Promise.all([import("../message/Message.ts"), import("../message/Profile.ts")])
  )
  const profile = Profile[profileName]
  const entry = module.lookup(name, profile)
  if (entry === undefined) {
    return yield* usage(verb, `${profileName} has no message ${name}; it has ${module.names(profile).join(", ")}`)
  }
  return { module, entry } satisfies { module: unknown; entry: Message.Entry }
})

const tagged = <A, E extends { readonly _tag: string; readonly message: string }>(
  effect: Effect.Effect<A, E>
): Effect.Effect<A, Failure> =>
  Effect.mapError(effect, (error) => new Failure({ message: `${error._tag}: ${error.message}` }))
