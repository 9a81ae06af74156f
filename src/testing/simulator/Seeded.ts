/**
 * Random numbers that a seed decides (sfc32).
 *
 * @internal
 */
import type * as Random from "effect/Random"

type Service = typeof Random.Random["Service"]

export class Seeded implements Service {
  private a: number
  private b: number
  private c: number
  private count = 1

  /** `use` tells sequences of one seed apart. */
  constructor(seed: number, use: number) {
    // the whole part and the fraction of any number
    const whole = Math.floor(seed)
    this.a = (seed - whole) * 2 ** 32 | 0
    this.b = whole | 0
    this.c = Math.floor(whole / 2 ** 32) ^ use * 0x9e3779b9
    for (let i = 0; i < 15; i++) this.next()
  }

  private next(): number {
    const t = ((this.a + this.b | 0) + this.count | 0) >>> 0
    this.count = this.count + 1 | 0
    this.a = this.b ^ (this.b >>> 9)
    this.b = this.c + (this.c << 3) | 0
    this.c = (this.c << 21) | (this.c >>> 11)
    this.c = this.c + t | 0
    return t
  }

  nextDoubleUnsafe(): number {
    return (this.next() * 0x200000 + (this.next() >>> 11)) / 2 ** 53
  }

  nextIntUnsafe(): number {
    return Math.floor((this.nextDoubleUnsafe() * 2 - 1) * Number.MAX_SAFE_INTEGER)
  }

  /** Whether something happens that has the given probability; certain cases take no number. */
  happens(probability: number): boolean {
    return probability > 0 && (probability >= 1 || this.nextDoubleUnsafe() < probability)
  }
}
