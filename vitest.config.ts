import { availableParallelism } from "node:os"
import { defineConfig } from "vitest/config"

// vitest 5 prints failures with Map.groupBy, which Node 20 lacks
const map = Map as unknown as { groupBy?: unknown }
map.groupBy ??= <K, T>(items: Iterable<T>, keyOf: (item: T, index: number) => K): Map<K, Array<T>> => {
  const groups = new Map<K, Array<T>>()
  let index = 0
  for (const item of items) {
    const key = keyOf(item, index++)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [item])
    else group.push(item)
  }
  return groups
}

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // they need more than Node and npm, or a while: npm run test:h3, test:browser, bundle, test:hostile
    // most of them wait more than they work, also where there are only two cores
    maxWorkers: Math.max(2, availableParallelism() - 1),
    exclude: ["test/h3/**", "test/browser/**", "test/bundle/**", "test/hostile/**"]
  }
})
