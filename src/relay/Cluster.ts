/**
 * Relays that serve each other's tracks.
 *
 * **Details**
 *
 * A relay is a client of its upstreams. On one session each of the two takes in what the other serves, so that it does not
 * matter which of them is the upstream, and a track that is published anywhere can be viewed everywhere, under one
 * subscription per relay. Any topology will do: each relay tells the next which way a track came, and no track, and no
 * request, comes back to where it has been. A relay takes the way with the fewest relays, and another one when that is
 * lost.
 *
 * An upstream that is no relay of this library takes part as far as the protocol goes: what came from it is not offered to
 * it. See `docs/cluster.md` for what that cannot prevent.
 *
 * **Example** (A relay near its viewers)
 *
 * ```ts
 * import { Layer } from "effect"
 * import { NodeTransport } from "effect-moq/node"
 * import { Relay } from "effect-moq/relay"
 *
 * const EdgeLayer = Relay.layer({ upstreams: [{ url: "https://origin.example/?jwt=..." }] }).pipe(
 *   Layer.provide([NodeTransport.layer, NodeTransport.layerServer({ port: 4443, tls: { generate: ["localhost"] } })])
 * )
 * ```
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Pull from "effect/Pull"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { ProtocolViolation, TransportError } from "../core/MoqError.ts"
import * as Path from "../core/Path.ts"
import type * as Router from "../model/Router.ts"
import { defaultSchedule } from "../session/Reconnect.ts"
import { closedHere } from "../session/Requests.ts"
import * as Session from "../session/Session.ts"
import * as Transport from "../transport/Transport.ts"
import * as Intake from "./Intake.ts"
import * as Link from "./Link.ts"
import type * as Origin from "./Origin.ts"
import * as Outlook from "./Outlook.ts"
import { Served } from "./Served.ts"
import type { Tracing } from "./Tracing.ts"

/**
 * Another relay, to be a client of.
 *
 * @category models
 * @since 0.1.0
 */
export interface Upstream extends Transport.ConnectOptions {
  /**
   * Where it is: a URL, or an effect that gives it, run before each attempt. Its path is the root of the session, as for
   * any client: the paths of this relay are those below it. Its query may hold a token, which says what this relay may
   * pass on and take in.
   */
  readonly url: Session.Target
}

/**
 * What happens to the sessions with upstreams. `url` is without its query. `RelayLost` also tells of an attempt to connect
 * that has failed; `retryIn` is in milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export type Event =
  | { readonly _tag: "RelayConnected"; readonly url: string }
  | {
    readonly _tag: "RelayLost"
    readonly url: string
    readonly reason: string
    readonly retryIn: number | undefined
  }

/** @internal */
export interface Cluster {
  /** Hears which source serves a path from now on; `undefined` when none does. */
  readonly onServing: (path: Path.Path, source: Origin.Offered | undefined) => void
  /** What this relay says of itself. */
  readonly greeting: NonNullable<Session.Options["greeting"]>
  /** What a session is served from: what a guest sees, and for a relay what it may pass on. */
  readonly outlook: (guest: Router.Router, options: Outlook.Options) => Outlook.Outlook
  /** Takes in what a session announces below its prefixes, for as long as the scope, and opens its outlook. */
  readonly attach: (
    origin: Origin.Origin,
    session: Session.Session,
    options: {
      readonly root: Path.Path
      readonly prefixes: ReadonlyArray<Path.Path>
      readonly outlook: Outlook.Outlook
    }
  ) => Effect.Effect<Origin.Attached, never, Scope.Scope>
  /** Is a client of other relays for as long as the scope. */
  readonly connect: (
    origin: Origin.Origin,
    upstreams: ReadonlyArray<Upstream>,
    options: Session.Options | undefined
  ) => Effect.Effect<void, never, Scope.Scope>
  /** The URL of an upstream, by the session with it. */
  readonly urlOf: (session: Session.Session) => string | undefined
  /** Lets what is under way to upstreams come to its end, and opens no more sessions with them. */
  readonly drain: Effect.Effect<void>
  /** Closes the sessions with upstreams. */
  readonly close: Effect.Effect<void>
}

/** @internal */
export const make = ({ onEvent, tracing }: {
  readonly onEvent: (event: Event) => void
  readonly tracing: Tracing
}): Effect.Effect<Cluster> =>
  Effect.map(identity, (id) => {
    const served = new Served(id)
    const greeting = { instance: id, isRelay: true }
    // with their URLs
    const sessions = new Map<Session.Session, string>()
    let isDraining = false

    const outlook: Cluster["outlook"] = (guest, options) => new Outlook.Outlook(guest, served, options)

    const attach: Cluster["attach"] = (origin, session, { outlook, prefixes, root }) =>
      Effect.suspend(() => {
        const peer = relayOf(session)
        return peer === undefined
          ? Effect.andThen(outlook.open({ _tag: "Client" }), Intake.attach(origin, session, { root, prefixes }))
          : Effect.andThen(
            outlook.open({ _tag: "Relay", id: peer }),
            Link.attach(origin, session, served, { peer, prefixes, root })
          )
      })

    // until the session has ended, with which it fails
    const once = (
      origin: Origin.Origin,
      upstream: Upstream,
      options: Session.Options | undefined,
      connecting: (url: URL) => void
    ): Effect.Effect<never, Session.ConnectError, Transport.Transport | Scope.Scope> =>
      Effect.gen(function*() {
        const { url: target, ...trust } = upstream
        const url = yield* parse(Effect.isEffect(target) ? yield* target : target)
        connecting(url)
        const everything = { root: Path.empty, prefixes: [Path.empty] }
        const trace = yield* tracing.session("client", Path.empty, { "moq.url": shown(url) })
        const sees = outlook(trace.router(origin), everything)
        const connected = yield* trace.within(
          Session.connect(url, { ...options, ...trust, router: sees, greeting })
        )
        if (isDraining) return yield* closedHere
        const session = trace.opened(connected, { "moq.transport": connected.transport.transport })
        if (session.greeting.instance === id) {
          return yield* new ProtocolViolation({ detail: "this is the relay itself" })
        }
        if (relayOf(session) === undefined) {
          const hop = session.greeting.instance ?? idOf(url)
          yield* sees.open({ _tag: "Foreign", id: hop })
          yield* Intake.attach(origin, session, { root: Path.empty, hops: [hop] })
        } else {
          yield* attach(origin, session, { ...everything, outlook: sees })
        }
        yield* Effect.acquireRelease(
          Effect.sync(() => sessions.set(session, shown(url))),
          () => Effect.sync(() => sessions.delete(session))
        )
        onEvent({ _tag: "RelayConnected", url: shown(url) })
        const closed = yield* session.closed
        yield* trace.closed(closed)
        return yield* closed
      })

    const follow = (
      origin: Origin.Origin,
      upstream: Upstream,
      options: Session.Options | undefined
    ): Effect.Effect<void, never, Transport.Transport> =>
      Effect.gen(function*() {
        let step = yield* Schedule.toStep(defaultSchedule)
        let url = Effect.isEffect(upstream.url) ? "" : shown(upstream.url)
        while (!isDraining) {
          const since = yield* Clock.currentTimeMillis
          const error = yield* once(origin, upstream, options, (it) => void (url = shown(it))).pipe(
            Effect.scoped,
            Effect.sandbox,
            Effect.flip
          )
          if (isDraining) return
          const now = yield* Clock.currentTimeMillis
          if (now - since >= stableAfter) step = yield* Schedule.toStep(defaultSchedule)
          const retryIn = yield* step(now, error).pipe(
            Effect.map(([, delay]) => Duration.toMillis(delay)),
            Pull.catchDone(() => Effect.succeed(stableAfter))
          )
          onEvent({ _tag: "RelayLost", url, reason: yield* reasonOf(error), retryIn })
          yield* Effect.sleep(retryIn)
        }
      })

    return {
      onServing: (path, source) => served.set(path, source),
      greeting,
      outlook,
      attach,
      connect: (origin, upstreams, options) =>
        Effect.gen(function*() {
          if (upstreams.length === 0) return
          const transport = yield* Effect.serviceOption(Transport.Transport)
          if (Option.isNone(transport)) {
            return yield* Effect.die(new Error("Relay: with upstreams it needs a Transport to connect with"))
          }
          yield* Effect.forEach(
            upstreams,
            (upstream) =>
              Effect.forkScoped(
                Effect.provideService(follow(origin, upstream, options), Transport.Transport, transport.value)
              ),
            { discard: true }
          )
        }),
      urlOf: (session) => sessions.get(session),
      drain: Effect.suspend(() => {
        isDraining = true
        return Effect.forEach(sessions.keys(), (session) => session.drain, { concurrency: "unbounded", discard: true })
      }),
      close: Effect.suspend(() =>
        Effect.forEach(sessions.keys(), (session) => session.close(), { concurrency: "unbounded", discard: true })
      )
    }
  })

// internal

// how long a session must have lasted, in milliseconds, for the next attempt to come soon
const stableAfter = 10_000

const identity: Effect.Effect<string> = Effect.map(
  Effect.all([Random.nextIntBetween(0, 2 ** 32 - 1), Random.nextIntBetween(0, 2 ** 32 - 1)]),
  (halves) => halves.map(hex).join("")
)

const hex = (n: number): string => n.toString(16).padStart(8, "0")

// Another relay that keeps loops out. Only the draft's SETUP says so, and only with it a track outlives its name.
const relayOf = ({ greeting, profile }: Session.Session): string | undefined =>
  greeting.isRelay === true && profile === "draft03" ? greeting.instance : undefined

// a name for a relay that has none: the same in all relays that know it by the same URL
const idOf = ({ host, pathname }: URL): string =>
  hex(fnv(2166136261, host + pathname)) + hex(fnv(84696351, host + pathname))

// FNV-1a of the UTF-16 units
const fnv = (basis: number, text: string): number => {
  let hash = basis
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 16777619)
  return hash >>> 0
}

// what is no URL is not told: it may hold a token as well
const parse = (url: string | URL): Effect.Effect<URL, TransportError> =>
  URL.canParse(url) ? Effect.succeed(new URL(url)) : Effect.fail(new TransportError({ detail: "it is not a URL" }))

const shown = (url: string | URL): string => {
  if (!URL.canParse(url)) return ""
  const { origin, pathname, host, protocol } = new URL(url)
  return `${origin === "null" ? `${protocol}//${host}` : origin}${pathname}`
}

const reasonOf = (cause: Cause.Cause<Session.ConnectError>): Effect.Effect<string> => {
  const error = Cause.findErrorOption(cause)
  return Option.isSome(error)
    ? Effect.succeed(error.value.message)
    : Effect.as(Effect.logError("the session with an upstream died", cause), "a defect")
}
