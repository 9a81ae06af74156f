// The scenarios by name. Each is a kind of measurement with parameters, and any kind can be given parameters of one's
// own: "frames:size=500,window=128,subs=10,perGroup=30"; several sizes take turns: "frames:size=100+1200+16384".
export const named = {
  "frames-100": "frames:size=100",
  "frames-1200": "frames:size=1200",
  "frames-16384": "frames:size=16384,window=64",
  "groups-1200": "frames:size=1200,perGroup=1,window=64",
  "fanout-1": "frames:size=1200,subs=1,window=64",
  "fanout-10": "frames:size=1200,subs=10,window=64",
  "fanout-100": "frames:size=1200,subs=100,window=64",
  join: "join:n=100",
  "join-fresh": "join:n=40,fresh=1",
  latency: "latency:rate=1000,size=1200",
  "mem-session": "sessions:n=200",
  "mem-track": "tracks:n=500",
  retained: "retained:n=40000,size=100",
  "retained-distinct": "retained:n=40000,size=100,distinct=1",
  "retained-beyond": "retained:n=100000,size=100,distinct=1,before=70000",
  "subscribe-encode": "codec:encode=1",
  "subscribe-decode": "codec:decode=1"
}

const kinds = {
  frames: { unit: "frames/s" },
  join: { unit: "ms" },
  latency: { unit: "ms" },
  // what sockets hold is none of a session's, and differs from run to run
  sessions: { unit: "bytes", transports: ["memory"] },
  tracks: { unit: "bytes", transports: ["memory"] },
  retained: { unit: "bytes/frame" },
  codec: { unit: "messages/s", transports: ["none"] }
}

export const isLowerBetter = (unit) => unit === "ms" || unit.startsWith("bytes")

export function parse(scenario) {
  const [kind, given = ""] = (named[scenario] ?? scenario).split(":")
  if (!(kind in kinds)) throw new Error(`no scenario ${scenario}; there are ${Object.keys(named).join(", ")}`)
  const parameters = given.split(",").filter(Boolean).map((pair) => {
    const [key, value] = pair.split("=")
    const numbers = String(value).split("+").map(Number)
    if (numbers.some(Number.isNaN)) throw new Error(`${scenario}: ${key} takes a number`)
    return [key, numbers.length === 1 ? numbers[0] : numbers]
  })
  return { kind, parameters: Object.fromEntries(parameters), ...kinds[kind] }
}

/** Splits a list on its commas; those within the parameters of a scenario stay. */
export const list = (text) =>
  text.split(",").filter(Boolean).reduce((all, part) => {
    const isParameter = part.includes("=") && !part.includes(":") && all.at(-1)?.includes(":")
    if (isParameter) all.push(`${all.pop()},${part}`)
    else all.push(part)
    return all
  }, [])
