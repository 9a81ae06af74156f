/**
 * Settings that are given as flags, by the environment or in a file: what each is called in these places, and what its
 * values are.
 *
 * @since 0.1.0
 */
import * as Flag from "effect/cli/Flag"
import * as Option from "effect/Option"
import * as Quantity from "./Quantity.ts"

/**
 * One setting. Wherever it comes from it is text first: one, or for a list any number.
 *
 * @category models
 * @since 0.1.0
 */
export interface Setting<out A> {
  /** Its name in the file, with that of its table: `tls.cert`. */
  readonly key: string
  /** Its flag, without dashes; a setting of the file alone has none. */
  readonly flag: string | undefined
  /** Further names of the flag, which the help does not tell. */
  readonly aliases: ReadonlyArray<string>
  /** What it is in the file. A `number` may be a text there as well, a `list` a single text. */
  readonly kind: "text" | "number" | "list" | "switch"
  /** It names files: in the file, relative to that. */
  readonly isPath: boolean
  /** May hold a secret in its query or as a password: it is shown without. */
  readonly isUrl: boolean
  readonly metavar: string
  readonly description: string
  /** What holds when it is not given. */
  readonly fallback: ReadonlyArray<string> | undefined
  /** Throws an `Error` that says what is expected. */
  readonly parse: (texts: ReadonlyArray<string> | undefined) => A
}

/**
 * What can be said of a setting.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The flag without dashes; `""` for none; by default the key, with its dot as a dash. */
  readonly flag?: string
  readonly aliases?: ReadonlyArray<string>
  readonly isPath?: boolean
  readonly isUrl?: boolean
  readonly metavar?: string
  readonly description?: string
}

/**
 * A setting with one value, read by `parse`, and `fallback` when it is not given.
 *
 * @category constructors
 * @since 0.1.0
 */
export const value = <A>(key: string, fallback: string, parse: (text: string) => A, options?: Options): Setting<A> => ({
  ...make("text", key, options),
  fallback: [fallback],
  parse: (texts) => parse(texts?.[0] ?? fallback)
})

/**
 * A setting with one value, or none.
 *
 * @category constructors
 * @since 0.1.0
 */
export const optional = <A>(key: string, parse: (text: string) => A, options?: Options): Setting<A | undefined> => ({
  ...make("text", key, options),
  parse: (texts) => texts?.[0] === undefined ? undefined : parse(texts[0])
})

/**
 * A setting with a number, read by `parse`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const number = (
  key: string,
  fallback: string,
  parse: (text: string) => number,
  options?: Options
): Setting<number> => ({
  ...value(key, fallback, parse, options),
  kind: "number"
})

/**
 * A setting with any number of values: its flag is repeated, or takes them with commas between.
 *
 * @category constructors
 * @since 0.1.0
 */
export const list = <A>(
  key: string,
  parse: (text: string) => A,
  options?: Options
): Setting<ReadonlyArray<A> | undefined> => ({
  ...make("list", key, options),
  parse: (texts) => {
    if (texts?.length === 0) {
      // what is expected of one is expected here; an empty list of keys must not open a relay
      parse("")
      throw new Error("at least one")
    }
    return texts?.map(parse)
  }
})

/**
 * A setting that is on or off, and off when it is not given.
 *
 * @category constructors
 * @since 0.1.0
 */
export const isOn = (key: string, options?: Options): Setting<boolean> => ({
  ...make("switch", key, options),
  fallback: ["false"],
  parse: (texts) => {
    const text = texts?.[0]?.toLowerCase() ?? "false"
    if (["true", "1", "yes", "on"].includes(text)) return true
    if (["false", "0", "no", "off"].includes(text)) return false
    throw new Error("true or false")
  }
})

/**
 * Any text but an empty one.
 *
 * @category parsing
 * @since 0.1.0
 */
export const text = (text: string): string => {
  if (text.trim() === "") throw new Error("a text that is not empty")
  return text
}

/**
 * A whole number, `min` or above.
 *
 * @category parsing
 * @since 0.1.0
 */
export const integer = (min: number) => (text: string): number => {
  if (/^\d+$/.test(text) && Number(text) >= min && Number.isSafeInteger(Number(text))) return Number(text)
  throw new Error(`a whole number, ${min} or above`)
}

/**
 * A number of bytes: see {@link Quantity.bytes}.
 *
 * @category parsing
 * @since 0.1.0
 */
export const bytes = (text: string): number => Math.ceil(Quantity.bytes(text))

/**
 * A URL with one of these protocols, such as `https:`.
 *
 * @category parsing
 * @since 0.1.0
 */
export const url = (...protocols: ReadonlyArray<string>) => (text: string): URL => {
  if (URL.canParse(text) && protocols.includes(new URL(text).protocol)) return new URL(text)
  throw new Error(`a URL with ${protocols.join("// or ")}//`)
}

/**
 * What its variables in the environment are called, those of its aliases last.
 *
 * @category getters
 * @since 0.1.0
 */
export const variables = ({ aliases, flag, key }: Setting<unknown>): ReadonlyArray<string> =>
  flag === undefined
    ? [variable(key.replaceAll(".", "-"))]
    : [flag, ...aliases].map(variable)

/**
 * Its flags by name, hidden ones included: each gives the texts that it was given.
 *
 * @category flags
 * @since 0.1.0
 */
export const flags = (settings: ReadonlyArray<Setting<unknown>>): Record<string, Flag.Flag<ReadonlyArray<string>>> =>
  Object.fromEntries(
    settings.flatMap((setting) =>
      setting.flag === undefined
        ? []
        : [
          [setting.flag, flagOf(setting, setting.flag)] as const,
          ...setting.aliases.map((alias) => [alias, Flag.withHidden(flagOf(setting, alias))] as const)
        ]
    )
  )

/**
 * A list as one text, with commas between.
 *
 * @category parsing
 * @since 0.1.0
 */
export const split = (text: string): ReadonlyArray<string> =>
  text.split(",").map((item) => item.trim()).filter((item) => item !== "")

// internal

// hoisted: settings are made while modules load

function make(kind: Setting<unknown>["kind"], key: string, options: Options = {}) {
  const flag = options.flag ?? key.replaceAll(".", "-")
  return {
    key,
    kind,
    flag: flag === "" ? undefined : flag,
    aliases: options.aliases ?? [],
    isPath: options.isPath ?? false,
    isUrl: options.isUrl ?? false,
    metavar: options.metavar ?? "value",
    description: options.description ?? "",
    fallback: undefined
  }
}

function variable(flag: string): string {
  return `MOQ_${flag.toUpperCase().replaceAll("-", "_")}`
}

const flagOf = ({ description, kind, metavar }: Setting<unknown>, name: string): Flag.Flag<ReadonlyArray<string>> => {
  const described = `${description} [${variable(name)}]`
  if (kind === "switch") {
    return Flag.Boolean(name).pipe(
      Flag.withoutNegation,
      Flag.withDefault(false),
      Flag.map((isSet) => isSet ? ["true"] : []),
      Flag.withDescription(described)
    )
  }
  const text = Flag.String(name).pipe(Flag.withMetavar(metavar), Flag.withDescription(described))
  return kind === "list" ? Flag.atLeast(text, 0) : Flag.map(Flag.optional(text), Option.toArray)
}
