import { describe } from "@effect/vitest"
import { half } from "./prove.ts"

describe("the proof", () => half(2))
