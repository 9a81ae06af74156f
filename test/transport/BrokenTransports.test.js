/**
 * The conformance cases must be able to fail: each fault here is caught by the case that is about it.
 */
import { assert, describe, it } from "@effect/vitest";
import { Effect, Fiber } from "effect";
import { TestClock } from "effect/testing";
import { SessionClosed } from "../../src/core/MoqError.js";
import * as TransportConformance from "../../src/testing/TransportConformance.js";
import * as Memory from "../../src/transport/Memory.js";
const faulty = (inner, fault) => {
    const send = (half) => ({
        write: half.write,
        finish: half.finish,
        reset: half.reset,
        setPriority: half.setPriority,
        stopped: half.stopped,
        ...fault.send?.(half)
    });
    const receive = (half) => ({
        pull: half.pull,
        stop: half.stop,
        ...fault.receive?.(half)
    });
    const whole = {
        info: inner.info,
        capabilities: inner.capabilities,
        openBi: Effect.map(inner.openBi, (bi) => ({ send: send(bi.send), receive: receive(bi.receive) })),
        openUni: (options) => Effect.map(inner.openUni(options), send),
        acceptBi: Effect.map(inner.acceptBi, (bi) => ({ send: send(bi.send), receive: receive(bi.receive) })),
        acceptUni: Effect.map(inner.acceptUni, receive),
        close: inner.close,
        closed: inner.closed,
        ping: inner.ping
    };
    return { ...whole, ...fault.connection?.(whole) };
};
const scratch = new Uint8Array(1024 * 1024);
const leak = [];
const faults = [
    ["the end is lost", "1 B arrive whole", { send: (send) => ({ finish: send.reset(0) }) }],
    ["the last byte is lost", "1,199 B arrive whole", {
            receive: ({ pull }) => ({
                pull: Effect.map(pull, (chunks) => chunks.map((chunk) => chunk.length < 100 ? chunk : chunk.subarray(0, -1)))
            })
        }],
    ["chunks arrive in another order", "64 KiB arrive whole", {
            send: ({ write }) => ({
                write: (chunks) => write([...chunks].reverse())
            })
        }],
    ["empty chunks are handed out", "0 B arrive whole", {
            send: ({ finish, write }) => ({ finish: Effect.andThen(write([Uint8Array.of(0)]), finish) })
        }],
    ["the end comes only once", "the end of a stream comes", {
            receive: ({ pull }) => {
                let ended = false;
                return {
                    pull: Effect.suspend(() => ended ? Effect.die("over") : pull).pipe(Effect.tapError(() => Effect.sync(() => {
                        ended = true;
                    })))
                };
            }
        }],
    ["resets have no code", "a reset arrives with its code", { send: ({ reset }) => ({ reset: () => reset(0) }) }],
    ["stops have no code", "a stop arrives with its code", { receive: ({ stop }) => ({ stop: () => stop(0) }) }],
    ["closing the scope of a stream finishes it", "closing the scope of a stream", {
            connection: ({ openUni }) => ({
                openUni: (options) => Effect.tap(openUni(options), (send) => Effect.addFinalizer(() => Effect.ignore(send.finish)))
            })
        }],
    ["buffers for receiving are used again", "chunks are not changed", {
            receive: ({ pull }) => ({
                pull: Effect.map(pull, (chunks) => {
                    let at = 0;
                    return chunks.map((chunk) => {
                        scratch.set(chunk, at);
                        at += chunk.length;
                        return scratch.subarray(at - chunk.length, at);
                    });
                })
            })
        }],
    ["what was sent is changed", "chunks are not changed", {
            send: ({ write }) => ({
                write: (chunks) => {
                    const copies = chunks.map((chunk) => chunk.slice());
                    return Effect.tap(write(copies), () => Effect.sync(() => chunks.forEach((chunk) => chunk.fill(0))));
                }
            })
        }],
    ["writes never suspend", "a write suspends while the peer does not read", {
            send: ({ write }) => ({
                write: (chunks) => Effect.asVoid(Effect.forkDetach(Effect.ignore(write(chunks)), { startImmediately: true }))
            })
        }],
    ["backpressure is there, and not declared", "a write suspends while the peer does not read", {
            connection: ({ capabilities }) => ({ capabilities: { ...capabilities, backpressure: false } })
        }],
    ["a reset waits for the write before it", "a reset passes a write", {
            send: ({ reset, write }) => {
                let writing = false;
                return {
                    write: (chunks) => Effect.suspend(() => {
                        writing = true;
                        return write(chunks);
                    }),
                    reset: (code) => Effect.suspend(() => writing ? Effect.void : reset(code))
                };
            }
        }],
    ["a stop leaves a blocked write alone", "a stop ends a write", {
            receive: () => ({ stop: () => Effect.void })
        }],
    ["more streams can be open than declared", "with the declared number of streams", {
            connection: ({ capabilities }) => ({ capabilities: { ...capabilities, maxStreams: 100 } })
        }],
    ["fewer streams can be open than declared", "1,000 unidirectional streams", {
            connection: ({ capabilities }) => ({ capabilities: { ...capabilities, maxStreams: 1_000 } })
        }, { pair: Effect.map(Memory.pair({ maxStreams: 999 }), ([client, server]) => ({ client, server })) }],
    ["streams leave memory behind", "20,000 closed streams", {
            connection: ({ openUni }) => ({
                openUni: (options) => Effect.tap(openUni(options), () => Effect.sync(() => leak.push(Array.from({ length: 100 }, (_, i) => i))))
            })
        }, {
            heapUsed: Effect.sync(() => leak.length * 800)
        }],
    ["the end of the connection does not reach a pull", "closing the scope of a connection", {
            receive: ({ pull }) => ({
                pull: Effect.catchTag(pull, "MoqSessionClosed", () => Effect.never)
            })
        }],
    ["the end of the connection is told as the end of the stream", "a close arrives", {
            receive: ({ pull }) => ({
                pull: Effect.catchTag(pull, "MoqSessionClosed", () => Effect.map(Effect.void, () => [scratch]))
            })
        }],
    ["a close has no reason", "a close arrives", { connection: ({ close }) => ({ close: (code) => close(code, "") }) }],
    ["a ping asks a peer that has gone", "a ping succeeds", {
            connection: () => ({ ping: Effect.fail(new SessionClosed({ code: 4, reason: "", by: "transport" })) })
        }],
    ["death looks like a close", "the abrupt death", {}, { kill: ({ client }) => client.close(4, "") }],
    ["it dies of boredom", "a connection with nothing to say", {
            connection: ({ close, openBi }) => ({
                openBi: Effect.flatMap(Effect.clockWith((clock) => clock.currentTimeMillis), (now) => now > 0 ? Effect.andThen(close(0, ""), openBi) : openBi)
            })
        }, { idle: TestClock.adjust("10 minutes") }],
    ["an interrupted pull loses what it has", "a pull that is interrupted", {
            receive: ({ pull }) => ({ pull: Effect.tap(pull, () => Effect.yieldNow) })
        }],
    ["an interrupted accept loses its stream", "an accept that is interrupted", {
            connection: ({ acceptUni }) => ({ acceptUni: Effect.tap(acceptUni, () => Effect.yieldNow) })
        }],
    ["an interrupted opening keeps its place", "an opening that is interrupted takes", {
            connection: ({ openUni }) => ({
                openUni: (options) => Effect.forkDetach(Effect.scoped(Effect.andThen(openUni(options), Effect.never)), { startImmediately: true })
                    .pipe(Effect.andThen(Effect.yieldNow), Effect.andThen(openUni(options)))
            })
        }]
];
describe("cases catch", () => {
    for (const [name, caughtBy, fault, hooks] of faults) {
        it.effect(`${name}: ${caughtBy}`, () => Effect.gen(function* () {
            const pair = hooks?.pair ?? Effect.map(Memory.pair(), ([client, server]) => ({ client, server }));
            const found = TransportConformance.cases({
                ...hooks,
                pair: Effect.map(pair, ({ client, server }) => ({
                    client: faulty(client, fault),
                    server: faulty(server, fault)
                })),
                timeout: "1 minute"
            }).filter(({ rule }) => rule.startsWith(caughtBy));
            assert.strictEqual(found.length, 1);
            const running = yield* Effect.forkChild(Effect.flip(found[0].run));
            // a fault that shows as silence is caught by the timeout, once there is nothing left to happen
            const impatience = yield* Effect.forkChild(Effect.andThen(Effect.repeat(Effect.yieldNow, { times: 20_000 }), TestClock.adjust("1 minute")));
            const failure = yield* Fiber.join(running);
            yield* Fiber.interrupt(impatience);
            assert.strictEqual(failure._tag, "ConformanceFailure");
            assert.strictEqual(failure.rule, found[0].rule);
        }), 60_000);
    }
});
