import { Effect, Layer } from "effect"
import * as Http3Client from "../../src/node/Http3Client.ts"
import { Transport, TransportServer } from "../../src/transport/Transport.ts"
import { e2eSuite } from "../fixtures/e2e.ts"
import * as peers from "./peers.ts"

const server = Layer.effect(TransportServer, Effect.suspend(() => peers.server()))
const client = Layer.succeed(Transport)({ connect: Http3Client.connect })

e2eSuite("end to end over native HTTP/3", Layer.merge(client, server), true)
