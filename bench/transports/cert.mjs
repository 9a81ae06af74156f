// A short-lived self-signed EC certificate through the openssl command line, made once per folder.
import { execFileSync } from "node:child_process"
import crypto from "node:crypto"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
const dir = process.env.BENCH_CERT_DIR ?? path.join(os.tmpdir(), "moq-bench-cert")
export function certificate() {
  const cert = path.join(dir, "cert.pem"), key = path.join(dir, "key.pem")
  const fresh = () => {
    try {
      return new Date(new crypto.X509Certificate(fs.readFileSync(cert)).validTo) > Date.now() + 36e5
    } catch {
      return false
    }
  }
  if (!fresh()) {
    fs.mkdirSync(dir, { recursive: true })
    execFileSync("openssl", [
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:prime256v1",
      "-nodes",
      "-days",
      "10",
      "-subj",
      "/CN=localhost",
      "-addext",
      "subjectAltName=DNS:localhost,IP:127.0.0.1",
      "-keyout",
      key,
      "-out",
      cert
    ], { stdio: "ignore" })
  }
  const certPem = fs.readFileSync(cert), keyPem = fs.readFileSync(key)
  return {
    certPem,
    keyPem,
    sha256: crypto.createHash("sha256").update(new crypto.X509Certificate(certPem).raw).digest()
  }
}
