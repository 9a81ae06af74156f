/**
 * `effect-moq info`: what a relay knows of a track.
 *
 * @since 0.1.0
 */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Path from "../core/Path.ts"
import * as Flags from "./Flags.ts"
import * as Output from "./Output.ts"
import * as Target from "./Target.ts"
import * as Text from "./Text.ts"

/**
 * The verb.
 *
 * @category commands
 * @since 0.1.0
 */
export const info = Command.make(
  "info",
  { ...Target.config, path: Target.path, json: Flags.json },
  Effect.fnUntraced(function*({ json, path: text, ...target }) {
    const path = yield* Target.parsePath(text)
    const session = yield* Target.connect(target)
    const { expires, latest, order, priority } = yield* session.trackInfo(path)
    if (json) {
      return yield* Output.json({ path: Path.format(path), priority, order, expires, latest: latest ?? null })
    }
    yield* Output.line(`path      ${Text.path(path)}`)
    yield* Output.line(`priority  ${priority}`)
    yield* Output.line(`order     ${order}`)
    yield* Output.line(`expires   ${expires === 0 ? "never" : `${expires} ms after the end of a group`}`)
    yield* Output.line(`latest    ${latest === undefined ? "no group yet" : `group ${latest}`}`)
  }, Effect.scoped)
).pipe(
  Command.withDescription(
    "Prints what a relay knows of a track, without subscribing to it. Exits with 1 when nobody publishes it."
  ),
  Command.withShortDescription("Show what is known of a track"),
  Command.withExamples([
    { command: "effect-moq info https://localhost:4443 demo/clock", description: "One line per property" }
  ])
)
