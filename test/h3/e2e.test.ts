import { Layer } from "effect"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import { e2eSuite } from "../fixtures/e2e.ts"

const server = NodeTransport.layerServer({
  port: 0,
  tls: { generate: ["localhost", "127.0.0.1", "::1"] },
  transports: ["h3"]
})

e2eSuite("end to end over native HTTP/3", Layer.merge(NodeTransport.layerWith({ transports: ["h3"] }), server), true)
