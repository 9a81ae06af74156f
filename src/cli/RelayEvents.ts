/**
 * What happens in a relay, as its verb prints it.
 *
 * @since 0.1.0
 */
import * as Path from "../core/Path.ts"
import type * as Relay from "../relay/Relay.ts"
import * as Text from "./Text.ts"

/**
 * An event as an object, for programs.
 *
 * @category formatting
 * @since 0.1.0
 */
export const toJson = ({ _tag, ...event }: Relay.Event): { readonly event: string } => ({
  event: names[_tag],
  ...event,
  ...("path" in event ? { path: Path.format(event.path) } : {}),
  ...("root" in event ? { root: Path.format(event.root) } : {})
})

/**
 * An event as a line, for people.
 *
 * @category formatting
 * @since 0.1.0
 */
export const toText = (event: Relay.Event): string => {
  switch (event._tag) {
    case "SessionOpened": {
      const root = event.root.length === 0 ? "" : ` below ${Text.path(event.root)}`
      return `session ${event.session} opened from ${event.peer ?? "somewhere"} over ${event.transport}${root}`
    }
    case "SessionClosed":
      return `session ${event.session} closed ${
        event.by === "remote" ? "by its peer" : event.by === "local" ? "here" : "because the connection was lost"
      } with code ${event.code}${event.reason === "" ? "" : `: ${event.reason}`}`
    case "SessionRefused":
      return `a session from ${event.peer ?? "somewhere"} was refused: ${event.reason}`
    case "LimitBroken": {
      const who = event.session === undefined ? "a client" : `session ${event.session}`
      return `${who} from ${event.peer ?? "somewhere"} broke a limit: ${event.limit}`
    }
    case "Announced":
      return `+ ${Text.path(event.path)}`
    case "Ended":
      return `- ${Text.path(event.path)}`
    case "UpstreamOpened":
      return `receiving ${Text.path(event.path)}`
    case "UpstreamClosed":
      return `not receiving ${Text.path(event.path)} any more`
    case "RelayConnected":
      return `connected to the relay at ${event.url}`
    case "RelayLost":
      return `no connection to the relay at ${event.url}: ${event.reason}`
  }
}

// internal

const names: Record<Relay.Event["_tag"], string> = {
  SessionOpened: "session-opened",
  SessionClosed: "session-closed",
  SessionRefused: "session-refused",
  LimitBroken: "limit-broken",
  Announced: "announced",
  Ended: "ended",
  UpstreamOpened: "upstream-opened",
  UpstreamClosed: "upstream-closed",
  RelayConnected: "relay-connected",
  RelayLost: "relay-lost"
}
