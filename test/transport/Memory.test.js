import { assert, describe, it } from "@effect/vitest";
import { Cause, Effect, Exit, Fiber, Scope, Stream } from "effect";
import { TestClock } from "effect/testing";
import * as Memory from "../../src/transport/Memory.js";
import { Transport, TransportServer } from "../../src/transport/Transport.js";
const bytes = (...values) => Uint8Array.from(values);
const url = (text) => new URL(text);
describe("pair", () => {
    it.effect("wakes the reader once for a burst of writes, after the writer is done, with the very chunks", () => Effect.gen(function* () {
        const [client, server] = yield* Memory.pair();
        const send = yield* client.openUni();
        const receive = yield* server.acceptUni;
        const batches = [];
        const reading = yield* Effect.forkChild(Effect.forever(Effect.map(receive.pull, (batch) => {
            batches.push(batch);
        }), { disableYield: true }), { startImmediately: true });
        const [a, b, c] = [bytes(1), bytes(2), bytes(3)];
        yield* send.write([a]);
        yield* send.write([b, bytes(), c]);
        assert.strictEqual(batches.length, 0);
        yield* Effect.yieldNow;
        assert.strictEqual(batches.length, 1);
        assert.strictEqual(batches[0][0], a);
        assert.strictEqual(batches[0][1], b);
        assert.strictEqual(batches[0][2], c);
        yield* Fiber.interrupt(reading);
    }));
    it.effect("splits a chunk at the window, as a view, and goes on when the reader has taken what is there", () => Effect.gen(function* () {
        const [client, server] = yield* Memory.pair({ window: 4 });
        const send = yield* client.openUni();
        const receive = yield* server.acceptUni;
        const chunk = bytes(1, 2, 3, 4, 5, 6);
        const writing = yield* Effect.forkChild(send.write([bytes(0), chunk]), { startImmediately: true });
        const first = yield* receive.pull;
        assert.deepStrictEqual(first.map((part) => Array.from(part)), [[0], [1, 2, 3]]);
        assert.strictEqual(first[1].buffer, chunk.buffer);
        assert.strictEqual(writing.pollUnsafe(), undefined);
        yield* Effect.yieldNow;
        assert.deepStrictEqual(writing.pollUnsafe(), Exit.void);
        assert.deepStrictEqual((yield* receive.pull).map((part) => Array.from(part)), [[4, 5, 6]]);
    }));
    it.effect("one closed stream makes room for exactly one more", () => Effect.gen(function* () {
        const [client, server] = yield* Memory.pair({ maxStreams: 2 });
        const send = yield* client.openUni();
        yield* client.openUni();
        const third = yield* Effect.forkChild(client.openUni());
        const fourth = yield* Effect.forkChild(client.openUni());
        const receive = yield* server.acceptUni;
        yield* send.finish;
        assert.isTrue(Cause.isDone(yield* Effect.flip(receive.pull)));
        yield* Fiber.join(third);
        yield* Effect.yieldNow;
        assert.strictEqual(fourth.pollUnsafe(), undefined);
        // the other kind, and the other side, have limits of their own
        yield* client.openBi;
        yield* server.openUni();
    }));
    it.effect("streams that nobody accepts count against their opener even when they are over", () => Effect.gen(function* () {
        const [client, server] = yield* Memory.pair({ maxStreams: 3 });
        for (let i = 0; i < 3; i++)
            yield* (yield* client.openUni()).reset(i);
        const fourth = yield* Effect.forkChild(client.openUni());
        yield* Effect.yieldNow;
        assert.strictEqual(fourth.pollUnsafe(), undefined);
        const receive = yield* server.acceptUni;
        assert.strictEqual((yield* Effect.flip(receive.pull))._tag, "MoqStreamReset");
        yield* Fiber.join(fourth);
    }));
    it.effect("stopped gives the code of the peer's stop", () => Effect.gen(function* () {
        const [client, server] = yield* Memory.pair();
        const send = yield* client.openUni();
        const stopped = yield* Effect.forkChild(send.stopped, { startImmediately: true });
        yield* (yield* server.acceptUni).stop(200);
        assert.strictEqual(yield* Fiber.join(stopped), 200);
        assert.strictEqual(yield* send.stopped, 200);
    }));
    it.effect("options below 1 are a defect", () => Effect.gen(function* () {
        for (const options of [{ window: 0 }, { maxStreams: 0 }, { window: Number.NaN }]) {
            const exit = yield* Effect.exit(Memory.pair(options));
            assert.isTrue(Exit.isFailure(exit) && Cause.squash(exit.cause) instanceof RangeError);
        }
    }));
    it.effect("kill refuses connections that are not in memory", () => Effect.gen(function* () {
        const [client] = yield* Memory.pair();
        const exit = yield* Effect.exit(Memory.kill({ ...client }));
        assert.isTrue(Exit.isFailure(exit) && Cause.squash(exit.cause) instanceof TypeError);
    }));
});
describe("layer", () => {
    it.effect("joins client and server, and the request carries the URL", () => Effect.gen(function* () {
        const transport = yield* Transport;
        const server = yield* TransportServer;
        assert.deepStrictEqual(server.transports, ["memory"]);
        const serving = yield* Effect.forkChild(Stream.runForEach(Stream.take(server.requests, 1), (request) => Effect.gen(function* () {
            assert.strictEqual(request.url.pathname + request.url.search, "/room?token=1");
            const connection = yield* request.accept;
            const { receive, send } = yield* connection.acceptBi;
            yield* send.write(yield* receive.pull);
            // a request is answered once
            assert.strictEqual((yield* Effect.flip(request.accept))._tag, "MoqTransportError");
            yield* request.refuse(403);
            yield* connection.closed;
        }).pipe(Effect.scoped)));
        yield* Effect.gen(function* () {
            const connection = yield* transport.connect(url(`${server.urls[0]}/room?token=1`));
            const { receive, send } = yield* connection.openBi;
            yield* send.write([bytes(7)]);
            assert.deepStrictEqual([...(yield* receive.pull)[0]], [7]);
        }).pipe(Effect.scoped);
        // the client's scope has closed its side, and with it the server's
        yield* Fiber.join(serving);
    }).pipe(Effect.provide(Memory.layer)));
});
describe("makeNetwork", () => {
    it.effect("reaches servers by host, and each host once", () => Effect.gen(function* () {
        const network = yield* Memory.makeNetwork();
        const nobody = yield* Effect.flip(network.transport.connect(url("https://a.example/")));
        assert.strictEqual(nobody._tag, "MoqTransportError");
        const scope = yield* Scope.make();
        const a = yield* Scope.provide(network.listen({ host: "a.example" }), scope);
        const rest = yield* network.listen();
        assert.strictEqual((yield* Effect.flip(network.listen({ host: "a.example" })))._tag, "MoqTransportError");
        const hostOf = (server) => Effect.forkChild(Stream.runHead(Stream.map(server.requests, (request) => request.url.host)));
        const first = yield* hostOf(a);
        const second = yield* hostOf(rest);
        yield* Effect.forkChild(network.transport.connect(url("https://a.example/")));
        yield* Effect.forkChild(network.transport.connect(url("https://b.example:4443/")));
        assert.deepStrictEqual(yield* Fiber.join(first), yield* Effect.succeedSome("a.example"));
        assert.deepStrictEqual(yield* Fiber.join(second), yield* Effect.succeedSome("b.example:4443"));
        yield* Scope.close(scope, Exit.void);
        yield* network.listen({ host: "a.example" });
    }));
    it.effect("a refusal fails the client with its status", () => Effect.gen(function* () {
        const network = yield* Memory.makeNetwork();
        const server = yield* network.listen();
        yield* Effect.forkChild(Stream.runForEach(server.requests, (request) => request.refuse(403)));
        const error = yield* Effect.flip(network.transport.connect(url("https://a.example/")));
        assert.strictEqual(error._tag, "MoqTransportError");
        assert.include(error.detail, "403");
    }));
    it.effect("a client gives up after its timeout, and its request is no longer offered", () => Effect.gen(function* () {
        const network = yield* Memory.makeNetwork();
        const server = yield* network.listen();
        const connecting = yield* Effect.forkChild(Effect.flip(network.transport.connect(url("https://a.example/1"), { timeout: "2 seconds" })), { startImmediately: true });
        yield* TestClock.adjust("2 seconds");
        assert.strictEqual((yield* Fiber.join(connecting))._tag, "MoqTimeout");
        yield* Effect.forkChild(network.transport.connect(url("https://a.example/2")));
        const [request] = yield* Stream.runCollect(Stream.take(server.requests, 1));
        assert.strictEqual(request?.url.pathname, "/2");
    }));
    it.effect("a request that nobody takes is refused after 5 seconds, one that was taken waits on", () => Effect.gen(function* () {
        const network = yield* Memory.makeNetwork();
        const server = yield* network.listen();
        const connect = Effect.forkChild(Effect.flip(network.transport.connect(url("https://a.example/"), { timeout: "1 minute" })), { startImmediately: true });
        const untaken = yield* connect;
        yield* TestClock.adjust("5 seconds");
        assert.strictEqual((yield* Fiber.join(untaken))._tag, "MoqTransportError");
        const taken = yield* connect;
        const [request] = yield* Stream.runCollect(Stream.take(server.requests, 1));
        yield* TestClock.adjust("30 seconds");
        assert.strictEqual(taken.pollUnsafe(), undefined);
        yield* request.refuse(500);
        assert.include((yield* Fiber.join(taken)).detail, "500");
    }));
    it.effect("who is interrupted while connecting leaves nothing to accept", () => Effect.gen(function* () {
        const network = yield* Memory.makeNetwork();
        const server = yield* network.listen();
        const connecting = yield* Effect.forkChild(network.transport.connect(url("https://a.example/")));
        const [request] = yield* Stream.runCollect(Stream.take(server.requests, 1));
        yield* Fiber.interrupt(connecting);
        assert.strictEqual((yield* Effect.flip(request.accept))._tag, "MoqTransportError");
    }));
    it.effect("a server that closes refuses who waits, and leaves connections alone", () => Effect.gen(function* () {
        const network = yield* Memory.makeNetwork();
        const scope = yield* Scope.make();
        const server = yield* Scope.provide(network.listen(), scope);
        const connected = yield* Effect.forkChild(Effect.flatMap(network.transport.connect(url("https://a.example/")), (connection) => connection.openUni()).pipe(Effect.andThen(Effect.never), Effect.scoped));
        const [request] = yield* Stream.runCollect(Stream.take(server.requests, 1));
        const connection = yield* request.accept;
        const waiting = yield* Effect.forkChild(Effect.flip(network.transport.connect(url("https://a.example/"))), {
            startImmediately: true
        });
        yield* Scope.close(scope, Exit.void);
        assert.strictEqual((yield* Fiber.join(waiting))._tag, "MoqTransportError");
        assert.deepStrictEqual(yield* Stream.runCollect(server.requests), []);
        yield* connection.acceptUni;
        yield* Fiber.interrupt(connected);
        assert.strictEqual((yield* connection.closed).by, "remote");
    }));
    it.effect("no more than 256 clients wait", () => Effect.gen(function* () {
        const network = yield* Memory.makeNetwork();
        yield* network.listen();
        for (let i = 0; i < 256; i++) {
            yield* Effect.forkChild(network.transport.connect(url("https://a.example/")), { startImmediately: true });
        }
        const error = yield* Effect.flip(network.transport.connect(url("https://a.example/")));
        assert.strictEqual(error._tag, "MoqTransportError");
    }));
});
