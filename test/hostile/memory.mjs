// Preloaded into the relay that is measured: answers its parent with the memory that is in use after a collection.
process.on("message", () => {
  globalThis.gc()
  globalThis.gc()
  const { arrayBuffers, heapUsed, rss } = process.memoryUsage()
  process.send({ used: (heapUsed + arrayBuffers) / 1e6, rss: rss / 1e6 })
})
process.channel.unref()
