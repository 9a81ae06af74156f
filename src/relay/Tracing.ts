/**
 * The spans of a relay: one for each session, and in it one for each subscription and fetch. Without a tracer in its
 * context there are none.
 *
 * **Details**
 *
 * Peers tell each other in SETUP which span their session belongs to, and the spans link to each other: those of a relay
 * to those of its clients, and from one relay to the next. What a relay asks of a publisher (kind `client`) is a child
 * of what its first viewer asked for (kind `server`), and linked to the session that it is asked over.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { TracerEnabled } from "effect/References"
import type * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { type SessionClosed, StreamReset } from "../core/MoqError.ts"
import { inOwnScope } from "../core/OwnScope.ts"
import * as Path from "../core/Path.ts"
import type * as Router from "../model/Router.ts"
import type * as Session from "../session/Session.ts"
import { reserved } from "./Intake.ts"

/** @internal */
export interface Tracing {
  /**
   * Begins the span of a session, which ends with the scope: `server` for that of a client, `client` for one with another
   * relay. Paths are told as they are below `root`.
   */
  readonly session: (
    kind: "server" | "client",
    root: Path.Path,
    attributes: Record<string, unknown>
  ) => Effect.Effect<Trace, never, Scope.Scope>
}

/**
 * The span of one session.
 *
 * @internal
 */
export interface Trace {
  /** Runs an effect in the span: what opens the session, which then tells the peer of it. */
  readonly within: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Links it to the peer's, and gives the session with spans around what is asked of it. */
  readonly opened: (session: Session.Session, attributes?: Record<string, unknown>) => Session.Session
  /** What the session serves, with spans around what is asked of that. */
  readonly router: (router: Router.Router) => Router.Router
  /** Says how the session ended. */
  readonly closed: (by: SessionClosed) => Effect.Effect<void>
}

/** @internal */
export const make: Effect.Effect<Tracing> = Effect.map(Effect.context<never>(), (context) => {
  const tracer = Context.get(context, Tracer.Tracer)
  // the one that is there by default keeps spans for nobody
  if (tracer === Tracer.nativeTracer || !Context.get(context, TracerEnabled)) return none
  return {
    session: (kind, root, attributes) =>
      Effect.map(
        Effect.makeSpanScoped("moq.session", {
          root: true,
          kind,
          attributes: { ...attributes, "moq.root": Path.format(root) }
        }),
        (span) => traceOf(span, root)
      )
  }
})

// internal

const untraced: Trace = {
  within: (effect) => effect,
  opened: (session) => session,
  router: (router) => router,
  closed: () => Effect.void
}

const none: Tracing = { session: () => Effect.succeed(untraced) }

const traceOf = (span: Tracer.Span, root: Path.Path): Trace => ({
  within: (effect) => Effect.provideService(effect, Tracer.ParentSpan, span),
  opened: (session, attributes = {}) => {
    const peer = session.greeting.span
    if (peer !== undefined) span.addLinks([{ span: Tracer.externalSpan(peer), attributes: {} }])
    span.attribute("moq.profile", session.profile)
    for (const [name, value] of Object.entries(attributes)) span.attribute(name, value)
    return asked(session, root, { kind: "client", links: [{ span, attributes: {} }] })
  },
  router: (router) => asked(router, root, { kind: "server" }),
  closed: (closed) =>
    Effect.map(Clock.currentTimeNanos, (now) => {
      const { by, code, reason } = closed
      span.attribute("moq.close.by", by)
      span.attribute("moq.close.code", code)
      if (reason !== "") span.attribute("moq.close.reason", reason)
      span.end(now, code === 0 ? Exit.void : Exit.fail(closed))
    })
})

// the same but for what is asked of it
const asked = <A extends Pick<Router.Router, "subscribe" | "fetch">>(
  self: A,
  root: Path.Path,
  options: Tracer.SpanOptionsNoTrace
): A => {
  const spanned = <B, E, R>(
    name: string,
    attributes: Record<string, unknown>,
    use: (span: Tracer.Span) => Effect.Effect<B, E, R>
  ) =>
    // it ends with the scope, and at once when that fails which it is for
    inOwnScope(Effect.flatMap(
      Effect.acquireRelease(
        Effect.makeSpan(name, { ...options, attributes }),
        (span, exit) => Effect.map(Clock.currentTimeNanos, (now) => span.end(now, hasLeft(exit) ? Exit.void : exit))
      ),
      (span) => Effect.provideService(use(span), Tracer.ParentSpan, span)
    ))
  // between relays, names begin with the way that a track comes
  const pathOf = (path: Path.Path): string =>
    Path.format(Path.concat(root, path[0] === reserved ? path.slice(3) : path))
  const subscribe: Router.Router["subscribe"] = (path, options) =>
    spanned(
      "moq.subscribe",
      { "moq.path": pathOf(path) },
      (span) =>
        Effect.tap(
          self.subscribe(path, options),
          ({ info }) => Effect.sync(() => span.attribute("moq.priority", info.priority))
        )
    )
  const fetch: Router.Router["fetch"] = (path, sequence, options) =>
    spanned("moq.fetch", {
      "moq.path": pathOf(path),
      "moq.group": sequence,
      "moq.priority": options?.priority ?? 0
    }, () => self.fetch(path, sequence, options))
  return Object.create(self as object, { subscribe: { value: subscribe }, fetch: { value: fetch } }) as A
}

// the peer has reset the stream of its request, which is how it says that it wants no more
const hasLeft = (exit: Exit.Exit<unknown, unknown>): boolean =>
  Exit.isFailure(exit) && Cause.squash(exit.cause) instanceof StreamReset
