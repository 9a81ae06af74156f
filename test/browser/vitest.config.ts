import { defineConfig } from "vitest/config"
import "../../vitest.config.ts"
import "./executable.ts"

// One file after the other: each has a browser of its own, and figures that mean something need the machine.
export default defineConfig({
  test: {
    include: ["test/browser/**/*.test.ts"],
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 60_000
  }
})
