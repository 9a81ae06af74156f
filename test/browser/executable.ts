/**
 * Where Chromium is: `CHROMIUM_PATH`, or the first on the `PATH`. Without one, tests that need it end at once, with a line
 * that says so.
 */
import { accessSync, constants } from "node:fs"
import { delimiter, join } from "node:path"

const isExecutable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

const names = ["chromium", "chromium-browser", "google-chrome"]

const candidates = process.env.CHROMIUM_PATH === undefined
  ? ["/usr/bin", ...(process.env.PATH ?? "").split(delimiter)].flatMap((folder) =>
    names.map((name) => join(folder, name))
  )
  : [process.env.CHROMIUM_PATH]

const found = candidates.find(isExecutable)

if (found === undefined) {
  process.stderr.write("tests in a real browser need Chromium: install it, or set CHROMIUM_PATH to one\n")
  process.exit(1)
}

export const executable: string = found
