import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"

const read = (path: string): string => readFileSync(new URL(path, import.meta.url), "utf8")

const matrix = read("../docs/protocol-status.md")

describe("docs/protocol-status.md", () => {
  it("names tests and modules that exist", () => {
    const named = Array.from(matrix.matchAll(/`([\w/]+\.test\.ts)`: "([^"]+)"/g))
    assert.isAbove(named.length, 50)
    for (const [, file, title] of named) {
      assert.isTrue(read(file!).includes(title!), `${file} has no test "${title}"`)
    }
    for (const [, module] of matrix.matchAll(/`((?:core|coding|message|model|session|relay)\/[A-Z]\w+)`/g)) {
      assert.isAbove(read(`../src/${module}.ts`).length, 0)
    }
  })

  it("has a line for each of the 36 requirements, each with a test or a word why not", () => {
    const rows = matrix.split("\n").filter((line) => /^\|\s+\d+\s+\|/.test(line)).map((line) => line.split("|"))
    assert.deepStrictEqual(rows.map((cells) => Number(cells[1])), Array.from({ length: 36 }, (_, index) => index + 1))
    for (const cells of rows) {
      const isTested = cells[5]!.includes(".test.ts")
      assert.isTrue(isTested || /not (spoken|yet)/.test(cells[4]!), cells.join("|"))
    }
  })
})
