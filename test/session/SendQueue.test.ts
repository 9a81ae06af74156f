import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { Entry, type Lane, maxLead, maxUnderWay, patience, SendQueue } from "../../src/session/SendQueue.ts"

const size = 16 * 1024

class Sender extends Entry {
  readonly name: string
  constructor(lane: Lane, sequence: number, name: string) {
    super(lane, sequence)
    this.name = name
  }
}

const add = (queue: SendQueue<Sender>, lane: Lane<Sender>, sequence = 0, name = String(sequence)): Sender => {
  const sender = new Sender(lane, sequence, name)
  queue.add(sender)
  return sender
}

/** A queue on which nothing may begin until `drain`. */
const busy = () => {
  const queue = new SendQueue<Sender>()
  queue.request(add(queue, queue.lane(127, false)), maxUnderWay, 0)
  // what a lower priority may send beside it
  queue.request(add(queue, queue.lane(-128, false)), size, 0)
  return queue
}

/** Ends what is under way, then lets one write go after the other; gives who went. */
const drain = (queue: SendQueue<Sender>): Array<string> => {
  for (const sender of [...queue.underWay]) queue.done(sender)
  const went: Array<string> = []
  for (let next = queue.next(0); next !== undefined; next = queue.next(0)) {
    went.push(next.name)
    queue.done(next)
  }
  return went
}

describe("SendQueue", () => {
  it("lets a write go at once where nothing else is", () => {
    const queue = new SendQueue<Sender>()
    const sender = add(queue, queue.lane(0, false))
    for (let i = 0; i < 3; i++) {
      assert.isTrue(queue.request(sender, size, 0))
      queue.done(sender)
    }
    assert.isUndefined(queue.next(0))
    assert.deepStrictEqual([queue.pending, queue.waiting, queue.underWay.length], [0, 0, 0])
  })

  it("takes the highest priority first, whoever came first", () => {
    const queue = busy()
    for (const priority of [0, -128, 127, 5]) {
      assert.isFalse(queue.request(add(queue, queue.lane(priority, false), 0, `${priority}`), size, 0))
    }
    assert.deepStrictEqual(drain(queue), ["127", "5", "0", "-128"])
  })

  it.each([["asc", ["1", "2", "3"]], ["desc", ["3", "2", "1"]]] as const)(
    "takes the groups of a subscription in their order: %s",
    (order, expected) => {
      const queue = busy()
      const lane = queue.lane(0, order === "asc")
      for (const sequence of [2, 1, 3]) queue.request(add(queue, lane, sequence), size, 0)
      assert.deepStrictEqual(drain(queue), [...expected])
    }
  )

  it("knows the place of a group in its subscription", () => {
    const queue = new SendQueue<Sender>()
    const lane = queue.lane(0, false)
    const [b, a, c] = [add(queue, lane, 2), add(queue, lane, 1), add(queue, lane, 3)]
    assert.deepStrictEqual([a!.place, b!.place, c!.place], [2, 1, 0])
    queue.update(lane, 0, true)
    assert.deepStrictEqual([a!.place, b!.place, c!.place], [0, 1, 2])
    queue.remove(b!)
    assert.deepStrictEqual([a!.place, c!.place], [0, 1])
  })

  it("lets subscriptions of one priority take turns, by bytes", () => {
    const queue = busy()
    const [a, b] = [queue.lane(0, true), queue.lane(0, true)]
    for (let i = 0; i < 3; i++) queue.request(add(queue, a, i, `a${i}`), 4_000, 0)
    for (let i = 0; i < 6; i++) queue.request(add(queue, b, i, `b${i}`), 2_000, 0)
    assert.deepStrictEqual(drain(queue), ["a0", "b0", "b1", "a1", "b2", "b3", "a2", "b4", "b5"])
  })

  it("gives a subscription that was idle no more than its lead", () => {
    const queue = new SendQueue<Sender>()
    const [a, b] = [queue.lane(0, true), queue.lane(0, true)]
    const one = add(queue, a, 0, "a")
    for (let i = 0; i < 1_000; i++) {
      assert.isTrue(queue.request(one, size, 0))
      queue.done(one)
    }
    queue.request(one, maxUnderWay, 0)
    for (let i = 0; i < 40; i++) assert.isFalse(queue.request(add(queue, b, i, "b"), size, 0))
    queue.done(one)
    queue.request(one, size, 0)
    const went = drain(queue)
    // it makes up for the last write, not for the thousand before
    assert.isAtMost(went.indexOf("a"), (maxUnderWay + maxLead) / size + 1)
  })

  it("what was there before a subscription began counts for nothing", () => {
    const queue = new SendQueue<Sender>()
    const one = add(queue, queue.lane(0, true), 0, "a")
    for (let i = 0; i < 1_000; i++) {
      queue.request(one, size, 0)
      queue.done(one)
    }
    const lane = queue.lane(0, true)
    assert.isAtLeast(lane.end, 900 * size)
  })

  it("a lower priority waits for a higher one that is under way, but for a little", () => {
    const queue = new SendQueue<Sender>()
    const [high, low] = [queue.lane(1, true), queue.lane(0, true)]
    const above = add(queue, high)
    const below = add(queue, low)
    const served = [0, 0]
    for (let i = 0; i < 1_000; i++) {
      queue.request(above, size, 0)
      served[0]! += size
      if (below.state === "idle" ? queue.request(below, size, 0) : queue.next(0) === below) {
        served[1]! += size
        queue.done(below)
      }
      queue.done(above)
    }
    assert.isAbove(served[1]!, served[0]! / 18)
    assert.isBelow(served[1]!, served[0]! / 15)
  })

  it("nobody waits any more for a write that is under way for too long", () => {
    const queue = new SendQueue<Sender>()
    const stuck = add(queue, queue.lane(5, true), 0, "stuck")
    const other = add(queue, queue.lane(0, true), 0, "other")
    queue.request(stuck, size, 0)
    queue.request(other, size, 0)
    queue.done(other)
    assert.isFalse(queue.request(other, size, 0))
    assert.strictEqual(queue.release(0), 2 * patience)
    assert.strictEqual(queue.release(2 * patience - 1), 2 * patience)
    assert.isUndefined(queue.next(2 * patience - 1))
    queue.release(2 * patience)
    assert.strictEqual(queue.next(2 * patience), other)
    // it still ends, and begins again
    queue.done(stuck)
    queue.done(other)
    assert.strictEqual(queue.pending, 0)
    assert.isTrue(queue.request(stuck, size, 0))
  })

  it("an update holds for what waits", () => {
    const queue = busy()
    const [a, b] = [queue.lane(1, true), queue.lane(2, true)]
    for (let i = 0; i < 2; i++) queue.request(add(queue, a, i, `a${i}`), size, 0)
    for (let i = 0; i < 2; i++) queue.request(add(queue, b, i, `b${i}`), size, 0)
    queue.update(a, 3, false)
    assert.deepStrictEqual(drain(queue), ["a1", "a0", "b0", "b1"])
  })

  it("takes back a write that waits, and one that is under way", () => {
    const queue = busy()
    const [waits, next] = [add(queue, queue.lane(9, true), 0, "waits"), add(queue, queue.lane(8, true), 0, "next")]
    queue.request(waits!, size, 0)
    queue.request(next!, size, 0)
    queue.remove(waits!)
    for (const sender of [...queue.underWay]) queue.remove(sender)
    assert.deepStrictEqual(drain(queue), ["next"])
    assert.strictEqual(queue.pending, 0)
  })

  // a transport that takes one write after the other, in the order in which they began
  it.prop(
    "two subscriptions share by bytes, whatever the sizes of their writes, and however many groups they send",
    {
      sizes: Schema.Tuple([
        Schema.Int.check(Schema.isBetween({ minimum: 100, maximum: size })),
        Schema.Int.check(Schema.isBetween({ minimum: 100, maximum: size }))
      ]),
      groups: Schema.Tuple([
        Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 128 })),
        Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 128 }))
      ])
    },
    ({ groups, sizes }) => {
      const queue = new SendQueue<Sender>()
      const lanes = [queue.lane(0, true), queue.lane(0, false)] as const
      const served = [0, 0]
      for (const i of [0, 1] as const) {
        for (let group = 0; group < groups[i]; group++) queue.request(add(queue, lanes[i], group, `${i}`), sizes[i], 0)
      }
      for (let step = 0; step < 2_000; step++) {
        const first = queue.underWay[0]!
        const i = Number(first.name) as 0 | 1
        served[i]! += first.bytes
        queue.done(first)
        queue.request(first, sizes[i], 0)
        while (queue.next(0) !== undefined);
      }
      assert.isAtMost(Math.abs(served[0]! - served[1]!), maxLead + 2 * maxUnderWay)
    }
  )

  it.prop(
    "loses no write, never stalls, and lets nobody pass who should wait",
    {
      steps: Schema.Array(Schema.Struct({
        who: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 11 })),
        what: Schema.Literals(["request", "done", "remove", "update", "release"]),
        bytes: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 20_000 })),
        priority: Schema.Int.check(Schema.isBetween({ minimum: -1, maximum: 1 }))
      })).check(Schema.isMaxLength(200))
    },
    ({ steps }) => {
      const queue = new SendQueue<Sender>()
      const lanes = [-1, 0, 0, 1].map((priority, i) => queue.lane(priority, i % 2 === 0))
      const senders = Array.from({ length: 12 }, (_, i) => add(queue, lanes[i % 4]!, i))
      const removed = new Set<Sender>()
      let now = 0
      const check = () => {
        const states = senders.filter((sender) => !removed.has(sender)).map(({ state }) => state)
        assert.strictEqual(queue.pending, states.filter((state) => state !== "idle").length)
        assert.strictEqual(queue.waiting, states.filter((state) => state === "waiting").length)
        assert.strictEqual(queue.underWay.length, states.filter((state) => state === "underWay").length)
      }
      for (const { bytes, priority, what, who } of steps) {
        const sender = senders[who]!
        if (what === "request" && sender.state === "idle" && !removed.has(sender)) queue.request(sender, bytes, now)
        if (what === "done" && sender.state !== "waiting") queue.done(sender)
        if (what === "remove") {
          queue.remove(sender)
          removed.add(sender)
        }
        if (what === "update") queue.update(sender.lane, priority, bytes % 2 === 0)
        if (what === "release") queue.release(now += patience)
        for (let next = queue.next(now); next !== undefined; next = queue.next(now)) {
          // of its own subscription the first one that waits
          const { entries } = next.lane
          for (let place = 0; next.lane.at(place) !== next; place++) {
            assert.notStrictEqual(next.lane.at(place)!.state, "waiting", `of ${entries.length}`)
          }
        }
        check()
        if (queue.waiting > 0) assert.isAbove(queue.underWay.length, 0)
      }
      for (const sender of senders) if (sender.state !== "waiting") queue.done(sender)
      drain(queue)
      assert.deepStrictEqual([queue.pending, queue.waiting], [0, 0])
    }
  )
})
