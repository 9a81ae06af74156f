/**
 * What a page may ask for when it connects, and how a browser wants to be told.
 *
 * @internal
 */
import type { ConnectOptions } from "../transport/Transport.ts"

/** Why a browser cannot connect so, in words; nothing when it can. */
export const wrongWith = (url: URL, options: ConnectOptions): string | undefined => {
  switch (url.protocol) {
    case "https:":
    case "wss:":
      break
    case "ws:":
      if (isLoopback(url)) break
      return `ws: has no encryption and is for loopback addresses only; use https://${url.host}`
    case "moqf:":
      return `a browser has no raw QUIC (moqf:); use https://${url.host}`
    default:
      return `${url.protocol} URLs are not supported; use https://${url.host}`
  }
  if (options.insecure === true) {
    return "a browser cannot be told to accept any certificate: pin the fingerprint of a self-signed one"
  }
  if (options.roots !== undefined && options.roots.length > 0) {
    return "a browser trusts its own authorities only: pin the fingerprint of a certificate of yours"
  }
  const malformed = options.fingerprints?.find((text) => bytesOf(text) === undefined)
  if (malformed !== undefined) return `${JSON.stringify(malformed)} is not a SHA-256 fingerprint (64 hex digits)`
  return undefined
}

/** The fingerprints to accept instead of what the browser trusts, if any. */
export const pinned = (options: ConnectOptions): ReadonlyArray<Uint8Array<ArrayBuffer>> =>
  (options.fingerprints ?? []).flatMap((text) => bytesOf(text) ?? [])

/** Whether a URL names this machine. */
export const isLoopback = ({ hostname }: URL): boolean =>
  hostname === "localhost" || hostname === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(hostname)

// internal

const bytesOf = (text: string): Uint8Array<ArrayBuffer> | undefined => {
  const hex = text.replaceAll(":", "").trim()
  return /^[0-9a-f]{64}$/i.test(hex)
    ? Uint8Array.from({ length: 32 }, (_, i) => Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16))
    : undefined
}
