/**
 * Asking for one group, or its end.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import { ignore } from "../core/Ignore.ts"
import { type FetchError, fromCode, type MoqError, NotSupportedByPeer, toRequestError } from "../core/MoqError.ts"
import { inOwnScope } from "../core/OwnScope.ts"
import * as Path from "../core/Path.ts"
import * as Fetch from "../message/Fetch.ts"
import type { Profile } from "../message/Profile.ts"
import * as Group from "../model/Group.ts"
import type { FetchOptions } from "../model/Router.ts"
import type { ReceiveStream } from "../transport/Transport.ts"
import { GroupReader, letGo } from "./GroupReader.ts"
import { inTime, resetCode, toReadError } from "./MessageStream.ts"
import { problemOf, request } from "./Requests.ts"
import type { SubscriberContext } from "./SessionContext.ts"
import type { Owner } from "./Unread.ts"

/**
 * Fetches a group for as long as the scope. Suspends until the first of it is here, so that a refusal is a failure of
 * this and not of the group.
 *
 * @internal
 */
export const fetch = (
  context: SubscriberContext,
  path: Path.Path,
  sequence: number,
  { frame = 0, priority = 0 }: FetchOptions = {}
): Effect.Effect<Group.Group, FetchError, Scope.Scope> => {
  const { monitor, profile, unread } = context
  const what = `group ${sequence} of ${Path.format(path)}`
  const fetched = Effect.gen(function*() {
    const message: Fetch.Fetch = { _tag: "Fetch", path, priority, group: sequence, frame }
    monitor.fetch("received")
    const stream = yield* request(context, "fetch", Fetch.encode, message)
    const first = yield* Pull.catchDone(stream.receive.pull, () => Effect.undefined)
    const group = Group.makeUnsafe(sequence, { first: frame })
    if (first === undefined) {
      if (!profile.servesFetch) return yield* notServed(profile.name)
      yield* ignore(group.finish)
      yield* ignore(stream.send.finish)
      return group.group
    }
    context.onBytes()
    const abort = (error: MoqError) => stream.abort(resetCode(error, context))
    const owner = yield* Effect.acquireRelease(
      Effect.sync((): Owner => ({ track: undefined })),
      (owner) => Effect.sync(() => unread.forget(owner))
    )
    yield* received(context, stream.receive, first, group, owner).pipe(
      Effect.andThen(stream.send.finish),
      Effect.catch(abort),
      Effect.forkScoped({ startImmediately: true })
    )
    return group.group
  })
  const problem = problemOf({ priority, from: frame, to: sequence })
  return problem !== undefined ? Effect.fail(problem) : fetched.pipe(
    inTime(context, `the answer to FETCH ${what}`),
    Effect.mapError(toFetchError(what, profile)),
    inOwnScope
  )
}

// internal

// suspends until all of the group is here; fails with what the stream is to be stopped for
const received = (
  context: SubscriberContext,
  stream: ReceiveStream,
  first: ReadonlyArray<Uint8Array>,
  group: Group.Producer,
  owner: Owner
): Effect.Effect<void, MoqError> =>
  Effect.callback((resume) => {
    const reader = new GroupReader(
      context,
      stream,
      (error) => resume(error === undefined ? Effect.void : Effect.fail(error))
    )
    if (reader.fill(owner, group, first)) reader.pull()
    return Effect.sync(() => reader.refuse(letGo))
  })

const notServed = (name: string): NotSupportedByPeer => new NotSupportedByPeer({ detail: `FETCH, on ${name}` })

const toFetchError = (what: string, profile: Profile) => (error: MoqError): FetchError => {
  if (error._tag === "MoqNotSupportedByPeer") return error
  if (error._tag !== "MoqStreamReset") return toRequestError(toReadError(error))
  if (!profile.servesFetch && saysNothing(error.code)) return notServed(profile.name)
  const meant = fromCode(error.code, what)
  return meant._tag === "MoqEvicted" ? meant : toRequestError(meant)
}

// the crate just drops the stream, the browser client that went with it resets it with an HTTP status
const saysNothing = (code: number): boolean => code === 0 || code === 501 || fromCode(code)._tag === "MoqRemote"
