/** A peer that speaks the protocol by hand, byte by byte where a test wants it. */
import { assert } from "@effect/vitest"
import { Effect, Fiber, Option, Pull, type Scope } from "effect"
import * as Reader from "../../src/coding/Reader.ts"
import type * as Writer from "../../src/coding/Writer.ts"
import type { SessionClosed } from "../../src/core/MoqError.ts"
import * as Announce from "../../src/message/Announce.ts"
import * as AnnouncePlease from "../../src/message/AnnouncePlease.ts"
import * as Fetch from "../../src/message/Fetch.ts"
import * as FrameMessage from "../../src/message/Frame.ts"
import * as GroupMessage from "../../src/message/Group.ts"
import * as Info from "../../src/message/Info.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as SessionClient from "../../src/message/SessionClient.ts"
import * as SessionServer from "../../src/message/SessionServer.ts"
import * as StreamType from "../../src/message/StreamType.ts"
import * as Subscribe from "../../src/message/Subscribe.ts"
import * as SubscribeGap from "../../src/message/SubscribeGap.ts"
import * as SubscribeUpdate from "../../src/message/SubscribeUpdate.ts"
import { type Decode, type Encode, encode, expect, MessageStream } from "../../src/session/MessageStream.ts"
import * as Session from "../../src/session/Session.ts"
import * as Memory from "../../src/transport/Memory.ts"
import type { BiStream, Connection, ReceiveStream, SendStream } from "../../src/transport/Transport.ts"
import { bytes, connect, settle, text } from "./sessions.ts"

/** How one direction of a stream has ended: FIN, a reset or stop with a code, with the session; or not yet. */
export type End = "fin" | "session" | "open" | number

/** The bytes that a function writes. */
export const written = (write: (writer: Writer.Writer) => void): Uint8Array =>
  encode<null>((writer) => write(writer), null, Profile.draft03)

export const type = (type: StreamType.Bi): Uint8Array => written((writer) => StreamType.encodeBi(writer, type))

export const concat = (...parts: ReadonlyArray<Uint8Array>): Uint8Array => new Uint8Array(Buffer.concat(parts))

/** Something that suspends for ever has the outcome `other`. */
const now = <A, E, B>(effect: Effect.Effect<A, E>, other: B): Effect.Effect<A | B, E> =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(effect)
    yield* settle
    const exit = fiber.pollUnsafe()
    yield* Fiber.interrupt(fiber)
    return exit === undefined ? other : yield* (exit as unknown as Effect.Effect<A, E>)
  })

/** How the peer has ended its sending, after whatever it has sent. */
export const received = (stream: ReceiveStream): Effect.Effect<End> =>
  now<End, never, End>(
    stream.pull.pipe(
      Effect.forever({ disableYield: true }),
      Pull.catchDone(() => Effect.succeed<End>("fin")),
      Effect.catch((error) => Effect.succeed<End>(error._tag === "MoqStreamReset" ? error.code : "session"))
    ),
    "open"
  )

/** What has come by now, byte by byte, and has not been taken before. */
export const arrived = (stream: ReceiveStream): Effect.Effect<ReadonlyArray<number>> =>
  Effect.suspend(() => {
    const all: Array<number> = []
    const taken = Effect.map(stream.pull, (chunks) => {
      for (const chunk of chunks) all.push(...chunk)
    })
    return Effect.as(now(Effect.ignore(Effect.forever(taken, { disableYield: true })), undefined), all)
  })

/** Whether the peer has asked for no more, and with which code. */
export const stopped = (stream: SendStream): Effect.Effect<End> => now<End, never, End>(stream.stopped, "open")

/** How the connection has ended, unless it lives. */
export const closed = (connection: Connection): Effect.Effect<SessionClosed | undefined> =>
  now(connection.closed, undefined)

/** A stream of the hand-made peer. */
export class Hand {
  readonly stream: MessageStream
  readonly profile: Profile.Profile
  constructor(stream: BiStream, profile: Profile.Profile) {
    this.stream = new MessageStream(stream)
    this.profile = profile
  }
  readonly write = (...chunks: ReadonlyArray<Uint8Array>) => this.stream.send.write([concat(...chunks)])
  say<A>(layout: Encode<A>, message: A) {
    return this.write(encode(layout, message, this.profile))
  }
  hear<A>(decode: Decode<A>) {
    return this.stream.expect(decode, this.profile)
  }
  get finish() {
    return this.stream.send.finish
  }
  /** How both directions have ended: what the peer sent, and what it asked of us. */
  get ends(): Effect.Effect<readonly [received: End, stopped: End]> {
    return Effect.all([received(this.stream.receive), stopped(this.stream.send)])
  }
}

/** The stream of a group that the session has opened, as far as it has come. */
export class Incoming {
  readonly stream: ReceiveStream
  readonly profile: Profile.Profile
  readonly reader: Reader.Reader
  readonly frames: Array<string>
  subscribe: number | undefined
  sequence: number | undefined
  end: End
  constructor(stream: ReceiveStream, profile: Profile.Profile) {
    this.stream = stream
    this.profile = profile
    this.reader = Reader.make()
    this.frames = []
    this.subscribe = undefined
    this.sequence = undefined
    this.end = "open"
  }
  /** Takes what comes, until the stream ends. */
  get read(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      assert.strictEqual(yield* expect(this.stream, this.reader, StreamType.decodeUni), "group")
      const header = yield* expect(this.stream, this.reader, (reader) => GroupMessage.decode(reader, this.profile))
      this.subscribe = header.subscribe
      this.sequence = header.sequence
      this.take()
      yield* this.stream.pull.pipe(
        Effect.map((chunks) => {
          for (const chunk of chunks) this.reader.push(chunk)
          this.take()
        }),
        Effect.forever({ disableYield: true }),
        Pull.catchDone(() => Effect.void)
      )
      this.end = "fin"
    }).pipe(
      Effect.catchTag("MoqStreamReset", (error) => Effect.sync(() => this.end = error.code)),
      Effect.catchTag("MoqSessionClosed", () => Effect.sync(() => this.end = "session")),
      Effect.orDie
    )
  }
  private take(): void {
    while (this.size !== undefined || this.reader.available > 0) {
      const size = this.size ?? FrameMessage.decodeHeader(this.reader)
      if (size === Reader.NeedMore) return
      this.size = size
      if (this.reader.available < size) return
      this.frames.push(text(size === 0 ? new Uint8Array(0) : this.reader.bytes(size)))
      this.size = undefined
    }
  }
  private size: number | undefined
}

/** A connection on which a test speaks by hand. */
export class ByHand {
  readonly connection: Connection
  readonly profile: Profile.Profile
  nextId: number
  constructor(connection: Connection, profile: Profile.Profile) {
    this.connection = connection
    this.profile = profile
    this.nextId = 0
  }
  get bytesOf() {
    return <A>(layout: Encode<A>, message: A): Uint8Array => encode(layout, message, this.profile)
  }
  /** Opens a stream and writes to it. */
  open(...chunks: ReadonlyArray<Uint8Array>) {
    return Effect.gen({ self: this }, function*() {
      const hand = new Hand(yield* this.connection.openBi, this.profile)
      if (chunks.length > 0) yield* hand.write(...chunks)
      return hand
    })
  }
  openUni(...chunks: ReadonlyArray<Uint8Array>) {
    return Effect.tap(
      this.connection.openUni(),
      (send) => chunks.length > 0 ? send.write([concat(...chunks)]) : Effect.void
    )
  }
  /** The next stream that the session opens. */
  get accept() {
    return Effect.map(this.connection.acceptBi, (stream) => new Hand(stream, this.profile))
  }
  /** The next stream of a type that the session opens; those before it are left alone. */
  acceptType(wanted: StreamType.Bi): Effect.Effect<Hand, unknown, Scope.Scope> {
    return Effect.gen({ self: this }, function*() {
      while (true) {
        const stream = yield* this.accept
        const type = yield* Effect.option(stream.hear(StreamType.decodeBi))
        if (Option.isSome(type) && type.value === wanted) return stream
      }
    })
  }
  subscribe(path: ReadonlyArray<string>, range: { min?: number; max?: number; id?: number } = {}) {
    const { id = this.nextId++, ...rest } = range
    const message: Subscribe.Subscribe = {
      _tag: "Subscribe",
      id,
      path,
      priority: 0,
      order: "desc",
      expires: 0,
      ...rest
    }
    return this.open(type("subscribe"), this.bytesOf(Subscribe.encode, message))
  }
  /** Opens the stream of a group, with frames that are already there. */
  group(subscribe: number, sequence: number, ...frames: ReadonlyArray<string>) {
    return this.openUni(this.header(subscribe, sequence), ...frames.map(frame))
  }
  header(subscribe: number, sequence: number): Uint8Array {
    const group: GroupMessage.Group = { _tag: "Group", subscribe, sequence }
    return concat(
      written((writer) => StreamType.encodeUni(writer, "group")),
      this.bytesOf(GroupMessage.encode, group)
    )
  }
  /** The next group that the session sends, as far as it has come. */
  get takeGroup(): Effect.Effect<Incoming, SessionClosed, Scope.Scope> {
    return Effect.gen({ self: this }, function*() {
      const group = new Incoming(yield* this.connection.acceptUni, this.profile)
      yield* Effect.forkScoped(group.read)
      yield* settle
      return group
    })
  }
}

/** A frame as a group carries it. */
export const frame = (payload: string): Uint8Array =>
  written((writer) => FrameMessage.encode(writer, { _tag: "Frame", payload: bytes(payload) }, Profile.draft03))

export const info = (latest: number): Info.Info => ({
  _tag: "Info",
  priority: 0,
  order: "desc",
  expires: 0,
  latest
})

export const gap = (start: number, count: number, code: number): SubscribeGap.SubscribeGap => ({
  _tag: "SubscribeGap",
  start,
  count,
  code
})

/** What a publisher of draft-03 says when the track has ended before group `end`. */
export const rest = (end: number): SubscribeGap.SubscribeGap => gap(end, Number.MAX_SAFE_INTEGER - end, 0)

export const update = (range: { min?: number; max?: number }): SubscribeUpdate.SubscribeUpdate => ({
  _tag: "SubscribeUpdate",
  priority: 5,
  order: "asc",
  expires: 0,
  ...range
})

export const hello = (versions: ReadonlyArray<number>): Uint8Array =>
  concat(
    type("session"),
    encode(SessionClient.encode, { _tag: "SessionClient", versions, extensions: [] }, Profile.draft03)
  )

export const answer = (version: number): Uint8Array =>
  encode(SessionServer.encode, { _tag: "SessionServer", version, extensions: [] }, Profile.draft03)

/** A session that has accepted a client made by hand. */
export const client = (profile: Profile.Profile, options?: Session.Options, memory?: Memory.Options) =>
  Effect.gen(function*() {
    const [left, right] = yield* Memory.pair(memory)
    const accepting = yield* Effect.forkScoped(Session.accept(right, { profiles: [profile], ...options }))
    const peer = new ByHand(left, profile)
    const control = yield* peer.open(hello([profile.version]))
    assert.strictEqual((yield* control.hear(SessionServer.decode)).version, profile.version)
    return { session: yield* Fiber.join(accepting), peer, control }
  })

/** Answers a client that opens its session, and gives the Session stream. */
export const greet = (peer: ByHand) =>
  Effect.gen(function*() {
    const control = yield* peer.accept
    assert.strictEqual(yield* control.hear(StreamType.decodeBi), "session")
    yield* control.hear(SessionClient.decode)
    yield* control.write(answer(peer.profile.version))
    return control
  })

/** A session that has connected to a server made by hand. */
export const server = (profile: Profile.Profile, options?: Session.Options, memory?: Memory.Options) =>
  Effect.gen(function*() {
    const [left, right] = yield* Memory.pair(memory)
    const connecting = yield* Effect.forkScoped(connect(left, { profiles: [profile], ...options }))
    const peer = new ByHand(right, profile)
    const control = yield* greet(peer)
    return { session: yield* Fiber.join(connecting), peer, control }
  })

/** Takes an Announce stream that the session opened, and its prefix. */
export const takeAnnounce = (peer: ByHand) =>
  Effect.gen(function*() {
    const stream = yield* peer.acceptType("announce")
    return { stream, prefix: (yield* stream.hear(AnnouncePlease.decode)).prefix }
  })

/** Announces a path, or its end, on an Announce stream. */
export const announce = (stream: Hand, status: "active" | "ended", ...suffix: ReadonlyArray<string>) =>
  stream.say(Announce.encode, { _tag: "Announce", status, suffix })

/** Takes a Fetch stream that the session opened, and what it asks for. */
export const takeFetch = (peer: ByHand) =>
  Effect.gen(function*() {
    const stream = yield* peer.acceptType("fetch")
    return { stream, message: yield* stream.hear(Fetch.decode) }
  })

/** Takes a Subscribe stream that the session opened, and what it asks for. */
export const takeSubscribe = (peer: ByHand) =>
  Effect.gen(function*() {
    const stream = yield* peer.acceptType("subscribe")
    return { stream, message: yield* stream.hear(Subscribe.decode) }
  })

/** SUBSCRIBE as the crate writes it: priority 0x80, order 1, no range. */
export const subscribeLikeTheCrate = (peer: ByHand, id: number, ...path: ReadonlyArray<string>) =>
  peer.open(
    type("subscribe"),
    Uint8Array.of(id, path.length),
    ...path.flatMap((part) => [Uint8Array.of(part.length), bytes(part)]),
    Uint8Array.of(0x80, 1, ...(peer.profile.expires ? [0] : []), 0, 0)
  )

/** A group that is finished at once. */
export const whole = (peer: ByHand, id: number, sequence: number, ...frames: ReadonlyArray<string>) =>
  Effect.flatMap(peer.group(id, sequence, ...frames), (stream) => stream.finish)

/** The gaps that have arrived on a Subscribe stream, and its end if that has come. */
export const gaps = (stream: Hand) =>
  Effect.gen(function*() {
    yield* settle
    const out: Array<string> = []
    while (true) {
      const fiber = yield* Effect.forkScoped(Effect.exit(stream.stream.read(SubscribeGap.decode, stream.profile)))
      yield* settle
      const exit = fiber.pollUnsafe()
      if (exit === undefined) {
        yield* Fiber.interrupt(fiber)
        return out
      }
      const gap = yield* Effect.flatten(Fiber.join(fiber))
      if (gap === undefined) return [...out, "fin"]
      const to = gap.start + gap.count
      out.push(`${gap.start}-${to === Number.MAX_SAFE_INTEGER ? "" : to}!${gap.code}`)
    }
  })
