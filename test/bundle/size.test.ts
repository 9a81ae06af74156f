/**
 * What a browser loads of a page that subscribes, publishes, announces and fetches, Effect included. The package is taken
 * as it is built (`npm run build`), through its exports.
 */
import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { access } from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"
import { type Bundle, type Chunk, esbuild, folder, vite } from "./bundlers.ts"

// in bytes
const mostAtStart = 60_000
const mostWithFallback = 75_000

const root = join(folder, "..", "..")

const sum = (chunks: ReadonlyArray<Chunk>): number => chunks.reduce((total, { size }) => total + size, 0)

const has = (chunks: ReadonlyArray<Chunk>, module: string): boolean =>
  chunks.some(({ modules }) => modules.some((id) => id.includes(module)))

const row = (name: string, ...cells: ReadonlyArray<string | number>): string =>
  name.padEnd(10) + cells.map((cell) => cell.toLocaleString("en").padStart(16)).join("")

const check = async (make: () => Promise<Bundle>): Promise<void> => {
  const { bundler, chunks, nodeModules } = await make()
  const start = chunks.filter(({ isLate }) => !isLate)
  console.log(row("gzip -9", "at the start", "with WebSocket"))
  console.log(row(bundler, sum(start), sum(chunks)))
  assert.deepStrictEqual(nodeModules, [])
  // it is the whole page, and the built package
  for (const module of ["dist/session/Serving.js", "dist/session/Fetching.js", "dist/browser/NativeWebTransport.js"]) {
    assert.isTrue(has(start, module), module)
  }
  // what few pages need comes later, or never
  assert.isFalse(has(start, "dist/transport/QmuxSession.js"), "QMux at the start")
  assert.isTrue(has(chunks, "dist/transport/QmuxSession.js"), "no QMux at all")
  assert.isFalse(has(chunks, "effect/dist/Schema"), "Schema, of which a session needs nothing")
  assert.isAtMost(sum(start), mostAtStart)
  assert.isAtMost(sum(chunks), mostWithFallback)
}

describe("a page", () => {
  it("is typed by what the package says of itself", async () => {
    await access(join(root, "dist", "index.js")).catch(() => assert.fail("not built: npm run build"))
    const tsc = join(root, "node_modules", "typescript", "bin", "tsc")
    const result = await promisify(execFile)(process.execPath, [tsc, "-p", folder]).catch((error) => error)
    assert.strictEqual(result.stdout, "")
  })

  it("is small with esbuild", () => check(esbuild))

  it("is small with Vite", () => check(vite))
})
