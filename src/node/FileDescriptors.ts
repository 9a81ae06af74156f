/**
 * How many files the process may have open: each connection is one.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Fs from "node:fs/promises"

/**
 * What to tell an operator when the process may not have as many files open as so many sessions need. None where it may,
 * and where the system does not say: only Linux does.
 *
 * **Details**
 *
 * A session over WebSocket or HTTP/2 has one; sessions over HTTP/3 share the sockets of their port. 64 more are for the
 * process itself, and for clients that are still shaking hands or refused.
 *
 * @category constructors
 * @since 0.1.0
 */
export const warning = (sessions: number): Effect.Effect<Option.Option<string>> =>
  Effect.tryPromise(() => Fs.readFile("/proc/self/limits", "utf8")).pipe(
    Effect.map((limits) => warningOf(limits, sessions)),
    Effect.orElseSucceed(() => Option.none())
  )

/**
 * The same for the text of `/proc/self/limits`.
 *
 * @internal
 */
export const warningOf = (limits: string, sessions: number): Option.Option<string> => {
  const soft = /^Max open files +(\d+) /m.exec(limits)?.[1]
  const needed = sessions + own
  return soft === undefined || Number(soft) >= needed ? Option.none() : Option.some(
    `only ${soft} files may be open, ${needed} are needed for ${sessions} sessions: raise the limit ` +
      `(ulimit -n, or LimitNOFILE of systemd), or allow fewer sessions`
  )
}

// internal

const own = 64
