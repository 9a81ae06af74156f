/**
 * Which addresses and names belong to this machine alone.
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
