/** What the tests of the model share: short ways to write frames and to look at what a reader got. */
import { Effect, Fiber, Stream } from "effect";
const utf8 = new TextEncoder();
/** A frame that says something. */
export const bytes = (text) => utf8.encode(text);
/** What a frame says. */
export const text = (frame) => new TextDecoder().decode(frame);
/** An event in few letters: a group by its sequence, a gap as `from-to!code`. */
export const brief = (event) => event._tag === "Group" ? String(event.sequence) : `${event.from}-${event.to}!${event.code}`;
/** Lets every fiber run until it waits for something that has not happened, without moving the clock. */
export const settle = Effect.repeat(Effect.yieldNow, { times: 20 });
/** Starts to read a Stream; it has begun when this returns. */
export const read = (stream, show) => Effect.gen(function* () {
    const got = [];
    const fiber = yield* Effect.forkScoped(Stream.runForEach(stream, (a) => Effect.sync(() => void got.push(show(a)))), { startImmediately: true });
    yield* settle;
    return { got, fiber };
});
/** Pulls once, now: what is there, or `undefined` when it would have to wait. */
export const poll = (pull) => Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(pull, { startImmediately: true });
    yield* settle;
    const exit = fiber.pollUnsafe();
    yield* Fiber.interrupt(fiber);
    return exit === undefined ? undefined : yield* exit;
});
/** Who is still attached to what: open cursors and suspended fibers. All zero when nothing leaks. */
export const attached = (of) => {
    const { log } = of;
    return { readers: log.readers, pulling: log.waiting.parked.size, watching: log.watching.parked.size };
};
/** What {@link attached} says when nobody is. */
export const nobody = { readers: 0, pulling: 0, watching: 0 };
