/**
 * What the two sides of a session tell each other of the rate at which they can send.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { NotSupportedByPeer, SessionClosed, type StreamReset } from "../core/MoqError.ts"
import { Turns } from "../core/Turns.ts"
import * as SessionUpdate from "../message/SessionUpdate.ts"
import { encode, type MessageStream } from "./MessageStream.ts"
import { News } from "./News.ts"
import { closedHere } from "./Requests.ts"
import type { SessionContext } from "./SessionContext.ts"

/**
 * Hears what the peer says of its rate, and tells it of ours.
 *
 * @internal
 */
export class Bitrate {
  readonly context: SessionContext
  readonly control: MessageStream
  // few ever report anything
  writing: Turns | undefined
  /** What the peer says. */
  readonly news: News<number | undefined>
  // what the peer was told last, in bits a second; 0 for unknown
  told: number
  constructor(context: SessionContext, control: MessageStream) {
    this.context = context
    this.control = control
    this.writing = undefined
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
    const writing = this.writing ??= new Turns()
    const tell = Effect.suspend(() => {
      this.told = message.bitrate
      return this.control.send.write([encode(SessionUpdate.encode, message, profile)])
    })
    // not on the fiber of whoever asks: a write that is interrupted would leave half a message
    const reported = Effect.callback<void, StreamReset | SessionClosed>((resume) => {
      const fiber = this.context.fibers.fork(writing.take(tell))
      if (fiber === undefined) resume(Effect.fail(closedHere))
      else fiber.addObserver(resume)
    })
    return Effect.mapError(
      reported,
      (error) =>
        error._tag === "MoqStreamReset"
          ? new SessionClosed({ code: error.code, reason: "the session stream was closed", by: "remote" })
          : error
    )
  }

  /**
   * Tells the peer whenever what the transport knows has changed by a tenth; looks as often as the peer is asked for a sign
   * of life.
   */
  follow(known: Effect.Effect<number | undefined>): Effect.Effect<never, NotSupportedByPeer | SessionClosed> {
    const look = Effect.flatMap(known, (bits) => {
      const now = toWire(bits)
      const isNews = now === 0 || this.told === 0 ? now !== this.told : Math.abs(now - this.told) * 10 >= this.told
      return isNews ? this.report(bits) : Effect.void
    })
    return Effect.sleep(this.context.limits.keepAlive).pipe(Effect.andThen(look), Effect.forever)
  }
}

// internal

const toWire = (bits: number | undefined): number =>
  bits === undefined || !(bits > 0) ? 0 : Math.max(1, Math.min(Number.MAX_SAFE_INTEGER, Math.round(bits)))
