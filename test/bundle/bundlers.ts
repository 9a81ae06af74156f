import * as Esbuild from "esbuild"
import { builtinModules } from "node:module"
import { join } from "node:path"
import { gzipSync } from "node:zlib"
import * as Vite from "vite"

export const folder: string = new URL(".", import.meta.url).pathname

/** A page as a bundler makes it, with its defaults but for code splitting and minifying, which Vite does by itself. */
export interface Bundle {
  readonly bundler: string
  readonly chunks: ReadonlyArray<Chunk>
  /** Modules of Node that a chunk asks for. */
  readonly nodeModules: ReadonlyArray<string>
}

/** One file of JavaScript. */
export interface Chunk {
  readonly name: string
  /** Whether it is loaded only on demand. */
  readonly isLate: boolean
  /** Bytes after `gzip -9`. */
  readonly size: number
  readonly modules: ReadonlyArray<string>
}

const sizeOf = (code: string | Uint8Array): number => gzipSync(code, { level: 9 }).length

const isOfNode = (id: string): boolean => id.startsWith("node:") || builtinModules.includes(id)

/** What is loaded with an entry, itself included. */
const atOnce = (entry: string, importsOf: (name: string) => ReadonlyArray<string>): ReadonlySet<string> => {
  const names = new Set([entry])
  for (const name of names) for (const imported of importsOf(name)) names.add(imported)
  return names
}

export const esbuild = async (): Promise<Bundle> => {
  const { metafile, outputFiles } = await Esbuild.build({
    entryPoints: [join(folder, "page.ts")],
    absWorkingDir: folder,
    bundle: true,
    splitting: true,
    minify: true,
    format: "esm",
    outdir: "out",
    metafile: true,
    write: false,
    logLevel: "silent",
    // so that a chunk that needs them can be told, rather than fail
    external: builtinModules.flatMap((id) => [id, `node:${id}`]),
    // the package by its exports, not through the paths of this repository
    tsconfigRaw: {}
  })
  const { outputs } = metafile
  const entry = Object.keys(outputs).find((name) => outputs[name]!.entryPoint === "page.ts")!
  const start = atOnce(
    entry,
    (name) =>
      outputs[name]!.imports.flatMap(({ external, kind, path }) =>
        kind === "import-statement" && external !== true ? path : []
      )
  )
  return {
    bundler: "esbuild",
    chunks: outputFiles.map(({ contents, path }) => {
      const name = path.slice(folder.length)
      return { name, isLate: !start.has(name), size: sizeOf(contents), modules: Object.keys(outputs[name]!.inputs) }
    }),
    nodeModules: Object.values(outputs).flatMap(({ imports }) =>
      imports.flatMap(({ external, path }) => external === true && isOfNode(path) ? path : [])
    )
  }
}

export const vite = async (): Promise<Bundle> => {
  const built = await Vite.build({ root: folder, configFile: false, logLevel: "silent", build: { write: false } })
  if (Array.isArray(built) || !("output" in built)) throw new Error("one bundle was expected")
  const chunks = built.output.filter((output) => output.type === "chunk")
  const entry = chunks.find((chunk) => chunk.isEntry)!
  const start = atOnce(
    entry.fileName,
    (name) => chunks.flatMap(({ fileName, imports }) => fileName === name ? imports : [])
  )
  return {
    bundler: "vite",
    chunks: chunks.map(({ code, fileName, moduleIds }) => ({
      name: fileName,
      isLate: !start.has(fileName),
      size: sizeOf(code),
      modules: moduleIds
    })),
    // it puts an empty module in place of one of Node
    nodeModules: chunks.flatMap(({ moduleIds }) => moduleIds.filter((id) => id.includes("browser-external")))
  }
}
