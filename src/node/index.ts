/**
 * What needs Node: transports over real sockets, and certificates.
 *
 * @since 0.1.0
 */

/** Short-lived certificates for development, and fingerprints. */
export * as Certificate from "./Certificate.ts"

/** A second listener beside a relay, for its operator: metrics, health, who does what. */
export * as Internal from "./Internal.ts"

/** The certificate that a server shows, renewed and reloaded while it runs. */
export * as KeyRing from "./KeyRing.ts"

/** The transports of Node, for clients and servers, as layers. */
export * as NodeTransport from "./NodeTransport.ts"

/** Traces, metrics and logs for an OpenTelemetry collector. */
export * as Otlp from "./Otlp.ts"

/** What a relay gives by requests over HTTP. */
export * as PublicHttp from "./PublicHttp.ts"

/** Tokens that say what a client of a relay may do. */
export * as Token from "./Token.ts"

/** A relay that takes tokens. */
export * as TokenAuthenticator from "./TokenAuthenticator.ts"

/** The keys that sign tokens and verify them. */
export * as TokenKey from "./TokenKey.ts"
