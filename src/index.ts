// core: the vocabulary

/** The order in which the groups of one track are sent under congestion. */
export * as GroupOrder from "./core/GroupOrder.ts"
/** Everything that can go wrong, and the codes of the wire. */
export * as MoqError from "./core/MoqError.ts"
/** Track paths. */
export * as Path from "./core/Path.ts"
/** Track priorities. */
export * as Priority from "./core/Priority.ts"

// coding: bytes

/** Reads fields from bytes that arrive in pieces. */
export * as Reader from "./coding/Reader.ts"
/** Variable-length integers. */
export * as Varint from "./coding/Varint.ts"
/** Glues a byte layout to a Schema. */
export * as Wire from "./coding/Wire.ts"
/** Writes fields as bytes. */
export * as Writer from "./coding/Writer.ts"

// message: the messages of the protocol

/** ANNOUNCE: a track has come or gone. */
export * as Announce from "./message/Announce.ts"
/** ANNOUNCE_PLEASE: asks which tracks there are. */
export * as AnnouncePlease from "./message/AnnouncePlease.ts"
/** FETCH: asks for a group that is cached. */
export * as Fetch from "./message/Fetch.ts"
/** FETCH_UPDATE: changes the priority of a FETCH. */
export * as FetchUpdate from "./message/FetchUpdate.ts"
/** FRAME: the unit of data in a group. */
export * as FrameMessage from "./message/Frame.ts"
/** What two peers tell each other in SETUP beyond the version. */
export * as Greeting from "./message/Greeting.ts"
/** GROUP: the first message on the stream of a group. */
export * as GroupMessage from "./message/Group.ts"
/** INFO: what a publisher says of a track. */
export * as Info from "./message/Info.ts"
/** INFO_PLEASE: asks about a track. */
export * as InfoPlease from "./message/InfoPlease.ts"
/** Every message by its name, as bytes and as JSON. */
export * as Message from "./message/Message.ts"
/** The versions of the protocol, and everything in which they differ. */
export * as Profile from "./message/Profile.ts"
/** SESSION_CLIENT: the first message of a client. */
export * as SessionClient from "./message/SessionClient.ts"
/** SESSION_SERVER: the answer of a server. */
export * as SessionServer from "./message/SessionServer.ts"
/** SESSION_UPDATE: the bitrate that a side can send at. */
export * as SessionUpdate from "./message/SessionUpdate.ts"
/** The types of streams. */
export * as StreamType from "./message/StreamType.ts"
/** SUBSCRIBE: asks for a track. */
export * as Subscribe from "./message/Subscribe.ts"
/** SUBSCRIBE_GAP: groups that will not come. */
export * as SubscribeGap from "./message/SubscribeGap.ts"
/** SUBSCRIBE_UPDATE: changes a subscription. */
export * as SubscribeUpdate from "./message/SubscribeUpdate.ts"

// model: live data in memory

/** What a reader hears about which tracks exist. */
export * as Announced from "./model/Announced.ts"
/** Tracks that belong together under one prefix. */
export * as Broadcast from "./model/Broadcast.ts"
/** Frames: the units of data in a group. */
export * as Frame from "./model/Frame.ts"
/** Groups of a track that will not come. */
export * as Gap from "./model/Gap.ts"
/** Groups: series of frames, and the places where a reader can join. */
export * as Group from "./model/Group.ts"
/** An append-only log with any number of readers. */
export * as Log from "./model/Log.ts"
/** Who has which track, in one process. */
export * as Router from "./model/Router.ts"
/** Tracks as a reader asked for them: a range, and preferences. */
export * as Subscription from "./model/Subscription.ts"
/** Tracks: live series of groups. */
export * as Track from "./model/Track.ts"
/** What happens on a track. */
export * as TrackEvent from "./model/TrackEvent.ts"
/** The events of a track in sequence. */
export * as TrackOrdered from "./model/TrackOrdered.ts"
/** Connects tracks with the `PubSub`s of a program. */
export * as TrackPubSub from "./model/TrackPubSub.ts"
/** A `Sink` that writes a Stream into a track. */
export * as TrackSink from "./model/TrackSink.ts"

// session and transport

/** How the first exchange of a session can fail. */
export * as Handshake from "./session/Handshake.ts"
/** What a session allows its peer, and how long it waits. */
export * as Limits from "./session/Limits.ts"
/** Counts what a session does, for whoever operates it. */
export * as Monitor from "./session/Monitor.ts"
/** A connection on which both sides publish and subscribe. */
export * as Session from "./session/Session.ts"
/** What a session is doing. */
export * as Status from "./session/Status.ts"
/** A transport within one process. */
export * as Memory from "./transport/Memory.ts"
/** Several transports as one: whichever connects first. */
export * as Race from "./transport/Race.ts"
/** The contract between a session and whatever carries its bytes. */
export * as Transport from "./transport/Transport.ts"
/** Any W3C WebTransport object as a transport. */
export * as WebTransport from "./transport/WebTransport.ts"
