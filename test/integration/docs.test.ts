import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"

const root = new URL("../..", import.meta.url).pathname
const out = join(root, "examples", "build", "docs")

interface Block {
  readonly source: string
  readonly code: string
}

const blocksOf = (source: string, text: string): Array<Block> =>
  Array.from(text.matchAll(/^([ \t]*(?:\* )?)```ts\n([\s\S]*?)^[ \t]*(?:\* )?```/gm), ([, indent, body], index) => ({
    source: `${source}#${index}`,
    code: body!.split("\n").map((line) => line.replace(indent!, "").replace(/^ \*$/, "")).join("\n")
  }))

const files = async (folder: string, ending: string): Promise<Array<string>> =>
  (await readdir(join(root, folder), { recursive: true }))
    .filter((name) => name.endsWith(ending))
    .map((name) => join(folder, name))

describe("documentation", () => {
  it("has only examples that compile", async () => {
    const sources = ["README.md", ...await files("docs", ".md"), ...await files("src", ".ts")]
    const blocks = (await Promise.all(
      sources.map(async (source) => blocksOf(source, await readFile(join(root, source), "utf8")))
    )).flat()
    assert.isAtLeast(blocks.filter((block) => block.source.startsWith("README")).length, 4)
    assert.isAtLeast(blocks.filter((block) => block.source.startsWith("src")).length, 4)
    await rm(out, { recursive: true, force: true })
    await mkdir(out, { recursive: true })
    for (const [index, block] of blocks.entries()) {
      await writeFile(join(out, `example${index}.ts`), `// ${block.source}\n${block.code}\nexport {}\n`)
    }
    const config = {
      extends: "../../../tsconfig.json",
      compilerOptions: {
        noUnusedLocals: false,
        incremental: false,
        tsBuildInfoFile: null
      },
      include: ["./*.ts"],
      exclude: []
    }
    await writeFile(join(out, "tsconfig.json"), JSON.stringify(config))
    const tsc = join(root, "node_modules", "typescript", "bin", "tsc")
    const result = await promisify(execFile)(process.execPath, [tsc, "-p", out, "--noEmit"]).catch((error) => error)
    const problems = String(result.stdout).replace(
      /\S*example(\d+)\.ts/g,
      (_, index) => blocks[Number(index)]!.source
    )
    assert.strictEqual(problems, "")
  }, 60_000)
})
