/** The relay that is attacked, the honest people beside it, and the attacker: a process each. */
import { Effect, type Scope } from "effect"
import { type ChildProcess, fork } from "node:child_process"
import { createInterface } from "node:readline"
import type { Target } from "./Attack.ts"
import { programs } from "./bundle.ts"
import type { Measured } from "./innocents.ts"
import type { End } from "./Peer.ts"

const root = new URL("../../", import.meta.url).pathname

/** A child process that answers each question with one message. */
class Child {
  static start(
    module: string,
    args: ReadonlyArray<string>,
    execArgv: ReadonlyArray<string> = []
  ): Effect.Effect<Child, never, Scope.Scope> {
    return Effect.acquireRelease(
      Effect.sync(() => new Child(fork(module, [...args], { cwd: root, silent: true, execArgv: [...execArgv] }))),
      (child) => child.end
    )
  }

  readonly process: ChildProcess
  readonly errors: Array<string>
  private readonly exit: Promise<string>

  constructor(process: ChildProcess) {
    this.process = process
    this.errors = []
    createInterface({ input: process.stderr! }).on("line", (line) => {
      this.errors.push(line)
      if (this.errors.length > 100) this.errors.shift()
    })
    this.exit = new Promise((resolve) => process.on("exit", (code, signal) => resolve(String(signal ?? code))))
  }

  /** Its next message; a defect when it ends before. */
  get message(): Effect.Effect<unknown> {
    return Effect.promise(() =>
      Promise.race([
        new Promise((resolve) => this.process.once("message", resolve)),
        this.exit.then((how) => {
          throw new Error(`a process ended with ${how}: ${this.errors.join("\n")}`)
        })
      ])
    )
  }

  ask(question: object): Effect.Effect<unknown> {
    return Effect.suspend(() => {
      const answer = this.message
      return Effect.andThen(Effect.sync(() => this.process.send(question)), answer)
    })
  }

  get end(): Effect.Effect<void> {
    return Effect.promise(async () => {
      this.process.kill("SIGKILL")
      await this.exit
    })
  }
}

/** What a relay uses, in MB: its heap and buffers after a collection, and its resident memory. */
export interface Memory {
  readonly used: number
  readonly rss: number
}

/** A relay, as the command runs it. */
export interface Relay {
  readonly url: string
  readonly memory: Effect.Effect<Memory>
  /** How many sessions are open. */
  readonly sessions: Effect.Effect<number>
  /** The last lines that it has printed on stderr. */
  readonly errors: ReadonlyArray<string>
}

export const relay = Effect.fnUntraced(function*(...flags: ReadonlyArray<string>) {
  const child = yield* Child.start(
    `${root}dist/cli/bin.js`,
    ["relay", "--bind", "127.0.0.1:0", "--transport", "websocket", "--json", ...flags],
    ["--expose-gc", "--import", new URL("memory.mjs", import.meta.url).href]
  )
  let sessions = 0
  const url = yield* Effect.promise(() =>
    new Promise<string>((resolve, reject) => {
      child.process.on("exit", () => reject(new Error(child.errors.join("\n"))))
      createInterface({ input: child.process.stdout! }).on("line", (line) => {
        const event = JSON.parse(line) as { readonly event: string; readonly url?: string }
        if (event.event === "listening") resolve(event.url!)
        if (event.event === "session-opened") sessions++
        if (event.event === "session-closed") sessions--
      })
    })
  )
  const running: Relay = {
    url,
    memory: Effect.map(child.ask({}), (memory) => memory as Memory),
    sessions: Effect.sync(() => sessions),
    errors: child.errors
  }
  return running
})

/** Honest people: what was measured since they were last asked. */
export const innocents = Effect.fnUntraced(function*(url: string) {
  const child = yield* Child.start(`${programs}innocents.mjs`, [url])
  yield* child.message
  return Effect.map(child.ask({}), (measured) => measured as Measured)
})

/** An attacker, for so many milliseconds at least: how the relay has ended what it did. */
export const attack = Effect.fnUntraced(function*(name: string, target: Target, atLeast: number) {
  const child = yield* Child.start(`${programs}attacker.mjs`, [])
  const { ends } = (yield* child.ask({ name, target, atLeast })) as { readonly ends: ReadonlyArray<End> }
  return ends
}, Effect.scoped)
