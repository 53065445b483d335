// Headless Chromium, and a page on an origin of its own that has the clients loaded.

import { build } from 'esbuild'
import { once } from 'node:events'
import { createServer } from 'node:http'
import path from 'node:path'
import { chromium } from 'playwright-core'

/** Chromium as the distribution installs it. */
const EXECUTABLE = process.env.CHROMIUM ?? '/usr/bin/chromium'

/** Tests reach loopback only; Chromium's own calls home would only delay and blur them. */
const QUIET_FLAGS = [
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-gpu',
  '--disable-quic',
  '--disable-sync',
  '--no-first-run',
]

export const launchBrowser = () =>
  chromium.launch({ executablePath: EXECUTABLE, args: QUIET_FLAGS })

/** Serves the test page; `origin` is not that of any upload server, since the port differs. */
export async function startPageServer() {
  const bundle = await build({
    entryPoints: [path.resolve(import.meta.dirname, '../page/clients.js')],
    bundle: true,
    format: 'esm',
    write: false,
    logLevel: 'error',
  })
  const files = {
    '/': [
      'text/html',
      '<!doctype html><input type="file" multiple><script type="module" src="/clients.js"></script>',
    ],
    '/clients.js': ['text/javascript', bundle.outputFiles[0].text],
  }
  const server = createServer((request, response) => {
    const [type, body] = files[request.url] ?? ['text/plain', '']
    response.writeHead(body ? 200 : 404, { 'Content-Type': `${type}; charset=utf-8` }).end(body)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    async stop() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

/**
 * What a page sends to the upload server, in order, with the status of each answer. Preflights
 * are the browser's own affair and are not listed.
 */
export function recordRequests(page) {
  const requests = []
  page.on('request', (request) => {
    if (request.resourceType() !== 'xhr' && request.resourceType() !== 'fetch') return
    const headers = request.headers()
    requests.push({
      request,
      method: request.method(),
      url: request.url(),
      field: (name) => headers[name.toLowerCase()],
    })
  })
  page.on('response', (response) => {
    const entry = requests.find(({ request }) => request === response.request())
    if (entry) entry.status = response.status()
  })
  return requests
}
