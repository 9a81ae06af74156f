import { defineConfig } from "vitest/config"
import "../../vitest.config.ts"

export default defineConfig({
  test: {
    include: ["test/hostile/**/*.test.ts"],
    globalSetup: ["test/hostile/bundle.ts"]
  }
})
