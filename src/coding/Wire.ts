/**
 * Attaches a byte layout to a Schema.
 *
 * **Details**
 *
 * A message is a Schema; its bytes are a pair of functions on a {@link Writer.Writer} and a {@link Reader.Reader},
 * written by hand once per layout. Sessions call the pair; {@link codec} turns it into a `Schema.Codec<Message,
 * Uint8Array>` for everybody else.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaCompiler from "effect/schema/SchemaCompiler"
import * as SchemaAST from "effect/SchemaAST"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"
import * as SchemaTransformation from "effect/SchemaTransformation"
import { BoundsExceeded, DecodeError, FrameTooLarge, NotSupportedByPeer } from "../core/MoqError.ts"
import * as Reader from "./Reader.ts"
import * as Writer from "./Writer.ts"

/**
 * What a layout throws: bytes that are not the message, a value or length beyond a limit, a frame beyond its own limit,
 * a message that the version does not have.
 *
 * @category errors
 * @since 0.1.0
 */
export type CodecError = BoundsExceeded | DecodeError | FrameTooLarge | NotSupportedByPeer

/**
 * Tells whether a value is a {@link CodecError}.
 *
 * @category guards
 * @since 0.1.0
 */
export const isCodecError = (u: unknown): u is CodecError =>
  u instanceof BoundsExceeded || u instanceof DecodeError || u instanceof FrameTooLarge ||
  u instanceof NotSupportedByPeer

/**
 * How a message looks as bytes. Both functions throw a {@link CodecError} and nothing else.
 *
 * @category models
 * @since 0.1.0
 */
export interface Layout<A, P> {
  readonly encode: (writer: Writer.Writer, message: A, profile: P) => void
  readonly decode: (reader: Reader.Reader, profile: P) => A | Reader.NeedMore
}

/**
 * The codecs of a message, one per profile, each made when first asked for and the same one ever after.
 *
 * **Details**
 *
 * Decoding takes the bytes of exactly one message: too few and too many are a {@link DecodeError}. A failure is a
 * `Schema.SchemaError` like any other, and keeps the layout's error: {@link toError} gives it back.
 *
 * @category constructors
 * @since 0.1.0
 */
export const codec = <
  S extends Schema.Top & { readonly DecodingServices: never; readonly EncodingServices: never },
  P extends object
>(schema: S, layout: Layout<S["Type"], P>): (profile: P) => Schema.Codec<S["Type"], Uint8Array> => {
  const codecs = new WeakMap<P, Schema.Codec<S["Type"], Uint8Array>>()
  return (profile) => {
    const known = codecs.get(profile)
    if (known !== undefined) return known
    const made = make(schema, layout, profile)
    codecs.set(profile, made)
    return made
  }
}

/**
 * The error behind a failure of a {@link codec}, however deep it sits in the issue.
 *
 * **Details**
 *
 * A failure that is not the layout's own is {@link BoundsExceeded} when a check on a value failed (its range, its
 * length), else {@link DecodeError}.
 *
 * @category errors
 * @since 0.1.0
 */
export const toError = (error: Schema.SchemaError): CodecError =>
  errorOf(error.issue) ??
    (hasFilter(error.issue)
      ? new BoundsExceeded({ detail: error.message })
      : new DecodeError({ detail: error.message }))

// internal

const annotation = "effect-moq/coding/Wire/error"

// for the codecs here alone: sessions have writers of their own
const writer = Writer.make()

const make = <S extends Schema.Top, P>(
  schema: S,
  layout: Layout<S["Type"], P>,
  profile: P
): Schema.Codec<S["Type"], Uint8Array> => {
  const encode = (message: S["Type"]): Uint8Array => Writer.encode(writer, layout.encode, message, profile)
  const decode = (bytes: Uint8Array): S["Type"] => {
    const reader = Reader.fromBytes(bytes)
    const message = layout.decode(reader, profile)
    if (message === Reader.NeedMore) throw new DecodeError({ detail: "it is cut off" })
    if (reader.available > 0) throw new DecodeError({ detail: `${reader.available} bytes follow it` })
    return message
  }
  const self = Schema.Uint8Array.pipe(
    Schema.decodeTo(
      Schema.toType(schema),
      SchemaTransformation.transformEffect<S["Type"], Uint8Array>({
        decode: (bytes, options) => attempt(decode, bytes, options),
        encode: (message, options) => attempt(encode, message, options)
      })
    )
  ) as unknown as Schema.Codec<S["Type"], Uint8Array>
  // without these a message would be walked a second time, field by field
  install(self.ast, Schema.Uint8Array, decode)
  install(SchemaAST.flip(self.ast), Schema.toType(schema), encode)
  return self
}

const attempt = <A, B>(
  run: (input: A) => B,
  input: A,
  options: SchemaAST.ParseOptions
): Effect.Effect<B, SchemaIssue.Issue> => {
  try {
    return Effect.succeed(run(input))
  } catch (error) {
    return isCodecError(error)
      ? Effect.fail(
        new SchemaIssue.InvalidValue({ message: error.message, [annotation]: error }, input, options)
      )
      : Effect.die(error)
  }
}

const install = <A>(ast: SchemaAST.AST, from: Schema.Schema<A>, run: (input: A) => unknown): void => {
  const accepts = Schema.is(from)
  const validate = SchemaParser.decodeUnknownEffect(from as Schema.Codec<A>)
  SchemaCompiler.set(ast, {
    decode: (input) => {
      if (!accepts(input)) return SchemaCompiler.invalid
      try {
        return run(input)
      } catch {
        return SchemaCompiler.invalid
      }
    },
    decodeEffect: (input, options) => Effect.flatMap(validate(input, options), (valid) => attempt(run, valid, options))
  })
}

const errorOf = (issue: SchemaIssue.Issue): CodecError | undefined => {
  switch (issue._tag) {
    case "InvalidValue": {
      const error = issue.annotations?.[annotation]
      return isCodecError(error) ? error : undefined
    }
    default: {
      for (const inner of children(issue)) {
        const error = errorOf(inner)
        if (error !== undefined) return error
      }
      return undefined
    }
  }
}

const hasFilter = (issue: SchemaIssue.Issue): boolean => issue._tag === "Filter" || children(issue).some(hasFilter)

const children = (issue: SchemaIssue.Issue): ReadonlyArray<SchemaIssue.Issue> => {
  switch (issue._tag) {
    case "Filter":
    case "Encoding":
    case "Pointer":
      return [issue.issue]
    case "Composite":
    case "AnyOf":
      return issue.issues
    default:
      return []
  }
}
