/**
 * An application that decides by itself who may do what in its relay: whoever has logged in may publish below their own
 * name, and watch everybody. A page of the application sends its cookie by itself; a client that is no page, such as this
 * program, says the same in the query of its URL.
 *
 *   npm run example relay-own-auth
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer } from "effect"
import { MoqError, Session, Track } from "effect-moq"
import { NodeTransport } from "effect-moq/node"
import { Authenticator, Relay } from "effect-moq/relay"
import { randomUUID } from "node:crypto"
import { createServer } from "node:http"

// POST /login/alice
const users = new Map<string, string>()
const server = createServer((request, response) => {
  const [, verb, name] = request.url?.split("/") ?? []
  if (request.method !== "POST" || verb !== "login" || !name) return void response.writeHead(404).end()
  const id = randomUUID()
  users.set(id, name)
  response.setHeader("set-cookie", `login=${id}; HttpOnly; SameSite=Strict; Path=/moq`)
  response.end(id)
})

const AuthLayer = Layer.succeed(Authenticator.Authenticator)({
  authenticate: ({ headers, url }) => {
    const cookie = headers?.get("cookie")?.match(/(?:^|; )login=([^;]+)/)?.[1]
    const user = users.get(cookie ?? url.searchParams.get("login") ?? "")
    return user === undefined
      ? Effect.fail(new MoqError.Unauthorized({ detail: "log in first" }))
      : Effect.succeed({ publish: [["users", user]], subscribe: [["users"]] })
  }
})

const RelayLayer = Relay.layer().pipe(Layer.provide([AuthLayer, NodeTransport.layerUpgrade(server)]))

const listening = Effect.acquireRelease(
  Effect.callback<void>((resume) => {
    server.listen(0, "127.0.0.1", () => resume(Effect.void))
  }),
  () =>
    Effect.sync(() => {
      server.close()
      server.closeAllConnections()
    })
)

const program = Effect.gen(function*() {
  yield* listening
  const { urls: [url = ""] } = yield* Relay.Relay
  const stranger = yield* Effect.flip(Effect.flatMap(Session.connect(url), (session) => session.trackInfo(["x"])))
  yield* Console.log(`a stranger: ${stranger.message}`)

  const login = yield* Effect.promise(() =>
    fetch(url.replace(/^ws(.*)\/moq$/, "http$1/login/alice"), { method: "POST" })
  )
  const session = yield* Session.connect(`${url}/users?login=${yield* Effect.promise(() => login.text())}`)
  const [own, foreign] = yield* Effect.all([Track.make(["alice", "chat"]), Track.make(["bob", "chat"])])
  yield* session.publish(own.track)
  const seen = yield* session.subscribe(["alice", "chat"], { wait: "5 seconds" })
  yield* Console.log(`alice publishes ${seen.path.join("/")}`)
  yield* session.publish(foreign.track)
  const { reason } = yield* session.closed
  yield* Console.log(`alice as bob: ${reason}`)
}).pipe(Effect.scoped)

program.pipe(Effect.provide([RelayLayer, NodeTransport.layer]), NodeRuntime.runMain)
