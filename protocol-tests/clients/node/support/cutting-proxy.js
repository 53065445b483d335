// A TCP proxy that keeps back what flows towards the server after a given number of bytes, and
// then cuts, so that a test interrupts an upload at a byte and not at a time.

import { once } from 'node:events'
import net from 'node:net'
import { within } from './wait.js'

/** How a connection can end, as the server sees it. */
export const CUTS = {
  /** An orderly end: everything forwarded arrives, then nothing. */
  fin: (upstream) => upstream.end(),
  /** A reset: what the server has not read yet is lost. */
  reset: (upstream) => upstream.resetAndDestroy(),
  /** The network vanishes: the server hears nothing at all, as long as the proxy lives. */
  silence: () => {},
}

export class CuttingProxy {
  /** Bytes forwarded to the server so far. */
  forwarded = 0
  #limit = Infinity
  #reached = () => {}
  #pairs = new Set()
  #sockets = new Set()

  /** A proxy in front of this base URL; `url` is the same path on the proxy. */
  static async start(target) {
    const proxy = new CuttingProxy()
    proxy.target = new URL(target)
    proxy.listener = net.createServer((client) => proxy.#connect(client))
    proxy.listener.listen(0, '127.0.0.1')
    // A test that fails half-way must not keep the whole run waiting for its proxy.
    proxy.listener.unref()
    await once(proxy.listener, 'listening')
    proxy.url = `http://127.0.0.1:${proxy.listener.address().port}${proxy.target.pathname}`
    return proxy
  }

  /** Sends new connections to another address: the server came back elsewhere. */
  retarget(target) {
    this.target = new URL(target)
  }

  /** Resolves once exactly `bytes` more were forwarded; what follows is kept back until a cut. */
  holdAfter(bytes) {
    this.#limit = this.forwarded + bytes
    const reached = new Promise((resolve) => (this.#reached = resolve))
    return within(30_000, `${bytes} bytes through the proxy`, reached)
  }

  /** Ends every connection in this manner and forwards all later ones without limit. */
  cut(manner) {
    this.#limit = Infinity
    for (const { client, upstream } of this.#pairs) {
      client.destroy()
      CUTS[manner](upstream)
    }
    this.#pairs.clear()
  }

  async close() {
    this.listener.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  #connect(client) {
    const upstream = net.connect({ host: this.target.hostname, port: Number(this.target.port) })
    const pair = { client, upstream }
    this.#pairs.add(pair)
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ]) {
      this.#sockets.add(socket)
      socket.setNoDelay(true)
      // A break is what this proxy is for; 'close' follows every error and is handled below.
      socket.on('error', () => {})
      socket.on('close', () => {
        this.#sockets.delete(socket)
        // After a cut the pair is no longer ours to tidy: the cut decides what the server sees.
        if (this.#pairs.delete(pair)) other.destroy()
      })
    }
    client.on('data', (data) => this.#forward(pair, data))
    upstream.on('data', (data) => client.write(data))
  }

  #forward({ client, upstream }, data) {
    const allowed = data.subarray(0, Math.max(0, this.#limit - this.forwarded))
    this.forwarded += allowed.length
    const flushed = upstream.write(allowed)
    if (this.forwarded >= this.#limit) {
      client.pause()
      this.#reached()
    } else if (!flushed) {
      client.pause()
      upstream.once('drain', () => client.resume())
    }
  }
}
