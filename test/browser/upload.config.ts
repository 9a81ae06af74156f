import { defineConfig } from "vitest/config"
import "../../vitest.config.ts"

export default defineConfig({
  test: { include: ["test/browser/upload.ts"] }
})
