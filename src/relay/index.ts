/** Who may do what in a relay. */
export * as Authenticator from "./Authenticator.ts"
/** Relays that serve each other's tracks. */
export * as Cluster from "./Cluster.ts"
/** The tracks of a relay, each received once and given to any number of viewers. */
export * as Origin from "./Origin.ts"
/** A relay: takes in what its sessions publish and fans it out to all who subscribe. */
export * as Relay from "./Relay.ts"
