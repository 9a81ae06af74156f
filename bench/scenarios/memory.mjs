// What is held, both ends together: heap and what lies outside of it, after collections.
import { sleep, Window } from "../lib/measuring.mjs"

const held = async () => {
  for (let i = 0; i < 4; i++) {
    globalThis.gc()
    await sleep(30)
  }
  const { external, heapUsed } = process.memoryUsage()
  return heapUsed + external
}
const ignoring = () => {}

async function warm(bench) {
  const publisher = await bench.publisher()
  const session = await bench.session(publisher)
  await bench.subscribe(session, "warm", ignoring)
  await bench.live(publisher, "warm", 1)
  return { publisher, session }
}

/** One more session with one idle subscription, less what a bare pair of the transport holds. */
export async function sessions(bench, { n }) {
  const { publisher } = await warm(bench)
  const pairs = []
  const before = await held()
  for (let i = 0; i < n; i++) pairs.push(await bench.pair())
  const withPairs = await held()
  for (let i = 0; i < n; i++) await bench.subscribe(await bench.session(publisher), "t", ignoring)
  await bench.live(publisher, "t", n)
  const withSessions = await held()
  const pairBytes = (withPairs - before) / n
  return { value: (withSessions - withPairs) / n - pairBytes, pairBytes, pairs: pairs.length }
}

/** One more idle subscription, to a track of its own, on an open session. */
export async function tracks(bench, { n }) {
  const { publisher, session } = await warm(bench)
  const before = await held()
  for (let i = 0; i < n; i++) await bench.subscribe(session, `t${i}`, ignoring)
  for (let i = 0; i < n; i++) await bench.live(publisher, `t${i}`, 1)
  return { value: (await held() - before) / n }
}

/**
 * What is held for each frame that went through a group that stays open, after `before` others have; the same bytes each
 * time, or with `distinct` fresh ones.
 */
export async function retained(bench, { before = 2000, distinct = 0, n, size }) {
  const publisher = await bench.publisher(), room = new Window(256)
  let got = 0
  await bench.subscribe(await bench.session(publisher), "t", () => {
    got++
    room.done()
  })
  await bench.live(publisher, "t", 1)
  const group = await publisher.group("t"), same = new Uint8Array(size).fill(7)
  const push = async (count) => {
    const wanted = got + count
    for (let i = 0; i < count; i++) {
      await room.room()
      room.add()
      await group.write(distinct ? new Uint8Array(size).fill(7) : same)
    }
    while (got < wanted) await sleep(1)
  }
  await push(before)
  const start = await held()
  await push(n)
  return { value: (await held() - start) / n }
}
