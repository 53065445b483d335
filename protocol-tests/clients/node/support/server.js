// The server under test: a windlass process of our own, or whatever WINDLASS_URL names.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { within } from './wait.js'

/** The binary under test. */
export const BINARY =
  process.env.WINDLASS_BIN ??
  path.resolve(import.meta.dirname, '../../../../target/release/windlass')

/**
 * Why a test that needs a process of its own (its flags, its death) cannot run, or false. Only a
 * run against somebody else's server skips such a test.
 */
export const FOREIGN_SERVER = process.env.WINDLASS_URL
  ? 'needs a windlass of its own, but WINDLASS_URL names a running server'
  : false

/** Starts a server with these flags, or wraps the one of WINDLASS_URL. */
export async function startServer(...flags) {
  if (FOREIGN_SERVER) return new ForeignServer(process.env.WINDLASS_URL)
  const server = new OwnServer(await mkdtemp(path.join(tmpdir(), 'windlass-clients-')), flags)
  await server.start()
  return server
}

class ForeignServer {
  /** Where its bytes lie is not known. */
  dataDir = null

  constructor(url) {
    this.url = url
  }

  async stop() {}
}

class OwnServer {
  #process
  #log = ''

  constructor(dataDir, flags) {
    this.dataDir = dataDir
    this.flags = flags
  }

  /** Starts the process; also used to start it again over the same data directory. */
  async start() {
    const flags = ['--listen', '127.0.0.1:0', '--data-dir', this.dataDir, ...this.flags]
    this.#process = spawn(BINARY, flags, { stdio: ['ignore', 'pipe', 'pipe'] })
    this.#process.stderr.on('data', (text) => (this.#log += text))
    this.url = await within(10_000, 'the server printing its URL', this.#firstUrl())
  }

  async #firstUrl() {
    const failed = once(this.#process, 'error').then(([error]) => {
      throw new Error(`cannot run ${BINARY}: ${error.message}`)
    })
    const printed = (async () => {
      // Not `for await`: leaving such a loop closes stdout, and the server may print later.
      const lines = createInterface({ input: this.#process.stdout })
      return new Promise((resolve, reject) => {
        lines.on('line', (line) => line.startsWith('tus: ') && resolve(line.slice(5).trim()))
        lines.on('close', () => reject(new Error(`the server ended early\n${this.#log}`)))
      })
    })()
    return Promise.race([failed, printed])
  }

  /** Ends the process by this signal and waits for its end; the data stays. */
  async kill(signal) {
    if (this.#process.exitCode !== null) throw new Error(`the server has ended\n${this.#log}`)
    const exited = once(this.#process, 'exit')
    this.#process.kill(signal)
    return within(11_000, `the server ending after ${signal}`, exited)
  }

  /** Stops the server as an operator does. It must end cleanly and must not have panicked. */
  async stop() {
    const [code, signal] = await this.kill('SIGTERM')
    await rm(this.dataDir, { recursive: true, force: true })
    if (code !== 0) throw new Error(`SIGTERM ended with ${code ?? signal}\n${this.#log}`)
    if (/panicked/.test(this.#log)) throw new Error(`the server panicked\n${this.#log}`)
  }
}
