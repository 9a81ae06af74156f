/** Relays for pages to connect to, in this process and in processes that can be killed. */
import { Context, Effect, Layer, Option, Queue, Stream } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import * as Dgram from "node:dgram"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import * as NodeTransport from "../../src/node/NodeTransport.ts"
import * as Relay from "../../src/relay/Relay.ts"
import * as Session from "../../src/session/Session.ts"
import { Transport, TransportServer } from "../../src/transport/Transport.ts"
import type { Target } from "./page/main.ts"

export type Name = "h3" | "websocket"

/** A server on 127.0.0.1 with a generated certificate. */
export const server = (transports: ReadonlyArray<Name>, options?: Partial<NodeTransport.ServerOptions>) =>
  NodeTransport.makeServer({ host: "127.0.0.1", port: 0, tls: { generate: ["127.0.0.1"] }, transports, ...options })

/** The transports that can be tried here: without HTTP/3 where its binding cannot be loaded, which is told. */
export const here: ReadonlyArray<Name> = await Effect.runPromise(
  server(["h3", "websocket"]).pipe(
    Effect.tap(({ unavailable }) =>
      Effect.forEach(unavailable, ({ reason }) => Effect.logWarning(`no HTTP/3: ${reason}`))
    ),
    Effect.map(({ transports }) => transports as ReadonlyArray<Name>),
    Effect.scoped
  )
)

/** A relay, what happened in it, and a session of this process to it. */
export const relay = Effect.fnUntraced(function*(transports: ReadonlyArray<Name>) {
  const bound = yield* server(transports)
  const services = yield* Layer.build(
    Relay.layer().pipe(Layer.provide(Layer.succeed(TransportServer)(bound)))
  )
  const relay = Context.get(services, Relay.Relay)
  const events = yield* Queue.unbounded<Relay.Event>()
  yield* Effect.forkScoped(Stream.runForEach(relay.events, (event) => Queue.offer(events, event)), {
    startImmediately: true
  })
  const target: Target = { url: relay.urls[0]!, fingerprints: [bound.fingerprint!] }
  const session = Effect.provideService(
    Session.connect(target.url, { fingerprints: target.fingerprints }),
    Transport,
    NodeTransport.make({ transports: [transports.at(-1)!] })
  )
  const nextEvent = <Tag extends Relay.Event["_tag"]>(tag: Tag) =>
    Stream.fromQueue(events).pipe(
      Stream.filter((event): event is Extract<Relay.Event, { readonly _tag: Tag }> => event._tag === tag),
      Stream.runHead,
      Effect.map(Option.getOrThrow)
    )
  return { target, port: Number(new URL(target.url).port), session, nextEvent }
})

/** A relay in a process of its own. It dies with `kill`, or with the scope. */
export const killable = Effect.fnUntraced(function*(options: {
  readonly transports: ReadonlyArray<Name>
  readonly port?: number | undefined
  readonly tls?: { readonly cert: string; readonly key: string } | undefined
  /** What it publishes. */
  readonly frame?: string | undefined
}) {
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, [fileURLToPath(new URL("relay.mjs", import.meta.url)), JSON.stringify(options)], {
        stdio: ["ignore", "pipe", "inherit"]
      })
    ),
    kill
  )
  const line = yield* Effect.callback<string, Error>((resume) => {
    createInterface({ input: child.stdout }).once("line", (line) => resume(Effect.succeed(line)))
    child.once("exit", (code) => resume(Effect.fail(new Error(`the relay ended with ${code}`))))
  })
  const { fingerprint, url } = JSON.parse(line) as { readonly url: string; readonly fingerprint: string | null }
  return { url, fingerprint: fingerprint ?? undefined, port: Number(new URL(url).port), kill: kill(child) }
})

export const targetOf = (
  { fingerprint, url }: { readonly url: string; readonly fingerprint: string | undefined }
): Target => ({
  url,
  fingerprints: fingerprint === undefined ? [] : [fingerprint]
})

const kill = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
    child.kill("SIGKILL")
  })

/** Takes every packet to a UDP port and answers none. Tells how many sockets have sent some. */
export const silence = (port: number) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly socket: Dgram.Socket; readonly senders: Set<number> }>((resume) => {
      const senders = new Set<number>()
      const socket = Dgram.createSocket("udp4", (_, { port }) => senders.add(port))
      socket.bind(port, "127.0.0.1", () => resume(Effect.succeed({ socket, senders })))
    }),
    ({ socket }) => Effect.sync(() => socket.close())
  ).pipe(Effect.map(({ senders, socket }) => ({ port: socket.address().port, senders })))
