// What the processes of the relay benchmark share: the library as it is built (BENCH_DIST names another build), and what
// they tell each other.
import path from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"

/** The folder of the build. */
export const built = process.env.BENCH_DIST === undefined
  ? fileURLToPath(new URL("../../dist", import.meta.url))
  : path.resolve(process.env.BENCH_DIST)

/** Its command line. */
export const bin = path.join(built, "cli/bin.js")

/** One of its modules. */
export const load = (name) => import(pathToFileURL(path.join(built, `${name}.js`)))

/** What this process was started with. */
export const options = () => JSON.parse(process.argv[2])

export const track = ["bench", "track"]

/** Ends the process when what it runs fails. */
export const orExit = (promise) =>
  promise.catch((error) => {
    console.error(error)
    process.exit(1)
  })

/** The time in milliseconds: the same for all processes of a machine. */
export const now = () => Number(process.hrtime.bigint()) / 1e6
