import { defineConfig } from "vitest/config"
import "../../vitest.config.ts"

// what is measured is the built package
export default defineConfig({
  test: {
    include: ["test/bundle/**/*.test.ts"],
    testTimeout: 120_000,
    hookTimeout: 120_000
  }
})
