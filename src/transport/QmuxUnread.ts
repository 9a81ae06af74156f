/**
 * What has arrived over QMux and nobody has read: what it costs, whatever it carries.
 *
 * **Details**
 *
 * The windows of QMux count bytes of payload. But the package keeps each piece as it came, with some 250 bytes of its own
 * and the whole record that it is a part of, so a peer that sends single bytes, or single bytes among much else, would
 * have a hundred times its window kept for it. Here each piece counts as what it costs, and each record for as long as
 * any piece of it is unread.
 *
 * @internal
 */
export class Unread {
  /** The cost of it all, in bytes. */
  cost = 0

  /** A stream, before anything of it has arrived or been read. */
  stream(): UnreadStream {
    return new UnreadStream(this)
  }
}

/** A record that has arrived. */
export interface Arrival {
  readonly bytes: number
  /** How many of its pieces are unread. */
  unread: number
}

/** The unread pieces of one stream. */
export class UnreadStream {
  private readonly all: Unread
  private records: Array<Arrival> = []
  private head = 0
  // reads that came before what they are for
  private waiting = 0

  constructor(all: Unread) {
    this.all = all
  }

  /** A piece arrives. */
  add(record: Arrival): void {
    if (this.waiting > 0) {
      this.waiting--
      return
    }
    if (record.unread++ === 0) this.all.cost += record.bytes
    this.all.cost += pieceCost
    this.records.push(record)
  }

  /** The next piece is read, or waited for. */
  read(): void {
    if (this.head === this.records.length) {
      this.waiting++
      return
    }
    this.free(this.records[this.head++]!)
    if (this.head * 2 >= this.records.length) {
      this.records.splice(0, this.head)
      this.head = 0
    }
  }

  /** Nobody reads on. */
  clear(): void {
    for (; this.head < this.records.length; this.head++) this.free(this.records[this.head]!)
    this.records = []
    this.head = 0
  }

  private free(record: Arrival): void {
    this.all.cost -= pieceCost
    if (--record.unread === 0) this.all.cost -= record.bytes
  }
}

// internal

const pieceCost = 256
