import { Clock, Effect, Fiber, Pull, Stream } from "effect"
import * as Simulator from "../../src/testing/Simulator.ts"
import type { Connection, ReceiveStream, SendStream } from "../../src/transport/Transport.ts"

/** Connects two hosts. */
export const connect = (from: Simulator.Host, to: Simulator.Host) =>
  Effect.gen(function*() {
    const { requests } = yield* to.listen
    const accepting = yield* requests.pipe(
      Stream.mapEffect((request) => request.accept),
      Stream.take(1),
      Stream.runCollect,
      Effect.forkChild
    )
    const client = yield* from.transport.connect(new URL(to.url))
    const [server] = yield* Fiber.join(accepting)
    return { client, server: server! }
  })

/** Two hosts, and a connection between them. */
export const pair = (conditions: { readonly near?: Simulator.Conditions; readonly far?: Simulator.Conditions } = {}) =>
  Effect.gen(function*() {
    const network = yield* Simulator.Network
    const near = yield* network.host("near", conditions.near)
    const far = yield* network.host("far", conditions.far)
    return { network, near, far, ...yield* connect(near, far) }
  })

/** Opens a stream whose first byte has arrived. */
export const open = (from: Connection, to: Connection, priority = 0) =>
  Effect.gen(function*() {
    const send = yield* from.openUni({ priority })
    yield* send.write([Uint8Array.of(0)])
    const receive = yield* to.acceptUni
    yield* receive.pull
    return { send, receive }
  })

/** Reads a stream to its end; gives how many bytes came, and when the last of them. */
export const readAll = (receive: ReceiveStream) =>
  Effect.suspend(() => {
    let bytes = 0
    return Effect.forever(
      Effect.map(receive.pull, (chunks) => {
        for (const chunk of chunks) bytes += chunk.length
      }),
      { disableYield: true }
    ).pipe(
      Pull.catchDone(() => Effect.map(Clock.currentTimeMillis, (at) => ({ bytes, at })))
    )
  })

export const send = (stream: SendStream, bytes: number) =>
  Effect.andThen(stream.write([new Uint8Array(bytes)]), stream.finish)

/** How many milliseconds of virtual time an effect takes. */
export const elapsed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const from = yield* Clock.currentTimeMillis
    yield* effect
    return (yield* Clock.currentTimeMillis) - from
  })
