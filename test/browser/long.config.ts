import { defineConfig } from "vitest/config"
import "../../vitest.config.ts"
import "./executable.ts"

// what takes minutes, and what is about speed: not for every change
export default defineConfig({
  test: { include: ["test/browser/soak.ts", "test/browser/upload.ts"], fileParallelism: false, hookTimeout: 60_000 }
})
