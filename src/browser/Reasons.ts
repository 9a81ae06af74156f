/**
 * Why there is no connection over HTTP/3, in words: loaded only when there is none, with the code for WebSocket.
 *
 * @internal
 */

/** Why a page has no `WebTransport`. */
export const missing = (): string =>
  globalThis.isSecureContext
    ? "this browser has no WebTransport"
    : "this page may not use WebTransport: it comes neither over https nor from a loopback address"

/** Why it failed. A browser does not tell a page, lest pages look around in networks that are not theirs. */
export const explain = ({ host }: URL, error: unknown, isPinned: boolean): string => {
  const said = typeof error === "string" ? error : error instanceof Error ? error.message : String(error)
  const certificate = isPinned
    ? "the server has another certificate than the pinned one, or one that is valid for more than 14 days"
    : "its certificate is not trusted"
  return `HTTP/3 to ${host} failed (${said.replace(/\.$/, "")}), and the browser does not say why: ` +
    `nothing listens there, UDP is blocked, the relay refused, or ${certificate}`
}
