/** What no reader can make sense of, or should not try to. */
import { type Attack, publish, session, sleep, type Target, watch, within } from "../Attack.ts"
import { type End, Peer, setup } from "../Peer.ts"
import * as Wire from "../wire.ts"

const patience = 9000

/** What is sent on a stream of an open session, and how that stream, or the session, has to end. */
type Case = readonly [what: string, bytes: Uint8Array, end: End, fin?: boolean]

// one that ends in another way than it has to is told by its name
const verdict = ([what, , end]: Case, seen: End): End => seen === end ? end : `${what}: ${seen} instead of ${end}`

const onBi = async (target: Target, one: Case): Promise<End> => {
  const peer = await session(target)
  const stream = await peer.stream("bi", one[1], one[3])
  const end = one[2].startsWith("closed") ? peer.closed : peer.refused(stream)
  const seen = await within(patience, end, "open")
  peer.destroy()
  return verdict(one, seen)
}

const instead = async (target: Target, one: Case): Promise<End> => {
  const peer = await Peer.connect(target.url, { from: target.from })
  peer.send(await peer.stream("bi"), one[1])
  const seen = await within(patience, peer.closed, "open")
  peer.destroy()
  return verdict(one, seen)
}

const asRecord = async (target: Target, one: Case): Promise<End> => {
  const peer = await session(target)
  peer.record(one[1])
  const seen = await within(patience, peer.closed, "open")
  peer.destroy()
  return verdict(one, seen)
}

const asGroup = async (target: Target, name: string, one: Case): Promise<End> => {
  let stop!: (end: End) => void
  const stopped = new Promise<End>((resolve) => stop = resolve)
  const publisher = await publish(target, name, async (subscription, _stream, peer) => {
    const stream = await peer.stream("uni", Wire.concat(Wire.group(subscription, 0), one[1]))
    stop(await peer.refused(stream))
  })
  const viewer = await session(target)
  await watch(viewer, Wire.path(name))
  const seen = await within(patience, stopped, "open")
  viewer.destroy()
  publisher.destroy()
  return verdict(one, seen)
}

const inTurn = async (all: ReadonlyArray<() => Promise<End>>): Promise<ReadonlyArray<End>> => {
  const ends: Array<End> = []
  for (const one of all) ends.push(await one())
  return ends
}

const { concat, hex, most, path, varint } = Wire

export const lengths: Attack = {
  name: "2^62-1 in every field that says how much is to come",
  run(target) {
    const version = hex("c0000000ff0bad03")
    const handshakes: ReadonlyArray<Case> = [
      ["versions", concat(hex("00"), most), "closed 11"],
      ["extensions", concat(hex("00 01"), version, most), "closed 11"],
      ["an extension", concat(hex("00 01"), version, hex("01 05"), most), "closed 11"]
    ]
    const requests: ReadonlyArray<Case> = [
      ["prefix", concat(varint(1), most), "refused 11"],
      ["part of a prefix", concat(varint(1), varint(1), most), "refused 11"],
      ["path of SUBSCRIBE", concat(varint(2), varint(0), most), "refused 11"],
      ["part of SUBSCRIBE", concat(varint(2), varint(0), varint(1), most), "refused 11"],
      ["path of FETCH", concat(varint(3), most), "refused 11"],
      ["part of FETCH", concat(varint(3), varint(1), most), "refused 11"],
      ["path of INFO_PLEASE", concat(varint(4), most), "refused 11"],
      ["part of INFO_PLEASE", concat(varint(4), varint(1), most), "refused 11"]
    ]
    const records: ReadonlyArray<Case> = [
      ["a STREAM frame", concat(hex("0a 04"), most), "aborted 1002"],
      ["a stream's number", concat(hex("0a"), most, hex("01 00")), "aborted 1002"],
      ["a reason", concat(hex("1d 00"), most), "aborted 1002"],
      ["transport parameters", concat(hex("ff5153300d0a0d0a"), most), "aborted 1002"],
      ["a datagram", concat(hex("31"), most), "aborted 1002"]
    ]
    const groups: ReadonlyArray<Case> = [
      ["a frame", most, "refused 11"],
      ["a frame above 16 MiB", varint(16 * 1024 * 1024 + 1), "refused 27"]
    ]
    return inTurn([
      ...handshakes.map((one) => () => instead(target, one)),
      ...requests.map((one) => () => onBi(target, one)),
      ...records.map((one) => () => asRecord(target, one)),
      ...groups.map((one, i) => () => asGroup(target, `length ${i}`, one))
    ])
  },
  ends: ["closed 11", "refused 11", "aborted 1002", "refused 27"]
}

export const oddPaths: Attack = {
  name: "subscriptions to reserved and odd paths",
  run(target) {
    const cases: ReadonlyArray<readonly [what: string, path: Uint8Array, end: End]> = [
      ["33 parts", path(...Array.from({ length: 33 }, () => "a")), "refused 11"],
      ["32 parts", path(...Array.from({ length: 32 }, () => "a")), "refused 13"],
      ["no parts", path(), "refused 15"],
      ["empty parts", path("", "", ""), "refused 13"],
      [".relay", path(".relay"), "refused 13"],
      ["internal/origins/x", path("internal", "origins", "x"), "refused 13"],
      ["..", path("..", "..", "etc", "passwd"), "refused 13"],
      ["__proto__", path("__proto__", "constructor"), "refused 13"],
      ["NUL", path("\0", "a\0b"), "refused 13"],
      ["1,023 bytes", path("x".repeat(1023)), "refused 13"],
      ["1,024 bytes", path("x".repeat(1024)), "refused 11"],
      ["invalid UTF-8", path(hex("c328")), "refused 5"],
      ["half a surrogate", path(hex("eda080")), "refused 5"],
      ["an overlong slash", path(hex("c0af")), "refused 5"]
    ]
    return inTurn(
      cases.map(([what, odd, end]) => () => onBi(target, [what, Wire.subscribe(0, odd), end]))
    )
  },
  ends: ["refused 5", "refused 11", "refused 13", "refused 15"]
}

/** Random bytes, the same in every run (xorshift32). */
const randomBytes = (seed: number, length: number): Uint8Array => {
  let state = seed | 1
  return Uint8Array.from({ length }, () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state >>> 24
  })
}

export const garbage: Attack = {
  name: "garbage on every type of stream, and in place of every layer",
  async run(target) {
    const ends: Array<End> = []
    const note = async (end: Promise<End>) => ends.push(kindOf(await within(patience, end, "open")))
    for (let seed = 1; seed <= 60; seed++) {
      const type = [0, 1, 2, 3, 4, 9, 0x3f][seed % 7]!
      const peer = await session(target)
      const bytes = concat(varint(type), randomBytes(seed * 7919, 1 + seed * 5))
      const stream = await peer.stream("bi", bytes, true)
      await note(Promise.race([peer.refused(stream), peer.closed]))
      peer.destroy()
    }
    for (let seed = 1; seed <= 40; seed++) {
      const peer = await session(target)
      const bytes = concat(varint(seed % 4 === 0 ? 5 : 0), randomBytes(seed * 104_729, 1 + seed * 3))
      const stream = await peer.stream("uni", bytes, true)
      await note(Promise.race([peer.refused(stream), peer.closed, sleep(300).then(() => "ignored")]))
      peer.destroy()
    }
    for (let seed = 1; seed <= 40; seed++) {
      const peer = await (seed % 2 === 0 ? session(target) : Peer.open(target.url, { from: target.from }))
      peer.record(randomBytes(seed * 65_537, seed * 11))
      await note(Promise.race([peer.closed, sleep(300).then(() => "ignored")]))
      peer.destroy()
    }
    const text = await session(target)
    text.socket.send("text")
    await note(text.closed)
    return ends
  },
  ends: ["refused", "closed", "cut"],
  also: ["ignored"]
}

// Which code it is depends on the bytes; that it is one of these does not. (7 is the attacker's own, and 1002 is QMux's for
// a malformed frame.)
const kindOf = (end: End): End => {
  const [how, code] = end.split(" ")
  const isKnown = code === undefined || ["0", "5", "7", "9", "10", "11", "13", "14", "15", "1002"].includes(code)
  if (!isKnown) return end
  return how === "refused" || how === "fin" ? "refused" : how === "aborted" ? "closed" : how!
}

/** All that a good session sends on each of its streams. */
const good = (target: Target): ReadonlyArray<readonly [kind: "session" | "bi" | "uni", bytes: Uint8Array]> => [
  ["session", setup],
  ["bi", Wire.announcePlease(path("fine"))],
  ["bi", Wire.subscribe(0, path(...target.track))],
  ["bi", Wire.fetch(path(...target.track), 0)],
  ["bi", Wire.infoPlease(path(...target.track))],
  ["uni", concat(Wire.group(0, 0), Wire.frame(Buffer.from("hello")), Wire.frame(Buffer.from("world")))]
]

export const endsEverywhere: Attack = {
  name: "FIN and reset at every byte of a good session, and the connection cut there",
  async run(target) {
    const ends: Array<End> = []
    for (const [kind, bytes] of good(target)) {
      let peer: Peer | undefined
      for (let at = 0; at <= bytes.length; at++) {
        for (const how of ["fin", "reset", "cut"] as const) {
          if (peer === undefined || !peer.isOpen) {
            peer = await (kind === "session" ? Peer.connect(target.url, { from: target.from }) : session(target))
          }
          const id = await peer.stream(kind === "uni" ? "uni" : "bi")
          peer.send(id, bytes.subarray(0, at))
          if (how === "fin") peer.finish(id)
          else if (how === "reset") peer.reset(id, 7)
          if (how === "cut") {
            peer.destroy()
            ends.push("cut")
          } else if (kind === "uni") {
            // nobody has to answer it: that the session goes on, or ends, is the answer
            ends.push(await Promise.race([peer.closed, sleep(2).then(() => "ended")]).then(kindOf))
          } else {
            ends.push(kindOf(await within(patience, Promise.race([peer.refused(id), peer.closed]), "open")))
          }
          if (kind === "session" && peer.isOpen) {
            peer.destroy()
            await peer.closed
          }
        }
      }
      peer?.destroy()
    }
    return ends
  },
  ends: ["refused", "cut"],
  also: ["closed", "ended"]
}
