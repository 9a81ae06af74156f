/**
 * Flags that are mirrored by the environment: `--tls-cert` by `MOQ_TLS_CERT`, and so on. What stands on the command line
 * wins.
 *
 * @since 0.1.0
 */
import * as Flag from "effect/cli/Flag"
import * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import type * as Option from "effect/Option"
import * as Priority from "../core/Priority.ts"
import type { Name } from "../node/NodeTransport.ts"
import * as Quantity from "./Quantity.ts"

/**
 * A flag with any text for a value. `metavar` is how the help names the value.
 *
 * @category constructors
 * @since 0.1.0
 */
export const text = (name: string, metavar: string, description: string): Flag.Flag<string> =>
  Flag.String(name).pipe(
    Flag.withMetavar(metavar),
    Flag.withDescription(`${description} [${variable(name)}]`),
    Flag.withFallbackConfig(Config.String(variable(name)))
  )

/**
 * A flag that is there or not.
 *
 * @category constructors
 * @since 0.1.0
 */
export const isSet = (name: string, description: string): Flag.Flag<boolean> =>
  Flag.Boolean(name).pipe(
    Flag.withoutNegation,
    Flag.withDescription(`${description} [${variable(name)}]`),
    Flag.withFallbackConfig(Config.Boolean(variable(name))),
    Flag.withDefault(false)
  )

/**
 * A flag with one of some words for a value.
 *
 * @category constructors
 * @since 0.1.0
 */
export const oneOf = <const A extends string>(
  name: string,
  words: ReadonlyArray<A>,
  description: string
): Flag.Flag<A> =>
  text(name, words.join("|"), description).pipe(
    Flag.mapTryCatch((value) => {
      const word = words.find((word) => word === value)
      if (word === undefined) throw new Error(`${words.join(" or ")}`)
      return word
    }, explain)
  )

/**
 * A flag with a whole number from `min` to `max` for a value.
 *
 * @category constructors
 * @since 0.1.0
 */
export const integer = (
  name: string,
  metavar: string,
  description: string,
  range: { readonly min: number; readonly max?: number }
): Flag.Flag<number> =>
  text(name, metavar, description).pipe(
    Flag.mapTryCatch((value) => Quantity.integer(value, { max: Number.MAX_SAFE_INTEGER, ...range }), explain)
  )

/**
 * A flag with a duration for a value: see {@link Quantity.duration}.
 *
 * @category constructors
 * @since 0.1.0
 */
export const duration = (name: string, description: string): Flag.Flag<Duration.Duration> =>
  text(name, "duration", description).pipe(Flag.mapTryCatch(Quantity.duration, explain))

/**
 * A flag with a number of bytes for a value: see {@link Quantity.bytes}.
 *
 * @category constructors
 * @since 0.1.0
 */
export const bytes = (name: string, description: string): Flag.Flag<number> =>
  text(name, "bytes", description).pipe(Flag.mapTryCatch(Quantity.bytes, explain))

/**
 * A flag with transports for a value, the preferred one first, separated by commas; `undefined` stands for `auto`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const transports = (description: string): Flag.Flag<ReadonlyArray<Name> | undefined> =>
  text("transport", "auto|h3,websocket,h2", description).pipe(
    Flag.mapTryCatch((value) => {
      if (value.trim() === "auto") return undefined
      const chosen = new Set<Name>()
      for (const part of value.split(",")) {
        const name = transportNames.find((name) => name === part.trim())
        if (name === undefined) throw new Error(`auto, or some of ${transportNames.join(", ")} with commas between`)
        chosen.add(name)
      }
      return [...chosen]
    }, explain),
    Flag.withDefault(undefined)
  )

/**
 * The transports that there are, the preferred one first.
 *
 * @category flags
 * @since 0.1.0
 */
export const transportNames: ReadonlyArray<Name> = ["h3", "websocket", "h2"]

/**
 * `--json`, which every verb that prints results has.
 *
 * @category flags
 * @since 0.1.0
 */
export const json: Flag.Flag<boolean> = isSet("json", "Print one JSON object per line, for programs")

/**
 * `--priority`.
 *
 * @category flags
 * @since 0.1.0
 */
export const priority: Flag.Flag<Option.Option<number>> = integer(
  "priority",
  "n",
  "What is sent first under congestion: -128 to 127, higher first, 0 by default",
  { min: Priority.min, max: Priority.max }
).pipe(Flag.optional)

/**
 * `--expires`, in milliseconds: see {@link Quantity.expires}.
 *
 * @category flags
 * @since 0.1.0
 */
export const expires: Flag.Flag<number> = text(
  "expires",
  "duration",
  "How long after its end a group is still worth sending; 0, the default, is for ever"
).pipe(Flag.mapTryCatch(Quantity.expires, explain), Flag.withDefault(0))

/**
 * `--order`.
 *
 * @category flags
 * @since 0.1.0
 */
export const order: Flag.Flag<Option.Option<"asc" | "desc">> = oneOf(
  "order",
  ["asc", "desc"],
  "Which groups are sent first under congestion, the oldest or the newest; publish says asc by default"
).pipe(Flag.optional)

// internal

// hoisted: the flags above are made while this module loads

function variable(name: string): string {
  return `MOQ_${name.toUpperCase().replaceAll("-", "_")}`
}

function explain(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
