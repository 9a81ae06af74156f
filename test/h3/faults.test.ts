import { suite } from "../integration/faults.ts"
import * as network from "../node/fixtures/network.ts"

suite("h3", { network: network.udp, concurrent: true, outer: 180_000 })
