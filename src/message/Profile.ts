/**
 * The versions of the protocol that this library speaks, and everything in which they differ.
 *
 * **Details**
 *
 * A version number does not name one byte layout: the drafts say one thing, the Rust crate `moq-transfork`, which is
 * what was deployed, does another under the same numbers. A *profile* is one of both, and this module the only place
 * that knows how they differ; the others ask it.
 *
 * @since 0.1.0
 */
import type { GroupOrder } from "../core/GroupOrder.ts"

/**
 * The names of the profiles, as they stand in options and in output.
 *
 * @category models
 * @since 0.1.0
 */
export type Name = "draft03" | "fork04" | "fork02"

/**
 * A version of the protocol, as spoken by someone.
 *
 * @category models
 * @since 0.1.0
 */
export interface Profile {
  readonly name: Name
  /** The number that the handshake negotiates. */
  readonly version: number

  // the bytes

  /** How a priority + 128 is written in SUBSCRIBE, INFO and FETCH: as a varint, or as one byte. */
  readonly priority: "varint" | "byte"
  /**
   * What SUBSCRIBE_UPDATE writes as a varint: the priority + 128, or the priority itself, which then cannot be
   * negative.
   */
  readonly updatePriority: "shifted" | "unsigned"
  /** The group orders by their number. */
  readonly orders: ReadonlyArray<GroupOrder>
  /** The numbers of the group orders. An order that has none of its own is sent as the crate's default, `"desc"`. */
  readonly orderNumbers: Readonly<Record<GroupOrder, number>>
  /** Whether SUBSCRIBE, SUBSCRIBE_UPDATE and INFO carry `expires`; where not it decodes as 0. */
  readonly expires: boolean
  /** Where INFO has `latest`: before the order, or at its end. */
  readonly infoLatest: "second" | "last"
  /** How the status of ANNOUNCE is written: as a varint, or as one byte. */
  readonly announceStatus: "varint" | "byte"
  /** The largest code in SUBSCRIBE_GAP; one above it is malformed. */
  readonly maxGapCode: number
  /** Whether FETCH_UPDATE exists. */
  readonly fetchUpdate: boolean

  // how sessions behave

  /** Whether a publisher sends `live` after the announces that it begins with; the crate of `fork02` cannot read it. */
  readonly sendsLive: boolean
  /** Whether a peer may be sent SESSION_UPDATE; the crate takes it for INFO and closes the session. */
  readonly sendsSessionUpdate: boolean
  /** Whether SUBSCRIBE_GAP is any use to the peer; the crate only logs it. */
  readonly sendsGaps: boolean
  /**
   * Whether the peer skips groups without a SUBSCRIBE_GAP, so that a skipped sequence must be taken for one in time.
   */
  readonly skipsSilently: boolean
  /** Whether a peer is known to serve FETCH: where not, a stream that ends at once says that it does not. */
  readonly servesFetch: boolean
  /** What a stream of an unknown type, or a second Session stream, closes: the session, or itself. */
  readonly unknownStreamCloses: "session" | "stream"
  /** The code for a stream of an unknown type. (A second Session stream is always 10.) */
  readonly unknownStreamCode: number
  /** Whether a subscriber ends its side right after SUBSCRIBE: the crate does not end a track's stream before that. */
  readonly subscriberFinishesEarly: boolean
  /** Whether a subscriber that asks for priority 0 has no wish: the crate always does, and its publisher's counts. */
  readonly zeroPriorityIsNone: boolean
  /** Whether a publisher takes the end of the subscriber's side for an unsubscribe. */
  readonly finUnsubscribes: boolean
  /** Whether `ended` of its path, with no group open for a while, ends a subscribed track. */
  readonly announceEndsTracks: boolean
  /** The code to send for an error: the code itself, or its nearest relative where the peer does not know it. */
  readonly toWireCode: (code: number) => number
}

/**
 * Draft-lcurley-moq-transfork-03, as its text says: the full-featured one, spoken between two of this library.
 *
 * @category profiles
 * @since 0.1.0
 */
export const draft03: Profile = {
  name: "draft03",
  version: 0xff0bad03,
  priority: "varint",
  updatePriority: "shifted",
  orders: ["default", "asc", "desc"],
  orderNumbers: { default: 0, asc: 1, desc: 2 },
  expires: true,
  infoLatest: "second",
  announceStatus: "varint",
  maxGapCode: Number.MAX_SAFE_INTEGER,
  fetchUpdate: true,
  sendsLive: true,
  sendsSessionUpdate: true,
  sendsGaps: true,
  skipsSilently: false,
  servesFetch: true,
  unknownStreamCloses: "session",
  unknownStreamCode: 10,
  subscriberFinishesEarly: false,
  zeroPriorityIsNone: false,
  finUnsubscribes: true,
  announceEndsTracks: false,
  toWireCode: (code) => code
}

/**
 * The crate `moq-transfork` 0.9 to 0.11.
 *
 * @category profiles
 * @since 0.1.0
 */
export const fork04: Profile = {
  name: "fork04",
  version: 0xff0bad04,
  priority: "byte",
  updatePriority: "unsigned",
  orders: ["asc", "desc"],
  orderNumbers: { default: 1, asc: 0, desc: 1 },
  expires: false,
  infoLatest: "last",
  announceStatus: "byte",
  maxGapCode: 0xffff_ffff,
  fetchUpdate: false,
  sendsLive: true,
  sendsSessionUpdate: false,
  sendsGaps: false,
  skipsSilently: true,
  servesFetch: false,
  unknownStreamCloses: "stream",
  unknownStreamCode: 5,
  subscriberFinishesEarly: true,
  zeroPriorityIsNone: true,
  finUnsubscribes: false,
  announceEndsTracks: true,
  toWireCode: (code) => fork04Codes[code] ?? code
}

/**
 * The crate `moq-transfork` 0.4 to 0.8: `fork04` with `expires`, and without `live`.
 *
 * @category profiles
 * @since 0.1.0
 */
export const fork02: Profile = {
  ...fork04,
  name: "fork02",
  version: 0xff0bad02,
  expires: true,
  sendsLive: false
}

/**
 * Every profile, the preferred one first: what a client offers and a server chooses from by default.
 *
 * @category profiles
 * @since 0.1.0
 */
export const all: ReadonlyArray<Profile> = [draft03, fork04, fork02]

/**
 * The profile of a name, or `undefined` when there is none.
 *
 * @category lookups
 * @since 0.1.0
 */
export const byName = (name: string): Profile | undefined => all.find((profile) => profile.name === name)

/**
 * The profile of a version number, or `undefined` when there is none.
 *
 * @category lookups
 * @since 0.1.0
 */
export const byVersion = (version: number): Profile | undefined => all.find((profile) => profile.version === version)

/**
 * The ALPN of the protocol on raw QUIC and the name that WebSocket subprotocols carry, whatever the profile.
 *
 * @category constants
 * @since 0.1.0
 */
export const alpn = "moqf-02"

// internal

// Expired, Timeout, Lagged and Evicted become Cancelled, Unauthorized NotFound, FrameTooLarge WrongSize
const fork04Codes: Readonly<Record<number, number>> = { 2: 0, 3: 0, 26: 0, 31: 0, 6: 13, 27: 14 }
