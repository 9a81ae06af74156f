/** All attacks, by a short name. */
import type { Attack } from "../Attack.ts"
import * as Floods from "./floods.ts"
import * as Malformed from "./malformed.ts"
import * as Readers from "./readers.ts"
import * as Tokens from "./tokens.ts"
import * as Unfinished from "./unfinished.ts"

export const attacks: Readonly<Record<string, Attack>> = {
  neverReads: Readers.neverReads,
  stopsHalfway: Readers.stopsHalfway,
  givesNoWindow: Readers.givesNoWindow,
  pingsWithoutReading: Readers.pingsWithoutReading,
  strayStreams: Floods.strayStreams,
  lengths: Malformed.lengths,
  announces: Floods.announces,
  subscribes: Floods.subscribes,
  missing: Floods.missing,
  fetches: Floods.fetches,
  oddPaths: Malformed.oddPaths,
  handshakes: Unfinished.handshakes,
  garbage: Malformed.garbage,
  oneByteFrames: Floods.oneByteFrames,
  halfOpen: Unfinished.halfOpen,
  webSocketMessages: Unfinished.webSocketMessages,
  endsEverywhere: Malformed.endsEverywhere,
  churn: Floods.churn,
  tokens: Tokens.tokens
}
