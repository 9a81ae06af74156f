// This library as an adapter of the benchmark harness: sessions over the W3C objects that the harness gives, through
// the public API alone. Frames are written from a callback (`writeFrameUnsafe`) and read as a Stream per group.
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { readFileSync } from "node:fs"
import { Router, Session, Subscription, Track, Transport, WebTransport } from "../../dist/index.js"

export const name = "effect-moq"
export const version = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")).version
export const protocol = "moqf-02"

const connection = (object) =>
  WebTransport.fromObject(object, {
    info: { transport: "memory", peer: undefined },
    capabilities: { codes: "any", maxStreams: 1000 }
  })

export async function publisher({ broadcast }) {
  const scope = Scope.makeUnsafe()
  const run = (effect) => Effect.runPromise(Scope.provide(effect, scope))
  const prefix = broadcast.split("/")
  const tracks = new Map()
  const initial = new Map()
  const readers = new Map()
  const router = await run(Router.make)

  const of = (path) => {
    const name = path.at(-1)
    let track = tracks.get(name)
    if (track === undefined) {
      track = Effect.runSync(Scope.provide(Track.make(path), scope))
      tracks.set(name, track)
      const first = initial.get(name) ?? initial.get("*")
      if (first !== undefined) {
        const group = track.appendGroupUnsafe()
        group.writeFrameUnsafe(first)
        group.finishUnsafe()
      }
    }
    return track
  }
  const count = (name, by) => readers.set(name, (readers.get(name) ?? 0) + by)
  // tracks are made when somebody asks for them
  const dynamic = {
    paths: [],
    publish: router.publish,
    add: router.add,
    announced: router.announced,
    trackInfo: router.trackInfo,
    subscribe: (path, options) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          count(path.at(-1), 1)
          return Subscription.make(of(path).track, { from: "latest", ...options })
        }),
        () => Effect.sync(() => count(path.at(-1), -1))
      )
  }
  return {
    attach: (object) =>
      run(Effect.flatMap(connection(object), (connection) => Session.accept(connection, { router: dynamic }))),
    subscribers: (name) => readers.get(name) ?? 0,
    setInitial: (name, frame) => void initial.set(name, frame),
    group: (name) => {
      const group = of([...prefix, name]).appendGroupUnsafe()
      return {
        write: (frame) => void group.writeFrameUnsafe(frame),
        close: () => void group.finishUnsafe()
      }
    },
    close: () => Effect.runPromise(Scope.close(scope, Exit.fail("closed")))
  }
}

export async function subscriber(object) {
  const scope = Scope.makeUnsafe()
  const transport = Transport.Transport.of({ connect: () => connection(object) })
  const session = await Effect.runPromise(
    Session.connect("https://localhost/").pipe(
      Effect.provideService(Transport.Transport, transport),
      Scope.provide(scope)
    )
  )
  return {
    async subscribe({ broadcast, onFrame, track: name }) {
      const own = Effect.runSync(Scope.fork(scope))
      const track = await Effect.runPromise(
        Scope.provide(session.subscribe([...broadcast.split("/"), name]), own)
      )
      const read = (group) =>
        Stream.runForEachArray(group.frames, (frames) => {
          for (let i = 0; i < frames.length; i++) onFrame(frames[i], group.sequence)
          return Effect.void
        })
      Effect.runFork(
        Effect.ignore(track.groups.pipe(Stream.mapEffect(read, { concurrency: "unbounded" }), Stream.runDrain))
      )
      return { close: () => void Effect.runFork(Scope.close(own, Exit.void)) }
    },
    close: () => Effect.runPromise(Scope.close(scope, Exit.fail("closed")))
  }
}
