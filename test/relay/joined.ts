/** Clients of a relay that speak by hand. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import type * as Profile from "../../src/message/Profile.ts"
import * as SessionServer from "../../src/message/SessionServer.ts"
import { announce, ByHand, hello, takeAnnounce } from "../session/byHand.ts"
import { settle, type start } from "./relays.ts"

type Started = Effect.Success<ReturnType<typeof start>>

/** A client that has shaken hands. */
export const joined = (relay: Started, profile: Profile.Profile, path = "") =>
  Effect.gen(function*() {
    const connection = yield* relay.network.transport.connect(new URL(`https://relay.example${path}`))
    const peer = new ByHand(connection, profile)
    const control = yield* peer.open(hello([profile.version]))
    assert.strictEqual((yield* control.hear(SessionServer.decode)).version, profile.version)
    return { peer, control }
  })

/** One that publishes a path; it has told so. */
export const publishing = (relay: Started, profile: Profile.Profile, ...path: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const { control, peer } = yield* joined(relay, profile)
    const announces = (yield* takeAnnounce(peer)).stream
    yield* announce(announces, "active", ...path)
    yield* settle
    return { peer, control, announces }
  })
