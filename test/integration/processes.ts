import { type ChildProcess, spawn } from "node:child_process"
import { createInterface } from "node:readline"

export const root = new URL("../..", import.meta.url).pathname

/** A child process, by the lines that it prints. */
export class Running {
  readonly child: ChildProcess
  readonly lines: Array<string>
  readonly errors: Array<string>
  readonly exit: Promise<number | null>
  private readonly waiting: Set<() => void>
  constructor(args: ReadonlyArray<string>, cwd: string = root) {
    this.lines = []
    this.errors = []
    this.waiting = new Set()
    this.child = spawn(process.execPath, args, { cwd, stdio: ["pipe", "pipe", "pipe"] })
    this.collect(this.child.stdout!, this.lines)
    this.collect(this.child.stderr!, this.errors)
    this.exit = new Promise((resolve) =>
      this.child.on("close", (code) => {
        resolve(code)
        this.wake()
      })
    )
  }
  /** Waits until it has printed so many lines; fails when it ends before. */
  async printed(count: number): Promise<ReadonlyArray<string>> {
    while (this.lines.length < count) {
      if (this.child.exitCode !== null || this.child.signalCode !== null) {
        throw new Error(`it ended with ${this.child.exitCode}: ${[...this.lines, ...this.errors].join("\n")}`)
      }
      await new Promise<void>((resolve) => this.waiting.add(resolve))
    }
    return this.lines
  }
  kill(signal: NodeJS.Signals = "SIGKILL"): void {
    this.child.kill(signal)
  }
  private collect(stream: NodeJS.ReadableStream, into: Array<string>): void {
    createInterface({ input: stream }).on("line", (line) => {
      into.push(line)
      this.wake()
    })
  }
  private wake(): void {
    for (const resolve of this.waiting) resolve()
    this.waiting.clear()
  }
}
