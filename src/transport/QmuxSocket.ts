/**
 * An open WebSocket under a session of QMux: tells when it has room, and hands over what arrives. How the socket tells of
 * progress is left to whoever extends this.
 *
 * **Details**
 *
 * It bounds what a peer that does not read can make us hold: while our own writes make no progress, at most
 * {@link Options.maxBacklog} bytes may arrive, for at most {@link Options.writeTimeout} milliseconds.
 *
 * A message is handed over as it arrives. Of several that arrive at once each waits for a microtask, so that what follows
 * from one is done in between, and counts for the share of a connection ({@link QmuxSocket.mayGoOn}).
 *
 * @internal
 */
import { Fifo } from "./QmuxStream.ts"

/** What is allowed, and who looks on. */
export interface Options {
  /** How many bytes may arrive while nothing of ours leaves. */
  readonly maxBacklog: number
  /** How long nothing of ours may leave while something waits, in milliseconds. */
  readonly writeTimeout: number
  /** Takes a message; never throws. */
  readonly onMessage: (message: Uint8Array) => void
  /** There is room again. */
  readonly onRoom: () => void
  /** The socket is gone, and all that arrived was handed over. */
  readonly onEnd: () => void
  /** Asks the peer for a sign of life. The answer is a message that arrives once the peer has read what was sent before. */
  readonly ask: () => void
}

/** What the socket may hold before the session waits: enough to keep it busy, little enough that priorities matter. */
export const highWaterMark: number = 256 * 1024

/** An open WebSocket under a session of QMux. */
export abstract class QmuxSocket {
  /** Whether the socket is gone. */
  ended = false
  /** Why this side ended the connection, when it did so on its own. */
  failure: Error | undefined = undefined
  /** Whether it is full. */
  isBlocked = false
  protected readonly options: Options

  // what arrived and was not handed over: `isBusy` until what follows from the last message had its turn
  private readonly queue = new Fifo<Uint8Array>()
  private isBusy = false
  private isEnding = false

  private writeTimer: ReturnType<typeof setTimeout> | undefined = undefined
  private waitingBytes = 0
  private backlog = 0

  private readonly observers: Array<() => void> = []

  constructor(options: Options) {
    this.options = options
  }

  /** Closes the WebSocket, after what was written, and within about a second. */
  abstract close(): void

  /** Whether it takes messages: between the first step to its close and the end nothing is taken, nor refused. */
  abstract readonly isOpen: boolean

  /** Ends the connection at once. */
  protected abstract terminate(): void

  /** How many bytes it holds that have not left. */
  protected abstract readonly buffered: number

  /** Sends a message, given in parts that may go to the network as they are. */
  protected abstract transmit(parts: ReadonlyArray<Uint8Array>, length: number): void

  /** From here on {@link unblock} is wanted, as soon as less than {@link highWaterMark} is buffered. */
  protected onBlocked(): void {}

  /**
   * Whether the next of several messages may be handed over now. If not, {@link goOn} is wanted later, which asks no more.
   */
  protected mayGoOn(): boolean {
    return true
  }

  /** All that arrived has been handed over. */
  protected onIdle(): void {}

  /** Ends the connection at once. */
  fail(error: Error): void {
    this.failure ??= error
    this.terminate()
  }

  /** Sends a message, given in parts, also when it is full. Does nothing once the socket is closed. */
  send(parts: ReadonlyArray<Uint8Array>): void {
    if (!this.isOpen) return
    let length = 0
    for (let i = 0; i < parts.length; i++) length += parts[i]!.length
    this.transmit(parts, length)
    if (!this.isBlocked && this.buffered > highWaterMark) this.block()
  }

  /** Calls back once the socket is gone. */
  onGone(observer: () => void): void {
    if (this.ended) observer()
    else this.observers.push(observer)
  }

  /** A message has arrived. */
  protected receive(message: Uint8Array): void {
    if (this.isEnding || this.failure !== undefined) return
    if (this.isBlocked) {
      // a message costs memory beyond its bytes
      this.backlog += message.length + 64
      if (this.backlog > this.options.maxBacklog) {
        return this.fail(new Error(`the peer sent ${this.backlog} bytes and took nothing of ours`))
      }
    }
    if (this.isBusy) this.queue.push(message)
    else this.hand(message)
  }

  /** Hands over the next message. */
  protected readonly goOn = (): void => {
    const message = this.queue.shift()
    if (message !== undefined) return this.hand(message)
    this.isBusy = false
    this.onIdle()
    if (this.isEnding) this.finish()
  }

  /** There is room again. */
  protected unblock(): void {
    clearTimeout(this.writeTimer)
    if (!this.isBlocked) return
    this.isBlocked = false
    this.options.onRoom()
  }

  /** The socket has gone. */
  protected end(): void {
    if (this.isEnding) return
    this.isEnding = true
    clearTimeout(this.writeTimer)
    if (this.failure !== undefined) this.queue.clear()
    if (!this.isBusy || this.failure !== undefined) this.finish()
  }

  private hand(message: Uint8Array): void {
    this.isBusy = true
    this.options.onMessage(message)
    settled.then(this.onHanded)
  }

  private readonly onHanded = (): void => {
    if (this.queue.length === 0 || this.mayGoOn()) this.goOn()
  }

  private finish(): void {
    if (this.ended) return
    this.ended = true
    this.options.onEnd()
    for (const observer of this.observers.splice(0)) observer()
  }

  private block(): void {
    this.isBlocked = true
    this.backlog = 0
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

/** The parts of a message as one piece of memory. */
export const join = (parts: ReadonlyArray<Uint8Array>, length: number): Uint8Array<ArrayBuffer> => {
  const joined = new Uint8Array(length)
  let at = 0
  for (let i = 0; i < parts.length; i++) {
    joined.set(parts[i]!, at)
    at += parts[i]!.length
  }
  return joined
}

// internal

// cheaper than `queueMicrotask`, of which Node makes a resource each time
const settled = Promise.resolve()
