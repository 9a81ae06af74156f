import { Effect } from "effect"
import * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import { Transport } from "../../src/transport/Transport.ts"

/** Two sessions over memory, each the peer of the other. */
export const pair = (client?: Session.Options, server?: Session.Options, memory?: Memory.Options) =>
  Effect.gen(function*() {
    const [left, right] = yield* Memory.pair(memory)
    const [a, b] = yield* Effect.all([
      Effect.provideService(Session.connect("https://localhost", client), Transport, {
        connect: () => Effect.succeed(left)
      }),
      Session.accept(right, server)
    ], { concurrency: 2 })
    return { client: a, server: b, connections: [left, right] as const }
  })

/** Lets everything happen that can happen without the clock moving. */
export const settle = Effect.yieldNow.pipe(Effect.repeat({ times: 200 }), Effect.asVoid)
