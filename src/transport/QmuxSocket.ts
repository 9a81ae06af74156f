/**
 * An open WebSocket in the shape of a browser's `WebSocketStream`, with real backpressure, for `@moq/qmux`.
 *
 * **Details**
 *
 * The package's own wrapper polls `bufferedAmount` every 10 ms, which limits a connection to 6 MB/s. Here `readable` and
 * `writable` are not web streams but the two calls that the package makes on them (a reader's `read`, a writer's `ready`
 * and `write`): no queue of another kind sits between the socket and the package. How the socket tells of progress is
 * left to whoever extends this.
 *
 * It also bounds what a peer that does not read can make us hold: while our own writes make no progress, at most
 * {@link Options.maxBacklog} bytes may arrive, for at most {@link Options.writeTimeout} milliseconds.
 *
 * @internal
 */

/** What is agreed on, what is allowed, and who looks on. */
export interface Options {
  /** The subprotocol that was agreed on. */
  readonly protocol: string
  /** How many bytes may arrive while nothing of ours leaves. */
  readonly maxBacklog: number
  /** How long nothing of ours may leave while something waits, in milliseconds. */
  readonly writeTimeout: number
  /** Sees every message before it is decoded, and may change it; what it throws ends the connection. */
  readonly onMessage: (message: Uint8Array) => void
  /** Sees every message of the package before it is sent, and tells what to send instead. */
  readonly onSend: (message: Uint8Array) => Uint8Array
  /** Asks the peer for a sign of life. The answer is a message that arrives once the peer has read what was sent before. */
  readonly ask: () => void
  /** What the decoder would have printed, one line. */
  readonly onWarning: (line: string) => void
}

/** A message, or the end: what a read gives. */
export type Delivery = { readonly done: false; readonly value: Uint8Array } | {
  readonly done: true
  readonly value: undefined
}

interface Reader {
  readonly read: () => Promise<Delivery>
}

interface Writer {
  /** Settles once there is room again; nothing while there is. */
  ready: Promise<void> | undefined
  desiredSize: number
  /** Gives what settles once the socket is gone, when it takes nothing more. */
  readonly write: (message: Uint8Array) => Promise<unknown> | undefined
}

/** What the socket may hold before the writer waits: enough to keep it busy, little enough that priorities matter. */
export const highWaterMark: number = 256 * 1024

/** An open WebSocket that `@moq/qmux` reads and writes. */
export abstract class QmuxSocket {
  readonly url: string = ""
  readonly opened: Promise<{
    readonly readable: { readonly getReader: () => Reader }
    readonly writable: { readonly getWriter: () => Writer }
    readonly protocol: string
    readonly extensions: string
  }>
  readonly closed: Promise<{ readonly closeCode: number; readonly reason: string }>
  /** Whether the socket is gone. */
  ended = false
  /** Why this side ended the connection, when it did so on its own. */
  failure: Error | undefined = undefined
  protected readonly options: Options
  private settle!: {
    readonly resolve: (info: { readonly closeCode: number; readonly reason: string }) => void
    readonly reject: (error: Error) => void
  }

  // messages that arrived and that the decoder has not asked for
  private queue: Array<Uint8Array> = []
  private head = 0
  private waiting: ((delivery: Delivery) => void) | undefined = undefined

  private readonly writer: Writer
  private release: (() => void) | undefined = undefined
  private writeTimer: ReturnType<typeof setTimeout> | undefined = undefined
  private waitingBytes = 0
  private backlog = 0
  private finishing = false

  private readonly observers = new Set<() => void>()

  constructor(options: Options) {
    this.options = options
    this.closed = new Promise((resolve, reject) => {
      this.settle = { resolve, reject }
    })
    // the failure is told to whoever asks; that nobody does must not end the process
    this.closed.catch(noop)
    const reader: Reader = { read: () => this.read() }
    const writer: Writer = {
      ready: undefined,
      desiredSize: highWaterMark,
      write: (message) => this.write(message)
    }
    this.writer = writer
    this.opened = Promise.resolve({
      protocol: options.protocol,
      extensions: "",
      readable: { getReader: () => reader },
      writable: { getWriter: () => writer }
    })
  }

  /** Closes the WebSocket, after what was written, and within about a second. */
  abstract close(): void

  /** Ends the connection at once. */
  protected abstract terminate(): void

  protected abstract readonly isOpen: boolean

  /** How many bytes it holds that have not left. */
  protected abstract readonly buffered: number

  protected abstract transmit(message: Uint8Array): void

  /** From here on {@link unblock} is wanted, as soon as less than {@link highWaterMark} is buffered. */
  protected onBlocked(): void {}

  /**
   * The decoder wants the next message: it is done with the last one. Gives what it has to wait for, if it has had its
   * share; `isBehind` tells whether there are messages that it has not asked for.
   */
  protected onRead(_isBehind: boolean): Promise<void> | undefined {
    return undefined
  }

  protected deliver(message: Uint8Array): Delivery {
    return { done: false, value: message }
  }

  /** Ends the connection at once. */
  fail(error: Error): void {
    this.failure ??= error
    this.terminate()
  }

  /** Puts a message before those that have arrived, as if the peer had sent it. */
  unshift(message: Uint8Array): void {
    if (this.ended) return
    if (this.waiting !== undefined) this.hand(message)
    else if (this.head > 0) this.queue[--this.head] = message
    else this.queue.unshift(message)
  }

  /** Sends a message past what waits for room. Does nothing once the socket is closed. */
  send(message: Uint8Array): void {
    if (this.isOpen) this.transmit(message)
  }

  /** Nothing but a close is still to come: it goes behind what is buffered, and waits for no room. */
  finish(): void {
    this.finishing = true
    this.unblock()
  }

  /** Calls back once the socket is gone. Returns how to give up. */
  onEnd(observer: () => void): () => void {
    if (this.ended) {
      observer()
      return () => {}
    }
    this.observers.add(observer)
    return () => void this.observers.delete(observer)
  }

  protected get isBlocked(): boolean {
    return this.release !== undefined
  }

  /** A message has arrived. */
  protected receive(message: Uint8Array): void {
    if (this.ended || this.failure !== undefined) return
    if (this.isBlocked) {
      // a message costs memory beyond its bytes
      this.backlog += message.length + 64
      if (this.backlog > this.options.maxBacklog) {
        return this.fail(new Error(`the peer sent ${this.backlog} bytes and took nothing of ours`))
      }
    }
    try {
      this.options.onMessage(message)
    } catch (error) {
      return this.fail(error instanceof Error ? error : new Error(String(error)))
    }
    if (this.waiting === undefined) this.queue.push(message)
    else this.hand(message)
  }

  /** There is room again. */
  protected unblock(): void {
    clearTimeout(this.writeTimer)
    const release = this.release
    this.release = undefined
    this.writer.ready = undefined
    this.writer.desiredSize = highWaterMark
    release?.()
  }

  /** The socket has gone. */
  protected end(closeCode: number, reason: string): void {
    if (this.ended) return
    this.ended = true
    this.unblock()
    this.waiting?.(done)
    this.waiting = undefined
    const observers = [...this.observers]
    this.observers.clear()
    for (const observer of observers) observer()
    if (this.failure === undefined) this.settle.resolve({ closeCode, reason })
    else this.settle.reject(this.failure)
  }

  private hand(message: Uint8Array): void {
    const waiting = this.waiting
    this.waiting = undefined
    waiting!(this.deliver(message))
  }

  private read(): Promise<Delivery> {
    const isBehind = this.head < this.queue.length
    const turn = this.onRead(isBehind)
    if (isBehind) return turn === undefined ? Promise.resolve(this.next()) : turn.then(() => this.next())
    if (this.ended) return Promise.resolve(done)
    return new Promise((resolve) => {
      this.waiting = resolve
    })
  }

  private next(): Delivery {
    const message = this.queue[this.head++]!
    if (this.head === this.queue.length) {
      this.queue = []
      this.head = 0
    }
    return this.deliver(message)
  }

  // Between the WebSocket's first step to its close and the end, nothing more is taken, and writers wait. Were they told
  // at once, the package would end streams without a code, and throw whenever it is asked to close.
  private write(message: Uint8Array): Promise<unknown> | undefined {
    if (!this.isOpen) return this.closed.catch(noop)
    this.transmit(this.options.onSend(message))
    // nothing may follow a close, so there is nothing to wait for
    if (message[0] === connectionClose || message[0] === applicationClose) this.close()
    else if (!this.finishing && !this.isBlocked && this.buffered > highWaterMark) this.block()
    return undefined
  }

  private block(): void {
    this.backlog = 0
    this.writer.desiredSize = 0
    this.writer.ready = new Promise((resolve) => {
      this.release = resolve
    })
    this.watch()
    this.onBlocked()
  }

  private watch(): void {
    this.waitingBytes = this.buffered
    this.writeTimer = setTimeout(() => {
      if (this.buffered < this.waitingBytes) {
        this.backlog = 0
        this.watch()
      } else this.fail(new Error(`the peer took nothing for ${this.options.writeTimeout} ms`))
    }, this.options.writeTimeout)
  }
}

// internal

const connectionClose = 0x1c
const applicationClose = 0x1d

const noop = () => {}

const done: Delivery = { done: true, value: undefined }
