// The ratios as a chart: a row per scenario, a panel per transport, a logarithmic scale of how many times better than
// @moq/lite something is. One SVG without a script, legible on light and on dark.
import { gain } from "./rounds.mjs"
import { titles } from "./targets.mjs"

const left = 170, panel = 250, gap = 22, top = 74, rowHeight = 22
const ticks = [0.5, 1, 2, 5, 10, 20, 50]
const [least, most] = [0.3, 60]
const marks = [
  { adapter: "floor", label: "floor", draw: (x, y) => `<path class="floor" d="M${x} ${y - 7}v14"/>` },
  {
    adapter: "effect-moq-stream",
    label: "effect-moq, Streams",
    draw: (x, y) => `<circle class="stream" cx="${x}" cy="${y}" r="3.5"/>`
  },
  {
    adapter: "effect-moq",
    label: "effect-moq",
    draw: (x, y) => `<circle class="ours" cx="${x}" cy="${y}" r="5"/>`
  }
]
const style = `
.back { fill: #ffffff }
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 10px; fill: #59636e }
.title { font-size: 14px; font-weight: 600 }
.grid { stroke: #d1d9e0 } .one { stroke: #59636e; stroke-width: 1.5 }
.floor { stroke: #59636e; stroke-width: 3 } .range { stroke: #0969da; stroke-width: 2; opacity: .45 }
.ours { fill: #0969da } .stream { fill: none; stroke: #0969da; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  .back { fill: #0d1117 } text { fill: #f0f6fc } .small { fill: #9198a1 }
  .grid { stroke: #3d444d } .one, .floor { stroke: #9198a1 }
  .range, .stream { stroke: #4493f8 } .ours { fill: #4493f8 }
}`

export function chart(rows, caption) {
  const measured = rows.filter((row) => gain(row, "moq-lite") > 0 && row.transport !== "none")
  const transports = [...new Set(measured.map((row) => row.transport))]
  // what floor does not have either, such as frames that are kept, is no matter of ratios
  const measures = [...new Set(measured.map((row) => row.measure))].filter((measure) => !measure.startsWith("retained"))
  const width = left + transports.length * (panel + gap), height = top + measures.length * rowHeight + 58
  const scale = (ratio) => Math.log(Math.min(most, Math.max(least, ratio)) / least) / Math.log(most / least) * panel
  const at = (i, ratio) => Math.round((left + i * (panel + gap) + scale(ratio)) * 10) / 10
  const bottom = top + measures.length * rowHeight
  const out = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`,
    `<title>How many times better than @moq/lite</title><style>${style}</style>`,
    `<rect class="back" width="${width}" height="${height}"/>`,
    `<text class="title" x="12" y="24">How many times better than @moq/lite</text>`,
    legend(12, 44)
  ]
  measures.forEach((measure, row) => {
    out.push(`<text x="12" y="${top + row * rowHeight + 15}">${titles.get(measure) ?? escaped(measure)}</text>`)
  })
  transports.forEach((transport, i) => {
    out.push(`<text class="title" x="${at(i, least)}" y="${top - 6}">${transport}</text>`)
    for (const tick of ticks) {
      const x = at(i, tick)
      out.push(
        `<path class="${tick === 1 ? "one" : "grid"}" d="M${x} ${top}V${bottom}"/>`,
        `<text class="small" x="${x}" y="${bottom + 14}" text-anchor="middle">${tick}</text>`
      )
    }
    measures.forEach((measure, row) => {
      const y = top + row * rowHeight + rowHeight / 2
      const of = (adapter) =>
        measured.find((row) => row.measure === measure && row.transport === transport && row.adapter === adapter)
      const ours = of("effect-moq")
      if (ours !== undefined) {
        out.push(`<path class="range" d="M${at(i, 1)} ${y}H${at(i, gain(ours, "moq-lite"))}"/>`)
      }
      for (const { adapter, draw } of marks) {
        const found = of(adapter)
        if (found !== undefined) out.push(draw(at(i, gain(found, "moq-lite")), y))
      }
    })
  })
  out.push(`<text class="small" x="12" y="${height - 14}">${escaped(caption)}</text>`, "</svg>")
  return `${out.join("\n")}\n`
}

function legend(x, y) {
  const out = [
    `<path class="one" d="M${x + 4} ${y - 8}v12"/><text class="small" x="${x + 12}" y="${y + 2}">@moq/lite</text>`
  ]
  let next = x + 84
  for (const { draw, label } of marks) {
    out.push(draw(next, y - 2), `<text class="small" x="${next + 10}" y="${y + 2}">${label}</text>`)
    next += 30 + label.length * 6
  }
  return out.join("\n")
}

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;")
