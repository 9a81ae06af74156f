/**
 * Finds and loads the native binding of `@moq/web-transport`, which speaks HTTP/3.
 *
 * **Details**
 *
 * The package is an optional peer, and what it exports is TypeScript source: the binding of the platform is loaded
 * directly, as seen from the package, so that it is found wherever a package manager has put it.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { createRequire } from "node:module"
import { TransportError } from "../core/MoqError.ts"

/**
 * What is used of the binding.
 *
 * @category models
 * @since 0.1.0
 */
export interface Binding {
  readonly NapiClient: {
    readonly withSystemRoots: () => Client
    readonly disableVerify: () => Client
    readonly withCertificateHashes: (hashes: Array<Buffer>) => Client
  }
  readonly NapiServer: {
    /** Throws when the address cannot be bound, or the certificate is of no use. */
    readonly bind: (address: string, cert: Buffer, key: Buffer) => Server
  }
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Client {
  readonly connect: (url: string) => Promise<Session>
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Server {
  readonly accept: () => Promise<Request | null>
  /** Blocks the thread for as long as an `accept` is pending. */
  readonly close: () => void
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Request {
  readonly url: Promise<string>
  readonly ok: () => Promise<Session>
  readonly reject: (status: number) => Promise<void>
}

/**
 * A session. Its socket stays open until it, and every stream of it, has been collected as garbage.
 *
 * @category models
 * @since 0.1.0
 */
export interface Session {
  readonly acceptUni: () => Promise<ReceiveStream>
  readonly acceptBi: () => Promise<BiStream>
  readonly openUni: () => Promise<SendStream>
  readonly openBi: () => Promise<BiStream>
  readonly sendDatagram: (data: Uint8Array) => void
  readonly close: (code: number, reason: string) => void
  /** Always fulfils. A connection that broke has code 0, and a reason that begins with `connection error:`. */
  readonly closed: () => Promise<{ readonly closeCode: number; readonly reason: string }>
}

/**
 * @category models
 * @since 0.1.0
 */
export interface BiStream {
  readonly takeSend: () => SendStream
  readonly takeRecv: () => ReceiveStream
}

/**
 * The sending half of a stream. Every call waits for the one before it, in an order that is not that of the calls
 * unless each is awaited; what is being written must not change.
 *
 * @category models
 * @since 0.1.0
 */
export interface SendStream {
  readonly write: (data: Uint8Array) => Promise<void>
  readonly finish: () => Promise<void>
  readonly reset: (code: number) => Promise<void>
  readonly setPriority: (priority: number) => Promise<void>
}

/**
 * The receiving half of a stream. See {@link SendStream}.
 *
 * @category models
 * @since 0.1.0
 */
export interface ReceiveStream {
  /** `null` at the end of the stream. */
  readonly read: (maxSize: number) => Promise<Uint8Array | null>
  readonly stop: (code: number) => Promise<void>
}

/**
 * Where the binding is looked for.
 *
 * @category models
 * @since 0.1.0
 */
export interface System {
  readonly platform: string
  readonly arch: string
  /** The version of its glibc, where it has one. */
  readonly glibc: () => string | undefined
  /** The path of the package's entry. Throws when it is not there. */
  readonly resolve: (name: string) => string
  /** Loads a module as seen from another. */
  readonly require: (from: string, name: string) => unknown
}

/**
 * Loads the binding of this system, once.
 *
 * **Details**
 *
 * Fails with {@link TransportError} in one line: the package is not installed, there is no binding for this platform, or
 * its glibc is too old.
 *
 * @category constructors
 * @since 0.1.0
 */
export const load: Effect.Effect<Binding, TransportError> = Effect.suspend(() =>
  loaded === undefined ? Effect.map(loadFrom(thisSystem), (binding) => loaded = binding) : Effect.succeed(loaded)
)

/**
 * Loads the binding of a given system.
 *
 * @category constructors
 * @since 0.1.0
 */
export const loadFrom = (system: System): Effect.Effect<Binding, TransportError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(find(system))
    } catch (error) {
      return Effect.fail(new TransportError({ detail: explain(system, error) }))
    }
  })

// internal

let loaded: Binding | undefined

const name = "@moq/web-transport"

const thisSystem: System = {
  platform: process.platform,
  arch: process.arch,
  glibc: () => {
    // without this, the report looks up the names of all peers
    Object.assign(process.report, { excludeNetwork: true })
    const report = process.report.getReport() as { readonly header?: { readonly glibcVersionRuntime?: string } }
    return report.header?.glibcVersionRuntime
  },
  resolve: (id) => createRequire(import.meta.url).resolve(id),
  require: (from, id) => createRequire(from)(id)
}

class Absent extends Error {}

const find = (system: System): Binding => {
  const entry = unlessAbsent(() => system.resolve(name))
  if (entry === undefined) throw new Absent(`${name} is not installed`)
  const platform = platforms.get(`${system.platform}-${system.arch}`)
  if (platform === undefined) throw new Absent(`${name} has no binding for ${system.platform}-${system.arch}`)
  const binding = unlessAbsent(() => system.require(entry, `${name}-${platform}`)) ??
    unlessAbsent(() => system.require(entry, `../web-transport.${platform}.node`))
  if (binding === undefined) throw new Absent(`${name}-${platform} is not installed`)
  return binding as Binding
}

const platforms = new Map([
  ["darwin-arm64", "darwin-arm64"],
  ["darwin-x64", "darwin-x64"],
  ["linux-arm64", "linux-arm64-gnu"],
  ["linux-x64", "linux-x64-gnu"],
  ["win32-x64", "win32-x64-msvc"]
])

const unlessAbsent = <A>(look: () => A): A | undefined => {
  try {
    return look()
  } catch (error) {
    if (codeOf(error) === "MODULE_NOT_FOUND") return undefined
    throw error
  }
}

const codeOf = (error: unknown): unknown => error instanceof Error && "code" in error ? error.code : undefined

const explain = (system: System, error: unknown): string => {
  if (error instanceof Absent) return error.message
  const text = error instanceof Error ? error.message : String(error)
  if (system.platform === "linux" && codeOf(error) === "ERR_DLOPEN_FAILED") {
    const glibc = system.glibc()
    if (glibc === undefined) return `${name} needs glibc, and this system has none`
    const needed = /GLIBC_([0-9.]+)' not found/.exec(text)?.[1]
    if (needed !== undefined) return `${name} needs glibc ${needed}, this system has ${glibc}`
  }
  return `${name} cannot be loaded: ${text.split("\n", 1)[0]}`
}
