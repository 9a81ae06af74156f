/** The stream of one group, ended in every state that it can be in, on transports with and without direct members. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber } from "effect"
import { Fibers } from "../../src/core/Fibers.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as Group from "../../src/model/Group.ts"
import * as Limits from "../../src/session/Limits.ts"
import * as Monitor from "../../src/session/Monitor.ts"
import { Outgoing } from "../../src/session/Outgoing.ts"
import { Sending } from "../../src/session/Sending.ts"
import { Entry } from "../../src/session/SendQueue.ts"
import type { PublisherContext } from "../../src/session/SessionContext.ts"
import type { SendStream } from "../../src/transport/Transport.ts"
import { bytes, settle } from "./sessions.ts"

/** A group that is sent over a transport on which nothing goes on before `next` is called. */
const stage = (isDirect: boolean, maxStreams = 10, offer = () => false) =>
  Effect.gen(function*() {
    const log: Array<string> = []
    // what the transport has still to do
    const due: Array<() => void> = []
    const gate = Effect.callback<void>((resume) => {
      due.push(() => resume(Effect.void))
    })
    const stream: SendStream = {
      write: (chunks) => {
        log.push(`write ${chunks.reduce((sum, { length }) => sum + length, 0)}`)
        return gate
      },
      finish: gate,
      reset: (code) => Effect.sync(() => log.push(`reset ${code}`)),
      setPriority: () => Effect.void,
      stopped: Effect.never,
      ...(isDirect ?
        {
          offer,
          onFinish: (finished) => due.push(() => finished(Exit.void))
        } :
        {})
    }
    let held = 0
    const connection = {
      capabilities: { codes: "any", maxStreams, priority: false },
      openUni: () =>
        Effect.gen(function*() {
          held++
          yield* Effect.addFinalizer(() => Effect.sync(() => held--))
          yield* gate
          return stream
        }),
      ...(isDirect ?
        {
          onOpenUni: (_: unknown, opened: (exit: Exit.Exit<SendStream>) => void) => {
            let isWanted = true
            due.push(() => isWanted && opened(Exit.succeed(stream)))
            return () => isWanted = false
          }
        } :
        {})
    }
    const context = {
      connection,
      profile: Profile.draft03,
      limits: Limits.defaults,
      monitor: Monitor.none,
      clock: yield* Clock.Clock,
      fibers: yield* Fibers.make
    } as unknown as PublisherContext
    const sending = new Sending(context, Fiber.getCurrent()!)
    const lane = sending.queue.lane<Outgoing>(0, true)
    const group = Group.makeUnsafe(7)
    const outgoing = new Outgoing(sending, lane, group.group, {
      fiber: Fiber.getCurrent()!,
      rank: () => {},
      sent: ({ code }, { _tag }) => log.push(`sent ${_tag} ${code}`)
    }, Uint8Array.of(0, 1, 7))
    sending.queue.add(outgoing)
    /** One thing that the transport has to do is done. */
    const next = Effect.andThen(Effect.sync(() => due.shift()!()), settle)
    return { due, group, held: () => held, lane, log, next, outgoing, sending }
  })

type Stage = Effect.Success<ReturnType<typeof stage>>

const write = ({ group }: Stage) => group.writeFrameUnsafe(bytes("abcd"))

/** Brings it into a state. */
const states: Record<string, (on: Stage) => Effect.Effect<unknown>> = {
  "waits for bytes": ({ outgoing }) => Effect.sync(() => outgoing.go()),
  "waits for its turn": (on) =>
    Effect.sync(() => {
      const { lane, outgoing, sending } = on
      // held against it by another one
      sending.queue.request(new Entry(lane, 0) as Outgoing, 1024 * 1024, 0)
      write(on)
      outgoing.go()
      assert.strictEqual(outgoing.state, "waiting")
    }),
  "waits for a place": (on) =>
    Effect.sync(() => {
      write(on)
      on.outgoing.go()
      assert.isFalse(on.outgoing.isOpen)
    }),
  "waits for its stream": (on) =>
    Effect.sync(() => {
      write(on)
      on.outgoing.go()
      assert.strictEqual(on.due.length, 1)
    }),
  "is being written": (on) => Effect.andThen(states["waits for its stream"]!(on), on.next),
  "waits for more": (on) => Effect.andThen(states["is being written"]!(on), on.next),
  "is finishing": (on) =>
    Effect.gen(function*() {
      yield* states["waits for its stream"]!(on)
      on.group.finishUnsafe()
      yield* on.next
      yield* on.next
      assert.isTrue(on.outgoing.isFinishing)
    })
}

const withStream = new Set(["is being written", "waits for more", "is finishing"])

describe.each([true, false])("Outgoing, direct: %s", (isDirect) => {
  for (const [state, enter] of Object.entries(states)) {
    const entered = Effect.gen(function*() {
      const on = yield* stage(isDirect, state === "waits for a place" ? 0 : 10)
      yield* enter(on)
      yield* settle
      return on
    })
    const isEmpty = (on: Stage) =>
      Effect.gen(function*() {
        const before = [...on.log]
        const pending = state === "waits for its turn" ? 1 : 0
        assert.deepStrictEqual([on.sending.queue.pending, on.sending.queue.waiting, on.lane.entries.length], [
          pending,
          0,
          0
        ])
        assert.strictEqual(Group.bodyOf(on.group.group).readers, 0)
        assert.isTrue(Group.isTaken(on.group.group))
        assert.strictEqual(on.held(), 0)
        // what the transport does, and what comes of the group, is of no use any more
        while (on.due.length > 0) yield* on.next
        write(on)
        on.group.finishUnsafe()
        yield* settle
        assert.deepStrictEqual(on.log, before)
        assert.strictEqual(on.held(), 0)
      })

    it.effect(`${state}: dropped, its stream is reset with that code, and its owner hears of it once`, () =>
      Effect.gen(function*() {
        const on = yield* entered
        const before = on.log.length
        on.outgoing.drop(13)
        on.outgoing.drop(14)
        yield* settle
        assert.deepStrictEqual(
          on.log.slice(before),
          [...(withStream.has(state) ? ["reset 13"] : []), "sent Failure 13"]
        )
        yield* isEmpty(on)
      }).pipe(Effect.scoped))

    it.effect(`${state}: left, its owner hears nothing, and has its stream to reset`, () =>
      Effect.gen(function*() {
        const on = yield* entered
        const before = on.log.length
        on.outgoing.leave()
        if (on.outgoing.reset !== undefined) yield* on.outgoing.reset
        assert.deepStrictEqual(on.log.slice(before), withStream.has(state) ? ["reset 0"] : [])
        yield* isEmpty(on)
      }).pipe(Effect.scoped))
  }

  it.effect("a transport that takes at once what it has just not taken is asked once for each write", () =>
    Effect.gen(function*() {
      let asked = 0
      const on = yield* stage(isDirect, 10, () => ++asked % 2 === 0)
      yield* states["is finishing"]!(on)
      yield* on.next
      assert.deepStrictEqual(on.log, ["write 8", "sent Success undefined"])
      assert.isAtMost(asked, 1)
    }).pipe(Effect.scoped))

  it.effect("sent to its end", () =>
    Effect.gen(function*() {
      const on = yield* stage(isDirect)
      yield* states["is finishing"]!(on)
      yield* on.next
      assert.deepStrictEqual(on.log, ["write 8", "sent Success undefined"])
      assert.strictEqual(Group.bodyOf(on.group.group).readers, 0)
      assert.strictEqual(on.held(), 0)
    }).pipe(Effect.scoped))
})
