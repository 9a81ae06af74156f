// name -> loader
export const adapters = {
  "moq-lite": () => import("./moq-lite.mjs"),
  floor: () => import("./floor.mjs"),
  "effect-moq": () => import("./effect-moq.mjs"),
  "effect-moq-stream": () => import("./effect-moq-stream.mjs")
}
