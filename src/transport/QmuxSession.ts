/**
 * QMux (QUIC's streams and flow control, draft-ietf-quic-qmux) over one open WebSocket, by `@moq/qmux`.
 *
 * **Details**
 *
 * It uses nothing of Effect, and nothing that a page has loaded already: bundlers make it a chunk of its own, with all
 * that it needs, where it is imported dynamically. `Qmux` makes a `Connection` of it.
 *
 * What the package does not do by itself is added here:
 * - a reset passes a write that waits for the peer's window. A web stream aborts only after its pending write, so the
 *   reset is turned into the STOP_SENDING that the peer could have sent: the package answers that at once with
 *   RESET_STREAM, the same code and the right final size. For this the ids of streams are needed, which the package keeps
 *   to itself; both ends count them by the same rules.
 * - the first record must carry the transport parameters, and soon: its idle timer starts only with them.
 * - bidirectional streams that the peer has opened and finished, and that we have not, are bounded.
 * - what is unread is bounded by what it costs, not only by what it carries: see `QmuxUnread`.
 * - a peer that allows `n` streams keeps back up to a third of the free ones, because it tells of them in batches: two
 *   thirds can be counted on, so no more are opened.
 * - pings with answers. Those of the package are numbered together with ours, because numbers must rise.
 * - what it prints is logged at debug level, where that can be had.
 *
 * @internal
 */
import Session, { StreamError } from "@moq/qmux"
import type { Bounds } from "./Bounds.ts"
import { Arrivals, type Arrived } from "./QmuxArrivals.ts"
import type { Options, QmuxSocket } from "./QmuxSocket.ts"
import type * as WebTransport from "./WebTransport.ts"

/** One that has begun: the handshake is under way. */
export interface QmuxSession {
  /**
   * Calls back once the peer's transport parameters are here, or with why there will be none (one reason is that they
   * are not here within `handshakeTimeout`), and gives what takes that back. The rest is for a session that has started.
   */
  readonly onStart: (callback: (problem: string | undefined) => void) => () => void
  /** The session as the W3C has it. To be called once. */
  readonly adapt: () => WebTransport.WebTransportLike
  /** What `abort` and `cancel` of its streams are called with. */
  readonly streamError: (code: number) => unknown
  /** How many streams of either kind can be open here at any time. */
  readonly maxStreams: number
  /** How long a dead peer can stay unnoticed, in milliseconds. */
  readonly idleTimeout: number
  /** Calls back once the peer has answered, and gives what takes that back. */
  readonly ping: (onAnswer: () => void) => () => void
  /** Closes it, and calls back once the WebSocket is gone. */
  readonly close: (onEnd: () => void) => void
}

/** What a session is made of. */
export interface BeginOptions {
  /** Takes over the WebSocket, whose subprotocol is one of `Qmux.subprotocols`. */
  readonly open: (options: Options) => QmuxSocket
  readonly role: "client" | "server"
  readonly protocol: string
  readonly limits: Bounds
  /** What the package would have printed, one line. */
  readonly onWarning: (line: string) => void
}

/** Begins the handshake of QMux. */
export const begin = ({ limits, onWarning, open, protocol, role }: BeginOptions): QmuxSession => {
  polyfill()
  const pings = new Pings()
  const arrivals = new Arrivals(role, limits, (number) => pings.answered(number))
  let onParameters: (() => void) | undefined
  const socket = open({
    protocol,
    maxBacklog: limits.maxBacklog,
    writeTimeout: limits.writeTimeout,
    onMessage(message) {
      arrivals.see(message)
      const { cost } = arrivals.unread
      if (cost > wasteful * limits.maxData) {
        throw new Error(`what it sent and nobody has read costs ${cost} bytes, many times what it carries`)
      }
      onParameters?.()
      onParameters = undefined
    },
    onSend: (message) => isPing(message) ? pings.next() : message,
    ask: () => socket.send(pings.next()),
    onWarning
  })
  const source = socket as unknown as Parameters<typeof Session.accept>[0]
  const config = {
    maxStreamsBidi: BigInt(limits.maxStreamsBidi),
    maxStreamsUni: BigInt(limits.maxStreamsUni),
    maxData: BigInt(limits.maxData),
    maxStreamDataBidiLocal: BigInt(limits.maxStreamData),
    maxStreamDataBidiRemote: BigInt(limits.maxStreamData),
    maxStreamDataUni: BigInt(limits.maxStreamData),
    maxIdleTimeout: BigInt(limits.idleTimeout),
    // a receiver that offers none may treat one as a violation
    maxDatagramFrameSize: BigInt(0)
  }
  const session = role === "client" ? new Session(source, { config }) : Session.accept(source, { protocol, config })
  return {
    onStart(callback) {
      if (arrivals.started) {
        callback(undefined)
        return () => {}
      }
      const deadline = setTimeout(
        () => socket.fail(new Error("it sent no transport parameters in time")),
        limits.handshakeTimeout
      )
      const unobserve = socket.onEnd(() => {
        clearTimeout(deadline)
        callback(socket.failure?.message ?? "it closed the connection")
      })
      const forget = () => {
        clearTimeout(deadline)
        unobserve()
      }
      onParameters = () => {
        forget()
        callback(undefined)
      }
      return forget
    },
    adapt: () => adapt(session, socket, arrivals, role, limits),
    streamError: (code) => new StreamError(code),
    get maxStreams() {
      return arrivals.maxStreams
    },
    get idleTimeout() {
      return noticedWithin(limits.idleTimeout, arrivals.idleTimeout)
    },
    ping(onAnswer) {
      const { forget, message } = pings.ask(onAnswer)
      socket.send(message)
      return forget
    },
    close(onEnd) {
      session.close()
      socket.finish()
      socket.onEnd(onEnd)
    }
  }
}

// internal

// absent in Node 20, and used by the package; nothing else of ours needs it
const polyfill = (): void => {
  const promise = Promise as unknown as { withResolvers?: unknown }
  promise.withResolvers ??= () => {
    let resolve!: (value: unknown) => void
    let reject!: (reason: unknown) => void
    const made = new Promise((onValue, onReason) => {
      resolve = onValue
      reject = onReason
    })
    return { promise: made, resolve, reject }
  }
}

// How long a dead peer can stay unnoticed. The package takes the shorter of both sides' timeouts (0 is none). It looks six
// times in that time, sends a ping after a third of it, and counts from the first thing sent after the last thing heard.
const noticedWithin = (ours: number, theirs: number): number => {
  const timeout = Math.min(...[ours, theirs].filter((one) => one > 0))
  return timeout + timeout / 3 + 2 * Math.max(50, timeout / 6)
}

// the session as a WebTransport object whose aborts are immediate, and whose streams are counted
const adapt = (
  session: Session,
  socket: QmuxSocket,
  arrivals: Arrivals,
  role: "client" | "server",
  limits: Bounds
): WebTransport.WebTransportLike => {
  // an answer holds its place until our half has ended: the package frees it when the peer's half has
  const answers = new Places(limits.maxStreamsBidi)
  const bi = new Places(arrivals.maxStreams)
  const uni = new Places(arrivals.maxStreams)
  const release = () => {
    for (const places of [answers, bi, uni]) places.open()
  }
  session.closed.then(release, release)

  const own = (writable: WritableStream<Uint8Array>, id: number, places: Places): void => {
    let open = true
    const ended = () => {
      if (!open) return
      open = false
      places.give()
    }
    const abort = (reason: unknown): Promise<void> => {
      socket.unshift(stopSending(id, codeOf(reason)))
      ended()
      return Promise.resolve()
    }
    const getWriter = writable.getWriter.bind(writable)
    Object.assign(writable, {
      abort,
      getWriter: () => {
        const writer = Object.assign(getWriter(), { abort })
        writer.closed.then(ended, ended)
        return writer
      }
    })
  }

  const initiator = role === "client" ? 0 : 1
  let nextBi = initiator
  let nextUni = initiator + 2
  const incoming = session.incomingBidirectionalStreams.getReader()
  const incomingUni = session.incomingUnidirectionalStreams.getReader()
  return {
    ready: session.ready,
    closed: session.closed.catch((error) => Promise.reject(explain(socket, error))),
    close(info) {
      session.close(info)
      // the package gives a close that waits for room a tenth of a second, and then goes without
      socket.finish()
    },
    // the package's promises settle in the order in which it numbers the streams
    createBidirectionalStream: async (options) => {
      await bi.take()
      return session.createBidirectionalStream(options).then((pair) => {
        own(pair.writable, nextBi, bi)
        count(pair.readable, arrivals, arrivals.answer(nextBi))
        nextBi += 4
        return pair
      })
    },
    createUnidirectionalStream: async (options) => {
      await uni.take()
      return session.createUnidirectionalStream(options).then((writable) => {
        own(writable, nextUni, uni)
        nextUni += 4
        return writable
      })
    },
    incomingUnidirectionalStreams: new ReadableStream<ReadableStream<Uint8Array>>({
      async pull(controller) {
        const next = await incomingUni.read()
        if (next.done) return controller.close()
        count(next.value, arrivals, arrivals.nextUni())
        controller.enqueue(next.value)
      }
    }, { highWaterMark: 0 }),
    incomingBidirectionalStreams: new ReadableStream<WebTransportBidirectionalStream>({
      async pull(controller) {
        await answers.take()
        const next = await incoming.read()
        if (next.done) return controller.close()
        const arrived = arrivals.nextBi()
        own(next.value.writable, arrived.id, answers)
        count(next.value.readable, arrivals, arrived)
        controller.enqueue(next.value)
      }
    }, { highWaterMark: 0 })
  }
}

// Has reads counted. They are when they are asked for: a promise more would keep what lies ready from coming in one batch.
const count = (readable: ReadableStream<Uint8Array>, arrivals: Arrivals, arrived: Arrived): void => {
  const counted = (cancel: (reason?: unknown) => Promise<void>) => (reason: unknown) => {
    arrivals.drop(arrived)
    return cancel(reason)
  }
  const getReader = readable.getReader.bind(readable) as () => ReadableStreamDefaultReader<Uint8Array>
  Object.assign(readable, {
    cancel: counted(readable.cancel.bind(readable)),
    getReader: () => {
      const reader = getReader()
      const read = reader.read.bind(reader)
      return Object.assign(reader, {
        cancel: counted(reader.cancel.bind(reader)),
        read: () => {
          arrived.unread.read()
          return read()
        }
      })
    }
  })
}

// the package puts the numbers of WebSocket and QMux before what it knows, which is often nothing
const explain = (socket: QmuxSocket, error: unknown): Error => {
  if (socket.failure !== undefined) return socket.failure
  const known = error instanceof Error ? error.message.replace(/^Connection closed: \d+ ?/, "") : ""
  return new Error(known === "" ? "the other end has gone" : known)
}

// how many may be open at once; whoever comes later waits
class Places {
  private free: number
  private readonly waiting: Array<() => void>

  constructor(count: number) {
    this.free = count
    this.waiting = []
  }

  take(): Promise<void> | undefined {
    if (this.free > 0) {
      this.free--
      return undefined
    }
    return new Promise((resolve) => this.waiting.push(resolve))
  }

  give(): void {
    const next = this.waiting.shift()
    if (next === undefined) this.free++
    else next()
  }

  /** From now on nobody waits. */
  open(): void {
    this.free = Infinity
    for (const next of this.waiting.splice(0)) next()
  }
}

// The numbers of pings must rise, and the package neither lets us send one nor tells of answers. So ours and its own are
// numbered here, and it never sees an answer.
class Pings {
  private sent = 0
  private readonly waiting = new Map<number, () => void>()

  /** The next ping. */
  next(): Uint8Array {
    const message = new Uint8Array(16)
    new DataView(message.buffer).setUint32(0, 0xf48c6752)
    new DataView(message.buffer).setUint32(4, 0x9ef8c7bd)
    writeVarint(message, 8, this.sent++)
    return message
  }

  /** The next ping, and a call once it is answered. */
  ask(onAnswer: () => void): { readonly message: Uint8Array; readonly forget: () => void } {
    const number = this.sent
    this.waiting.set(number, onAnswer)
    return { message: this.next(), forget: () => void this.waiting.delete(number) }
  }

  /** An answer to one that was never sent is of no consequence. */
  answered(number: number): void {
    const onAnswer = this.waiting.get(number)
    this.waiting.delete(number)
    onAnswer?.()
  }
}

// no other message begins like this: the package sends a control frame alone, and streams have small types
const isPing = (message: Uint8Array): boolean =>
  message[0] === 0xf4 && message[1] === 0x8c && message[2] === 0x67 && message[7] === 0xbd

const codeOf = (reason: unknown): number =>
  typeof reason === "object" && reason !== null && "streamErrorCode" in reason &&
    typeof reason.streamErrorCode === "number"
    ? reason.streamErrorCode >>> 0
    : 0

const stopSending = (id: number, code: number): Uint8Array => {
  const bytes = new Uint8Array(17)
  bytes[0] = 0x05
  writeVarint(bytes, 1, id)
  writeVarint(bytes, 9, code)
  return bytes
}

// always in eight bytes: decoders take every length
const writeVarint = (bytes: Uint8Array, at: number, value: number): void => {
  const view = new DataView(bytes.buffer)
  view.setUint32(at, Math.floor(value / 2 ** 32) | 0xc0000000)
  view.setUint32(at + 4, value % 2 ** 32)
}

// how much more than the window for data what is unread may cost
const wasteful = 4
