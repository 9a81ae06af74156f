// Writes what was measured into docs/performance.md, between its markers, and the chart beside it.
import fs from "node:fs"
import path from "node:path"
import { chart } from "./chart.mjs"
import { bench } from "./setup.mjs"
import { machineLine, ratiosTable, valuesTable } from "./table.mjs"

const docs = path.join(bench, "../docs")

export function writeDocs(results) {
  const file = path.join(docs, "performance.md")
  const parts = {
    machine: machineLine(results),
    ratios: ratiosTable(results.rows),
    values: valuesTable(results.rows)
  }
  let text = fs.readFileSync(file, "utf8")
  for (const [name, part] of Object.entries(parts)) {
    const between = new RegExp(`(<!-- bench:${name} -->\n)[^]*?(\n<!-- /bench:${name} -->)`)
    if (!between.test(text)) throw new Error(`${file} has no place for ${name}`)
    text = text.replace(between, (_, begin, end) => `${begin}\n${part}\n${end}`)
  }
  fs.writeFileSync(file, text)
  fs.writeFileSync(path.join(docs, "performance.svg"), chart(results.rows, machineLine(results)))
  return file
}
