/**
 * All messages by the names of the protocol, and their forms for people and tools: hexadecimal and JSON.
 *
 * **Details**
 *
 * The JSON of a message has exactly the fields that its profile carries: numbers, `min` and `max` null when absent,
 * words for order and status, paths as arrays of strings, extensions as `[id, hex]` pairs, a payload as hex.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"
import * as Wire from "../coding/Wire.ts"
import { GroupOrder } from "../core/GroupOrder.ts"
import * as Path from "../core/Path.ts"
import * as Priority from "../core/Priority.ts"
import * as Announce from "./Announce.ts"
import * as AnnouncePlease from "./AnnouncePlease.ts"
import * as Fetch from "./Fetch.ts"
import * as FetchUpdate from "./FetchUpdate.ts"
import * as Field from "./Field.ts"
import * as Frame from "./Frame.ts"
import * as Group from "./Group.ts"
import * as Info from "./Info.ts"
import * as InfoPlease from "./InfoPlease.ts"
import type { Profile } from "./Profile.ts"
import * as SessionClient from "./SessionClient.ts"
import * as SessionServer from "./SessionServer.ts"
import * as SessionUpdate from "./SessionUpdate.ts"
import * as Subscribe from "./Subscribe.ts"
import * as SubscribeGap from "./SubscribeGap.ts"
import * as SubscribeUpdate from "./SubscribeUpdate.ts"

/**
 * Any message.
 *
 * @category models
 * @since 0.1.0
 */
export type Message =
  | SessionClient.SessionClient
  | SessionServer.SessionServer
  | SessionUpdate.SessionUpdate
  | AnnouncePlease.AnnouncePlease
  | Announce.Announce
  | Subscribe.Subscribe
  | SubscribeUpdate.SubscribeUpdate
  | SubscribeGap.SubscribeGap
  | Info.Info
  | InfoPlease.InfoPlease
  | Fetch.Fetch
  | FetchUpdate.FetchUpdate
  | Group.Group
  | Frame.Frame

/**
 * The names of the messages, as the protocol writes them.
 *
 * @category models
 * @since 0.1.0
 */
export type Name =
  | "SESSION_CLIENT"
  | "SESSION_SERVER"
  | "SESSION_UPDATE"
  | "ANNOUNCE_PLEASE"
  | "ANNOUNCE"
  | "SUBSCRIBE"
  | "SUBSCRIBE_UPDATE"
  | "SUBSCRIBE_GAP"
  | "INFO"
  | "INFO_PLEASE"
  | "FETCH"
  | "FETCH_UPDATE"
  | "GROUP"
  | "FRAME"

/**
 * A message in a profile: its forms.
 *
 * @category models
 * @since 0.1.0
 */
export interface Entry {
  readonly name: Name
  readonly profile: Profile
  /** To and from bytes. */
  readonly codec: Schema.Codec<Message, Uint8Array>
  /** To and from JSON. */
  readonly json: Schema.Codec<Message, Schema.Json>
}

/**
 * The forms of a message in a profile, or `undefined` when there is no such message.
 *
 * @category lookups
 * @since 0.1.0
 */
export const lookup = (name: string, profile: Profile): Entry | undefined => {
  let entries = cache.get(profile)
  if (entries === undefined) cache.set(profile, entries = makeEntries(profile))
  return entries.get(name)
}

/**
 * The names of the messages that a profile has.
 *
 * @category lookups
 * @since 0.1.0
 */
export const names = (profile: Profile): ReadonlyArray<Name> =>
  (Object.keys(definitions) as Array<Name>).filter((name) => name !== "FETCH_UPDATE" || profile.fetchUpdate)

/**
 * From JSON to bytes in lower-case hexadecimal. Fails as {@link Wire.toError} says.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeHex = (entry: Entry, json: unknown): Effect.Effect<string, Wire.CodecError> =>
  Schema.decodeUnknownEffect(entry.json)(json).pipe(
    Effect.flatMap(Schema.encodeEffect(entry.codec)),
    Effect.flatMap(Schema.encodeEffect(Schema.Uint8ArrayFromHex)),
    Effect.mapError(Wire.toError)
  )

/**
 * From bytes in hexadecimal to JSON. Fails as {@link Wire.toError} says.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decodeHex = (entry: Entry, hex: string): Effect.Effect<Schema.Json, Wire.CodecError> =>
  Schema.decodeEffect(Schema.Uint8ArrayFromHex)(hex).pipe(
    Effect.flatMap(Schema.decodeEffect(entry.codec)),
    Effect.flatMap(Schema.encodeEffect(entry.json)),
    Effect.mapError(Wire.toError)
  )

// internal

const cache = new WeakMap<Profile, ReadonlyMap<string, Entry>>()

const makeEntries = (profile: Profile): ReadonlyMap<string, Entry> =>
  new Map(names(profile).map((name) => [name, { name, profile, ...definitions[name](profile) }]))

// `json` has the fields in their JSON form, without the tag
const define = <M extends Message>(
  tag: M["_tag"],
  message: {
    readonly schema: Schema.Codec<M, unknown>
    readonly codec: (profile: Profile) => Schema.Codec<M, Uint8Array>
    readonly json: (profile: Profile) => Schema.Codec<object, Schema.Json>
  }
) =>
(profile: Profile): Pick<Entry, "codec" | "json"> => ({
  codec: message.codec(profile) as unknown as Entry["codec"],
  json: message.json(profile).pipe(
    Schema.decodeTo(
      Schema.toType(message.schema),
      // Structs drop keys that they do not have, on both sides: so what some messages lack may be given to all
      SchemaTransformation.transform<M, object>({
        decode: (json) => ({ _tag: tag, expires: 0, ...withoutNulls(json) }) as unknown as M,
        encode: (message) => ({ min: null, max: null, ...message })
      })
    )
  ) as unknown as Entry["json"]
})

const withoutNulls = (json: object): object =>
  Object.fromEntries(Object.entries(json).filter(([, value]) => value !== null))

const Extensions = Schema.Array(
  Schema.Tuple([Field.Uint, Schema.Uint8ArrayFromHex]).pipe(
    Schema.decodeTo(
      Schema.toType(Field.Extension),
      SchemaTransformation.transform<Field.Extension, readonly [number, Uint8Array]>({
        decode: ([id, payload]) => ({ id, payload }),
        encode: ({ id, payload }) => [id, payload]
      })
    )
  )
)

const range = {
  min: Schema.optionalKey(Schema.NullOr(Field.Bound)),
  max: Schema.optionalKey(Schema.NullOr(Field.Bound))
}

// a profile without the field has no key for it: its type is only right for the others
const expires = (profile: Profile) => (profile.expires ? { expires: Field.Uint } : {}) as { expires: typeof Field.Uint }

const definitions: Record<Name, (profile: Profile) => Pick<Entry, "codec" | "json">> = {
  SESSION_CLIENT: define("SessionClient", {
    schema: SessionClient.SessionClient,
    codec: SessionClient.codec,
    json: () => Schema.Struct({ versions: Field.Versions, extensions: Extensions })
  }),
  SESSION_SERVER: define("SessionServer", {
    schema: SessionServer.SessionServer,
    codec: SessionServer.codec,
    json: () => Schema.Struct({ version: Field.Uint, extensions: Extensions })
  }),
  SESSION_UPDATE: define("SessionUpdate", {
    schema: SessionUpdate.SessionUpdate,
    codec: SessionUpdate.codec,
    json: () => Schema.Struct({ bitrate: Field.Uint })
  }),
  ANNOUNCE_PLEASE: define("AnnouncePlease", {
    schema: AnnouncePlease.AnnouncePlease,
    codec: AnnouncePlease.codec,
    json: () => Schema.Struct({ prefix: Path.Path })
  }),
  ANNOUNCE: define("Announce", {
    schema: Announce.Announce,
    codec: Announce.codec,
    json: () =>
      Schema.Union([
        Schema.Struct({ status: Schema.Literals(["active", "ended"]), suffix: Path.Path }),
        Schema.Struct({ status: Schema.Literal("live") })
      ])
  }),
  SUBSCRIBE: define("Subscribe", {
    schema: Subscribe.Subscribe,
    codec: Subscribe.codec,
    json: (profile) =>
      Schema.Struct({
        id: Field.Uint,
        path: Path.Path,
        priority: Priority.Priority,
        order: GroupOrder,
        ...range,
        ...expires(profile)
      })
  }),
  SUBSCRIBE_UPDATE: define("SubscribeUpdate", {
    schema: SubscribeUpdate.SubscribeUpdate,
    codec: SubscribeUpdate.codec,
    json: (profile) => Schema.Struct({ priority: Priority.Priority, order: GroupOrder, ...range, ...expires(profile) })
  }),
  SUBSCRIBE_GAP: define("SubscribeGap", {
    schema: SubscribeGap.SubscribeGap,
    codec: SubscribeGap.codec,
    json: () => Schema.Struct({ start: Field.Uint, count: Field.Uint, code: Field.Uint })
  }),
  INFO: define("Info", {
    schema: Info.Info,
    codec: Info.codec,
    json: (profile) =>
      Schema.Struct({ priority: Priority.Priority, order: GroupOrder, latest: Field.Uint, ...expires(profile) })
  }),
  INFO_PLEASE: define("InfoPlease", {
    schema: InfoPlease.InfoPlease,
    codec: InfoPlease.codec,
    json: () => Schema.Struct({ path: Path.Path })
  }),
  FETCH: define("Fetch", {
    schema: Fetch.Fetch,
    codec: Fetch.codec,
    json: () => Schema.Struct({ path: Path.Path, priority: Priority.Priority, group: Field.Uint, frame: Field.Uint })
  }),
  FETCH_UPDATE: define("FetchUpdate", {
    schema: FetchUpdate.FetchUpdate,
    codec: FetchUpdate.codec,
    json: () => Schema.Struct({ priority: Priority.Priority })
  }),
  GROUP: define("Group", {
    schema: Group.Group,
    codec: Group.codec,
    json: () => Schema.Struct({ subscribe: Field.Uint, sequence: Field.Uint })
  }),
  FRAME: define("Frame", {
    schema: Frame.Frame,
    codec: Frame.codec,
    json: () => Schema.Struct({ payload: Schema.Uint8ArrayFromHex })
  })
}
