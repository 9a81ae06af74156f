// What has to be there before a cell can run: the packages of this folder, the library's build, a Node for h3.
import { execFileSync } from "node:child_process"
import fs from "node:fs"
import path from "node:path"
import { fileURLToPath } from "node:url"

export const bench = fileURLToPath(new URL("..", import.meta.url))
const root = path.dirname(path.resolve(bench))

export function setup() {
  if (!process.env.BENCH_DIST && !fs.existsSync(path.join(root, "dist/index.js"))) {
    throw new Error("the library is not built: npm ci && npm run build")
  }
  const { dependencies } = JSON.parse(fs.readFileSync(path.join(bench, "package.json"), "utf8"))
  const missing = Object.keys(dependencies).filter((name) => !fs.existsSync(path.join(bench, "node_modules", name)))
  if (missing.length > 0) {
    console.error(`installing what the benchmark measures beside (${missing.join(", ")}) into bench/node_modules`)
    execFileSync("npm", ["install", "--no-audit", "--no-fund", "--no-package-lock"], { cwd: bench, stdio: "inherit" })
  }
}

/** The versions of what is measured. */
export const versions = () => {
  const version = (...at) => JSON.parse(fs.readFileSync(path.join(...at, "package.json"), "utf8")).version
  return {
    "effect-moq": version(root),
    effect: version(root, "node_modules/effect"),
    "@moq/lite": version(bench, "node_modules/@moq/lite"),
    commit: commit()
  }
}

function commit() {
  try {
    const git = (...args) => execFileSync("git", args, { cwd: root, stdio: ["ignore", "pipe", "ignore"] }).toString()
    return git("rev-parse", "--short", "HEAD").trim() +
      (git("status", "--porcelain", "src") === "" ? "" : " and changes")
  } catch {
    return undefined
  }
}

/**
 * A Node that the native HTTP/3 binding loads in: this one, or this one with the C library that the tests of h3 bring
 * along where the system's is too old; `undefined` when there is neither.
 */
export function nodeForHttp3(given) {
  if (given) return given.split(" ")
  const probe = "import('./transports/h3.mjs').then((h3) => h3.open()).then(() => {" +
    " console.log('loads in ' + process.execPath); process.exit(0) }, () => process.exit(1))"
  for (const command of [[process.execPath], ["sh", "../test/h3/newer-glibc.sh", "node"]]) {
    try {
      const said = execFileSync(command[0], [...command.slice(1), "-e", probe], {
        cwd: bench,
        stdio: ["ignore", "pipe", "ignore"],
        timeout: 120_000
      }).toString()
      const found = /loads in (.*)/.exec(said)
      if (found) return [found[1]]
    } catch {
      // not in this one
    }
  }
  return undefined
}
