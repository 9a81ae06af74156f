import { assert, describe, it } from "@effect/vitest"
import { Console, Context, Effect, type Layer, Stream } from "effect"
import { type Broadcast, type MoqError, Session, type Track, type Transport } from "../src/index.ts"
import type { Changes, Subscription } from "../src/model/Subscription.ts"
import type { Status } from "../src/session/Status.ts"

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

type ErrorOf<F extends (...args: ReadonlyArray<never>) => unknown> = Effect.Error<ReturnType<F>>
type StreamErrorOf<F extends (...args: ReadonlyArray<never>) => unknown> = ReturnType<F> extends
  Stream.Stream<infer _A, infer E, infer _R> ? E : "no stream"

// what a request can fail with
type Request =
  | MoqError.Cancelled
  | MoqError.Timeout
  | MoqError.DecodeError
  | MoqError.Unauthorized
  | MoqError.BoundsExceeded
  | MoqError.NotFound
  | MoqError.ProtocolViolation
  | MoqError.App
  | MoqError.Remote
  | MoqError.SessionClosed

// what opening a session can fail with
type Connect =
  | MoqError.TransportError
  | MoqError.Timeout
  | MoqError.UnsupportedVersion
  | MoqError.Unauthorized
  | MoqError.SessionClosed
  | MoqError.DecodeError
  | MoqError.BoundsExceeded
  | MoqError.UnexpectedStream
  | MoqError.ProtocolViolation

type Publish = MoqError.Duplicate | MoqError.BoundsExceeded

type S = Session.Session

const errorsAre: readonly [
  subscribe: Equals<ErrorOf<S["subscribe"]>, Request>,
  trackInfo: Equals<ErrorOf<S["trackInfo"]>, Request>,
  announced: Equals<StreamErrorOf<S["announced"]>, Request>,
  fetch: Equals<ErrorOf<S["fetch"]>, Request | MoqError.Evicted | MoqError.NotSupportedByPeer>,
  publish: Equals<ErrorOf<S["publish"]>, Publish>,
  route: Equals<ErrorOf<S["route"]>, Publish>,
  serve: Equals<ErrorOf<Parameters<S["route"]>[1]>, Request>,
  announce: Equals<ErrorOf<S["announce"]>, Publish>,
  broadcast: Equals<ErrorOf<S["broadcast"]>, never>,
  track: Equals<ErrorOf<Broadcast.Producer["track"]>, Publish>,
  update: Equals<
    ErrorOf<Subscription["update"]>,
    MoqError.BoundsExceeded | MoqError.NotSupportedByPeer | MoqError.SessionClosed
  >,
  reportBitrate: Equals<ErrorOf<S["reportBitrate"]>, MoqError.NotSupportedByPeer | MoqError.SessionClosed>,
  ping: Equals<Effect.Error<S["ping"]>, MoqError.SessionClosed>,
  close: Equals<ErrorOf<S["close"]>, never>,
  closed: Equals<S["closed"], Effect.Effect<MoqError.SessionClosed>>,
  connect: Equals<ErrorOf<typeof Session.connect>, Connect>,
  reconnect: Equals<ErrorOf<typeof Session.reconnect>, Connect>,
  accept: Equals<ErrorOf<typeof Session.accept>, Exclude<Connect, MoqError.TransportError>>
] = [
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true
]

const reconnectLayer = Session.layerReconnect("https://localhost:4443")
const reconnectIs: Equals<
  typeof reconnectLayer,
  Layer.Layer<Session.Session, Connect, Transport.Transport>
> = true

// whatever the URL needs, the layer needs
class Tokens extends Context.Service<Tokens, { readonly token: Effect.Effect<string> }>()("test/Tokens") {}
const url = Effect.flatMap(Tokens, ({ token }) => Effect.map(token, (token) => `https://relay.example/?jwt=${token}`))
const reconnecting = Session.layerReconnect(url)
const tokensAre: Equals<
  typeof reconnecting,
  Layer.Layer<Session.Session, Connect, Transport.Transport | Tokens>
> = true

const valuesAre: readonly [
  status: Equals<S["status"], Stream.Stream<Status>>,
  bitrate: Equals<S["bitrate"], Stream.Stream<number | undefined>>,
  changes: Equals<keyof Changes, "priority" | "order" | "expires" | "from" | "to">
] = [true, true, true]

describe("types", () => {
  it("are those that the documentation shows", () => {
    assert.deepStrictEqual([watchIs, handledIs, layerIs, producerIs], [true, true, true, true])
    assert.isTrue([...errorsAre, ...valuesAre, reconnectIs, tokensAre].every((is) => is))
  })
})
