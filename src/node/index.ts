/**
 * What needs Node: transports over real sockets, and certificates.
 *
 * @since 0.1.0
 */

/** Short-lived certificates for development, and fingerprints. */
export * as Certificate from "./Certificate.ts"

/** The certificate that a server shows, renewed and reloaded while it runs. */
export * as KeyRing from "./KeyRing.ts"

/** The transports of Node, for clients and servers, as layers. */
export * as NodeTransport from "./NodeTransport.ts"
