import { assert, describe, it } from "@effect/vitest"
import { Console, Effect, type Layer, Stream } from "effect"
import { type MoqError, Session, type Track, type Transport } from "../src/index.ts"

type Equals<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false

const watch = Effect.gen(function*() {
  const session = yield* Session.Session
  const track = yield* session.subscribe(["room", "alice", "clock"], { wait: "10 seconds" })
  yield* Stream.runForEach(track.frames, (frame) => Console.log(new TextDecoder().decode(frame)))
}).pipe(Effect.scoped)

// what the README says that the editor shows
const watchIs: Equals<
  typeof watch,
  Effect.Effect<void, MoqError.WireError | MoqError.SessionClosed, Session.Session>
> = true

const handled = Effect.catchTags(watch, {
  MoqNotFound: () => Effect.void,
  MoqSessionClosed: (closed) => Effect.logInfo(closed.by)
})

const handledIs: Equals<
  typeof handled,
  Effect.Effect<void, Exclude<MoqError.WireError, MoqError.NotFound>, Session.Session>
> = true

const layerIs: Equals<
  ReturnType<typeof Session.layerConnect>,
  Layer.Layer<Session.Session, Session.ConnectError, Transport.Transport>
> = true

const producerIs: Equals<
  Effect.Error<Track.Producer["appendGroup"]>,
  MoqError.Cancelled | MoqError.SessionClosed
> = true

describe("types", () => {
  it("are those that the documentation shows", () => {
    assert.deepStrictEqual([watchIs, handledIs, layerIs, producerIs], [true, true, true, true])
  })
})
