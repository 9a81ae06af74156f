/**
 * One FETCH of the peer, being served.
 *
 * @since 0.1.0
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { ignore } from "../core/Ignore.ts"
import type { MoqError } from "../core/MoqError.ts"
import type { Fetch } from "../message/Fetch.ts"
import * as FetchUpdate from "../message/FetchUpdate.ts"
import type { MessageStream } from "./MessageStream.ts"
import { dropped } from "./Monitor.ts"
import { Outgoing } from "./Outgoing.ts"
import * as Rank from "./Rank.ts"
import type { Sending } from "./Sending.ts"
import type { Lane } from "./SendQueue.ts"
import { linger, type PublisherContext } from "./SessionContext.ts"

/**
 * Sends one group on the stream that asked for it: its frames, from the first one wanted on, and then the end.
 *
 * The subscriber's FIN means that no more updates follow, not that it has lost interest: it may come right after FETCH.
 * STOP_SENDING, and a reset, end the reply.
 *
 * @internal
 */
export class FetchServing {
  readonly context: PublisherContext
  readonly sending: Sending
  readonly stream: MessageStream
  readonly message: Fetch
  readonly lane: Lane<Outgoing>
  readonly done: Deferred.Deferred<void>
  hasFinished: boolean
  constructor(context: PublisherContext, sending: Sending, stream: MessageStream, message: Fetch) {
    this.context = context
    this.sending = sending
    this.stream = stream
    this.message = message
    this.lane = sending.queue.lane(message.priority, true)
    this.done = Deferred.makeUnsafe()
    this.hasFinished = false
  }

  /** Sends the group, and waits for a while until the peer has it all. */
  get run(): Effect.Effect<void, MoqError> {
    return Effect.raceAllFirst([
      Effect.as(this.send, true),
      Effect.andThen(this.readUpdates, Effect.never),
      Effect.as(this.stream.send.stopped, false)
    ]).pipe(
      Effect.flatMap((isSent) => isSent ? this.acknowledged : Effect.void),
      Effect.ensuring(Effect.sync(() => Deferred.doneUnsafe(this.done, Exit.void)))
    )
  }

  /** Suspends until the group has been sent. */
  get drain(): Effect.Effect<void> {
    return Deferred.await(this.done)
  }

  get send(): Effect.Effect<void, MoqError> {
    const { frame, group, path, priority } = this.message
    const { router } = this.context
    return Effect.scoped(
      Effect.flatMap(
        router.fetch(path, group, { frame, priority }),
        (group) =>
          Effect.callback<void, MoqError>((resume) => {
            const { lane, sending } = this
            const outgoing = new Outgoing(sending, lane, group, {
              fiber: Fiber.getCurrent()!,
              rank: () => {},
              sent: ({ code }, exit) => {
                if (code !== undefined) {
                  dropped(this.context.monitor, "sent", code, 1)
                }
                resume(exit)
              }
            }, this.stream.send)
            sending.queue.add(outgoing)
            this.rank(outgoing)
            outgoing.go()
            // whoever interrupts it ends the stream
            return Effect.sync(() => outgoing.leave())
          })
      )
    )
  }

  rank(outgoing: Outgoing): void {
    if (!this.context.connection.capabilities.priority) return
    const change = outgoing.setRank(Rank.of(this.lane.priority, 0))
    if (change !== undefined) this.context.fibers.fork(change)
  }

  get readUpdates(): Effect.Effect<void, MoqError> {
    return Effect.gen({ self: this }, function*() {
      while (true) {
        // where there is none, only the end can come
        const update = this.context.profile.fetchUpdate
          ? yield* this.stream.read(FetchUpdate.decode, this.context.profile)
          : yield* this.stream.finished
        if (update === undefined) break
        this.sending.queue.update(this.lane, update.priority, true)
        this.sending.wakeNext()
        for (const outgoing of this.lane.entries) this.rank(outgoing)
      }
      this.hasFinished = true
    })
  }

  // as for a subscription: then it is safe to close the session
  get acknowledged(): Effect.Effect<void> {
    const left = this.hasFinished ? Effect.never : ignore(this.readUpdates)
    const wait = this.hasFinished ? linger : this.context.limits.drain
    return Effect.asVoid(
      Effect.timeoutOption(Effect.raceFirst(left, Effect.asVoid(this.stream.send.stopped)), wait)
    )
  }
}
