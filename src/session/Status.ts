/**
 * What a session is doing.
 *
 * @since 0.1.0
 */
import type { SessionClosed } from "../core/MoqError.ts"
import type * as Profile from "../message/Profile.ts"
import type * as Transport from "../transport/Transport.ts"
import type { ConnectError } from "./Handshake.ts"

/**
 * It is being opened; `attempt` counts from 0, and starts again once a connection has been stable.
 *
 * @category models
 * @since 0.1.0
 */
export interface Connecting {
  readonly _tag: "Connecting"
  readonly attempt: number
}

/**
 * It is open.
 *
 * @category models
 * @since 0.1.0
 */
export interface Connected {
  readonly _tag: "Connected"
  readonly profile: Profile.Name
  readonly transport: Transport.ConnectionInfo
}

/**
 * It is to be opened again after `delay` milliseconds, as the attempt of that number; `error` tells what ended it, or why
 * it could not be opened.
 *
 * @category models
 * @since 0.1.0
 */
export interface Waiting {
  readonly _tag: "Waiting"
  readonly attempt: number
  readonly delay: number
  readonly error: ConnectError
}

/**
 * It is over for good: it was closed, or it is not opened again after `error`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Closed {
  readonly _tag: "Closed"
  readonly error: ConnectError | SessionClosed
}

/**
 * What a session is doing. One that does not reconnect is `Connected`, then `Closed`.
 *
 * @category models
 * @since 0.1.0
 */
export type Status = Connecting | Connected | Waiting | Closed
