/**
 * A browser's WebSocket for QMux.
 *
 * **Details**
 *
 * A browser does not tell when its buffer drains, so while it is full this looks: whenever something arrives, and every
 * few milliseconds. Timers are slow in a page that nobody sees, so a ping goes behind the data: its answer arrives once
 * the peer has read all of it, whatever timers do.
 *
 * It does not use the `WebSocketStream` that some browsers have: nothing is gained by it.
 *
 * @internal
 */
import { highWaterMark, join, type Options, QmuxSocket } from "../transport/QmuxSocket.ts"

/** An open WebSocket, with `binaryType` "arraybuffer". */
export interface Dialled {
  readonly webSocket: WebSocket
  /** Hands over what has arrived and what will. */
  readonly listen: (onMessage: (data: unknown) => void) => void
}

/** An open WebSocket of a browser. */
export class WebSocketStream extends QmuxSocket {
  private readonly ws: WebSocket
  private looking: ReturnType<typeof setTimeout> | undefined = undefined
  private closing: ReturnType<typeof setTimeout> | undefined = undefined

  constructor({ listen, webSocket }: Dialled, options: Options) {
    super(options)
    this.ws = webSocket
    webSocket.addEventListener("close", () => this.end())
    const onMessage = (data: unknown): void => {
      if (this.isBlocked) this.look()
      if (data instanceof ArrayBuffer) this.receive(new Uint8Array(data))
      else this.fail(new Error("a text message: QMux is binary"))
    }
    // what has come already comes at once, and the session is not ready for that
    queueMicrotask(() => {
      listen(onMessage)
      if (webSocket.readyState === webSocket.CLOSED) this.end()
    })
  }

  /** Closes the WebSocket; it is over after the peer's answer, or one second. */
  close(): void {
    this.ws.close(1000)
    this.closing ??= setTimeout(() => this.end(), closeTimeout)
  }

  protected terminate(): void {
    this.ws.close()
    this.end()
  }

  protected override end(): void {
    clearTimeout(this.looking)
    clearTimeout(this.closing)
    super.end()
  }

  get isOpen(): boolean {
    return this.ws.readyState === this.ws.OPEN
  }

  protected get buffered(): number {
    return this.ws.bufferedAmount
  }

  protected transmit(parts: ReadonlyArray<Uint8Array>, length: number): void {
    this.ws.send(join(parts, length))
  }

  protected override onBlocked(): void {
    this.options.ask()
    this.looking = setTimeout(this.look, lookEvery)
  }

  private readonly look = (): void => {
    clearTimeout(this.looking)
    if (this.buffered > highWaterMark) this.looking = setTimeout(this.look, lookEvery)
    else this.unblock()
  }
}

// internal

// in milliseconds
const lookEvery = 4
const closeTimeout = 1_000
