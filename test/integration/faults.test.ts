import * as network from "../node/fixtures/network.ts"
import { suite } from "./faults.ts"

const limits = { idleTimeout: "2 seconds" } as const

suite("websocket", { limits, network: network.tcp, outer: 60_000 })
suite("h2", { limits, network: network.tcp, outer: 60_000 })
