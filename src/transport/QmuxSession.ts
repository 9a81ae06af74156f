/**
 * QMux (QUIC's streams and flow control, draft-ietf-quic-qmux) over one open WebSocket.
 *
 * **Details**
 *
 * It uses nothing of Effect, and nothing that a page has loaded already: bundlers make it a chunk of its own, with all
 * that it needs, where it is imported dynamically. `Qmux` makes a `Connection` of it, by way of the W3C's shape.
 *
 * Peers are bounded: streams of either kind that the peer has opened count until both halves are over and somebody has
 * accepted them; what is unread is bounded by what it costs, not only by what it carries; control frames that a peer asks
 * for and does not take end the connection.
 *
 * @internal
 */
import type { Bounds } from "./Bounds.ts"
import { Outbox } from "./QmuxOutbox.ts"
import type { Options, QmuxSocket } from "./QmuxSocket.ts"
import { type Arrival, type Owner, ReceiveHalf, SendHalf, StreamError } from "./QmuxStream.ts"
import { Arriving, ById, Opening, Place } from "./QmuxStreams.ts"
import * as Wire from "./QmuxWire.ts"
import type * as WebTransport from "./WebTransport.ts"

/** What a session is made of. */
export interface BeginOptions {
  /** Takes over the WebSocket, whose subprotocol is one of `Qmux.subprotocols`. */
  readonly open: (options: Options) => QmuxSocket
  readonly role: "client" | "server"
  /** The subprotocol that was agreed on. */
  readonly protocol: string
  readonly limits: Bounds
  /** Hears what a peer did wrong, in words. */
  readonly onRefused?: ((detail: string) => void) | undefined
}

/** Begins the handshake of QMux. */
export const begin = (options: BeginOptions): QmuxSession => new QmuxSession(options)

/** One that has begun: the handshake is under way. */
export class QmuxSession implements Owner {
  unread = 0
  private readonly socket: QmuxSocket
  private readonly outbox: Outbox
  private readonly limits: Bounds
  private readonly onRefused: ((detail: string) => void) | undefined
  // the lowest bit of the ids of streams that are opened here
  private readonly own: 0 | 1
  private parameters: Wire.Parameters | undefined = undefined
  private onStarted: ((problem: string | undefined) => void) | undefined = undefined
  private problem: string | undefined = undefined

  private isOver = false
  private readonly closed: Promise<CloseInfo>
  private settle!: { readonly resolve: (info: CloseInfo) => void; readonly reject: (error: Error) => void }

  private readonly sending = new ById<SendHalf>()
  private readonly receiving = new ById<ReceiveHalf>()
  private readonly openingBi = new Opening()
  private readonly openingUni = new Opening()
  private readonly arrivingBi: Arriving<Bidirectional>
  private readonly arrivingUni: Arriving<ReceiveHalf>

  // how much may be received in all, has been, and has been taken
  private window: number
  private received = 0
  private taken = 0
  private heardAt = 0
  private askedAt = 0
  private idleTimer: ReturnType<typeof setInterval> | undefined = undefined
  private pings = 0
  private readonly asking = new Map<number, () => void>()

  constructor({ limits, onRefused, open, protocol, role }: BeginOptions) {
    this.limits = limits
    this.onRefused = onRefused
    this.own = role === "client" ? 0 : 1
    this.window = limits.maxData
    this.arrivingBi = new Arriving(limits.maxStreamsBidi, (max) => this.say(Wire.frame.maxStreamsBidi, max))
    this.arrivingUni = new Arriving(limits.maxStreamsUni, (max) => this.say(Wire.frame.maxStreamsUni, max))
    this.closed = new Promise((resolve, reject) => {
      this.settle = { resolve, reject }
    })
    // the failure is told to whoever asks; that nobody does must not end the process
    this.closed.catch(noop)
    this.socket = open({
      maxBacklog: limits.maxBacklog,
      writeTimeout: limits.writeTimeout,
      onMessage: (message) => this.see(message),
      onRoom: () => this.outbox.flush(),
      onEnd: () => this.lose(this.socket.failure ?? new Error("the other end has gone")),
      ask: () => this.sendPing()
    })
    this.outbox = new Outbox(this.socket)
    this.outbox.say(Wire.encodeParameters({
      idleTimeout: limits.idleTimeout,
      maxData: limits.maxData,
      maxStreamDataBidiLocal: limits.maxStreamData,
      maxStreamDataBidiRemote: limits.maxStreamData,
      maxStreamDataUni: limits.maxStreamData,
      maxStreamsBidi: limits.maxStreamsBidi,
      maxStreamsUni: limits.maxStreamsUni,
      maxRecord: Wire.maxRecord
    }, protocol.startsWith("qmux-02.")))
  }

  /**
   * Calls back once the peer's transport parameters are here, or with why there will be none (one reason is that they are
   * not here within `handshakeTimeout`), and gives what takes that back. The rest is for a session that has started.
   */
  onStart(callback: (problem: string | undefined) => void): () => void {
    if (this.parameters !== undefined || this.isOver) {
      callback(this.problem)
      return noop
    }
    const deadline = setTimeout(
      () => this.socket.fail(new Error("it sent no transport parameters in time")),
      this.limits.handshakeTimeout
    )
    const forget = () => {
      clearTimeout(deadline)
      this.onStarted = undefined
    }
    this.onStarted = (problem) => {
      forget()
      callback(problem)
    }
    return forget
  }

  /** How many streams of either kind can be open here at any time. */
  get maxStreams(): number {
    const { maxStreamsBidi, maxStreamsUni } = this.parameters!
    // some peers keep back up to a third of those that are free, because they tell of them in batches
    return Math.max(1, Math.floor(Math.min(maxStreamsBidi, maxStreamsUni) * 2 / 3))
  }

  /** How long a dead peer can stay unnoticed, in milliseconds. */
  get idleTimeout(): number {
    return this.timeout + tickOf(this.timeout)
  }

  /** The session as the W3C has it. */
  adapt(): WebTransport.WebTransportLike {
    const { maxStreamsBidi, maxStreamsUni } = this.parameters!
    // these last until the peer's half is over as well, which it may never be, however many it allows
    this.openingBi.start(Math.max(1, Math.min(maxStreamsBidi, mostHalfOpen)), maxStreamsBidi)
    this.openingUni.start(this.maxStreams, maxStreamsUni)
    const like = {
      ready: Promise.resolve(),
      closed: this.closed,
      close: (info: Partial<CloseInfo> = {}) => this.close(info.closeCode, info.reason),
      createBidirectionalStream: ({ sendOrder }: WebTransport.SendOptions = {}) =>
        this.openingBi.open((index) => this.openBi(4 * index + this.own, sendOrder)),
      createUnidirectionalStream: ({ sendOrder }: WebTransport.SendOptions = {}) =>
        this.openingUni.open((index) => this.openUni(4 * index + this.own + 2, sendOrder)),
      incomingBidirectionalStreams: this.arrivingBi,
      incomingUnidirectionalStreams: this.arrivingUni
    }
    return like as unknown as WebTransport.WebTransportLike
  }

  /** Calls back once the peer has answered, and gives what takes that back. */
  ping(onAnswer: () => void): () => void {
    const number = this.pings
    this.asking.set(number, onAnswer)
    this.sendPing()
    return () => void this.asking.delete(number)
  }

  /** Closes it: what can leave leaves, then the close, whether or not there is room. Only the first close counts. */
  close(closeCode: number = 0, reason: string = ""): void {
    if (this.isOver) return
    this.outbox.flush()
    this.finish({ closeCode, reason })
    this.outbox.leave(Wire.encodeClose(Wire.frame.applicationClose, closeCode, reason))
  }

  /** Calls back once the WebSocket is gone. */
  onGone(callback: () => void): void {
    this.socket.onGone(callback)
  }

  // what the halves ask for

  schedule(half: SendHalf): void {
    this.outbox.add(half)
  }

  reschedule(half: SendHalf): void {
    this.outbox.move(half)
  }

  get isWanted(): boolean {
    return this.outbox.isWanted
  }

  ended(half: SendHalf, code: number | undefined): void {
    if (code !== undefined) this.introduce(half.id)
    this.sending.delete(half.id)
    this.outbox.delete(half)
    if (code !== undefined) this.say(Wire.frame.resetStream, half.id, code, half.sent)
  }

  stop(half: ReceiveHalf, code: number): void {
    this.introduce(half.id)
    this.say(Wire.frame.stopSending, half.id, code)
  }

  consumed(half: ReceiveHalf, bytes: number): void {
    this.take(bytes)
    half.consumed += bytes
    const { maxStreamData } = this.limits
    if (half.isOver || half.isStopped || half.max - half.consumed > maxStreamData / 2) return
    half.max = half.consumed + maxStreamData
    this.say(Wire.frame.maxStreamData, half.id, half.max)
  }

  // its streams

  private say(...numbers: ReadonlyArray<number>): void {
    if (!this.isOver) this.outbox.say(Wire.encode(...numbers))
  }

  private sendPing(): void {
    this.socket.send([Wire.encodePing(Wire.low.ping, Wire.encode(this.pings++))])
  }

  // There are implementations that know a stream by its first STREAM frame alone, and would not answer for their half.
  private introduce(id: number): void {
    const half = this.sending.get(id)
    if (half === undefined || half.isBegun || isUni(id) || id % 2 !== this.own || this.isOver) return
    half.isBegun = true
    this.outbox.say(Wire.encodeHeader(id, 0, 0, false))
  }

  private openBi(id: number, sendOrder: number | undefined): Bidirectional {
    const place = new Place(this.openingBi, 2)
    const writable = this.send(id, this.parameters!.maxStreamDataBidiRemote, place, sendOrder)
    return { readable: this.receive(id, place), writable }
  }

  private openUni(id: number, sendOrder: number | undefined): SendHalf {
    return this.send(id, this.parameters!.maxStreamDataUni, new Place(this.openingUni, 1), sendOrder)
  }

  private send(id: number, max: number, place: Place, sendOrder: number = 0): SendHalf {
    const half = new SendHalf(this, id, max, place, sendOrder)
    this.sending.add(half)
    return half
  }

  private receive(id: number, place: Place): ReceiveHalf {
    const half = new ReceiveHalf(this, id, this.limits.maxStreamData, place)
    this.receiving.add(half)
    return half
  }

  // receiving

  private see(message: Uint8Array): void {
    if (this.isOver) return
    this.heardAt = Date.now()
    try {
      this.read(message)
    } catch (error) {
      return this.refuse(error as Error)
    }
    if (this.unread > wasteful * this.limits.maxData) {
      const detail = `what it sent and nobody has read costs ${this.unread} bytes, many times what it carries`
      this.socket.fail(new Error(detail))
    }
  }

  private read(message: Uint8Array): void {
    if (message.length > Wire.maxRecord) throw new Error(`a record of ${message.length} bytes`)
    const record = new Wire.Cursor(message)
    const arrival: Arrival = { bytes: message.length, unread: 0 }
    while (record.left > 0 && !this.isOver) {
      const type = record.varint()
      if (this.parameters === undefined) this.start(type, record)
      else if (type >= Wire.frame.stream && type <= Wire.frame.streamLast) this.onStream(type, record, arrival)
      else this.onFrame(type, record)
    }
  }

  private start(type: number, record: Wire.Cursor): void {
    if (type !== Wire.frame.transportParameters || record.low !== Wire.low.transportParameters) {
      throw new Error("its first record has no transport parameters")
    }
    this.parameters = Wire.decodeParameters(record)
    this.outbox.allow(this.parameters.maxData)
    if (this.timeout < Infinity) this.idleTimer = setInterval(() => this.look(), tickOf(this.timeout))
    this.onStarted?.(undefined)
  }

  private onStream(type: number, record: Wire.Cursor, arrival: Arrival): void {
    const id = record.varint()
    // nothing gets out of order on a socket
    if ((type & Wire.bit.offset) !== 0) record.varint()
    const piece = record.take((type & Wire.bit.length) === 0 ? record.left : record.varint())
    const half = this.receiving.get(id) ?? (this.isNew(id) ? this.arrive(id) : undefined)
    if (half === undefined) return
    half.received += piece.length
    this.account(half.received, half.max, piece.length)
    if (piece.length > 0) half.push(piece, arrival)
    if ((type & Wire.bit.fin) === 0) return
    this.receiving.delete(id)
    half.finish()
  }

  private onReset(id: number, code: number, size: number): void {
    const half = this.receiving.get(id)
    if (half === undefined && !this.isNew(id)) return
    // there are implementations of these drafts that give a size of 0
    const missing = Math.max(0, size - (half?.received ?? 0))
    this.account(size, half?.max ?? this.limits.maxStreamData, missing)
    this.take(missing)
    // nobody will ever see this one
    if (half === undefined && isUni(id)) return this.arrivingUni.free()
    const reset = half ?? this.arrive(id)
    this.receiving.delete(id)
    reset.over()
    reset.fail(new StreamError(code))
  }

  // A half that the peer speaks of. It may be the first word of a stream, which goes ahead of what waits to be sent.
  private spokenOf(id: number): SendHalf | undefined {
    const half = this.sending.get(id)
    if (half !== undefined || isUni(id) || !this.isNew(id)) return half
    this.arrive(id)
    return this.sending.get(id)
  }

  // whether a stream of the peer begins; one that is over, or was opened here and is over, does not
  private isNew(id: number): boolean {
    if (id % 2 !== this.own) return (isUni(id) ? this.arrivingUni : this.arrivingBi).isNew(Math.floor(id / 4))
    if (isUni(id)) throw new Error("Invalid stream ID direction")
    return false
  }

  // its place is free once its halves are over and somebody has accepted it
  private arrive(id: number): ReceiveHalf {
    if (isUni(id)) {
      const place = new Place(this.arrivingUni, 2)
      const half = this.receive(id, place)
      this.arrivingUni.push(half, place)
      return half
    }
    const place = new Place(this.arrivingBi, 3)
    const readable = this.receive(id, place)
    this.arrivingBi.push({
      readable,
      writable: this.send(id, this.parameters!.maxStreamDataBidiLocal, place)
    }, place)
    return readable
  }

  private account(ofStream: number, most: number, bytes: number): void {
    this.received += bytes
    if (ofStream > most || this.received > this.window) throw new Error("flow control error")
  }

  // bytes that were received are no longer held
  private take(bytes: number): void {
    const { maxData } = this.limits
    this.taken += bytes
    if (this.window - this.taken > maxData / 2) return
    this.window = this.taken + maxData
    this.say(Wire.frame.maxData, this.window)
  }

  private onFrame(type: number, record: Wire.Cursor): void {
    switch (type) {
      case Wire.frame.padding:
        return
      case Wire.frame.resetStream:
      case Wire.frame.resetStreamAt: {
        const id = record.varint()
        const code = record.varint() % 2 ** 32
        const size = record.varint()
        if (type === Wire.frame.resetStreamAt && record.varint() > size) throw new Error("a reset behind its own end")
        return this.onReset(id, code, size)
      }
      case Wire.frame.stopSending: {
        const half = this.spokenOf(record.varint())
        const code = record.varint() % 2 ** 32
        return half?.finish(new StreamError(code), code)
      }
      case Wire.frame.maxData:
        return this.outbox.allow(record.varint())
      case Wire.frame.maxStreamData: {
        const half = this.spokenOf(record.varint())
        const max = record.varint()
        if (half === undefined) return
        half.max = Math.max(half.max, max)
        half.checkRoom()
        return this.outbox.add(half)
      }
      case Wire.frame.maxStreamsBidi:
        return this.openingBi.allow(record.varint())
      case Wire.frame.maxStreamsUni:
        return this.openingUni.allow(record.varint())
      case Wire.frame.streamDataBlocked:
        record.varint()
        return void record.varint()
      case Wire.frame.dataBlocked:
      case Wire.frame.streamsBlockedBidi:
      case Wire.frame.streamsBlockedUni:
        return void record.varint()
      case Wire.frame.connectionClose:
      case Wire.frame.applicationClose:
        return this.onClose(type, record)
      default:
        if (type !== Wire.frame.ping || !this.onPing(record)) {
          throw new Error(`Invalid QMux frame type: 0x${type.toString(16)}`)
        }
    }
  }

  // numbers do not tell a ping from its answer
  private onPing(record: Wire.Cursor): boolean {
    const { at, low } = record
    const number = record.varint()
    if (low === Wire.low.ping) this.outbox.say(Wire.encodePing(Wire.low.answer, record.bytes.slice(at, record.at)))
    else if (low === Wire.low.answer) {
      // an answer to one that was never sent is of no consequence
      const onAnswer = this.asking.get(number)
      this.asking.delete(number)
      onAnswer?.()
    } else return false
    return true
  }

  // its end

  // the shorter of both sides' timeouts, where 0 is none
  private get timeout(): number {
    return Math.min(...[this.limits.idleTimeout, this.parameters!.idleTimeout].filter((one) => one > 0))
  }

  // A ping keeps the peer from giving us up where we have nothing to say, and proves it alive where it has not.
  private look(): void {
    const now = Date.now()
    const third = this.timeout / 3
    if (now - this.heardAt >= this.timeout) this.socket.fail(new Error("idle timeout"))
    else if (now - this.askedAt >= third && now - Math.min(this.heardAt, this.outbox.saidAt) >= third) {
      this.askedAt = now
      this.sendPing()
    }
  }

  private onClose(type: number, record: Wire.Cursor): void {
    const closeCode = record.varint()
    if (type === Wire.frame.connectionClose) record.varint()
    const reason = new TextDecoder().decode(record.take(record.varint()))
    if (type === Wire.frame.applicationClose) this.finish({ closeCode, reason })
    else this.lose(new Error(reason === "" ? `it gave up, with code ${closeCode}` : reason))
    this.socket.close()
  }

  private refuse(error: Error): void {
    this.onRefused?.(error.message)
    this.lose(error)
    this.outbox.leave(Wire.encodeClose(Wire.frame.connectionClose, violation, "Protocol violation"))
  }

  private lose(error: Error): void {
    if (this.isOver) return
    // as the W3C marks what is not the end of one stream alone
    this.settle.reject(Object.assign(error, { source: "session" }))
    this.tearDown(error)
  }

  private finish(info: CloseInfo): void {
    if (this.isOver) return
    this.settle.resolve(info)
    this.tearDown(Object.assign(new Error("it closed the connection"), { source: "session" }))
  }

  private tearDown(error: Error): void {
    this.isOver = true
    clearInterval(this.idleTimer)
    this.problem = error.message
    this.onStarted?.(this.problem)
    // first: what ends gives places free
    for (const streams of [this.openingBi, this.openingUni, this.arrivingBi, this.arrivingUni]) streams.fail(error)
    for (const half of this.sending.drain()) half.finish(error)
    for (const half of this.receiving.drain()) half.fail(error)
  }
}

interface CloseInfo {
  readonly closeCode: number
  readonly reason: string
}

interface Bidirectional {
  readonly readable: ReceiveHalf
  readonly writable: SendHalf
}

// internal

// how much more than the window for data what is unread may cost
const wasteful = 4

// how many bidirectional streams may be open that were opened here
const mostHalfOpen = 16_384

// the code of what breaks the rules of QMux, as other implementations have it
const violation = 1002

const noop = (): void => {}

const isUni = (id: number): boolean => id % 4 > 1

// how often it is looked for silence
const tickOf = (timeout: number): number => Math.min(Math.max(50, timeout / 6), 60_000)
