/**
 * What runs in a browser only.
 *
 * @since 0.1.0
 */

/** The transports of browsers: what a page imports to connect. */
export * as BrowserTransport from "./BrowserTransport.ts"
