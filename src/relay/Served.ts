/**
 * What a relay serves now, and which way it came: what other relays are told.
 *
 * @since 0.1.0
 */
import * as Path from "../core/Path.ts"
import type { Offered } from "./Origin.ts"
import * as Via from "./Via.ts"

/**
 * A track that is served.
 *
 * @internal
 */
export interface Track {
  readonly path: Path.Path
  readonly source: Offered
  /** The way of the track to whoever asks this relay: it begins with this relay. */
  readonly via: Via.Via
  readonly way: string
}

/**
 * What has become of a path: another track is served under it or comes another way, its source is lost and may come back,
 * or it has ended.
 *
 * @internal
 */
export type News = Track | "lost" | "ended"

/** @internal */
export interface Listener {
  readonly tell: (path: Path.Path, news: News) => void
}

/**
 * Another relay that serves a track, in reserve those included.
 *
 * @internal
 */
export interface Way extends Offered {
  readonly via: Via.Via
  readonly withdraw: (why: "ended" | "lost") => void
}

/** @internal */
export class Served {
  /** This relay. */
  readonly id: string
  readonly tracks: Map<string, Track>
  readonly listeners: Set<Listener>
  // all that other relays offer, by path
  private readonly ways: Map<string, Set<Way>>
  private readonly publishers: WeakMap<Offered, string>
  private unknown: number
  constructor(id: string) {
    this.id = id
    this.tracks = new Map()
    this.listeners = new Set()
    this.ways = new Map()
    this.publishers = new WeakMap()
    this.unknown = 0
  }

  /** Another source serves a path from now on, or none. */
  set(path: Path.Path, source: Offered | undefined): void {
    const key = Path.key(path)
    if (source === undefined) {
      this.tracks.delete(key)
      return this.tell(path, "ended")
    }
    const via = { hops: [this.id, ...source.hops], publisher: source.instance ?? this.publisherOf(source) }
    const way = Via.format(via)
    const isNews = this.tracks.get(key)?.way !== way
    const track = { path, source, via, way }
    this.tracks.set(key, track)
    if (isNews) this.tell(path, track)
  }

  /** Another relay serves a path as well. */
  add(way: Way): void {
    const key = Path.key(way.path)
    const ways = this.ways.get(key)
    if (ways === undefined) this.ways.set(key, new Set([way]))
    else ways.add(way)
  }

  /** The hops of a source have changed. */
  refresh(source: Offered): void {
    if (this.isServing(source)) this.set(source.path, source)
  }

  /** Another relay serves a path no more; to be called once `way` is withdrawn. */
  delete(way: Way, why: "ended" | "lost"): void {
    const key = Path.key(way.path)
    const ways = this.ways.get(key)
    ways?.delete(way)
    if (ways?.size === 0) this.ways.delete(key)
    // Nobody serves it in its place, for now. The other relays may know another way: they must not wait until this one
    // has given up.
    if (why === "lost" && this.isServing(way)) {
      this.tracks.delete(key)
      this.tell(way.path, "lost")
    }
  }

  /**
   * The other ways to where a way leads: when a track has ended there, it has ended by all of them, and to try each until
   * the news has come by it too would be told to all relays around. Of its own tracks a relay tells itself: hearsay ends
   * none of those.
   */
  othersTo(way: Way): ReadonlyArray<Way> {
    const end = Via.endOf(way.via)
    return Array.from(this.ways.get(Path.key(way.path)) ?? []).filter((other) =>
      other !== way && other.hops.length > 1 && Via.endOf(other.via) === end
    )
  }

  private isServing(source: Offered): boolean {
    return this.tracks.get(Path.key(source.path))?.source === source
  }

  private tell(path: Path.Path, news: News): void {
    for (const listener of this.listeners) listener.tell(path, news)
  }

  // One that does not say who it is gets a name, so that other relays can tell it from the next one.
  private publisherOf(source: Offered): string {
    let name = this.publishers.get(source)
    if (name === undefined) {
      name = this.id.slice(0, 8) + (this.unknown++).toString(16).padStart(8, "0").slice(-8)
      this.publishers.set(source, name)
    }
    return name
  }
}
