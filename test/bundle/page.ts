/**
 * A page that subscribes, publishes, announces and fetches, the way the documentation says to import: what a browser
 * loads of this is what is measured.
 */
import * as BrowserTransport from "effect-moq/browser/BrowserTransport"
import * as Session from "effect-moq/session/Session"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"

const show = (text: string) =>
  Effect.sync(() => {
    const line = document.createElement("li")
    line.textContent = text
    document.body.append(line)
  })

const decoder = new TextDecoder()
const encoder = new TextEncoder()

const words = Stream.fromIterable(["good", "morning"]).pipe(Stream.map((word) => encoder.encode(word)))

const page = Effect.gen(function*() {
  const session = yield* Session.Session

  const room = yield* session.broadcast(["room", "me"])
  const chat = yield* room.track("chat", { priority: 10 })
  yield* Effect.forkScoped(Stream.run(words, chat.sink({ group: { frames: 10 } })))

  yield* session.announced(["room"]).pipe(
    Stream.runForEach((event) =>
      show(event._tag === "Live" ? "these are all" : `${event._tag} ${event.path.join("/")}`)
    ),
    Effect.forkScoped
  )

  const clock = yield* session.subscribe(["room", "alice", "clock"], { wait: "10 seconds" })
  const group = yield* session.fetch(["room", "alice", "clock"], clock.latest ?? 0)
  yield* Stream.runForEach(group.frames, (frame) => show(`fetched ${decoder.decode(frame)}`))
  yield* Stream.runForEach(clock.frames, (frame) => show(decoder.decode(frame)))
}).pipe(
  Effect.catch((error) => show(error.message)),
  Effect.scoped
)

const SessionLayer = Session.layerConnect(location.hash.slice(1)).pipe(Layer.provide(BrowserTransport.layer))

page.pipe(
  Effect.provide(SessionLayer),
  Effect.catch((error) => show(error.message)),
  Effect.runFork
)
