/**
 * HTTP/3 by the browser's own `WebTransport`.
 *
 * **Details**
 *
 * What browsers do not do by themselves, or not yet all of them, is added here:
 * - Chromium refuses to open a stream beyond what the server allows now, rather than wait for one to end.
 * - nothing is sent on an idle connection, so that the server's idle timer would end it: a datagram of one byte goes out
 *   every 5 seconds.
 * - when its page goes, a connection stays until the server's idle timer ends it: it is closed with code 4.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { TransportError } from "../core/MoqError.ts"
import type { Capabilities, Connection, ConnectOptions } from "../transport/Transport.ts"
import * as WebTransport from "../transport/WebTransport.ts"
import type * as Reasons from "./Reasons.ts"
import { load } from "./WebSocketClient.ts"

/** Connects to an `https:` URL with which nothing is wrong. */
export const connect = (
  url: URL,
  options: ConnectOptions
): Effect.Effect<Connection, TransportError, Scope.Scope> =>
  Effect.gen(function*() {
    const Native = globalThis.WebTransport as typeof globalThis.WebTransport | undefined
    if (Native === undefined) return yield* refused(({ missing }) => missing())
    const pins = (options.fingerprints ?? []).map(hashOf)
    const isPinned = pins.length > 0
    const failed = (error: unknown) => refused(({ explain }) => explain(url, error, isPinned))
    const object = yield* Effect.acquireRelease(
      Effect.suspend(() => {
        try {
          return Effect.succeed(
            new Native(withoutHash(url), {
              allowPooling: false,
              requireUnreliable: true,
              congestionControl: "low-latency",
              ...isPinned && { serverCertificateHashes: pins }
            })
          )
        } catch (error) {
          return Effect.fail(error)
        }
      }),
      (object) => Effect.sync(() => object.close())
    ).pipe(Effect.catch(failed))
    const connection = yield* WebTransport.fromObject(patient(object), {
      info: { transport: "h3", peer: url.host },
      capabilities,
      streamError
    }).pipe(
      Effect.catch(({ reason }) => failed(reason))
    )
    yield* Effect.forkScoped(keepAlive(object))
    yield* closeWithPage(object)
    return connection
  })

/** Whether it can be told so whom to trust; why not, `Trust` says. */
export const takes = ({ fingerprints = [], insecure, roots = [] }: ConnectOptions): boolean =>
  insecure !== true && roots.length === 0 && fingerprints.every((text) => /^[0-9a-f]{64}$/i.test(hexOf(text)))

// internal

const hexOf = (fingerprint: string): string => fingerprint.replaceAll(":", "").trim()

const hashOf = (fingerprint: string): WebTransportHash => ({
  algorithm: "sha-256",
  value: Uint8Array.from(hexOf(fingerprint).match(/../g)!, (byte) => Number.parseInt(byte, 16))
})

/**
 * What Chromium has been seen to do: it sends no code above 255, knows no `sendOrder`, and has no way to ask the peer. A
 * server of ours allows 100 streams of each kind, of which HTTP/3 itself takes three. A connection without an answer is
 * given up after ten seconds on a short path, and by the idle timer, of 30 seconds from the first keep-alive, on any.
 *
 * **Gotchas**
 *
 * Three things are declared by nothing: a page that is writing may learn that a stream was stopped before it learns of the
 * code, and gets code 0; Chromium takes every stream that the server opens, accepted by the page or not; and when a page
 * closes its connection, the server may see its streams reset with code 0 before it hears of the close.
 *
 * @internal
 */
export const capabilities: Capabilities = {
  codes: "byte",
  resetPastWrite: true,
  backpressure: true,
  priority: false,
  ping: false,
  maxStreams: 97,
  idleTimeout: 36_000,
  forgetsStreams: true
}

// the object with openings that wait for a place
const patient = (object: globalThis.WebTransport): WebTransport.WebTransportLike => {
  let isOver = false
  const end = () => {
    isOver = true
  }
  object.closed.then(end, end)
  return {
    ready: object.ready,
    closed: object.closed,
    incomingBidirectionalStreams: object.incomingBidirectionalStreams,
    incomingUnidirectionalStreams: object.incomingUnidirectionalStreams,
    createBidirectionalStream: inTurn((options) => object.createBidirectionalStream(options), () => isOver),
    createUnidirectionalStream: inTurn((options) => object.createUnidirectionalStream(options), () => isOver),
    close: (info) => object.close(info)
  }
}

// tries again while it is refused, and whoever asked first is first
const inTurn = <S>(
  create: (options: WebTransport.SendOptions | undefined) => Promise<S>,
  isOver: () => boolean
): (options?: WebTransport.SendOptions) => Promise<S> => {
  // the end of the queue; nothing while nobody waits
  let last: Promise<void> | undefined
  const insist = async (options: WebTransport.SendOptions | undefined): Promise<S> => {
    for (;;) {
      try {
        return await create(options)
      } catch (error) {
        if (isOver()) throw error
      }
      await new Promise((resolve) => setTimeout(resolve, retryEvery))
    }
  }
  const queue = (options: WebTransport.SendOptions | undefined): Promise<S> => {
    const mine = (last ?? Promise.resolve()).then(() => insist(options))
    const after = mine.then(noop, noop).then(() => {
      if (last === after) last = undefined
    })
    last = after
    return mine
  }
  return (options) =>
    last === undefined
      ? create(options).catch((error) => isOver() ? Promise.reject(error) : queue(options))
      : queue(options)
}

// in milliseconds
const retryEvery = 20

const noop = () => {}

// the current draft of the standard wants the message first; browsers of before take one dictionary
const streamError = (streamErrorCode: number): unknown => {
  const Older = WebTransportError as unknown as new(init: { readonly streamErrorCode: number }) => WebTransportError
  const error = new Older({ streamErrorCode })
  return error.streamErrorCode === streamErrorCode ? error : new WebTransportError("", { streamErrorCode })
}

interface NewerDatagrams {
  readonly createWritable: () => WritableStream<Uint8Array>
}

// The idle timer of a QUIC server may be short, and the browser's own does not ask; any datagram is a sign of life.
const keepAlive = (object: globalThis.WebTransport): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { datagrams } = object
    const writable = datagrams.writable as WritableStream<Uint8Array> | undefined
    // the current draft of the standard makes them on demand
    const writer = (writable ?? (datagrams as unknown as NewerDatagrams).createWritable()).getWriter()
    const beat = Effect.callback<void>((resume) => {
      const done = () => resume(Effect.void)
      writer.write(Uint8Array.of(0)).then(done, done)
    })
    return Effect.forever(Effect.andThen(Effect.sleep("5 seconds"), beat))
  })

// A browser says nothing to the server when a page goes, so that only the idle timer would tell.
const closeWithPage = (object: globalThis.WebTransport): Effect.Effect<void, never, Scope.Scope> => {
  const onHide = () => object.close({ closeCode: 4, reason: "the page was closed" })
  return Effect.asVoid(Effect.acquireRelease(
    Effect.sync(() => globalThis.addEventListener("pagehide", onHide)),
    () => Effect.sync(() => globalThis.removeEventListener("pagehide", onHide))
  ))
}

const withoutHash = (url: URL): string => {
  const plain = new URL(url)
  // the constructor throws when there is one
  plain.hash = ""
  return plain.href
}

const refused = (say: (words: typeof Reasons) => string): Effect.Effect<never, TransportError> =>
  Effect.flatMap(load, (words) => Effect.fail(new TransportError({ detail: say(words) })))
