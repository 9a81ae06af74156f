/** What an attack is, and what attacks share. */
import type { JsonWebKey } from "node:crypto"
import { type End, type Options, Peer } from "./Peer.ts"
import * as Wire from "./wire.ts"

/** Whom to attack. */
export interface Target {
  /** The URL of the relay, `https:`. */
  readonly url: string
  /** The address to come from. */
  readonly from: string | undefined
  /** A track that honest people publish and watch: groups of small frames. */
  readonly track: ReadonlyArray<string>
  /** The private key (JWK, ES256) that the relay trusts, where it asks for tokens: what an attacker would like to have. */
  readonly key?: JsonWebKey | undefined
}

export interface Attack {
  /** What it is, as in the table of results. */
  readonly name: string
  /** It lasts until a timeout of 20 seconds or more. */
  readonly isSlow?: boolean | undefined
  /** The relay asks for tokens. */
  readonly isGuarded?: boolean | undefined
  /** Does it, and tells how the relay has ended each part of it. */
  readonly run: (target: Target) => Promise<ReadonlyArray<End>>
  /** The ends that there must be, each at least once. */
  readonly ends: ReadonlyArray<End>
  /** Others that there may be. */
  readonly also?: ReadonlyArray<End> | undefined
  /** What the 99th percentile of others' latency may be, in milliseconds, where it cannot be held to the rule. */
  readonly p99?: number | undefined
}

export const session = (target: Target, options: Options = {}): Promise<Peer> =>
  Peer.session(target.url, { from: target.from, ...options })

export const sleep = (millis: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, millis))

/** What a promise gives, or what to say when that takes longer. */
export const within = <A, B>(millis: number, promise: Promise<A>, otherwise: B): Promise<A | B> =>
  Promise.race([promise, sleep(millis).then(() => otherwise)])

/** Publishes one track, by hand: calls back with each subscription. */
export const publish = async (
  target: Target,
  name: string,
  onSubscribe: (subscription: number, stream: number, peer: Peer) => void
): Promise<Peer> => {
  let announced!: () => void
  const isAnnounced = new Promise<void>((resolve) => announced = resolve)
  const peer = await session(target, {
    onStream(id, bytes, peer) {
      if (bytes[0] === 1) {
        peer.send(id, Wire.concat(Wire.announce("active", Wire.path(name)), Wire.live))
        announced()
      } else if (bytes[0] === 2) {
        peer.send(id, Wire.info)
        onSubscribe(bytes[1]!, id, peer)
      } else peer.reset(id, 13)
    }
  })
  await isAnnounced
  return peer
}

/** Subscribes until the track is there. */
export const watch = async (peer: Peer, path: Uint8Array): Promise<number> => {
  for (let id = 0;; id++) {
    const stream = await peer.stream("bi", Wire.subscribe(id, path))
    try {
      await peer.heard(stream)
      return stream
    } catch {
      if (!peer.isOpen) throw new Error("the session is over")
      await sleep(20)
    }
  }
}
