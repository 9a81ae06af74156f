import { defineConfig } from "vitest/config"
import "../../vitest.config.ts"

export default defineConfig({
  test: { include: ["test/h3/**/*.test.ts"] }
})
