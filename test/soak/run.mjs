// npm run soak [-- --minutes N] [--out DIR]: compiles the two programs of the soak, and runs the one with the relay.
import * as Esbuild from "esbuild"
import { spawn } from "node:child_process"

const folder = new URL(".", import.meta.url).pathname
const out = new URL("../../node_modules/.cache/soak/", import.meta.url).pathname

await Esbuild.build({
  entryPoints: [`${folder}soak.ts`, `${folder}crowd.ts`],
  outdir: out,
  outExtension: { ".js": ".mjs" },
  bundle: true,
  platform: "node",
  format: "esm",
  packages: "external",
  logLevel: "warning"
})
const soak = spawn(process.execPath, ["--expose-gc", `${out}soak.mjs`, ...process.argv.slice(2)], { stdio: "inherit" })
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => soak.kill(signal))
soak.on("exit", (code) => process.exit(code ?? 1))
