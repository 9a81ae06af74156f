import * as Memory from "../../src/transport/Memory.ts"
import { e2eSuite } from "../fixtures/e2e.ts"

e2eSuite("end to end in memory", Memory.layer, false)
e2eSuite(
  "end to end in memory, small windows and few streams",
  Memory.layerWith({ window: 1024, maxStreams: 100 }),
  false
)
