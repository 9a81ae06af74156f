/**
 * Where a server listens, as people type it.
 *
 * @since 0.1.0
 */

/**
 * A host and a port; the host as `NodeTransport.makeServer` takes it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Bind {
  readonly host: string
  readonly port: number
}

/**
 * Reads `localhost:4443` (both loopbacks), `127.0.0.1:4443`, `[::1]:4443`, `:4443` (all of the machine), or a host
 * alone, for port 4443. Port 0 is a free one. Throws an `Error` that says what is expected.
 *
 * @category parsing
 * @since 0.1.0
 */
export const parse = (text: string): Bind => {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:[\]\s]*))(?::(\d{1,5}))?$/i.exec(text.trim())
  const host = match?.[1] ?? match?.[2] ?? ""
  const port = Number(match?.[3] ?? 4443)
  if (match === null || port > 65_535 || (host === "" && match[3] === undefined)) {
    throw new Error("an address such as localhost:4443, 127.0.0.1:0, [::1]:4443 or :4443")
  }
  return { host, port }
}
