import { Effect, Layer } from "effect"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import { TransportServer } from "../../src/transport/Transport.ts"
import { e2eSuite } from "../fixtures/e2e.ts"

const serverOf = (name: NodeTransport.Name) =>
  NodeTransport.layerServer({
    port: 0,
    tls: { generate: ["localhost", "127.0.0.1", "::1"] },
    transports: [name]
  })

const over = (name: NodeTransport.Name) => Layer.merge(NodeTransport.layerWith({ transports: [name] }), serverOf(name))

// the same server, reached without TLS
const plain = Layer.effect(
  TransportServer,
  Effect.map(TransportServer, (bound) => ({
    ...bound,
    fingerprint: undefined,
    urls: [`ws://127.0.0.1:${new URL(bound.urls[0]!).port}`]
  }))
).pipe(Layer.provide(serverOf("websocket")))

e2eSuite("end to end over WebSocket and TLS", over("websocket"), true)
e2eSuite("end to end over WebSocket on loopback", Layer.merge(NodeTransport.layer, plain), true)
e2eSuite("end to end over HTTP/2", over("h2"), true)
