export const transports = {
  memory: () => import("./memory.mjs"),
  ws: () => import("./qmux-ws.mjs")
}
