/** A process that attacks as its parent says, and tells what it has seen. */
import type { Target } from "./Attack.ts"
import { attacks } from "./attacks/index.ts"
import type { End } from "./Peer.ts"

interface Order {
  readonly name: string
  readonly target: Target
  /** It goes on, again and again, for so many milliseconds at least. */
  readonly atLeast: number
}

const attack = async ({ atLeast, name, target }: Order): Promise<ReadonlyArray<End>> => {
  const until = performance.now() + atLeast
  const ends: Array<End> = []
  do {
    ends.push(...await attacks[name]!.run(target))
  } while (performance.now() < until)
  return ends
}

process.on("message", (order: Order) => {
  attack(order).then(
    (ends) => process.send!({ ends }),
    (error: unknown) => process.send!({ ends: [`failed: ${String(error)}`] })
  )
})
process.on("disconnect", () => process.exit())
