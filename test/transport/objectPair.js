export const makeObjectPair = (options = {}) => {
    const client = new ObjectEnd(options);
    const server = new ObjectEnd(options);
    client.peer = server;
    server.peer = client;
    return { client, server };
};
const sessionError = (message) => Object.assign(new Error(message), { source: "session" });
export class ObjectEnd {
    ready = Promise.resolve();
    closed;
    incomingBidirectionalStreams;
    incomingUnidirectionalStreams;
    /** What streams were opened with, newest last. */
    opened = [];
    /** The sizes of the writes that reached the object, over all streams. */
    writes = [];
    /** Opening waits for it. */
    gate = Promise.resolve();
    peer;
    window;
    queue;
    streams = new Set();
    bi;
    uni;
    settle;
    isOpen = true;
    constructor({ queue = 1, window = 256 * 1024 }) {
        this.window = window;
        this.queue = queue;
        let settle;
        this.closed = new Promise((close, fail) => {
            settle = { close, fail };
        });
        this.closed.catch(() => { });
        this.settle = settle;
        let bi;
        let uni;
        this.incomingBidirectionalStreams = new ReadableStream({
            start: (controller) => {
                bi = controller;
            }
        });
        this.incomingUnidirectionalStreams = new ReadableStream({
            start: (controller) => {
                uni = controller;
            }
        });
        this.bi = bi;
        this.uni = uni;
    }
    // not a `TransformStream`: on Node 20 one that was cancelled fails the next write with a `TypeError` of its own
    pipe() {
        let source;
        let sink;
        let unblock = () => { };
        const cut = (error) => {
            this.streams.delete(fail);
            source.error(error);
            unblock();
        };
        const fail = (error) => {
            sink.error(error);
            cut(error);
        };
        this.streams.add(fail);
        const readable = new ReadableStream({
            start: (controller) => {
                source = controller;
            },
            pull: () => unblock(),
            cancel: fail
        }, new ByteLengthQueuingStrategy({ highWaterMark: this.window }));
        const writable = new WritableStream({
            start: (controller) => {
                sink = controller;
                controller.signal.addEventListener("abort", () => cut(controller.signal.reason));
            },
            write: (chunk) => {
                this.writes.push(chunk.length);
                source.enqueue(chunk.slice());
                return source.desiredSize > 0 ? undefined : new Promise((resolve) => {
                    unblock = resolve;
                });
            },
            close: () => {
                this.streams.delete(fail);
                source.close();
            }
        }, { highWaterMark: this.queue });
        return { readable, writable };
    }
    createUnidirectionalStream = async (options) => {
        await this.gate;
        if (!this.isOpen)
            throw sessionError("closed");
        this.opened.push(options);
        const { readable, writable } = this.pipe();
        this.peer.uni.enqueue(readable);
        return writable;
    };
    createBidirectionalStream = async (options) => {
        await this.gate;
        if (!this.isOpen)
            throw sessionError("closed");
        this.opened.push(options);
        const forth = this.pipe();
        const back = this.peer.pipe();
        this.peer.bi.enqueue({ readable: forth.readable, writable: back.writable });
        return { readable: back.readable, writable: forth.writable };
    };
    close = (info = {}) => {
        this.end(() => this.settle.close(info));
        this.peer.end(() => this.peer.settle.close(info));
    };
    /** Breaks the connection: `closed` rejects on both ends. */
    break = (message) => {
        this.end(() => this.settle.fail(sessionError(message)));
        this.peer.end(() => this.peer.settle.fail(sessionError(message)));
    };
    // streams first and `closed` last, the order that tells an adapter least
    end(settle) {
        if (!this.isOpen)
            return;
        this.isOpen = false;
        for (const fail of this.streams)
            fail(sessionError("the session has ended"));
        this.streams.clear();
        this.bi.error(sessionError("the session has ended"));
        this.uni.error(sessionError("the session has ended"));
        settle();
    }
}
