/** The rules that every transport keeps, as cases that any test runner can run. */
export * as TransportConformance from "./TransportConformance.ts"
