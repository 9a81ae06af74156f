// One cell of the relay benchmark: starts its processes, lets them run warm, and looks at what they use in between.
import { fork } from "node:child_process"
import path from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { bin } from "./common.mjs"

const here = path.dirname(fileURLToPath(import.meta.url))
const probe = new URL("./probe.mjs", import.meta.url).href

/**
 * Runs a cell: `viewers`, through a relay or straight from the publisher (`via`), the `size` of a frame and how many
 * there are `perGroup`, how many are on their way (`window`) or written a second (`rate`). With `copies` the relay counts
 * what it copies; `profile` is a folder for the CPU profiles of the processes.
 */
export async function cell({ copies, perGroup, profile, rate, seconds, size, via, viewers, window }) {
  const children = []
  try {
    const shared = { size, perGroup, rate, window, viewers }
    const relay = via === "relay" ? await startRelay(children, copies) : undefined
    const publisher = start(children, "publisher.mjs", { ...shared, relay: relay?.at })
    const watching = start(children, "viewers.mjs", { ...shared, ...await publisher.ready })
    await watching.ready
    const processes = { publisher: publisher.child, viewers: watching.child, ...(relay && { relay: relay.child }) }
    const send = (send) => publisher.child.send({ send })

    send(true)
    await sleep(seconds * 600)
    const before = await usage(processes, profile)
    await sleep(seconds * 1000)
    const after = await usage(processes, profile)
    send(false)
    await arrived(processes, viewers)
    return result(before, after, size)
  } finally {
    await Promise.all(children.map(stop))
  }
}

// processes

async function startRelay(children, copies) {
  const args = ["relay", "--json", "--bind", "127.0.0.1:0", "--tls-generate", "localhost", "--transport", "websocket"]
  const env = copies ? { ...process.env, BENCH_COPIES: "1" } : process.env
  const child = spawn(children, bin, args, { env, execArgv: ["--import", probe] })
  const listening = new Promise((resolve) => {
    let text = ""
    child.stdout.on("data", (data) => {
      text += data
      const line = text.split("\n").find((line) => line.includes(`"listening"`))
      if (line !== undefined) resolve(JSON.parse(line))
    })
  })
  const { fingerprint, url } = await orEnded(child, "the relay", listening)
  return { child, at: { url, fingerprint } }
}

function start(children, file, options) {
  const child = spawn(children, path.join(here, file), [JSON.stringify(options)], {})
  const ready = new Promise((resolve) => child.on("message", (message) => message.ready && resolve(message.ready)))
  return { child, ready: orEnded(child, file, ready) }
}

function spawn(children, file, args, options) {
  const child = fork(file, args, { stdio: ["ignore", "pipe", "inherit", "ipc"], ...options })
  children.push(child)
  return child
}

function orEnded(child, name, promise) {
  const ended = new Promise((_, reject) => {
    child.once("exit", (code) => reject(new Error(`${name} ended with ${code} before it was ready`)))
  })
  return Promise.race([promise, ended])
}

async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise((resolve) => child.once("exit", resolve))
  child.kill("SIGINT")
  const timer = setTimeout(() => child.kill("SIGKILL"), 5000)
  await ended
  clearTimeout(timer)
}

// what they use

let asked = 0

function ask(child, profile) {
  const id = ++asked
  return new Promise((resolve) => {
    const onMessage = (message) => {
      if (message.answer !== id) return
      child.off("message", onMessage)
      resolve({ at: performance.now(), ...message })
    }
    child.on("message", onMessage)
    child.send({ ask: id, profile })
  })
}

async function usage(processes, folder) {
  const answers = Object.entries(processes).map(async ([name, child]) => [
    name,
    await ask(child, folder && path.join(folder, `relay-${name}.cpuprofile`))
  ])
  return Object.fromEntries(await Promise.all(answers))
}

// nothing may be lost: what was sent must all arrive
async function arrived(processes, viewers) {
  const { sent } = await ask(processes.publisher)
  const deadline = performance.now() + 10_000
  while (true) {
    const { bad, delivered } = await ask(processes.viewers)
    if (bad > 0) throw new Error(`${bad} frames are damaged`)
    if (delivered === sent * viewers) return
    if (performance.now() > deadline) throw new Error(`${delivered} of ${sent * viewers} frames have come`)
    await sleep(20)
  }
}

function result(before, after, size) {
  const delivered = after.viewers.delivered - before.viewers.delivered
  const seconds = (after.viewers.at - before.viewers.at) / 1000
  const cpu = Object.fromEntries(
    Object.entries(after).map(([name, { cpu: { system, user } }]) => {
      const { cpu } = before[name]
      return [name, system + user - cpu.system - cpu.user]
    })
  )
  const payload = (after.publisher.sent - before.publisher.sent) * size
  return {
    rate: delivered / seconds,
    // microseconds of each process for one delivery
    cpu: mapped(cpu, (micros) => micros / delivered),
    // how much of a core each had
    share: mapped(cpu, (micros) => micros / 1e6 / seconds),
    p50: after.viewers.p50,
    p99: after.viewers.p99,
    memory: after.relay?.memory,
    // bytes that the relay has copied for each byte of payload that came in, by who copied
    copied: after.relay?.copied &&
      mapped(after.relay.copied, (bytes, who) => (bytes - (before.relay.copied[who] ?? 0)) / payload)
  }
}

const mapped = (record, f) => Object.fromEntries(Object.entries(record).map(([key, value]) => [key, f(value, key)]))
