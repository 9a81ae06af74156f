/** All messages with their raw functions, for tests that go through every one of them in every profile. */
import { Arbitrary, type Schema } from "effect"
import type * as Reader from "../../src/coding/Reader.ts"
import type * as Writer from "../../src/coding/Writer.ts"
import * as Announce from "../../src/message/Announce.ts"
import * as AnnouncePlease from "../../src/message/AnnouncePlease.ts"
import * as Fetch from "../../src/message/Fetch.ts"
import * as FetchUpdate from "../../src/message/FetchUpdate.ts"
import * as Frame from "../../src/message/Frame.ts"
import * as Group from "../../src/message/Group.ts"
import * as Info from "../../src/message/Info.ts"
import * as InfoPlease from "../../src/message/InfoPlease.ts"
import * as Message from "../../src/message/Message.ts"
import * as Profile from "../../src/message/Profile.ts"
import * as SessionClient from "../../src/message/SessionClient.ts"
import * as SessionServer from "../../src/message/SessionServer.ts"
import * as SessionUpdate from "../../src/message/SessionUpdate.ts"
import * as Subscribe from "../../src/message/Subscribe.ts"
import * as SubscribeGap from "../../src/message/SubscribeGap.ts"
import * as SubscribeUpdate from "../../src/message/SubscribeUpdate.ts"

interface Raw {
  readonly schema: Schema.Codec<Message.Message>
  readonly encode: (writer: Writer.Writer, message: Message.Message, profile: Profile.Profile) => void
  readonly decode: (reader: Reader.Reader, profile: Profile.Profile) => Message.Message | Reader.NeedMore
}

const raw = <M extends Message.Message>(module: {
  readonly encode: (writer: Writer.Writer, message: M, profile: Profile.Profile) => void
  readonly decode: (reader: Reader.Reader, profile: Profile.Profile) => M | Reader.NeedMore
}, schema: Schema.Codec<M>): Raw => ({ ...module, schema }) as unknown as Raw

const raws: Record<Message.Name, Raw> = {
  SESSION_CLIENT: raw(SessionClient, SessionClient.SessionClient),
  SESSION_SERVER: raw(SessionServer, SessionServer.SessionServer),
  SESSION_UPDATE: raw(SessionUpdate, SessionUpdate.SessionUpdate),
  ANNOUNCE_PLEASE: raw(AnnouncePlease, AnnouncePlease.AnnouncePlease),
  ANNOUNCE: raw(Announce, Announce.Announce),
  SUBSCRIBE: raw(Subscribe, Subscribe.Subscribe),
  SUBSCRIBE_UPDATE: raw(SubscribeUpdate, SubscribeUpdate.SubscribeUpdate),
  SUBSCRIBE_GAP: raw(SubscribeGap, SubscribeGap.SubscribeGap),
  INFO: raw(Info, Info.Info),
  INFO_PLEASE: raw(InfoPlease, InfoPlease.InfoPlease),
  FETCH: raw(Fetch, Fetch.Fetch),
  FETCH_UPDATE: raw(FetchUpdate, FetchUpdate.FetchUpdate),
  GROUP: raw(Group, Group.Group),
  FRAME: raw(Frame, Frame.Frame)
}

export interface Case extends Raw {
  readonly title: string
  readonly name: Message.Name
  readonly profile: Profile.Profile
  readonly entry: Message.Entry
}

/** Every message that exists, in every profile. */
export const cases: ReadonlyArray<Case> = Profile.all.flatMap((profile) =>
  Message.names(profile).map((name) => ({
    schema: raws[name].schema,
    encode: raws[name].encode,
    decode: raws[name].decode,
    title: `${name} in ${profile.name}`,
    name,
    profile,
    entry: Message.lookup(name, profile)!
  }))
)

/** What comes back of a message after a trip through a profile, by the canonical forms of the protocol's text. */
export const canonical = (message: Message.Message, profile: Profile.Profile): Message.Message => {
  if (profile.name === "draft03") return message
  const words = "order" in message && message.order === "default" ? { order: "desc" } : {}
  const expires = "expires" in message && profile.name === "fork04" ? { expires: 0 } : {}
  const priority = message._tag === "SubscribeUpdate" ? { priority: Math.max(0, message.priority) } : {}
  return { ...message, ...words, ...expires, ...priority } as Message.Message
}

/** Messages of a case, the same in every run. */
export const samples = (self: Case, count: number) =>
  Arbitrary.sampleEffect(
    Arbitrary.map(
      Arbitrary.schema(self.schema),
      // codes that the profile can carry
      (message) =>
        message._tag === "SubscribeGap" && self.profile.name !== "draft03"
          ? { ...message, code: message.code % 2 ** 32 }
          : message
    ),
    { count, seed: 17 }
  )
