/**
 * What a session is doing.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Stream from "effect/Stream"
import type { SessionClosed } from "../core/MoqError.ts"
import type * as Profile from "../message/Profile.ts"
import * as Log from "../model/Log.ts"
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

/**
 * What a session has been doing, for any number of readers: each begins with what it does now.
 *
 * @internal
 */
export class Statuses {
  readonly log: Log.Log<Status>
  constructor() {
    this.log = Log.makeUnsafe()
  }
  tell(status: Status): void {
    Log.appendUnsafe(this.log, status)
    if (status._tag === "Closed") Log.endUnsafe(this.log, Exit.void)
    const unread = Math.max(Log.unreadUnsafe(this.log), this.log.next - maxUnread)
    Log.trimUnsafe(this.log, Math.min(unread, this.log.next - 1))
  }
  get stream(): Stream.Stream<Status> {
    return Stream.unwrap(
      Effect.map(
        Effect.suspend(() => Log.open(this.log, Math.max(0, this.log.next - 1))),
        (cursor) => Stream.fromPull(Effect.succeed(Log.pull(this.log, cursor)))
      )
    )
  }
}

// internal

// a reader this far behind misses the oldest
const maxUnread = 64
