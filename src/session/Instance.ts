/**
 * What a session says of itself unless it is told.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type { Greeting } from "../message/Greeting.ts"
import type { Router } from "../model/Router.ts"

/**
 * The instance is that of the router: the tracks in it go on from one connection to the next. The span is the current
 * one.
 *
 * @internal
 */
export const greeting = (router: Router): Effect.Effect<Greeting> =>
  Effect.withFiber((fiber) => {
    let instance = instances.get(router)
    if (instance === undefined) {
      const random = fiber.getRef(Random.Random).nextDoubleUnsafe()
      instance = Math.floor(random * 2 ** 53).toString(16).padStart(16, "0")
      instances.set(router, instance)
    }
    return Effect.succeed({ instance, span: fiber.cache.span })
  })

// internal

const instances = new WeakMap<Router, string>()
