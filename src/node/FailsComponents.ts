/**
 * `@fails-components/webtransport`, loaded once and without a word.
 *
 * **Details**
 *
 * When it is imported it looks for its HTTP/3 add-on and prints two stack traces where that is missing. The console is
 * held back for that stretch, for these lines alone; they are logged at debug level.
 *
 * Of the package, HTTP/2 uses what its web streams are built on: its sessions and streams, their flow control, and
 * their parser (`lib/types.ts` of the package describes that border; the interfaces here are the part in use). The web
 * streams above read without a bound, forget no stream, and cannot reset past a write. The package is pinned for this.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type { ClientHttp2Stream, Http2Stream, IncomingHttpHeaders, ServerHttp2Stream, Settings } from "node:http2"
import { format } from "node:util"
import { TransportError } from "../core/MoqError.ts"
import type { WebTransportLike } from "../transport/WebTransport.ts"

/** The exports in use. */
export interface Package {
  readonly WebTransport: {
    readonly prototype: {
      readonly createClient: (options: object) => {
        readonly client: { readonly args: { readonly createReliableClient: () => ClientTransport } }
      }
    }
    new(url: string, options: object): WebTransportLike
  }
  readonly Http2Server: new(options: object) => {
    readonly createTransportInt: () => Promise<void>
    readonly transportInt: ServerTransport
  }
  readonly Http3Server: new(options: object) => {
    readonly ready: Promise<unknown>
    readonly startServer: () => void
    readonly stopServer: () => void
    readonly updateCert: (cert: string, key: string, http2only: boolean) => void
    readonly setRequestCallback: (
      onRequest: (request: { readonly header: Record<string, string | undefined> }) => Promise<Answer>
    ) => void
    readonly sessionStream: (
      path: string,
      options: { readonly noAutoPaths: true }
    ) => ReadableStream<WebTransportLike & { readonly userData: Answer["userData"] }>
  }
  readonly quicheLoaded: Promise<unknown>
}

/** What the server of HTTP/3 answers a request with, and under which path of `sessionStream` its session comes. */
export interface Answer {
  readonly path: string
  readonly userData: object
  readonly status: number
}

/** The client's part of HTTP/2: asks for a session over a connection that it is given. */
interface ClientTransport {
  jsobj: unknown
  clientInt: {
    readonly remoteSettings: Settings
    readonly request: (headers: Record<string, unknown>) => ClientHttp2Stream
  }
  readonly openWTSession: (path: string) => void
}

/** The server's part of HTTP/2: answers a request that it is given. */
export interface ServerTransport {
  jsobj: unknown
  readonly finishSessionRequest: (request: {
    readonly session: ServerHttp2Stream
    readonly header: IncomingHttpHeaders
    readonly path: string
    readonly status: 200
    readonly protocol: "capsule"
  }) => void
}

/** What both call with a new session, before it can have received anything. */
export interface Visitor {
  readonly onHttpWTSessionVisitor: (visit: { readonly session: NativeSession }) => void
}

export interface NativeSession {
  jsobj: SessionEvents
  readonly stream: Http2Stream
  readonly capsParser: Parser
  readonly streamIdMngrUni: StreamIds
  readonly streamIdMngrBi: StreamIds
  readonly flowController: FlowController
  readonly orderUnidiStream: (options: OrderOptions) => boolean
  readonly orderBidiStream: (options: OrderOptions) => boolean
  readonly close: (end: { readonly code: number; readonly reason: string }) => void
}

interface OrderOptions {
  readonly sendOrder: number
  readonly waitUntilAvailable: true
}

export interface SessionEvents {
  /** Windows are told of while it is `"connected"`. */
  readonly state: "connecting" | "connected" | "closed"
  readonly onReady: () => void
  readonly onClose: (end: { readonly errorcode: number; readonly error: string }) => void
  readonly onStream: (opened: {
    readonly stream: NativeStream
    readonly bidirectional: boolean
    readonly incoming: boolean
    readonly sendOrder: number
  }) => void
  readonly onDatagramReceived: () => void
  readonly onGoAwayReceived: () => void
}

/** Reads capsules, keeps the streams by their ids, and writes what is scheduled. */
export interface Parser {
  wtstreams: Map<bigint, NativeStream>
  readonly scheduler: {
    readonly Unregister: (id: bigint) => void
    readonly UpdateSendOrder: (id: bigint, sendOrder: number) => void
    /** `undefined` for a stream that is not registered. */
    readonly SchedulerForStream: (id: bigint) => unknown
  }
  /** The beginning of a capsule that is not whole yet. */
  readonly saveddata?: Buffer | undefined
  /** The capsule whose content goes on ends its stream. */
  readonly rfin?: boolean | undefined
  /** Where the package looks for that, and never puts it. */
  rtype: number | undefined
  parseData: (data: Buffer) => void
  /** Writes what waits, in the order of ranks, as long as `blocked` is not set. */
  readonly drainWrites: () => void
  removeStream: (id: bigint) => void
  closeHttp2Stream: (code: number) => void
  onCloseWebTransportSession: (end: { readonly code: number; readonly reason: string }) => void
}

export interface StreamIds {
  readonly outgoingMaxStreams: bigint
  outgoingStreamCount: bigint
  nextOutgoingStreamId: bigint
  /** `Number.MAX_SAFE_INTEGER` before there is one. */
  readonly largestPeerCreatedStreamId: bigint
  /** Ids below that one whose streams have not been opened. */
  readonly availableStreams: Set<bigint>
  readonly onStreamClosed: (id: bigint) => void
}

export interface FlowController {
  readonly updateHighestReceivedOffset: (bytes: number) => void
  readonly flowControlViolation: () => boolean
  readonly addBytesConsumed: (bytes: number) => void
  readonly updateSendWindowOffset: (offset: bigint) => boolean
}

export interface NativeStream {
  jsobj: StreamEvents
  readonly streamid: bigint
  readonly outgochunks: Array<unknown>
  readonly flowController: FlowController
  readonly streamIdManager: StreamIds
  recvData: (received: Received) => void
  onClose: () => void
  readonly writeChunk: (chunk: Uint8Array) => void
  readonly streamFinal: () => void
  readonly stopSending: (code: number) => void
  readonly resetStream: (code: number) => void
}

export interface Received {
  readonly data: Uint8Array | undefined
  readonly fin: boolean
}

export interface StreamEvents {
  readonly parentobj: {
    readonly state: SessionEvents["state"]
    readonly objint: NativeSession
  }
  readonly onStreamRecvSignal: (signal: {
    readonly nettask: "resetStream" | "stopSending"
    readonly code: number
  }) => void
  /** A chunk, or the end, has left. */
  readonly onStreamWrite: () => void
  readonly onStreamNetworkFinish: () => void
}

/** The package. Fails with {@link TransportError} when it is not installed, or cannot be loaded. */
export const load: Effect.Effect<Package, TransportError> = Effect.tryPromise({
  try: () => loading ??= importQuietly(),
  catch: (error) =>
    new TransportError({ detail: `${name} cannot be loaded: ${error instanceof Error ? error.message : error}` })
}).pipe(
  Effect.flatMap(({ module, printed }) =>
    Effect.as(
      Effect.forEach(printed.splice(0), (line) => Effect.logDebug(line), { discard: true }),
      module
    )
  )
)

/**
 * The package with its HTTP/3 add-on. Fails with {@link TransportError} when that is not installed, or cannot be loaded.
 */
export const loadWithQuiche: Effect.Effect<Package, TransportError> = Effect.tryPromise({
  // it need not be there when this is compiled or bundled
  try: () => import(/* @vite-ignore */ addOn),
  catch: (error) => {
    const isMissing = error instanceof Error && "code" in error && error.code === "ERR_MODULE_NOT_FOUND" &&
      error.message.includes(`'${addOn}'`)
    return new TransportError({
      detail: isMissing
        ? `${addOn} is not installed`
        : `${addOn} cannot be loaded: ${error instanceof Error ? error.message : error}`
    })
  }
}).pipe(Effect.andThen(load))

// internal

const name = "@fails-components/webtransport"

const addOn: string = "@fails-components/webtransport-transport-http3-quiche"

interface Loaded {
  readonly module: Package
  readonly printed: Array<string>
}

let loading: Promise<Loaded> | undefined

const importQuietly = async (): Promise<Loaded> => {
  const printed: Array<string> = []
  const release = holdBack(printed)
  try {
    const module = await import("@fails-components/webtransport") as unknown as Package
    await module.quicheLoaded
    // two parts of the package look for the add-on, and only one of them tells when it is done
    await new Promise((resolve) => setImmediate(resolve))
    return { module, printed }
  } finally {
    release()
  }
}

const complaints = ["http3 loader:", "Problem loading http3-quiche transport", "Did you install @fails-components/"]

const terminal: Pick<Console, "log" | "error"> = globalThis.console

// everybody else's lines go through
const holdBack = (printed: Array<string>): () => void => {
  const { error, log } = terminal
  const unless = (print: typeof log): typeof log => (...args) => {
    const [first] = args
    if (typeof first !== "string" || !complaints.some((complaint) => first.startsWith(complaint))) return print(...args)
    printed.push(format(...args))
  }
  terminal.log = unless(log)
  terminal.error = unless(error)
  return () => {
    terminal.log = log
    terminal.error = error
  }
}
