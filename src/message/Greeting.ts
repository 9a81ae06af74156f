/**
 * What two peers tell each other in SETUP beyond the version. It travels as extensions, which peers that do not know them
 * ignore; the drafts define none, and these are this project's own.
 *
 * @since 0.1.0
 */

/**
 * What a peer says of itself.
 *
 * @category models
 * @since 0.1.0
 */
export interface Greeting {
  /**
   * Names what it offers, as 16 hex digits: the same over all connections of one publisher that goes on, another one
   * after it has begun anew. A relay's names the relay.
   */
  readonly instance?: string | undefined
  /** It is a relay, and knows how to keep loops out: see `effect-moq/relay/Cluster`. */
  readonly isRelay?: boolean | undefined
  /** The span that its session belongs to. */
  readonly span?: SpanContext | undefined
}

/**
 * The ids of a span, as W3C Trace Context has them.
 *
 * @category models
 * @since 0.1.0
 */
export interface SpanContext {
  /** 32 hex digits. */
  readonly traceId: string
  /** 16 hex digits. */
  readonly spanId: string
  readonly sampled: boolean
}

/**
 * An extension as it is carried in SETUP.
 *
 * @category models
 * @since 0.1.0
 */
export interface Extension {
  readonly id: number
  readonly payload: Uint8Array
}

/**
 * The extensions that say it, as text: the instance as it is, that it is a relay with an empty payload, the span as
 * `traceparent` of W3C Trace Context.
 *
 * @category encoding
 * @since 0.1.0
 */
export const toExtensions = ({ instance, isRelay, span }: Greeting): ReadonlyArray<Extension> =>
  [
    instance,
    isRelay === true ? "" : undefined,
    span && `00-${span.traceId}-${span.spanId}-0${Number(span.sampled)}`
  ].flatMap((text, index) => text === undefined ? [] : { id: firstId + index, payload: new TextEncoder().encode(text) })

/**
 * What extensions say. Those that are unknown or malformed say nothing.
 *
 * @category decoding
 * @since 0.1.0
 */
export const fromExtensions = (extensions: ReadonlyArray<Extension>): Greeting => {
  const [instance, relay, span] = patterns.map((pattern, index) => {
    const found = extensions.find(({ id }) => id === firstId + index)
    return found && pattern.exec(String.fromCharCode(...found.payload))
  })
  return {
    instance: instance?.[0],
    isRelay: !!relay,
    span: span ? { traceId: span[1]!, spanId: span[2]!, sampled: span[3] === "1" } : undefined
  }
}

/**
 * Whether it says nothing.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isEmpty = ({ instance, isRelay, span }: Greeting): boolean =>
  instance === undefined && isRelay !== true && span === undefined

// internal

// "moq" and a number
const firstId = 0x6d6f7101

const patterns = [/^[\da-f]{16}$/, /^$/, /^00-([\da-f]{32})-([\da-f]{16})-0([01])$/]
