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
 * The extensions that say it.
 *
 * @category encoding
 * @since 0.1.0
 */
export const toExtensions = ({ instance, isRelay, span }: Greeting): ReadonlyArray<Extension> => {
  const extensions: Array<Extension> = []
  if (instance !== undefined) extensions.push({ id: instanceId, payload: bytes(instance) })
  if (isRelay === true) extensions.push({ id: relayId, payload: new Uint8Array(0) })
  if (span !== undefined) {
    extensions.push({ id: spanId, payload: bytes(`${span.traceId}${span.spanId}0${span.sampled ? 1 : 0}`) })
  }
  return extensions
}

/**
 * What extensions say. Those that are unknown or malformed say nothing.
 *
 * @category decoding
 * @since 0.1.0
 */
export const fromExtensions = (extensions: ReadonlyArray<Extension>): Greeting => {
  const find = (id: number, length: number): string | undefined => {
    const found = extensions.find((extension) => extension.id === id)
    return found?.payload.length === length ? hex(found.payload) : undefined
  }
  const span = find(spanId, 25)
  return {
    instance: find(instanceId, 8),
    isRelay: find(relayId, 0) !== undefined,
    span: span === undefined ? undefined : {
      traceId: span.slice(0, 32),
      spanId: span.slice(32, 48),
      sampled: (Number(`0x${span.slice(48)}`) & 1) === 1
    }
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
const instanceId = 0x6d6f7101
const relayId = 0x6d6f7102
const spanId = 0x6d6f7103

const bytes = (hex: string): Uint8Array =>
  Uint8Array.from({ length: hex.length / 2 }, (_, i) => Number(`0x${hex.slice(2 * i, 2 * i + 2)}`))

const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")
