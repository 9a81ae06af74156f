/**
 * Rules of what a transport does for functions rather than fibers, where it has the members: what its Effects do.
 *
 * @internal
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { SessionClosed, StreamReset } from "../../core/MoqError.ts"
import type { BiStream, Connection, Listener, ReceiveStream, SendStream } from "../../transport/Transport.ts"
import { backpressure } from "./FlowRules.ts"
import { scopeFailsAll } from "./LifetimeRules.ts"
import * as Rule from "./Rule.ts"
import * as StreamRules from "./StreamRules.ts"

/** Makes Effects of the members that take functions, in place of those that the connection and its streams have. */
const byFunctions = (inner: Connection): Connection => ({
  info: inner.info,
  capabilities: inner.capabilities,
  openBi: inner.onOpenBi === undefined
    ? Effect.map(inner.openBi, both)
    : owned<BiStream>(
      (opened) => inner.onOpenBi!(opened),
      ({ receive, send }) => Effect.andThen(send.reset(0), receive.stop(0)),
      both
    ),
  openUni: (options) =>
    inner.onOpenUni === undefined
      ? Effect.map(inner.openUni(options), sending)
      : owned<SendStream>((opened) => inner.onOpenUni!(options, opened), (send) => send.reset(0), sending),
  acceptBi: Effect.map(inner.acceptBi, both),
  acceptUni: Effect.map(inner.acceptUni, receiving),
  close: inner.close,
  closed: inner.closed,
  ping: inner.ping
})

const owned = <A>(
  open: (opened: (exit: Exit.Exit<A, SessionClosed>) => void) => () => void,
  close: (stream: A) => Effect.Effect<void>,
  use: (stream: A) => A
): Effect.Effect<A, SessionClosed, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(
      restore(Effect.callback<A, SessionClosed>((resume) => Effect.sync(open(resume)))),
      (stream) => Effect.as(Effect.addFinalizer(() => close(stream)), use(stream))
    )
  )

const both = ({ receive, send }: BiStream): BiStream => ({ send: sending(send), receive: receiving(receive) })

const sending = (send: SendStream): SendStream => ({
  write: (chunks) => Effect.suspend(() => send.offer?.(chunks) === true ? Effect.void : send.write(chunks)),
  finish: Effect.suspend(() => send.onFinish === undefined ? send.finish : finishing(send)),
  reset: send.reset,
  setPriority: send.setPriority,
  stopped: send.stopped
})

const receiving = (receive: ReceiveStream): ReceiveStream => ({
  pull: Effect.suspend(() => receive.onPull === undefined ? receive.pull : pulling(receive)),
  stop: receive.stop
})

const finishing = (send: SendStream) =>
  Effect.callback<void, StreamReset | SessionClosed>((resume) => send.onFinish!(resume))

const pulling = (receive: ReceiveStream) =>
  Effect.callback<NonEmptyReadonlyArray<Uint8Array>, StreamReset | SessionClosed | Cause.Done>((resume) =>
    receive.onPull!({
      chunks: (chunks) => {
        resume(Effect.succeed(chunks))
        return false
      },
      end: resume
    })
  )

/** Hears what a stream receives, and wants no more after so many bytes. */
class Ear implements Listener {
  readonly receive: ReceiveStream
  size = 0
  problem: string | undefined
  ended: Exit.Exit<never, StreamReset | SessionClosed | Cause.Done> | undefined
  private readonly expected: Uint8Array
  private enough = 0
  private isListening = false

  constructor(receive: ReceiveStream, expected: Uint8Array) {
    this.receive = receive
    this.expected = expected
  }

  listen(enough: number): void {
    this.enough = enough
    this.isListening = true
    this.receive.onPull!(this)
  }

  chunks(chunks: NonEmptyReadonlyArray<Uint8Array>): boolean {
    if (!this.isListening) this.problem ??= "chunks came that were not asked for"
    if (this.ended !== undefined) this.problem ??= "chunks came after the end"
    chunks.forEach((chunk) => this.chunk(chunk))
    return this.isListening = this.size < this.enough
  }

  chunk(chunk: Uint8Array): void {
    if (chunk.length === 0) this.problem ??= `an empty chunk came at offset ${this.size}`
    const fits = chunk.every((byte, i) => byte === this.expected[this.size + i])
    if (!fits) this.problem ??= `what came at offset ${this.size} is wrong`
    this.size += chunk.length
  }

  end(exit: Exit.Exit<never, StreamReset | SessionClosed | Cause.Done>): void {
    if (!this.isListening) this.problem ??= "the end came that was not asked for"
    if (this.ended !== undefined) this.problem ??= "the end came twice"
    this.isListening = false
    this.ended = exit
  }
}

/** Lets time pass, by what happens on the connection, until something holds. */
const until = ({ client }: Rule.Pair, holds: () => boolean, what: string) =>
  Effect.andThen(
    Rule.step(what),
    Effect.whileLoop({
      while: () => !holds(),
      body: () => Effect.andThen(client.ping, Effect.yieldNow),
      step: () => {}
    })
  )

const checked: ReadonlyArray<Rule.Rule> = [
  ...StreamRules.rulesOfFunctions,
  backpressure,
  scopeFailsAll
]

const sameAsEffects: Rule.Rule = {
  rule: "where streams are opened, written, finished and pulled by functions, those do what the Effects do",
  check: (tools) =>
    Effect.gen(function*() {
      const open = Effect.map(tools.open, ({ client, server }) => ({
        client: byFunctions(client),
        server: byFunctions(server)
      }))
      for (const { check, rule } of checked) {
        yield* Effect.scoped(check({ ...tools, open })).pipe(
          Effect.mapError((error) => new Rule.Violation({ message: `${rule}: ${Rule.show(error)}` }))
        )
      }
    })
}

const takenOrNot: Rule.Rule = {
  rule: "where chunks can be offered, they are taken at once or not at all, and not by a stream that takes no more",
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      yield* Rule.forEachPath(pair, ({ name, receive, send }) =>
        Effect.gen(function*() {
          if (send.offer === undefined) return
          // more than anything takes at once, unless nothing ever blocks a write
          const pieces = Rule.cut(Rule.content(15, 16 * 1024 * 1024), [65_536, 0, 1, 200_000])
          let next = 0
          const piece = () => [new Uint8Array(0), pieces[next]!] as const
          while (next < pieces.length && send.offer(piece())) next++
          yield* Rule.demand(
            !pair.client.capabilities.backpressure || next < pieces.length,
            () => `${name}: everything is taken of a stream that nobody reads`
          )
          const rest = Effect.whileLoop({
            while: () => next < pieces.length,
            body: () => send.write(piece()),
            step: () => {
              next++
            }
          })
          yield* Rule.together(
            Effect.andThen(rest, send.finish),
            Rule.expectContent(receive, { seed: 15, size: 16 * 1024 * 1024 })
          )
          yield* Rule.demand(!send.offer([Rule.content(0, 1)]), () => `${name}: it is taken after the end`)
        }))
      yield* Rule.forEachPath(pair, ({ name, receive, send }) =>
        Effect.gen(function*() {
          if (send.offer === undefined) return
          yield* receive.stop(13)
          yield* Rule.expectReset(
            yield* Rule.failureOf(Effect.forever(send.write([Rule.content(0, 1)]))),
            13,
            pair.client.capabilities,
            name
          )
          yield* Rule.demand(!send.offer([Rule.content(0, 1)]), () => `${name}: it is taken after a stop`)
        }))
    })
}

const finishIsTold: Rule.Rule = {
  rule:
    "where the end of a stream can be heard by a function, it is told once, also when the stream is reset meanwhile",
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      for (const isReset of [false, true]) {
        yield* Rule.forEachPath(pair, ({ name, receive, send }) =>
          Effect.gen(function*() {
            if (send.onFinish === undefined) return
            const told: Array<unknown> = []
            const size = 1024 * 1024
            const writing = yield* Effect.forkChild(send.write([Rule.content(16, size)]))
            yield* Rule.converse(pair, 5)
            // an end that waits, where a write does not
            if (Rule.isSuspended(writing)) {
              yield* Effect.forkChild(Rule.drain(receive, () => {}))
              yield* Fiber.join(writing)
            }
            send.onFinish((exit) => {
              told.push(Rule.failureIn(exit))
            })
            if (isReset) yield* send.reset(13)
            else yield* Effect.forkChild(Effect.ignore(Rule.drain(receive, () => {})))
            yield* until(pair, () => told.length > 0, `${name}: the end, to be told`)
            yield* Rule.converse(pair, 5)
            yield* Rule.demand(told.length === 1, () => `${name}: the end was told ${told.length} times`)
            // it may have had its end before
            if (told[0] === undefined) return
            const { capabilities } = pair.client
            yield* Rule.demand(isReset, () => `${name}: the end failed with ${Rule.show(told[0])}`)
            yield* Rule.expectReset(told[0], 13, { ...capabilities, codes: "any" }, `${name}, finish`)
          }))
      }
    })
}

const openingIsWithdrawn: Rule.Rule = {
  rule: "where streams are opened for a function, an opening that is taken back is not told, and takes no place",
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      const { client, server } = pair
      if (client.onOpenUni === undefined) return
      const { maxStreams } = client.capabilities
      const isFillable = Rule.unfillable(client.capabilities) === undefined
      let told = 0
      const isNotTold = Effect.suspend(() =>
        Rule.demand(told === 0, () => `${told} openings that were taken back were told`)
      )
      const withdraw = (count: number, turns: number) =>
        Effect.gen(function*() {
          for (let i = 0; i < count; i++) {
            let isWithdrawn = false
            let opened: SendStream | undefined
            const takeBack = client.onOpenUni!(undefined, (exit) => {
              if (isWithdrawn) told++
              else if (Exit.isSuccess(exit)) opened = exit.value
            })
            yield* Rule.turns(i % turns)
            takeBack()
            isWithdrawn = true
            if (opened !== undefined) yield* opened.reset(0)
          }
        })
      // a browser cannot call an opening off: it opens the stream, and resets it, and the peer may hear nothing of it
      yield* Effect.forkChild(Effect.forever(Effect.flatMap(
        server.acceptUni,
        (receive) => Effect.forkChild(Effect.ignore(Rule.drain(receive, () => {})))
      )))
      // places may be told of in batches, so that after the first streams not all of them are there
      const fill = Effect.gen(function*() {
        const opened: Array<SendStream> = []
        const opening = Effect.flatMap(client.openUni(), (send) => {
          opened.push(send)
          return send.write([Uint8Array.of(1)])
        })
        const filling = yield* Effect.forkChild(Effect.replicateEffect(opening, maxStreams + 1, { discard: true }))
        const half = `half of ${maxStreams} streams, to be opened after others were over or taken back`
        yield* until(pair, () => opened.length >= maxStreams / 2, half)
        // that there are no more than the declared ones is a rule of its own
        yield* Rule.isStalled(pair, filling, () => opened.length)
        yield* Fiber.interrupt(filling)
        return opened
      })
      yield* withdraw(isFillable ? maxStreams + 1 : 200, 3)
      yield* Rule.step("a stream, to be opened after as many as are allowed were taken back")
      yield* Effect.scoped(Effect.flatMap(client.openUni(), (send) => send.finish))
      yield* Rule.settle(pair)
      if (isFillable) {
        yield* Effect.scoped(Effect.gen(function*() {
          const opened = yield* fill
          yield* withdraw(maxStreams, 1)
          let oneMore: Exit.Exit<SendStream, SessionClosed> | undefined
          client.onOpenUni!(undefined, (exit) => {
            oneMore = exit
          })
          yield* withdraw(maxStreams, 1)
          for (const send of opened) yield* send.finish
          yield* until(pair, () => oneMore !== undefined, "an opening that waited, to be told of its stream")
          yield* (yield* oneMore!).finish
        }))
        yield* Rule.settle(pair)
        yield* isNotTold
        yield* Effect.scoped(fill)
      }
      yield* isNotTold
    })
}

const listenerIsHeard: Rule.Rule = {
  rule:
    "where what arrives is handed to a listener, it comes whole, until it wants no more; then a pull goes on with it",
  check: ({ open }) =>
    Effect.gen(function*() {
      const pair = yield* open
      const content = Rule.content(17, 300_000)
      yield* Rule.forEachPath(pair, ({ name, receive, send }) =>
        Effect.gen(function*() {
          if (receive.onPull === undefined) return
          const ear = new Ear(receive, content)
          const keep = (chunks: NonEmptyReadonlyArray<Uint8Array>) => chunks.forEach((chunk) => ear.chunk(chunk))
          const writing = Effect.forEach(
            Rule.cut(content, [1, 1_000, 40_000]),
            (piece) => Effect.andThen(send.write([new Uint8Array(0), piece]), Effect.yieldNow),
            { discard: true }
          )
          const sent = yield* Effect.forkChild(Effect.andThen(writing, send.finish))
          while (ear.ended === undefined && ear.size < content.length) {
            const enough = ear.size + 30_000
            ear.listen(enough)
            yield* until(pair, () => ear.size >= enough || ear.ended !== undefined, `${name}: more, to be heard`)
            if (ear.ended === undefined && ear.size < content.length) keep(yield* receive.pull)
          }
          if (ear.ended === undefined) ear.listen(Infinity)
          yield* until(pair, () => ear.ended !== undefined, `${name}: the end, to be heard`)
          yield* Fiber.join(sent)
          yield* Rule.demand(ear.problem === undefined, () => `${name}: ${ear.problem}`)
          yield* Rule.demand(ear.size === content.length, () => `${name}: ${ear.size} of ${content.length} bytes came`)
          const end = Rule.failureIn(ear.ended!)
          yield* Rule.demand(Cause.isDone(end), () => `${name}: the end was ${Rule.show(end)}`)
        }))
      yield* Rule.forEachPath(pair, ({ name, receive }) =>
        Effect.gen(function*() {
          if (receive.onPull === undefined) return
          const ear = new Ear(receive, content)
          ear.listen(Infinity)
          yield* receive.stop(13)
          yield* until(pair, () => ear.ended !== undefined, `${name}: the end by a stop from here, to be heard`)
          yield* Rule.converse(pair, 3)
          yield* Rule.demand(ear.problem === undefined, () => `${name}: ${ear.problem}`)
          const { capabilities } = pair.client
          yield* Rule.expectReset(Rule.failureIn(ear.ended!), 13, { ...capabilities, codes: "any" }, name)
        }))
    })
}

export const rules: ReadonlyArray<Rule.Rule> = [
  sameAsEffects,
  takenOrNot,
  finishIsTold,
  openingIsWithdrawn,
  listenerIsHeard
]
