/**
 * What this process prints by other ways than its own: what dependencies print to the console, and Node's warnings.
 *
 * **Gotchas**
 *
 * Native code that writes to the terminal by itself is not seen here.
 *
 * @since 0.1.0
 */
import { formatWithOptions } from "node:util"

/**
 * Gives lines to `report` instead of printing them, until what it returns is called. Whatever is printed by `report`
 * itself is printed.
 *
 * @category running
 * @since 0.1.0
 */
export const begin = (report: (line: string) => void): () => void => {
  let isReporting = false
  const take = (text: string): void => {
    isReporting = true
    try {
      report(text.length > maxLength ? `${text.slice(0, maxLength)}...` : text)
    } finally {
      isReporting = false
    }
  }
  const before = methods.map((name) => [name, terminal[name]] as const)
  const patched = before.map(([name, print]) => {
    const patch: Print = (...args) =>
      isReporting ? print.apply(terminal, args) : take(formatWithOptions({ breakLength: Infinity }, ...args))
    terminal[name] = patch
    return [name, patch, print] as const
  })
  // Node's own listener prints them
  const listeners = process.listeners("warning")
  const onWarning = (warning: Error): void => take(`${warning.name}: ${warning.message}`)
  process.removeAllListeners("warning")
  process.on("warning", onWarning)
  return () => {
    // what somebody else has put in its place meanwhile stays
    for (const [name, patch, print] of patched) if (terminal[name] === patch) terminal[name] = print
    process.off("warning", onWarning)
    for (const listener of listeners) process.on("warning", listener)
  }
}

// internal

type Print = (...args: Array<unknown>) => void

const methods = ["debug", "error", "info", "log", "trace", "warn"] as const

const terminal: Record<typeof methods[number], Print> = globalThis.console

const maxLength = 1000
