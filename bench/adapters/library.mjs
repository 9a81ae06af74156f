// What the adapters of this library share: sessions over the W3C objects that the harness gives, through the public
// API of the package as it is built in the folder above. BENCH_DIST names another build.
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { readFileSync } from "node:fs"
import { resolve } from "node:path"
import { pathToFileURL } from "node:url"

const build = process.env.BENCH_DIST
const dist = build ? pathToFileURL(`${resolve(build)}/`) : new URL("../../dist/", import.meta.url)
export const library = await import(new URL("index.js", dist))
const { Router, Session, Subscription, Track, Transport, WebTransport } = library

export const version = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")).version
export const protocol = "moqf-02"

const connection = (object) =>
  WebTransport.fromObject(object, {
    info: { transport: "memory", peer: undefined },
    capabilities: { codes: "any", maxStreams: 1000 }
  })

/**
 * The `publisher` of an adapter. `opener(track, scope)` is called once per track and gives what opens its groups.
 */
export const publisherWith = (opener) => async ({ broadcast }) => {
  const scope = Scope.makeUnsafe()
  const run = (effect) => Effect.runPromise(Scope.provide(effect, scope))
  const prefix = broadcast.split("/")
  const tracks = new Map()
  const initial = new Map()
  const subscribers = new Map()
  const router = await run(Router.make)

  const of = (path) => {
    const name = path.at(-1)
    let entry = tracks.get(name)
    if (entry === undefined) {
      // every frame must arrive: without an order the newest goes first, and a group that is overtaken could be given up
      const track = Effect.runSync(Scope.provide(Track.make(path, { order: "asc" }), scope))
      entry = { track, open: opener(track, scope) }
      tracks.set(name, entry)
      const first = initial.get(name) ?? initial.get("*")
      if (first !== undefined) {
        const group = entry.open()
        group.write(first)
        group.close()
      }
    }
    return entry
  }
  const count = (path, by) => subscribers.set(path.at(-1), (subscribers.get(path.at(-1)) ?? 0) + by)
  // a router of the program's own: it makes a track when somebody asks for it, and counts who does
  const counting = {
    paths: [],
    routed: router.routed,
    publish: router.publish,
    add: router.add,
    route: router.route,
    announce: router.announce,
    announced: router.announced,
    trackInfo: router.trackInfo,
    fetch: router.fetch,
    subscribe: (path, options) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          count(path, 1)
          return Subscription.make(of(path).track.track, { from: "latest", ...options })
        }),
        () => Effect.sync(() => count(path, -1))
      )
  }
  return {
    attach: (object) =>
      run(Effect.flatMap(connection(object), (connection) => Session.accept(connection, { router: counting }))),
    subscribers: (name) => subscribers.get(name) ?? 0,
    setInitial: (name, frame) => void initial.set(name, frame),
    group: (name) => of([...prefix, name]).open(),
    close: () => Effect.runPromise(Scope.close(scope, Exit.fail("closed")))
  }
}

/**
 * The `subscriber` of an adapter. `open(track, onFrame)` is a scoped Effect that opens what reads the track, so that it
 * misses nothing from then on, and gives the Effect that reads it.
 */
export const subscriberWith = (open) => async (object) => {
  const scope = Scope.makeUnsafe()
  const transport = Transport.Transport.of({ connect: () => connection(object) })
  const session = await Effect.runPromise(
    Session.connect("https://localhost/").pipe(
      Effect.provideService(Transport.Transport, transport),
      Scope.provide(scope)
    )
  )
  let last = 2 ** 52
  return {
    subscribe: ({ broadcast, onFrame, track: name }) =>
      new Promise((done, failed) => {
        // A session shares one subscription among those who ask for the same groups of a track. Each of the harness is
        // to be one that the publisher knows of, so each asks for another (never reached) end.
        const subscribed = session.subscribe([...broadcast.split("/"), name], { to: last++ })
        const program = Effect.flatMap(Effect.flatMap(subscribed, (track) => open(track, onFrame)), (read) => {
          done({ close: () => void Effect.runFork(Fiber.interrupt(fiber)) })
          return read
        })
        const fiber = Effect.runFork(Effect.scoped(program))
        fiber.addObserver((exit) => {
          if (Exit.isSuccess(exit)) return
          failed(Cause.squash(exit.cause))
          // a mistake in what reads is not to look like frames that do not come
          if (Cause.hasDies(exit.cause)) {
            queueMicrotask(() => {
              throw Cause.squash(exit.cause)
            })
          }
        })
      }),
    close: () => Effect.runPromise(Scope.close(scope, Exit.fail("closed")))
  }
}
