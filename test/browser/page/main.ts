/**
 * What runs in the page. A test runs a scenario by its name; the scenario asks the test whatever it needs from outside.
 */
import { Cause, Effect, Exit, Fiber, Schedule, Scope, Stream } from "effect"
import { Session, Transport } from "effect-moq"
import { BrowserTransport } from "effect-moq/browser"
import * as Conformance from "./conformance.ts"

/** Where to connect to, and how. */
export interface Target {
  readonly url: string
  readonly fingerprints?: ReadonlyArray<string>
  readonly transports?: ReadonlyArray<BrowserTransport.Name>
  readonly insecure?: boolean
  readonly roots?: ReadonlyArray<string>
  readonly timeout?: string
}

/** What went wrong, as it can leave the page. */
export interface Failure {
  readonly tag: string
  readonly message: string
}

/** How a scenario ended. */
export interface Outcome {
  readonly value: unknown
  readonly failure: Failure | undefined
}

const page = globalThis as unknown as typeof window & {
  ask: (name: string, value?: unknown) => Promise<void>
  run: (name: keyof Scenarios, input: never) => Promise<Outcome>
}

const ask = (name: string, value?: unknown): Effect.Effect<void> => Effect.promise(() => page.ask(name, value))

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const text = (frame: Uint8Array): string => new TextDecoder().decode(frame)

// one for all sessions of the page, as a program has it, so that it remembers
const transports = new Map<string, Transport.Transport>()
const transportFor = (to: Target): Transport.Transport => {
  const key = JSON.stringify(to.transports)
  let transport = transports.get(key)
  if (transport === undefined) transports.set(key, transport = BrowserTransport.make({ transports: to.transports }))
  return transport
}

const optionsOf = ({ fingerprints, insecure, roots, timeout }: Target): Transport.ConnectOptions => ({
  fingerprints,
  insecure,
  roots,
  timeout: timeout as "5 seconds" | undefined
})

const connect = (to: Target) =>
  Effect.provideService(Session.connect(to.url, optionsOf(to)), Transport.Transport, transportFor(to))

const dial = (to: Target) => transportFor(to).connect(new URL(to.url), optionsOf(to))

const scenarios = {
  /** Which transport it gets. */
  connect: (to: Target) => Effect.map(connect(to), (session) => session.transport.transport),

  /** Watches what the test publishes, publishes for the test, and sees both announced. */
  application: Effect.fnUntraced(function*(to: Target) {
    const session = yield* connect(to)
    const seen = yield* session.announced(["room"]).pipe(
      Stream.takeUntil((event) => event._tag === "Live"),
      Stream.map((event) => event._tag === "Live" ? "live" : event.path.join("/")),
      Stream.runCollect
    )
    const clock = yield* session.subscribe(["room", "clock"])
    const watching = yield* Effect.forkScoped(Stream.runCollect(Stream.take(Stream.map(clock.frames, text), 3)))
    yield* ask("watching")
    const watched = yield* Fiber.join(watching)
    const group = yield* session.fetch(["room", "clock"], 0)
    const fetched = yield* Stream.runCollect(Stream.map(group.frames, text))
    const missing = yield* Effect.flip(session.subscribe(["nobody"]))

    const broadcast = yield* session.broadcast(["page"])
    const chat = yield* broadcast.track("chat")
    yield* ask("published")
    const open = yield* chat.appendGroup
    yield* open.writeFrame(bytes("hello"))
    yield* open.writeFrame(new Uint8Array(1024 * 1024).fill(7))
    yield* open.finish
    yield* ask("heard")
    return { transport: session.transport.transport, seen, watched, fetched, missing: missing._tag }
  }),

  /** Stays connected until the session ends, and tells how. */
  stay: Effect.fnUntraced(function*(to: Target) {
    const session = yield* connect(to)
    yield* ask("connected", session.transport.transport)
    const { by, code } = yield* session.closed
    const later = yield* Effect.flip(session.subscribe(["anything"]))
    return { by, code, later: later._tag }
  }),

  /** Closes its session. */
  leave: Effect.fnUntraced(function*(to: Target) {
    const scope = yield* Scope.fork(yield* Effect.scope)
    const session = yield* Scope.provide(connect(to), scope)
    yield* ask("connected", session.transport.transport)
    yield* Scope.close(scope, Exit.void)
  }),

  /** Goes on over one connection after the other: gives what changes in a track, until it is "after". */
  reconnect: Effect.fnUntraced(function*(to: Target) {
    const session = yield* Session.reconnect(to.url, {
      ...optionsOf(to),
      schedule: Schedule.spaced("200 millis")
    }).pipe(Effect.provideService(Transport.Transport, transportFor(to)))
    const statuses: Array<string> = []
    yield* Effect.forkScoped(
      Stream.runForEach(session.status, ({ _tag }) => Effect.sync(() => void statuses.push(_tag)))
    )
    const track = yield* session.subscribe(["room", "clock"], { wait: "10 seconds" })
    const frames: Array<string> = []
    yield* track.frames.pipe(
      Stream.map(text),
      Stream.changes,
      Stream.tap((frame) => {
        frames.push(frame)
        return frame === "before" ? ask("before") : Effect.void
      }),
      Stream.takeUntil((frame) => frame === "after"),
      Stream.runDrain
    )
    return { frames, statuses, transport: session.transport.transport }
  }),

  /** Interrupts an attempt that hangs, and tells what is left of the browser's objects that it had made. */
  interrupt: Effect.fnUntraced(function*(to: Target) {
    const made = spy()
    const connecting = yield* Effect.forkScoped(Effect.scoped(dial(to)))
    yield* Effect.sleep("600 millis")
    yield* Fiber.interrupt(connecting)
    yield* Effect.sleep("200 millis")
    return yield* made
  }),

  /** Lets an attempt time out within a scope that goes on, and tells what is left as well. */
  timeout: Effect.fnUntraced(function*(to: Target) {
    const made = spy()
    const error = yield* Effect.flip(dial(to))
    yield* Effect.sleep("200 millis")
    return { error: error._tag, ...yield* made }
  }),

  checkRule: Conformance.check,

  resetPastWrite: Conformance.resetPastWrite,

  /** Hides a part of the browser. */
  hide: (name: "WebTransport" | "WebSocketStream") => Effect.sync(() => Reflect.deleteProperty(page, name)),

  /** Sends so many bytes on one stream, and gives the milliseconds that it took until the peer had all of them. */
  upload: Effect.fnUntraced(function*({ megabytes, to }: { readonly megabytes: number; readonly to: Target }) {
    const connection = yield* dial(to)
    const { receive, send } = yield* connection.openBi
    const chunk = new Uint8Array(64 * 1024)
    const started = performance.now()
    for (let sent = 0; sent < megabytes * 1024 * 1024; sent += chunk.length) yield* send.write([chunk])
    yield* send.finish
    // the peer finishes once it has read to the end
    yield* Effect.ignore(Effect.forever(receive.pull))
    return { milliseconds: performance.now() - started, transport: connection.info.transport }
  })
}

export type Scenarios = typeof scenarios

// counts the browser's objects from now on, and those of them that are still open
const spy = (): Effect.Effect<{ readonly made: number; readonly open: number }> => {
  const sockets: Array<WebSocket> = []
  const sessions: Array<{ isOpen: boolean }> = []
  const { WebSocket, WebTransport } = page
  page.WebSocket = class extends WebSocket {
    constructor(...parameters: ConstructorParameters<typeof WebSocket>) {
      super(...parameters)
      sockets.push(this)
    }
  }
  page.WebTransport = class extends WebTransport {
    constructor(...parameters: ConstructorParameters<typeof WebTransport>) {
      super(...parameters)
      const session = { isOpen: true }
      sessions.push(session)
      const over = () => {
        session.isOpen = false
      }
      this.closed.then(over, over)
    }
  }
  return Effect.sync(() => {
    page.WebSocket = WebSocket
    page.WebTransport = WebTransport
    const open = sockets.filter(({ readyState }) => readyState < WebSocket.CLOSING).length +
      sessions.filter(({ isOpen }) => isOpen).length
    return { made: sockets.length + sessions.length, open }
  })
}

const failureIn = (cause: Cause.Cause<unknown>): Failure => {
  const error = Cause.squash(cause)
  const tag = error instanceof Error && "_tag" in error ? String(error._tag) : "a defect"
  return { tag, message: error instanceof Error ? error.message : String(error) }
}

page.run = async (name, input) => {
  const exit = await Effect.runPromiseExit(
    Effect.scoped(scenarios[name](input) as Effect.Effect<unknown, never, Scope.Scope>)
  )
  return Exit.isSuccess(exit)
    ? { value: exit.value, failure: undefined }
    : { value: undefined, failure: failureIn(exit.cause) }
}
