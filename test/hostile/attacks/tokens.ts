/** People without a proper token. */
import { type Attack, within } from "../Attack.ts"
import { type End, parameters, Peer, setup } from "../Peer.ts"
import { confused, everything, keyPair, signed, unsigned } from "../tokens.ts"
import * as Wire from "../wire.ts"

export const tokens: Attack = {
  name: "expired, tampered, foreign and missing tokens",
  isGuarded: true,
  async run({ from, key, track, url }) {
    const good = signed(everything(60), key!)
    const [header, claims, signature] = good.split(".") as [string, string, string]
    const bad: Record<string, string | undefined> = {
      none: undefined,
      empty: "",
      expired: signed(everything(-1), key!),
      "not yet valid": signed({ ...everything(60), nbf: everything(30).exp! }, key!),
      "without rights": signed({ root: "", exp: everything(60).exp! }, key!),
      "of another root": signed({ ...everything(60), root: "elsewhere" }, key!),
      foreign: signed(everything(60), keyPair().privateKey),
      unsigned: unsigned(everything(60)),
      confused: confused(everything(60), key!),
      "with other claims": [header, Buffer.from(JSON.stringify(everything(600))).toString("base64url"), signature].join(
        "."
      ),
      "with another signature": [header, claims, signature.slice(0, -4) + "AAAA"].join("."),
      "of an unknown key": signed(everything(60), key!, { alg: "ES256", kid: "../../etc/passwd" }),
      "longer than may be": `${good}${"A".repeat(10_000 - good.length)}`,
      garbage: "a.b.c"
    }
    const ends: Array<End> = []
    for (const [what, token] of Object.entries(bad)) {
      const peer = await Peer.open(`${url}${token === undefined ? "" : `?jwt=${token}`}`, { from })
      // all that an impatient client says: it may not wait for an answer
      peer.record(parameters(2 ** 20))
      peer.record(Wire.concat(Wire.hex("0a 00"), Wire.string(setup)))
      peer.record(Wire.concat(Wire.hex("0a 04"), Wire.string(Wire.subscribe(0, Wire.path(...track)))))
      const end = await within(5000, peer.closed, "open")
      ends.push(end === "closed 6" && peer.received === 0 ? end : `${what}: ${end}, ${peer.received} bytes`)
      peer.destroy()
    }
    // one that is good, and then is not any more
    const brief = await Peer.session(`${url}?jwt=${signed(everything(2), key!)}`, { from })
    ends.push(`${await within(8000, brief.closed, "open")}, when it expired`)
    brief.destroy()
    return ends
  },
  ends: ["closed 6", "closed 6, when it expired"]
}
