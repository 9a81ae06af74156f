/** What a page and its bridge say to each other: a header in JSON behind its length, then bytes. */
import type { BrowserTransport } from "effect-moq/browser"

/** What is to be connected to. */
export interface Spec {
  readonly transport: BrowserTransport.Name
  /** By way of a network that can be cut and narrowed. */
  readonly network: boolean
}

/** Where the network fails, that shows soon. */
export const limitsOf = ({ network }: Spec): { readonly idleTimeout?: "600 millis" } =>
  network ? { idleTimeout: "600 millis" } : {}

export interface Prepared {
  readonly handle: number
  readonly url: string
  readonly fingerprint: string
}

export type Request =
  | { readonly op: "prepare"; readonly spec: Spec }
  | { readonly on: number } & (Operation | { readonly op: "interrupt" })

export interface Call {
  readonly id: number
  readonly request: Request
}

/** What is done with a handle. */
export type Operation =
  | { readonly op: "accepted" | "release" | "openBi" | "acceptBi" | "acceptUni" }
  | { readonly op: "closed" | "ping" | "finish" | "stopped" | "pull" }
  | { readonly op: "network"; readonly what: "kill" | "silence" | "narrow" }
  | { readonly op: "close"; readonly code: number; readonly reason: string }
  | { readonly op: "write"; readonly sizes: ReadonlyArray<number> }
  | { readonly op: "reset" | "stop"; readonly code: number }
  | { readonly op: "openUni" | "setPriority"; readonly priority: number }

/** How a call ended. */
export type Told =
  | { readonly _tag: "Success"; readonly value: unknown }
  | { readonly _tag: "Done" }
  | { readonly _tag: "Failure"; readonly error: { readonly _tag: string; readonly [field: string]: unknown } }

export const encode = (header: object, chunks: ReadonlyArray<Uint8Array>): Uint8Array<ArrayBuffer> => {
  const text = new TextEncoder().encode(JSON.stringify(header))
  const size = chunks.reduce((sum, chunk) => sum + chunk.length, 0)
  const message = new Uint8Array(4 + text.length + size)
  new DataView(message.buffer).setUint32(0, text.length)
  message.set(text, 4)
  let at = 4 + text.length
  for (const chunk of chunks) {
    message.set(chunk, at)
    at += chunk.length
  }
  return message
}

export const decode = <Header>(message: Uint8Array): { readonly header: Header; readonly payload: Uint8Array } => {
  const end = 4 + new DataView(message.buffer, message.byteOffset).getUint32(0)
  return { header: JSON.parse(new TextDecoder().decode(message.subarray(4, end))), payload: message.subarray(end) }
}
