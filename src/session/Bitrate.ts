/**
 * What the two sides of a session tell each other of the rate at which they can send.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import { ignore } from "../core/Ignore.ts"
import { NotSupportedByPeer, SessionClosed } from "../core/MoqError.ts"
import * as SessionUpdate from "../message/SessionUpdate.ts"
import { encode, type MessageStream } from "./MessageStream.ts"
import { News } from "./News.ts"
import type { SessionContext } from "./SessionContext.ts"

/**
 * Hears what the peer says of its rate, and tells it of ours.
 *
 * @internal
 */
export class Bitrate {
  readonly context: SessionContext
  readonly control: MessageStream
  readonly scope: Scope.Scope
  readonly writing: Semaphore.Semaphore
  /** What the peer says. */
  readonly news: News<number | undefined>
  // what the peer was told last, in bits a second; 0 for unknown
  told: number
  constructor(context: SessionContext, control: MessageStream, scope: Scope.Scope) {
    this.context = context
    this.control = control
    this.scope = scope
    this.writing = Semaphore.makeUnsafe(1)
    this.news = new News()
    this.told = 0
  }

  // the peer's

  hear({ bitrate }: SessionUpdate.SessionUpdate): void {
    this.news.tell(bitrate === 0 ? undefined : bitrate)
  }

  // ours

  /** Tells the peer; `undefined` when it is not known. */
  report(bits: number | undefined): Effect.Effect<void, NotSupportedByPeer | SessionClosed> {
    const { profile } = this.context
    if (!profile.sendsSessionUpdate) {
      return Effect.fail(new NotSupportedByPeer({ detail: `${profile.name} has no SESSION_UPDATE` }))
    }
    const message: SessionUpdate.SessionUpdate = { _tag: "SessionUpdate", bitrate: toWire(bits) }
    const tell = Effect.suspend(() => {
      this.told = message.bitrate
      return this.control.send.write([encode(SessionUpdate.encode, message, profile)])
    })
    // not on the fiber of whoever asks: a write that is interrupted would leave half a message
    return Effect.forkIn(this.writing.withPermit(tell), this.scope, { startImmediately: true }).pipe(
      Effect.flatMap(Fiber.join),
      Effect.catchTag(
        "MoqStreamReset",
        ({ code }) => Effect.fail(new SessionClosed({ code, reason: "the session stream was closed", by: "remote" }))
      )
    )
  }

  /** Tells the peer whenever what the transport knows has changed by a tenth; looks as often as `every` says. */
  follow(known: Effect.Effect<number | undefined>, every: Duration.Input): Effect.Effect<void> {
    const look = Effect.flatMap(known, (bits) => {
      const now = toWire(bits)
      const isNews = now === 0 || this.told === 0 ? now !== this.told : Math.abs(now - this.told) * 10 >= this.told
      return isNews ? this.report(bits) : Effect.void
    })
    return Effect.sleep(every).pipe(Effect.andThen(look), Effect.forever, ignore)
  }
}

// internal

const toWire = (bits: number | undefined): number =>
  bits === undefined || !(bits > 0) ? 0 : Math.max(1, Math.min(Number.MAX_SAFE_INTEGER, Math.round(bits)))
