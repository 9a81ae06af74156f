/** Memory over time, as a picture and as a verdict. */

/** What was measured at a time. */
export interface Sample {
  readonly minute: number
  /** Heap and buffers after a collection, in MB. */
  readonly used: number
  /** Resident memory, in MB. */
  readonly rss: number
  readonly sessions: number
  readonly tracks: number
}

/** By how many MB a minute something grows: the line with the least squares. */
export const slope = (samples: ReadonlyArray<Sample>): number => {
  const mean = (of: (sample: Sample) => number) => samples.reduce((sum, sample) => sum + of(sample), 0) / samples.length
  const minute = mean((sample) => sample.minute)
  const used = mean((sample) => sample.used)
  const covariance = mean((sample) => (sample.minute - minute) * (sample.used - used))
  const variance = mean((sample) => (sample.minute - minute) ** 2)
  return variance === 0 ? 0 : covariance / variance
}

/** What comes before is for caches to fill: ten minutes, or a third of a run that is shorter than fifteen. */
export const settled = (samples: ReadonlyArray<Sample>): ReadonlyArray<Sample> => {
  const last = samples.at(-1)?.minute ?? 0
  const from = last < 15 ? last / 3 : 10
  return samples.filter(({ minute }) => minute >= from)
}

export const csv = (samples: ReadonlyArray<Sample>): string =>
  [
    "minute,used_mb,rss_mb,sessions,tracks",
    ...samples.map(({ minute, rss, sessions, tracks, used }) =>
      [minute.toFixed(3), used.toFixed(2), rss.toFixed(1), sessions, tracks].join(",")
    )
  ].join("\n") + "\n"

const width = 860
const height = 320
const left = 60
const bottom = 40

export const svg = (samples: ReadonlyArray<Sample>, title: string): string => {
  const minutes = Math.max(0.1, samples.at(-1)?.minute ?? 0)
  const most = Math.ceil(Math.max(10, ...samples.map(({ rss }) => rss)) / 50) * 50
  const x = (minute: number) => left + (width - left - 20) * minute / minutes
  const y = (mb: number) => height - bottom - (height - bottom - 40) * mb / most
  const line = (of: (sample: Sample) => number, colour: string) =>
    `<polyline fill="none" stroke="${colour}" stroke-width="1.5" points="${
      samples.map((sample) => `${x(sample.minute).toFixed(1)},${y(of(sample)).toFixed(1)}`).join(" ")
    }"/>`
  const text = (at: number, down: number, what: string, rest = "") =>
    `<text x="${at}" y="${down}"${rest}>${what}</text>`
  const rows = Array.from({ length: 6 }, (_, i) => most * i / 5)
  const columns = Array.from({ length: 6 }, (_, i) => minutes * i / 5)
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${width}" height="${height}" fill="white"/>`,
    text(left, 20, title, ` font-size="14"`),
    ...rows.map((mb) =>
      `<line x1="${left}" x2="${width - 20}" y1="${y(mb)}" y2="${y(mb)}" stroke="#ddd"/>` +
      text(left - 8, y(mb) + 4, `${mb}`, ` text-anchor="end"`)
    ),
    ...columns.map((minute) => text(x(minute), height - bottom + 18, minute.toFixed(1), ` text-anchor="middle"`)),
    text(width / 2, height - 6, "minutes", ` text-anchor="middle"`),
    line(({ rss }) => rss, "#c60"),
    line(({ used }) => used, "#06c"),
    text(width - 330, 20, "MB: resident", ` fill="#c60"`),
    text(width - 230, 20, "heap and buffers after a collection", ` fill="#06c"`),
    "</svg>\n"
  ].join("\n")
}
