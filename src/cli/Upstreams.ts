/**
 * Other relays, as a relay connects to them.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Loopback from "../node/Loopback.ts"
import * as Probe from "../node/Probe.ts"
import type { Upstream } from "../relay/Cluster.ts"
import type { Transport } from "../transport/Transport.ts"
import type { Failure } from "./Failure.ts"
import type { Values } from "./RelayConfig.ts"
import * as Target from "./Target.ts"

/**
 * The upstreams of a configuration. Fails with {@link Failure} when the file with the authorities is of no use.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  { upstream = [], upstreamFingerprint, upstreamInsecure, upstreamTlsRoot }: Values
): Effect.Effect<ReadonlyArray<Upstream>, Failure> =>
  Effect.map(
    upstreamTlsRoot === undefined ? Effect.succeed(undefined) : Target.readRoots(upstreamTlsRoot),
    (roots) =>
      upstream.map((url) => ({
        url: url.href,
        fingerprints: upstreamFingerprint,
        roots,
        insecure: upstreamInsecure
      }))
  )

/**
 * The same transport, but a relay on this machine is asked for the fingerprint of its certificate each time, unless it is
 * known which one to expect: it may have been restarted meanwhile.
 *
 * @category combinators
 * @since 0.1.0
 */
export const asking = (self: Transport): Transport => ({
  connect: (url, options) => {
    const { fingerprints, insecure, roots } = options ?? {}
    const isKnown = fingerprints !== undefined || roots !== undefined || insecure === true
    if (isKnown || !Loopback.isLoopbackName(url.hostname)) return self.connect(url, options)
    return Effect.flatMap(
      Probe.fingerprint(Probe.placeOf(url), "5 seconds"),
      (told) => self.connect(url, told === undefined ? options : { ...options, fingerprints: [told] })
    )
  }
})
