/**
 * The conformance cases must be able to fail: each fault here is caught by the case that is about it.
 */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Queue, Scope, Stream } from "effect"
import type { NonEmptyReadonlyArray } from "effect/Array"
import { TestClock } from "effect/testing"
import { SessionClosed, StreamReset } from "../../src/core/MoqError.ts"
import * as TransportConformance from "../../src/testing/TransportConformance.ts"
import * as Memory from "../../src/transport/Memory.ts"
import type { BiStream, Connection, ReceiveStream, Request, SendStream } from "../../src/transport/Transport.ts"

interface Fault {
  readonly send?: (send: SendStream) => Partial<SendStream>
  readonly receive?: (receive: ReceiveStream) => Partial<ReceiveStream>
  readonly connection?: (connection: Connection) => Partial<Connection>
}

const faulty = (inner: Connection, fault: Fault): Connection => {
  const send = (half: SendStream): SendStream => {
    const whole: SendStream = {
      write: half.write,
      finish: half.finish,
      reset: half.reset,
      setPriority: half.setPriority,
      stopped: half.stopped,
      offer: half.offer?.bind(half),
      onFinish: half.onFinish?.bind(half)
    }
    return { ...whole, ...fault.send?.(whole) }
  }
  const receive = (half: ReceiveStream): ReceiveStream => {
    const whole: ReceiveStream = { pull: half.pull, stop: half.stop, onPull: half.onPull?.bind(half) }
    return { ...whole, ...fault.receive?.(whole) }
  }
  const both = (bi: BiStream): BiStream => ({ send: send(bi.send), receive: receive(bi.receive) })
  const whole: Connection = {
    info: inner.info,
    capabilities: inner.capabilities,
    openBi: Effect.map(inner.openBi, both),
    openUni: (options) => Effect.map(inner.openUni(options), send),
    onOpenBi: inner.onOpenBi && ((opened) => inner.onOpenBi!((exit) => opened(Exit.map(exit, both)))),
    onOpenUni: inner.onOpenUni &&
      ((options, opened) => inner.onOpenUni!(options, (exit) => opened(Exit.map(exit, send)))),
    acceptBi: Effect.map(inner.acceptBi, both),
    acceptUni: Effect.map(inner.acceptUni, receive),
    close: inner.close,
    closed: inner.closed,
    ping: inner.ping
  }
  return { ...whole, ...fault.connection?.(whole) }
}

const scratch = new Uint8Array(1024 * 1024)

const leak: Array<unknown> = []

const sides: Array<Connection> = []

const oneForAll: Partial<TransportConformance.Harness> = {
  pair: Effect.map(Memory.pair(), ([client, server]) => {
    sides.push(client)
    return { client, server }
  }),
  kill: () => Effect.forEach(sides, Memory.kill, { discard: true })
}

const faults: ReadonlyArray<
  readonly [name: string, caughtBy: string, fault: Fault, harness?: Partial<TransportConformance.Harness>]
> = [
  ["the end is lost", "1 B arrive whole", { send: (send) => ({ finish: send.reset(0) }) }],
  ["the last byte is lost", "1,199 B arrive whole", {
    receive: ({ pull }) => ({
      pull: Effect.map(
        pull,
        (chunks) =>
          chunks.map((chunk) => chunk.length < 100 ? chunk : chunk.subarray(0, -1)) as unknown as typeof chunks
      )
    })
  }],
  ["chunks arrive in another order", "64 KiB arrive whole", {
    send: ({ write }) => ({
      write: (chunks) => write([...chunks].reverse() as unknown as NonEmptyReadonlyArray<Uint8Array>)
    })
  }],
  ["empty chunks are handed out", "0 B arrive whole", {
    send: ({ finish, write }) => ({ finish: Effect.andThen(write([Uint8Array.of(0)]), finish) })
  }],
  ["one of many small writes is lost", "10,000 small writes", {
    send: ({ write }) => {
      let writes = 0
      return { write: (chunks) => ++writes === 5_000 ? Effect.void : write(chunks) }
    }
  }],
  ["a finished stream takes more", "a stream that is finished", {
    send: ({ write }) => ({ write: (chunks) => Effect.catchTag(write(chunks), "MoqStreamReset", () => Effect.void) })
  }],
  ["finishing twice is an error", "a stream that is finished", {
    send: ({ finish }) => {
      let finished = false
      return {
        finish: Effect.suspend(() => finished ? Effect.fail(new StreamReset({ code: 0 })) : finish).pipe(
          Effect.tap(() =>
            Effect.sync(() => {
              finished = true
            })
          )
        )
      }
    }
  }],
  ["the end comes only once", "the end of a stream comes", {
    receive: ({ pull }) => {
      let ended = false
      return {
        pull: Effect.suspend(() => ended ? Effect.die("over") : pull).pipe(
          Effect.tapError(() =>
            Effect.sync(() => {
              ended = true
            })
          )
        )
      }
    }
  }],
  ["what nobody has read is gone when the end arrives", "the end of a stream comes", {
    receive: ({ pull }) => {
      const ahead: Array<Uint8Array> = []
      let end: ReceiveStream["pull"] | undefined
      let reading = false
      const readAhead = Effect.forever(Effect.map(pull, (more) => void ahead.push(...more))).pipe(
        Effect.onExit((exit) =>
          Effect.sync(() => {
            ahead.length = 0
            end = exit
          })
        )
      )
      return {
        pull: Effect.gen(function*() {
          if (!reading) {
            reading = true
            yield* Effect.forkDetach(readAhead, { startImmediately: true })
          }
          while (true) {
            if (ahead.length > 0) return ahead.splice(0) as unknown as NonEmptyReadonlyArray<Uint8Array>
            if (end !== undefined) return yield* end
            yield* Effect.yieldNow
          }
        })
      }
    }
  }],
  ["resets have no code", "a reset arrives with its code", { send: ({ reset }) => ({ reset: () => reset(0) }) }],
  ["stops have no code", "a stop arrives with its code", { receive: ({ stop }) => ({ stop: () => stop(0) }) }],
  ["codes beyond a byte are cut, and not declared", "a reset arrives with its code", {
    send: ({ reset }) => ({ reset: (code) => reset(code & 0xff) })
  }],
  ["codes arrive that are declared not to", "a stop arrives with its code", {
    connection: ({ capabilities }) => ({ capabilities: { ...capabilities, codes: "none" } })
  }],
  ["`stopped` gives another code", "a stop arrives with its code", {
    send: () => ({ stopped: Effect.succeed(99) })
  }],
  ["`onStop` gives another code", "a stop arrives with its code", {
    send: () => ({ onStop: (stopped) => stopped(99) })
  }],
  ["streams are handed to nobody", "where streams are handed to a function", {
    connection: () => ({ onUni: () => {} })
  }],
  ["whoever has a stream opened hears nothing of the end", "where streams are opened, written", {
    connection: ({ onOpenUni }) => ({
      onOpenUni: (options, opened) => onOpenUni!(options, (exit) => exit._tag === "Success" && opened(exit))
    })
  }],
  ["an offer is taken and forgotten", "where streams are opened, written", {
    send: ({ offer }) => ({ offer: (chunks) => chunks[0].length === 2 || offer!(chunks) })
  }],
  ["offers are taken without end", "where chunks can be offered", {
    send: ({ write }) => ({
      offer: (chunks) => {
        Effect.runFork(Effect.ignore(write(chunks)))
        return true
      }
    })
  }],
  ["an offer that is refused is taken in part", "where chunks can be offered", {
    send: ({ offer }) => ({
      offer: (chunks) => offer!(chunks) || (offer!([Uint8Array.of(0)]), false)
    })
  }],
  ["a finish is told twice", "where the end of a stream can be heard", {
    send: ({ onFinish }) => ({
      onFinish: (finished) =>
        onFinish!((exit) => {
          finished(exit)
          finished(exit)
        })
    })
  }],
  ["a finish is not told once the stream is reset", "where the end of a stream can be heard", {
    send: ({ onFinish, reset }) => {
      let isReset = false
      const unlessReset = (finished: Parameters<NonNullable<SendStream["onFinish"]>>[0]) =>
        Effect.sync(() => isReset || onFinish!(finished))
      return {
        reset: (code) =>
          Effect.suspend(() => {
            isReset = true
            return reset(code)
          }),
        onFinish: (finished) => void Effect.runFork(Effect.andThen(Effect.yieldNow, unlessReset(finished)))
      }
    }
  }],
  ["an opening that is taken back is told", "where streams are opened for a function", {
    connection: ({ onOpenUni }) => ({
      onOpenUni: (options, opened) => {
        onOpenUni!(options, opened)
        return () => {}
      }
    })
  }, { pair: Effect.map(Memory.pair({ maxStreams: 20 }), ([client, server]) => ({ client, server })) }],
  ["an opening that is taken back while it waits keeps its place", "where streams are opened for a function", {
    connection: ({ onOpenUni }) => ({
      onOpenUni: (options, opened) => {
        let isWaiting = true
        let isWanted = true
        const takeBack = onOpenUni!(options, (exit) => {
          isWaiting = false
          if (isWanted) opened(exit)
        })
        return () => {
          isWanted = false
          if (!isWaiting) takeBack()
        }
      }
    })
  }, { pair: Effect.map(Memory.pair({ maxStreams: 20 }), ([client, server]) => ({ client, server })) }],
  ["a listener hears on", "where what arrives is handed to a listener", {
    receive: ({ onPull }) => ({
      onPull: (listener) =>
        onPull!({
          chunks: (chunks) => {
            listener.chunks(chunks)
            return true
          },
          end: (exit) => listener.end(exit)
        })
    })
  }],
  ["a listener hears nothing of a stop from here", "where what arrives is handed to a listener", {
    receive: ({ onPull }) => ({
      onPull: (listener) =>
        onPull!({
          chunks: (chunks) => listener.chunks(chunks),
          end: (exit) => String(exit).includes("Reset") || listener.end(exit)
        })
    })
  }],
  ["a listener gets empty chunks", "where what arrives is handed to a listener", {
    receive: ({ onPull }) => ({
      onPull: (listener) =>
        onPull!({
          chunks: (chunks) => listener.chunks([...chunks, new Uint8Array(0)]),
          end: (exit) => listener.end(exit)
        })
    })
  }],
  ["a stream that is reset before its first byte costs the connection", "streams that end before", {
    connection: ({ close, openBi }) => ({
      openBi: Effect.map(openBi, ({ receive, send }) => ({
        receive,
        send: { ...send, reset: () => close(4, "unknown stream") }
      }))
    })
  }],
  ["a stream that ended before its first byte takes another one with it", "streams that end before", {
    connection: ({ acceptUni }) => ({
      acceptUni: Effect.tap(acceptUni, () => acceptUni)
    })
  }],
  ["closing the scope of a stream finishes it", "closing the scope of a stream", {
    connection: ({ openUni }) => ({
      openUni: (options) =>
        Effect.tap(openUni(options), (send) => Effect.addFinalizer(() => Effect.ignore(send.finish)))
    })
  }],
  ["buffers for receiving are used again", "chunks are not changed", {
    receive: ({ pull }) => ({
      pull: Effect.map(pull, (chunks) => {
        let at = 0
        return chunks.map((chunk) => {
          scratch.set(chunk, at)
          at += chunk.length
          return scratch.subarray(at - chunk.length, at)
        }) as unknown as typeof chunks
      })
    })
  }],
  ["what was sent is changed", "chunks are not changed", {
    send: ({ write }) => ({
      write: (chunks) => {
        const copies = chunks.map((chunk) => chunk.slice()) as unknown as typeof chunks
        return Effect.tap(write(copies), () => Effect.sync(() => chunks.forEach((chunk) => chunk.fill(0))))
      }
    })
  }],
  ["writes never suspend", "a write suspends while the peer does not read", {
    send: ({ write }) => ({
      write: (chunks) => Effect.asVoid(Effect.forkDetach(Effect.ignore(write(chunks)), { startImmediately: true }))
    })
  }],
  ["backpressure is there, and not declared", "a write suspends while the peer does not read", {
    connection: ({ capabilities }) => ({ capabilities: { ...capabilities, backpressure: false } })
  }],
  ["a reset waits for the write before it", "a reset passes a write", {
    send: ({ reset, write }) => {
      let writing = false
      return {
        write: (chunks) =>
          Effect.suspend(() => {
            writing = true
            return write(chunks)
          }),
        reset: (code) => Effect.suspend(() => writing ? Effect.void : reset(code))
      }
    }
  }],
  ["a stop leaves a blocked write alone", "a stop ends a write", {
    receive: () => ({ stop: () => Effect.void })
  }],
  ["a reset passes a blocked write, and that is not declared", "a reset passes a write", {
    connection: ({ capabilities }) => ({ capabilities: { ...capabilities, resetPastWrite: false } })
  }],
  ["streams that nobody accepts pile up", "streams that nobody accepts", {}, {
    pair: Effect.gen(function*() {
      const [client, server] = yield* Memory.pair()
      // whatever comes is read to its end, whether or not anybody wants it
      const accepted = yield* Queue.unbounded<ReceiveStream>()
      const ahead = Effect.gen(function*() {
        const receive = yield* client.acceptUni
        const chunks: Array<Uint8Array> = []
        yield* Effect.ignore(Effect.forever(Effect.map(receive.pull, (more) => chunks.push(...more))))
        const pull = Effect.suspend(() =>
          chunks.length === 0
            ? Cause.done()
            : Effect.succeed(chunks.splice(0) as unknown as NonEmptyReadonlyArray<Uint8Array>)
        )
        yield* Queue.offer(accepted, { pull, stop: receive.stop })
      })
      yield* Effect.forkScoped(Effect.forever(ahead))
      return { client: { ...client, acceptUni: Queue.take(accepted) }, server }
    })
  }],
  ["ranks are declared, and streams go in the order in which they were opened", "of what waits to be sent", {
    connection: ({ capabilities }) => ({ capabilities: { ...capabilities, priority: true } })
  }, { narrow: () => Effect.void }],
  ["streams leave nothing behind, and that is not declared", "20,000 closed streams", {
    connection: ({ capabilities }) => ({ capabilities: { ...capabilities, forgetsStreams: false } })
  }, { heapUsed: Effect.succeed(0) }],
  ["more streams can be open than declared", "with the declared number of streams", {
    connection: ({ capabilities }) => ({ capabilities: { ...capabilities, maxStreams: 100 } })
  }],
  ["fewer streams can be open than declared", "1,000 unidirectional streams", {
    connection: ({ capabilities }) => ({ capabilities: { ...capabilities, maxStreams: 1_000 } })
  }, { pair: Effect.map(Memory.pair({ maxStreams: 999 }), ([client, server]) => ({ client, server })) }],
  ["streams leave memory behind", "20,000 closed streams", {
    connection: ({ openUni }) => ({
      openUni: (options) =>
        Effect.tap(openUni(options), () => Effect.sync(() => leak.push(Array.from({ length: 100 }, (_, i) => i))))
    })
  }, {
    heapUsed: Effect.sync(() => leak.length * 800)
  }],
  ["the end of the connection does not reach a pull", "closing the scope of a connection", {
    receive: ({ pull }) => ({
      pull: Effect.catchTag(pull, "MoqSessionClosed", () => Effect.never)
    })
  }],
  ["the end of the connection is told as the end of the stream", "a close arrives", {
    receive: ({ pull }) => ({
      pull: Effect.catchTag(pull, "MoqSessionClosed", () => Effect.map(Effect.void, () => [scratch] as const))
    })
  }],
  ["a close has no reason", "a close arrives", { connection: ({ close }) => ({ close: (code) => close(code, "") }) }],
  ["a pull after the end waits, and cannot be interrupted", "a close arrives", {
    receive: ({ pull }) => ({
      pull: Effect.catchTag(pull, "MoqSessionClosed", () => Effect.uninterruptible(Effect.never))
    })
  }],
  ["a long reason is cut", "a close arrives", {
    connection: ({ close }) => ({ close: (code, reason) => close(code, reason.slice(0, 123)) })
  }],
  ["what was not read survives the connection", "closing the scope of a connection", {
    receive: ({ pull }) => {
      const ahead: Array<NonEmptyReadonlyArray<Uint8Array>> = []
      return {
        pull: Effect.suspend(() => {
          const kept = ahead.pop()
          return kept === undefined ? pull : Effect.succeed(kept)
        }).pipe(Effect.tap((chunks) => Effect.sync(() => ahead.push(chunks))))
      }
    }
  }],
  ["a connection ends with the fiber that opened it", "a connection belongs to its scope", {}, {
    pair: Effect.gen(function*() {
      const [client, server] = yield* Memory.pair()
      yield* Effect.forkChild(Effect.onInterrupt(Effect.never, () => client.close(0, "")), { startImmediately: true })
      return { client, server }
    })
  }],
  ["one that dies takes others with it", "the abrupt death", {}, oneForAll],
  ["a ping asks a peer that has gone", "a ping succeeds", {
    connection: () => ({ ping: Effect.fail(new SessionClosed({ code: 4, reason: "", by: "transport" })) })
  }],
  ["death looks like a close", "the abrupt death", {}, { kill: ({ client }) => client.close(4, "") }],
  ["it dies of boredom", "a connection with nothing to say", {
    connection: ({ close, openBi }) => ({
      openBi: Effect.flatMap(
        Effect.clockWith((clock) => clock.currentTimeMillis),
        (now) => now > 0 ? Effect.andThen(close(0, ""), openBi) : openBi
      )
    })
  }, { idle: TestClock.adjust("10 minutes") }],
  ["an interrupted pull loses what it has", "a pull that is interrupted", {
    receive: ({ pull }) => ({ pull: Effect.tap(pull, () => Effect.yieldNow) })
  }],
  ["an interrupted accept loses its stream", "an accept that is interrupted", {
    connection: ({ acceptUni }) => ({ acceptUni: Effect.tap(acceptUni, () => Effect.yieldNow) })
  }],
  ["an interrupted opening keeps its place", "an opening that is interrupted takes", {
    connection: ({ openUni }) => ({
      openUni: (options) =>
        Effect.forkDetach(Effect.scoped(Effect.andThen(openUni(options), Effect.never)), { startImmediately: true })
          .pipe(
            Effect.andThen(Effect.yieldNow),
            Effect.andThen(openUni(options))
          )
    })
  }]
]

/** A network in memory whose servers are not what they should be. */
const serving = (
  fault: (request: Request) => Partial<Request>,
  connected: (connection: Connection) => Effect.Effect<Connection> = Effect.succeed
): TransportConformance.Harness => ({
  pair: Effect.die("never opened"),
  server: Effect.gen(function*() {
    const { listen, transport } = yield* Memory.makeNetwork()
    const server = yield* listen()
    const requests = Stream.map(server.requests, (request): Request => ({
      url: request.url,
      headers: request.headers,
      peer: request.peer,
      transport: request.transport,
      accept: request.accept,
      refuse: request.refuse,
      ...fault(request)
    }))
    return {
      server: { ...server, requests },
      connect: (path) => Effect.flatMap(transport.connect(new URL(path, server.urls[0])), connected)
    }
  })
})

const all: Array<Connection> = []

const servers: ReadonlyArray<readonly [name: string, caughtBy: string, harness: TransportConformance.Harness]> = [
  ["the query is lost", "the path and the query", serving(({ url }) => ({ url: new URL(url.pathname, url) }))],
  [
    "the path is decoded",
    "the path and the query",
    serving(({ url }) => ({ url: new URL(decodeURIComponent(url.href)) }))
  ],
  [
    "a request comes by a transport that the server does not have",
    "the path and the query",
    serving(() => ({ transport: "h2" }))
  ],
  ["a refused client is left waiting", "a client that is refused", serving(() => ({ refuse: () => Effect.void }))],
  [
    "a refused client is let in",
    "a client that is refused",
    serving(({ accept }) => ({
      refuse: () => Effect.asVoid(Effect.orDie(Effect.provideService(accept, Scope.Scope, Scope.makeUnsafe())))
    }))
  ],
  [
    "a client that has gone is connected for good",
    "a client that gives up",
    serving((request) => ({
      accept: request.url.pathname === "/gone" ? Effect.map(Memory.pair(), ([, server]) => server) : request.accept
    }))
  ],
  [
    "accepting a client that has gone is a defect",
    "a client that gives up",
    serving(({ accept }) => ({
      accept: Effect.orDie(accept)
    }))
  ],
  [
    "one connection ends all",
    "the end of one connection",
    serving(() => ({}), (connection) => {
      all.push(connection)
      return Effect.succeed({
        ...connection,
        close: (code, reason) => Effect.forEach(all, (each) => each.close(code, reason), { discard: true })
      })
    })
  ]
]

/** A case that must fail; a fault that shows as silence is caught by its timeout, once there is nothing left to happen. */
const catches = (caughtBy: string, harness: TransportConformance.Harness) =>
  Effect.gen(function*() {
    const found = TransportConformance.cases({ ...harness, timeout: "1 minute" })
      .filter(({ rule }) => rule.startsWith(caughtBy))
    assert.strictEqual(found.length, 1)
    const running = yield* Effect.forkChild(Effect.flip(found[0]!.run))
    const impatience = yield* Effect.forkChild(
      Effect.andThen(Effect.repeat(Effect.yieldNow, { times: 20_000 }), TestClock.adjust("1 minute"))
    )
    const failure = yield* Fiber.join(running)
    yield* Fiber.interrupt(impatience)
    assert.strictEqual(failure._tag, "ConformanceFailure")
    assert.strictEqual(failure.rule, found[0]!.rule)
  })

describe("cases catch", () => {
  for (const [name, caughtBy, fault, hooks] of faults) {
    it.effect(`${name}: ${caughtBy}`, () => {
      const pair = hooks?.pair ?? Effect.map(Memory.pair(), ([client, server]) => ({ client, server }))
      return catches(caughtBy, {
        ...hooks,
        pair: Effect.map(pair, ({ client, server }) => ({
          client: faulty(client, fault),
          server: faulty(server, fault)
        }))
      })
    }, 60_000)
  }

  for (const [name, caughtBy, harness] of servers) {
    it.effect(`${name}: ${caughtBy}`, () => catches(caughtBy, harness), 60_000)
  }
})
