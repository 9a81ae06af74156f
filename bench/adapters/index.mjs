// name -> loader
export const adapters = {
  "moq-lite": () => import("./moq-lite.mjs"),
  "effect-moq": () => import("./effect-moq.mjs"),
  floor: () => import("./floor.mjs")
}
