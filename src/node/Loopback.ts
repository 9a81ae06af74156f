/**
 * Addresses of clients: which belong to this machine alone, and how they are written.
 *
 * @since 0.1.0
 */
import { isIP } from "node:net"

/**
 * Whether an IP address, as a socket tells it, is a loopback address.
 *
 * @category guards
 * @since 0.1.0
 */
export const isLoopback = (address: string | undefined): boolean => {
  if (address === undefined) return false
  const plain = address.startsWith("::ffff:") ? address.slice(7) : address
  return plain === "::1" || (isIP(plain) === 4 && plain.startsWith("127."))
}

/**
 * Whether the host of a URL, without brackets, names a loopback address.
 *
 * @category guards
 * @since 0.1.0
 */
export const isLoopbackName = (host: string): boolean =>
  host.toLowerCase() === "localhost" || isLoopback(host.replace(/^\[(.*)\]$/, "$1"))

/**
 * An address as `host:port`, an IPv4 address without its IPv6 prefix.
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = (address: string | undefined, port: number | undefined): string | undefined => {
  if (address === undefined) return undefined
  const plain = address.startsWith("::ffff:") ? address.slice(7) : address
  return isIP(plain) === 6 ? `[${plain}]:${port ?? 0}` : `${plain}:${port ?? 0}`
}

/**
 * The address that a proxy says its client has, with the port where there is one: the last in `X-Forwarded-For`, which is
 * the only one that the proxy itself has seen. `undefined` when there is none, or it is no IP address.
 *
 * @category parsing
 * @since 0.1.0
 */
export const forwarded = (header: string | undefined): string | undefined => {
  const last = header?.split(",").at(-1)?.trim() ?? ""
  const match = /^\[(.+)\](?::(\d{1,5}))?$/.exec(last) ?? /^([^:]+)(?::(\d{1,5}))?$/.exec(last)
  const address = match?.[1] ?? last
  if (isIP(address) === 0) return undefined
  return match?.[2] === undefined ? address : format(address, Number(match[2]))
}
