// Counts the bytes that are copied in a process, by who copies: `set`, `slice`, `copyWithin` and `from` of typed arrays,
// `copy`, `concat` and `from` of buffers. What sockets and TLS copy below JavaScript is not seen.
import { built } from "./common.mjs"

/** Begins to count; what it gives tells how much it has been by now. */
export function count() {
  const copied = new Map()
  const add = (bytes) => {
    // stacks are dear: what is as small as a header is no payload
    if (!(bytes >= 64)) return
    const who = caller()
    copied.set(who, (copied.get(who) ?? 0) + bytes)
  }
  const wrap = (owner, name, bytesOf) => {
    const original = owner[name]
    Object.defineProperty(owner, name, {
      configurable: true,
      writable: true,
      value: function(...args) {
        const result = original.apply(this, args)
        add(bytesOf(args, result))
        return result
      }
    })
  }
  const TypedArray = Object.getPrototypeOf(Uint8Array)
  const made = (_, result) => result.byteLength
  wrap(TypedArray.prototype, "set", ([source]) => source.byteLength ?? source.length)
  wrap(TypedArray.prototype, "slice", made)
  wrap(TypedArray.prototype, "copyWithin", made)
  wrap(TypedArray, "from", made)
  wrap(ArrayBuffer.prototype, "slice", made)
  wrap(Buffer.prototype, "copy", (_, bytes) => bytes)
  wrap(Buffer, "concat", made)
  wrap(Buffer, "from", ([source], result) => source instanceof ArrayBuffer ? 0 : result.byteLength)
  return () => ({ copied: Object.fromEntries(copied) })
}

// ours by file, packages by name
function caller() {
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 6
  const lines = new Error().stack.split("\n")
  Error.stackTraceLimit = stackTraceLimit
  const line = lines.find((line, i) => i > 0 && line.includes(":") && !line.includes("/copies.mjs")) ?? "?"
  const ours = line.indexOf(built)
  if (ours >= 0) return line.slice(ours + built.length + 1).replace(/(:\d+)*\)?$/, "")
  return /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(line)?.[1] ?? /(node:[^:]+)/.exec(line)?.[1] ?? line.trim()
}
