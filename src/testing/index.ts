/** A bad network under virtual time, decided by a seed. */
export * as Simulator from "./Simulator.ts"

/** The rules that every transport keeps, as cases that any test runner can run. */
export * as TransportConformance from "./TransportConformance.ts"
