// Frames per second, closed-loop: at most `window` frames for each of `subs` subscribers are in flight. Several sizes
// take turns, and so do several tracks; a group ends after `perGroup` frames, or stays open.
import { now, sleep, tick, Window } from "../lib/measuring.mjs"

export async function frames(bench, { perGroup = Infinity, size, subs = 1, tracks = 1, window = 256 }) {
  const publisher = await bench.publisher()
  const room = new Window(window * subs)
  const contents = [size].flat().map((bytes) => new Uint8Array(bytes).fill(7))
  const names = Array.from({ length: tracks }, (_, i) => tracks === 1 ? "t" : `t${i}`)
  let got = 0, bytes = 0, corrupt = 0
  const onFrame = (frame) => {
    got++
    bytes += frame.byteLength
    if (frame.byteLength > 0 && frame[frame.byteLength - 1] !== 7) corrupt++
    room.done()
  }
  for (let i = 0; i < subs; i++) {
    const session = await bench.session(publisher)
    for (const name of names) await bench.subscribe(session, name, onFrame)
  }
  for (const name of names) await bench.live(publisher, name, subs)

  const open = names.map(() => ({ group: undefined, frames: 0 }))
  async function run(duration) {
    const start = now(), end = start + duration, before = got, bytesBefore = bytes
    let sent = 0, bytesSent = 0
    while (now() < end) {
      for (let i = 0; i < 8; i++) {
        // awaits only what asks to be awaited, so that a publisher may burst up to the window within one turn
        let wait = room.room()
        if (wait) await wait
        room.add(subs)
        const at = open[sent % tracks]
        if (at.group === undefined) {
          at.group = publisher.group(names[sent % tracks])
          if (at.group.then) at.group = await at.group
          at.frames = 0
        }
        const frame = contents[sent % contents.length]
        wait = at.group.write(frame)
        if (wait) await wait
        sent++
        bytesSent += frame.length
        if (++at.frames >= perGroup) {
          wait = at.group.close()
          if (wait) await wait
          at.group = undefined
        }
      }
    }
    const stop = now() + 8000
    while (got - before < sent * subs) {
      if (now() > stop) throw new Error(`got ${got - before} of ${sent * subs} frames`)
      await (bench.transport === "memory" ? tick() : sleep(0))
    }
    const seconds = (now() - start) / 1e3
    if (corrupt > 0 || bytes - bytesBefore !== bytesSent * subs) throw new Error(`${corrupt} corrupt frames`)
    for (const at of open) {
      await at.group?.close()
      at.group = undefined
    }
    return { value: sent * subs / seconds, MBps: bytesSent * subs / seconds / 1e6 }
  }
  await run(bench.ms * 0.6)
  globalThis.gc()
  const before = process.cpuUsage()
  const result = await bench.measured(() => run(bench.ms))
  const used = process.cpuUsage(before)
  return { ...result, cpuMs: (used.user + used.system) / 1e3 }
}
