/** What was published and what was received in one run, and what must be true of them. */
import { Exit } from "effect"
import { isMoqError } from "../../src/core/MoqError.ts"
import type { Event } from "../../src/model/Track.ts"

/** A group as its publisher wrote it. */
export interface Written {
  readonly frames: Array<Uint8Array>
  end: "finished" | "failed" | undefined
}

/** One life of a track: from its publication to its end. */
export interface Life {
  readonly id: number
  readonly track: number
  readonly groups: Map<number, Written>
  end: "finished" | "failed" | undefined
}

/** A group as it was read. */
export interface Received {
  readonly sequence: number
  readonly frames: Array<Uint8Array>
  end: Exit.Exit<void, unknown> | undefined
}

/** What one subscription has seen. */
export interface Seen {
  readonly name: string
  readonly track: number
  /** Whether it may go on with another life of the track, under other numbers. */
  readonly resumes: boolean
  /** Whether it is told of every sequence: the crate's versions have no word for those that never began. */
  readonly isExact: boolean
  readonly events: Array<Event>
  readonly groups: Array<Received>
  /** The frames of the face `frames`, in place of the events. */
  readonly frames: Array<Uint8Array>
  /** Where it begins; `undefined` for the newest group. */
  readonly from: number | undefined
  readonly to: number
  end: Exit.Exit<void, unknown> | undefined
}

/** Where a frame came from: it says so itself. */
export interface Label {
  readonly life: number
  readonly group: number
  readonly frame: number
}

const headerBytes = 12

/** The bytes of a frame of about the given size: its label, then a pattern; at least the label. */
export const frameOf = ({ frame, group, life }: Label, size: number): Uint8Array => {
  const bytes = new Uint8Array(Math.max(headerBytes, size))
  const view = new DataView(bytes.buffer)
  view.setUint32(0, life)
  view.setUint32(4, group)
  view.setUint32(8, frame)
  for (let i = headerBytes; i < bytes.length; i++) bytes[i] = (life * 31 + group * 17 + frame * 7 + i) & 0xff
  return bytes
}

const labelOf = (bytes: Uint8Array): Label => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return { life: view.getUint32(0), group: view.getUint32(4), frame: view.getUint32(8) }
}

/** Thrown for what must not be. */
export class Broken extends Error {}

const check = (holds: boolean, what: () => string): void => {
  if (!holds) throw new Broken(what())
}

const equal = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, index) => byte === b[index])

/** All the lives of all tracks. */
export class Oracle {
  readonly lives: Array<Life> = []

  begin(track: number): Life {
    const life: Life = { id: this.lives.length + 1, track, groups: new Map(), end: undefined }
    this.lives.push(life)
    return life
  }

  /** A frame is one that was written, in its place; gives its label. */
  frame(bytes: Uint8Array, where: string): Label {
    check(bytes.length >= headerBytes, () => `${where}: a frame of ${bytes.length} bytes, which nobody wrote`)
    const label = labelOf(bytes)
    const written = this.lives[label.life - 1]?.groups.get(label.group)?.frames[label.frame]
    check(written !== undefined, () => `${where}: a frame that nobody wrote: ${JSON.stringify(label)}`)
    check(equal(written!, bytes), () => `${where}: a frame with other bytes: ${JSON.stringify(label)}`)
    return label
  }

  /** The frames are those of one group, from `first` on, none missing, none twice; all of them when it ended cleanly. */
  group({ end, frames, sequence }: Received, where: string, resumes: boolean, first = 0): number | undefined {
    const labels = frames.map((bytes) => this.frame(bytes, where))
    labels.forEach((label, index) => {
      check(
        label.frame === first + index && label.group === labels[0]!.group && label.life === labels[0]!.life,
        () => `${where}: group ${sequence} has frame ${JSON.stringify(label)} in place ${first + index}`
      )
      check(resumes || label.group === sequence, () => `${where}: group ${sequence} has frames of ${label.group}`)
    })
    const [label] = labels
    if (label === undefined || end === undefined || Exit.isFailure(end)) return label?.life
    const written = this.lives[label.life - 1]!.groups.get(label.group)!
    check(
      written.end === "finished" && written.frames.length === first + frames.length,
      () =>
        `${where}: group ${sequence} ended cleanly with ${frames.length} frames from ${first} on; ` +
        `it has ${written.frames.length}, ${written.end}`
    )
    return label.life
  }

  /** What must be true of a subscription, whether or not it has ended. */
  seen(seen: Seen): void {
    const { events, frames, groups, name } = seen
    const told = new Set<number>()
    const first = seen.from ?? 0
    for (const event of events) {
      const [from, to] = event._tag === "Gap" ? [event.from, event.to] : [event.sequence, event.sequence]
      check(from >= first && to <= seen.to, () => `${name}: ${from}-${to} is outside of ${first}-${seen.to}`)
      check(to - from < 10_000, () => `${name}: a gap ${from}-${to}`)
      for (let sequence = from; sequence <= to; sequence++) {
        check(!told.has(sequence), () => `${name}: ${sequence} is told of twice`)
        told.add(sequence)
      }
    }
    const lives = new Set<number>()
    for (const group of groups) {
      const life = this.group(group, name, seen.resumes)
      if (life !== undefined) lives.add(life)
    }
    let last: Label | undefined
    for (const bytes of frames) {
      const label = this.frame(bytes, name)
      lives.add(label.life)
      const goesOn = last === undefined || label.life !== last.life || label.group > last.group ||
        (label.group === last.group && label.frame === last.frame + 1)
      check(goesOn, () => `${name}: frame ${JSON.stringify(label)} after ${JSON.stringify(last)}`)
      check(
        label.frame === 0 || (last?.group === label.group && last.life === label.life),
        () => `${name}: joined in the middle of a group: ${JSON.stringify(label)}`
      )
      last = label
    }
    const [only] = lives
    for (const { end, frames, sequence } of groups) {
      if (lives.size !== 1 || seen.resumes || frames.length > 0 || end === undefined || Exit.isFailure(end)) continue
      const written = this.lives[only! - 1]!.groups.get(sequence)
      check(
        written?.end === "finished" && written.frames.length === 0,
        () => `${name}: group ${sequence} came empty; it has ${written?.frames.length} frames`
      )
    }
    check(seen.resumes || lives.size <= 1, () => `${name}: has frames of the lives ${[...lives]}`)
    for (const life of lives) {
      check(this.lives[life - 1]!.track === seen.track, () => `${name}: has frames of another track`)
    }
    if (seen.end !== undefined) typed(seen.end, name)
    const hasFailed = seen.end !== undefined && Exit.isFailure(seen.end)
    const [id] = lives
    if (!hasFailed && lives.size === 1 && seen.isExact && frames.length === 0 && id !== undefined) {
      this.complete(seen, told, this.lives[id - 1]!)
    }
  }

  // a subscription that ended cleanly, or goes on and everything has come to rest, has been told of every group; after a
  // clean end also of the sequences that were left out
  private complete(
    { end, from, groups: received, name, resumes, to }: Seen,
    told: Set<number>,
    { groups, id, track }: Life
  ): void {
    // one that resumes may wait for the first group of the next life, under numbers that this one has not used
    if (resumes && this.lives.some((life) => life.track === track && life.id > id)) return
    const numbers = received.flatMap(({ frames: [frame], sequence }) =>
      frame === undefined ? [] : [{ sequence, group: labelOf(frame).group }]
    )
    // one that resumes may have begun with a life of which it got nothing, and have other numbers for this one
    if (resumes && numbers.some(({ group, sequence }) => group !== sequence)) return
    const first = resumes
      ? Math.min(...numbers.map(({ sequence }) => sequence))
      : from ?? Math.min(...told)
    const last = Math.min(to, Math.max(-1, ...groups.keys()))
    for (let sequence = first; sequence <= last; sequence++) {
      const written = groups.get(sequence)
      // a group of which there is nothing yet does not travel
      const isNothing = written === undefined || (written.frames.length === 0 && written.end === undefined)
      if (end === undefined && isNothing) continue
      check(told.has(sequence), () => `${name}: was never told of ${sequence}`)
    }
  }
}

/** Every failure is one of the errors of this library, and none is a defect. */
export const typed = (exit: Exit.Exit<unknown, unknown>, where: string): void => {
  if (Exit.isSuccess(exit)) return
  for (const reason of exit.cause.reasons) {
    if (reason._tag === "Interrupt") continue
    const isTyped = reason._tag === "Fail" && isMoqError(reason.error)
    check(isTyped, () => `${where}: ${reason._tag} ${String(reason._tag === "Fail" ? reason.error : reason.defect)}`)
  }
}
