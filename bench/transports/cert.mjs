// A short-lived self-signed EC certificate, made once for all cells of a day or so.
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { generate } from "selfsigned"

const dir = path.join(os.tmpdir(), "effect-moq-bench")
const day = 24 * 60 * 60 * 1000

export async function certificate() {
  const file = path.join(dir, "certificate.json")
  try {
    const { madeAt, ...found } = JSON.parse(fs.readFileSync(file, "utf8"))
    if (Date.now() - madeAt < day) return found
  } catch {
    // there is none yet
  }
  const pem = await generate([{ name: "commonName", value: "localhost" }], {
    keyType: "ec",
    curve: "P-256",
    algorithm: "sha256",
    notBeforeDate: new Date(Date.now() - day),
    notAfterDate: new Date(Date.now() + 10 * day),
    extensions: [{ name: "subjectAltName", altNames: [{ type: 2, value: "localhost" }, { type: 7, ip: "127.0.0.1" }] }]
  })
  const made = { cert: pem.cert, key: pem.private }
  fs.mkdirSync(dir, { recursive: true })
  // cells of two runs may be here at a time
  fs.writeFileSync(`${file}.${process.pid}`, JSON.stringify({ madeAt: Date.now(), ...made }), { mode: 0o600 })
  fs.renameSync(`${file}.${process.pid}`, file)
  return made
}
