/**
 * The client side of Node's transports: loads them when they are first needed, and races them.
 *
 * @internal
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { TransportError } from "../core/MoqError.ts"
import type { Bounds } from "../transport/Bounds.ts"
import * as Race from "../transport/Race.ts"
import type { Transport } from "../transport/Transport.ts"
import * as Available from "./Available.ts"

export interface Options {
  /** By default what can be had of `h3` and `websocket`. */
  readonly transports: ReadonlyArray<Available.Name> | undefined
  readonly headStart: Duration.Input | undefined
  readonly limits: Bounds
}

export const make = (options: Options): Transport => {
  const candidate = (name: Available.Name): Race.Candidate => ({
    name,
    connect: (url, connect) =>
      Effect.flatMap(Available.client(name), (client) => client.connect(url, connect ?? {}, options.limits))
  })
  const race = (names: ReadonlyArray<Available.Name>): Transport =>
    Race.make(names.map(candidate), { headStart: options.headStart })
  const webSocket = race(["websocket"])
  let racing = options.transports === undefined ? undefined : race(options.transports)
  const ready: Effect.Effect<Transport> = Effect.suspend(() =>
    racing !== undefined
      ? Effect.succeed(racing)
      : Effect.map(
        Effect.isSuccess(Available.client("h3")),
        (has) => (racing ??= has ? race(["h3", "websocket"]) : webSocket)
      )
  )
  return {
    connect: (url, connect) => {
      if (url.protocol === "https:") return Effect.flatMap(ready, (transport) => transport.connect(url, connect))
      const isRefused = webSocketAlone.has(url.protocol) && options.transports?.includes("websocket") === false
      return isRefused
        ? new TransportError({ detail: `${url.protocol} URLs are for WebSocket alone; use https://${url.host}` })
        // which says what is wrong with any other
        : webSocket.connect(url, connect)
    }
  }
}

// internal

const webSocketAlone = new Set(["wss:", "ws:"])
