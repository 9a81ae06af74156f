/** Compiles the programs that run as processes of their own: Node 20 runs no TypeScript. */
import * as Esbuild from "esbuild"

const folder = new URL(".", import.meta.url).pathname

/** Where they are, by name. */
export const programs: string = new URL("../../node_modules/.cache/hostile/", import.meta.url).pathname

export const setup = async (): Promise<void> => {
  await Esbuild.build({
    entryPoints: ["attacker.ts", "innocents.ts"].map((name) => folder + name),
    outdir: programs,
    entryNames: "[name]",
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    packages: "external",
    logLevel: "warning"
  })
}
