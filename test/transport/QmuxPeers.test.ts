/**
 * The conformance cases between ours and `@moq/qmux`, another implementation of the same drafts, as client and as server.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as TransportConformance from "../../src/testing/TransportConformance.ts"
import * as Bounds from "../../src/transport/Bounds.ts"
import * as Qmux from "../../src/transport/Qmux.ts"
import * as QmuxSession from "../../src/transport/QmuxSession.ts"
import { join, type Options, QmuxSocket } from "../../src/transport/QmuxSocket.ts"
import * as WebTransport from "../../src/transport/WebTransport.ts"

// absent in Node 20, and used by the package
const promises = Promise as unknown as { withResolvers?: unknown }
promises.withResolvers ??= () => {
  let resolve: unknown
  let reject: unknown
  const promise = new Promise((onValue, onReason) => {
    resolve = onValue
    reject = onReason
  })
  return { promise, resolve, reject }
}

const { default: Session, StreamError } = await import("@moq/qmux")

/** Our end of a WebSocket, and the other end as the package takes it. */
class Socket extends QmuxSocket {
  readonly theirs: unknown
  /** The first messages, ours and theirs: transport parameters. */
  readonly first: { ours?: Uint8Array; theirs?: Uint8Array } = {}
  private readonly toThem: ReadableStreamDefaultController<Uint8Array>
  private readonly closeTheirs: (info: { readonly closeCode: number; readonly reason: string }) => void

  constructor(options: Options, protocol: string) {
    super(options)
    let toThem!: ReadableStreamDefaultController<Uint8Array>
    let closeTheirs!: (info: { readonly closeCode: number; readonly reason: string }) => void
    const readable = new ReadableStream<Uint8Array>({ start: (controller) => void (toThem = controller) })
    const writable = new WritableStream<Uint8Array>({ write: (message) => this.onWrite(message.slice()) })
    this.theirs = {
      opened: Promise.resolve({ readable, writable, protocol, extensions: "" }),
      closed: new Promise((resolve) => {
        closeTheirs = resolve
      }),
      close: () => this.close()
    }
    this.toThem = toThem
    this.closeTheirs = closeTheirs
  }

  get isOpen(): boolean {
    return !this.ended
  }

  close(): void {
    if (this.ended) return
    // an event of its own, after those of the messages
    setImmediate(() => {
      this.closeTheirs({ closeCode: 1000, reason: "" })
      this.end()
    })
  }

  private onWrite(message: Uint8Array): void {
    this.first.theirs ??= message
    this.receive(message)
  }

  protected terminate(): void {
    this.close()
  }

  protected get buffered(): number {
    return 0
  }

  protected transmit(parts: ReadonlyArray<Uint8Array>, length: number): void {
    const message = join(parts, length)
    this.first.ours ??= message
    this.toThem.enqueue(message)
  }
}

const pair = (ours: "client" | "server", version: string) =>
  Effect.gen(function*() {
    const protocol = `${version}.test`
    const limits = Bounds.resolve()
    let socket: Socket | undefined
    const own = yield* Effect.forkChild(
      Qmux.make(() =>
        QmuxSession.begin({
          role: ours,
          protocol,
          limits,
          open: (options) => socket = new Socket(options, protocol)
        }), undefined),
      { startImmediately: true }
    )
    const config = {
      maxStreamsBidi: BigInt(limits.maxStreamsBidi),
      maxStreamsUni: BigInt(limits.maxStreamsUni),
      maxData: BigInt(limits.maxData),
      maxIdleTimeout: BigInt(limits.idleTimeout),
      maxDatagramFrameSize: BigInt(0)
    }
    const source = socket!.theirs as Parameters<typeof Session.accept>[0]
    const session = ours === "server" ? new Session(source, { config }) : Session.accept(source, { protocol, config })
    const theirs = yield* WebTransport.fromObject(session, {
      info: { transport: "package", peer: undefined },
      // it aborts a stream only after its pending write
      capabilities: { codes: "any", resetPastWrite: false, priority: true, maxStreams: 1024, idleTimeout: Infinity },
      streamError: (code) => new StreamError(code)
    })
    const mine = yield* Fiber.join(own)
    assert.deepStrictEqual(socket!.first.ours, socket!.first.theirs)
    return ours === "client" ? { client: mine, server: theirs } : { client: theirs, server: mine }
  })

// what a reset, a ping or the number of streams of the package's own end is like is not about ours
const theirs = ["streams that nobody accepts", "with the declared number of streams open"]

const suite = (version: string, ours: "client" | "server") =>
  describe(`${version}, ours as the ${ours}`, () => {
    for (const { needs, rule, run } of TransportConformance.cases({ pair: pair(ours, version) })) {
      if (needs !== undefined || theirs.some((start) => rule.startsWith(start))) continue
      const expected = rule.startsWith("a ping") || rule.startsWith("a reset passes")
        ? ["Passed", "Declared"]
        : ["Passed"]
      it.live(rule, () => Effect.map(run, ({ _tag }) => assert.oneOf(_tag, expected)), 60_000)
    }
  })

suite("qmux-02", "client")
suite("qmux-02", "server")
suite("qmux-01", "client")
