/**
 * What a page may ask for when it connects, in words for one that asked for something else. It is loaded with the code for
 * WebSocket, once there is more to it than an `https:` URL.
 *
 * @internal
 */
import type { ConnectOptions } from "../transport/Transport.ts"

/**
 * Where a WebSocket goes for a URL, or in words why a browser cannot connect so. `isOffered` says whether a WebSocket is one
 * of the transports.
 */
export const addressOf = (url: URL, options: ConnectOptions, isOffered: boolean): URL | string => {
  const { host, protocol } = url
  const instead = `use https://${host}`
  if (protocol === "ws:" && !isLoopback(url)) {
    return `ws: has no encryption and is for loopback addresses only; ${instead}`
  }
  if (protocol === "moqf:") return `a browser has no raw QUIC (moqf:); ${instead}`
  if (protocol !== "https:") {
    if (protocol !== "wss:" && protocol !== "ws:") return `${protocol} URLs are not supported; ${instead}`
    if (!isOffered) return `${protocol} URLs are for WebSocket alone; ${instead}`
  }
  if (options.insecure === true) {
    return "a browser cannot be told to accept any certificate: pin the fingerprint of a self-signed one"
  }
  if (options.roots !== undefined && options.roots.length > 0) {
    return "a browser trusts its own authorities only: pin the fingerprint of a certificate of yours"
  }
  const { fingerprints = [] } = options
  const malformed = fingerprints.find((text) => !fingerprint.test(text.replaceAll(":", "").trim()))
  if (malformed !== undefined) return `${JSON.stringify(malformed)} is not a SHA-256 fingerprint (64 hex digits)`
  const address = new URL(url)
  address.hash = ""
  if (protocol !== "ws:" && fingerprints.length > 0) {
    if (!isLoopback(url)) return `a browser cannot pin the certificate of a WebSocket (${host})`
    // such a certificate is one for development, with which a relay takes loopback peers without TLS
    address.protocol = "ws:"
  } else if (protocol === "https:") address.protocol = "wss:"
  return address
}

// internal

const fingerprint = /^[0-9a-f]{64}$/i

// whether a URL names this machine
const isLoopback = ({ hostname }: URL): boolean =>
  hostname === "localhost" || hostname === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(hostname)
