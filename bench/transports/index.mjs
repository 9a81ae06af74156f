export const transports = {
  memory: () => import("./memory.mjs"),
  ws: () => import("./qmux-ws.mjs"),
  h3: () => import("./h3.mjs")
}
