/** Runs the plans of many seeds, and tells of the first one that breaks. */
import { assert, it } from "@effect/vitest"
import { Cause, Effect, Exit } from "effect"
import { make, type Plan } from "./plan.ts"
import { run } from "./world.ts"

/** How many plans are run in all: `PROOF` in the environment, 10,000 without. */
export const total = Number(process.env.PROOF ?? 10_000)

/** Runs a plan; a failure names its seed, and what it did. */
export const provePlan = async (plan: Plan): Promise<void> => {
  const exit = await Effect.runPromiseExit(run(plan))
  if (Exit.isSuccess(exit)) return
  const steps = plan.steps.map((step) => JSON.stringify(step)).join("\n")
  const { isTight, network, peers, seed } = plan
  assert.fail(`seed ${seed}: ${Cause.pretty(exit.cause)}\n${JSON.stringify({ peers, isTight, network })}\n${steps}`)
}

/** Half of the plans: those of the odd seeds, or those of the even ones. */
export const half = (first: 1 | 2): void => {
  it(
    `every plan of the seeds ${first}, ${first + 2}, ... ${total} holds`,
    { timeout: 600_000 + total * 200 },
    async () => {
      for (let seed = first; seed <= total; seed += 2) await provePlan(make(seed))
    }
  )
}
