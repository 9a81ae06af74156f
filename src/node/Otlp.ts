/**
 * Sends traces, metrics and logs to an OpenTelemetry collector, over HTTP with JSON.
 *
 * **Example** (A relay with traces)
 *
 * ```ts
 * import { Layer } from "effect"
 * import { NodeTransport, Otlp } from "effect-moq/node"
 * import { Relay } from "effect-moq/relay"
 *
 * const RelayLayer = Relay.layer().pipe(
 *   Layer.provide(NodeTransport.layerServer({ port: 4443, tls: { generate: ["localhost"] } })),
 *   Layer.provide(Otlp.layer("http://localhost:4318"))
 * )
 * ```
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import * as Layer from "effect/Layer"
import * as Exporter from "effect/observability/Otlp"
import * as Schema from "effect/Schema"
import { readFileSync } from "node:fs"
import * as ProcessMetrics from "./ProcessMetrics.ts"

/**
 * Sends to a collector whose base URL is `url`, or that which `OTEL_EXPORTER_OTLP_ENDPOINT` names; without either,
 * nothing is sent.
 *
 * **Details**
 *
 * The service is called `effect-moq-relay`, unless `OTEL_SERVICE_NAME` says otherwise; `OTEL_RESOURCE_ATTRIBUTES` and
 * `OTEL_EXPORTER_OTLP_HEADERS` are looked at. Loggers that are there stay. What cannot be sent is dropped: a collector that
 * is away, or slow, is told of in the log once, and once when it is back; it is tried again every minute. When the layer
 * closes, what is left has a second to be sent.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (url?: string | URL): Layer.Layer<never> =>
  Layer.unwrap(Effect.gen(function*() {
    const environment = yield* Effect.orDie(variables)
    const baseUrl = url === undefined ? environment.endpoint : String(url)
    if (baseUrl === undefined || baseUrl === "") return Layer.empty
    return Exporter.layerJson({
      baseUrl: withoutUser(baseUrl),
      resource: { serviceName: environment.name, serviceVersion: version() },
      headers: { ...authorization(baseUrl), ...environment.headers },
      shutdownTimeout: "1 second"
    }).pipe(
      Layer.provide(client),
      // there until the last of them have been sent
      Layer.provide(Layer.effectDiscard(ProcessMetrics.make))
    )
  }))

// internal

const variables = Config.all({
  endpoint: Config.String("OTEL_EXPORTER_OTLP_ENDPOINT").pipe(Config.withDefault(undefined)),
  name: Config.String("OTEL_SERVICE_NAME").pipe(Config.withDefault("effect-moq-relay")),
  headers: Config.Record(Schema.String, Schema.StringFromUriComponent, "OTEL_EXPORTER_OTLP_HEADERS").pipe(
    Config.withDefault(undefined)
  )
})

// fetch takes no URL with a user in it
const withoutUser = (url: string): string => {
  if (!URL.canParse(url)) return url
  const plain = new URL(url)
  plain.username = ""
  plain.password = ""
  return plain.href
}

const authorization = (url: string): { readonly authorization?: string } => {
  if (!URL.canParse(url)) return {}
  const { password, username } = new URL(url)
  if (username === "") return {}
  const user = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
  return { authorization: `Basic ${Buffer.from(user).toString("base64")}` }
}

const version = (): string =>
  (JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string }).version

// Batches are made whether or not those before have been taken, so these bound what waits.
const timeout = "5 seconds"
const maxRequests = 16

const client: Layer.Layer<HttpClient.HttpClient> = Layer.effect(
  HttpClient.HttpClient,
  Effect.map(HttpClient.HttpClient, (client) => {
    const away = new Set<string>()
    let requests = 0
    const tell = (url: string, problem: string | undefined): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (away.has(url) === (problem !== undefined)) return Effect.void
        if (problem === undefined) {
          away.delete(url)
          return Effect.logInfo(`the collector takes what is sent to ${shown(url)} again`)
        }
        away.add(url)
        return Effect.logWarning(`the collector does not take what is sent to ${shown(url)}, it is dropped: ${problem}`)
      })
    return HttpClient.transform(client, (send, request) => {
      // an error of the kind that is not tried again
      const giveUp = (description: string) =>
        Effect.fail(
          new HttpClientError.HttpClientError({ reason: new HttpClientError.EncodeError({ request, description }) })
        )
      return Effect.suspend(() => {
        if (requests >= maxRequests) return giveUp("it is too slow")
        requests++
        return send.pipe(
          Effect.timeoutOrElse({ duration: timeout, orElse: () => giveUp("no answer in time") }),
          Effect.ensuring(Effect.sync(() => requests--))
        )
      }).pipe(
        Effect.tapError(({ reason }) => tell(request.url, reason.description ?? reason.message)),
        Effect.tap(({ status }) => tell(request.url, status < 300 ? undefined : `status ${status}`))
      )
    })
  })
).pipe(Layer.provide(FetchHttpClient.layer))

// the query may hold what opens the collector
const shown = (url: string): string => {
  if (!URL.canParse(url)) return "its URL"
  const { origin, pathname } = new URL(url)
  return origin + pathname
}
