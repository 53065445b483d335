// Waiting for conditions of other processes, always with a bound.

import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Polls `probe` until it returns something truthy and returns that. For conditions that nobody
 * announces: a file appearing in the data directory, an expiry passing.
 */
export async function until(what, probe, timeoutMs = 10_000) {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    const value = await probe()
    if (value) return value
    if (Date.now() > deadline) throw new Error(`after ${timeoutMs} ms still not: ${what}`)
    await sleep(20)
  }
}

/** Awaits `promise`, but fails by name when it takes longer than the bound. */
export async function within(timeoutMs, what, promise) {
  const timer = new AbortController()
  try {
    return await Promise.race([
      promise,
      sleep(timeoutMs, null, { signal: timer.signal }).then(() => {
        throw new Error(`after ${timeoutMs} ms still not: ${what}`)
      }),
    ])
  } finally {
    timer.abort()
  }
}
