/**
 * The conclusion of an examination.
 *
 * @since 0.1.0
 */
import type { Name } from "../node/NodeTransport.ts"
import * as Diagnosis from "./Diagnosis.ts"

/**
 * The outcome: the transports over which there are sessions, or why there is none.
 *
 * @category models
 * @since 0.1.0
 */
export type Verdict =
  | { readonly ok: true; readonly transports: ReadonlyArray<Name> }
  | { readonly ok: false; readonly step: Diagnosis.Step; readonly cause: string }

/**
 * Draws the conclusion. When nothing works, the cause is that of what came closest to a session.
 *
 * @category verdicts
 * @since 0.1.0
 */
export const of = (lines: ReadonlyArray<Diagnosis.Line>): Verdict => {
  const asked = lines.filter((line): line is Diagnosis.Line & { readonly step: Name } => transports.has(line.step))
  const works = asked.filter(({ ok }) => ok === true)
  if (works.length > 0) return { ok: true, transports: works.map(({ step }) => step) }
  const failing = lines.filter(({ ok }) => ok === false)
  const missing = asked.find(({ details }) => details?.["available"] === false)
  const quic = lines.some(({ ok, step }) => step === "udp" && ok === true)
  if (missing?.step === "h3" && quic && !failing.some(({ step }) => tcpAnswers.has(step))) {
    const cause = `only HTTP/3 answers there, and it cannot be had here: ${Diagnosis.reasonOf(missing)}`
    return { ok: false, step: "h3", cause }
  }
  // what is wrong with TCP matters only to those who use it; HTTP over TCP says more than over QUIC
  const matters: ReadonlyArray<Diagnosis.Step> = asked.some(({ step }) => step !== "h3")
    ? ["name", "tcp", "tls", "certificate", "websocket", "h2", "h3"]
    : ["name", "certificate", "udp", "h3"]
  const line = failing.find(({ details }) => details?.["connected"] === true) ??
    matters.map((step) => failing.find((line) => line.step === step)).find((line) => line !== undefined) ??
    missing ??
    lines.at(-1)!
  return { ok: false, step: line.step, cause: line.cause ?? Diagnosis.reasonOf(line) }
}

// internal

const transports = new Set<Diagnosis.Step>(["h3", "websocket", "h2"])

// failures of a relay that listens for TCP
const tcpAnswers = new Set<Diagnosis.Step>(["certificate", "websocket", "h2"])
