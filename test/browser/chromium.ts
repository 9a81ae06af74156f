/**
 * A real Chromium with pages that run this library as users get it: built, resolved through the `exports` of the package,
 * bundled by esbuild with a chunk of its own for what is imported dynamically.
 */
import { Context, Effect, Layer, type Scope } from "effect"
import * as Esbuild from "esbuild"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { type Browser, chromium } from "playwright-core"
import { executable } from "./executable.ts"
import type { Failure, Outcome, Scenarios } from "./page/main.ts"

/** The browser, and where its pages come from. */
export class Chromium extends Context.Service<Chromium, {
  readonly browser: Browser
  readonly origin: string
  /** The file with the code for WebSocket. */
  readonly webSocketChunk: string
}>()("test/browser/Chromium") {}

const path = fileURLToPath(new URL("page/main.ts", import.meta.url))

const bundle = Effect.promise(async () => {
  const { metafile, outputFiles } = await Esbuild.build({
    entryPoints: [path],
    bundle: true,
    splitting: true,
    minify: true,
    format: "esm",
    target: "es2022",
    outdir: "/page",
    metafile: true,
    write: false,
    // not through the paths of this repository
    tsconfigRaw: {}
  })
  const files = new Map(outputFiles.map((file) => [file.path, file.contents]))
  const chunk = Object.entries(metafile.outputs).find(([, output]) =>
    Object.keys(output.inputs).some((input) => input.endsWith("dist/browser/WebSocketSession.js"))
  )
  if (chunk === undefined) throw new Error("there is no code for WebSocket in the bundle")
  return { files, webSocketChunk: join("/", chunk[0].slice(chunk[0].indexOf("page/"))) }
})

const serve = (files: ReadonlyMap<string, Uint8Array>) =>
  Effect.acquireRelease(
    Effect.callback<Http.Server>((resume) => {
      const server = Http.createServer((request, response) => {
        const file = files.get(request.url ?? "")
        response.setHeader("content-type", file === undefined ? "text/html" : "text/javascript")
        response.end(
          file ?? "<!doctype html><link rel=icon href=data:,><script type=module src=/page/main.js></script>"
        )
      })
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.sync(() => {
        server.closeAllConnections()
        server.close()
      })
  )

const launch = (args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.promise(() =>
      chromium.launch({
        executablePath: executable,
        args: [
          ...process.getuid?.() === 0 ? ["--no-sandbox"] : [],
          "--no-first-run",
          "--disable-background-networking",
          "--disable-component-update",
          "--disable-sync",
          ...args
        ]
      })
    ),
    (browser) => Effect.promise(() => browser.close())
  )

export const make = (args: ReadonlyArray<string> = []): Effect.Effect<Chromium["Service"], never, Scope.Scope> =>
  Effect.gen(function*() {
    const { files, webSocketChunk } = yield* bundle
    const server = yield* serve(files)
    const browser = yield* launch(args)
    return { browser, origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, webSocketChunk }
  })

export const layer: Layer.Layer<Chromium> = Layer.effect(Chromium)(make())

/** What a page asks of the test that has opened it, by name. */
export type Answers = Readonly<Record<string, (value: never) => Effect.Effect<unknown, unknown>>>

/** Opens a page that runs the scenarios of `page/main.ts`. It closes with the scope, as when somebody closes the tab. */
export const open = Effect.fnUntraced(function*(answers: Answers = {}) {
  const { browser, origin } = yield* Chromium
  const page = yield* Effect.acquireRelease(
    Effect.promise(() => browser.newPage()),
    (page) => Effect.promise(() => page.close())
  )
  const requests: Array<string> = []
  page.on("request", (request) => requests.push(new URL(request.url()).pathname))
  page.on("pageerror", (error) => requests.push(`error: ${error.message}`))
  yield* Effect.promise(() =>
    page.exposeFunction(
      "ask",
      (name: string, value: never) => Effect.runPromise(Effect.asVoid(answers[name]!(value)))
    )
  )
  yield* Effect.promise(() => page.goto(origin))
  yield* Effect.promise(() => page.waitForFunction(() => "run" in globalThis))
  const run = <Name extends keyof Scenarios>(
    name: Name,
    input: Parameters<Scenarios[Name]>[0]
  ): Effect.Effect<Effect.Success<ReturnType<Scenarios[Name]>>, Failure> =>
    Effect.callback((resume) => {
      page.evaluate(([name, input]) => (globalThis as unknown as Running).run(name, input), [name, input] as const)
        .then(
          ({ failure, value }) => resume(failure === undefined ? Effect.succeed(value as never) : Effect.fail(failure)),
          (error) => resume(Effect.die(error))
        )
    })
  return { page, run, requests }
})

interface Running {
  readonly run: (name: string, input: unknown) => Promise<Outcome>
}
