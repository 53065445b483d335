// Headless Chromium, and a page on an origin of its own that has the clients loaded.

import { build } from 'esbuild'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
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

/** Long enough for a loaded machine, short enough that a hanging page fails by name. */
const PAGE_TIMEOUT_MS = 30_000

/** Chromium, the server of the test page, and a folder with the files that tests choose. */
export class Browser {
  static async start() {
    const browser = new Browser()
    browser.folder = await mkdtemp(path.join(tmpdir(), 'windlass-clients-browser-'))
    browser.pages = await startPageServer()
    browser.chromium = await chromium.launch({ executablePath: EXECUTABLE, args: QUIET_FLAGS })
    return browser
  }

  async close() {
    await this.chromium.close()
    await this.pages.stop()
    await rm(this.folder, { recursive: true, force: true })
  }

  /** A fresh page of a fresh profile: nothing stored by an earlier test, whose end ends it too. */
  async openPage(t) {
    const page = await this.openEmptyPage(t)
    await this.load(page)
    return page
  }

  /** The same before anything is loaded. */
  async openEmptyPage(t) {
    const context = await this.chromium.newContext()
    t?.after(() => context.close())
    const page = await context.newPage()
    page.setDefaultTimeout(PAGE_TIMEOUT_MS)
    return page
  }

  async load(page) {
    await page.goto(this.pages.origin)
    await page.waitForFunction('window.startUppy')
  }

  /** Writes files to disk and chooses them on the page, as a person would. */
  async choose(page, files) {
    for (const name of Object.keys(files)) await this.write(name, files[name])
    await this.chooseAgain(page, ...Object.keys(files))
  }

  /** Chooses files that are on disk already. */
  async chooseAgain(page, ...names) {
    await page.setInputFiles(
      'input',
      names.map((name) => path.join(this.folder, name)),
    )
  }

  /** Writes a tree of files to disk and chooses the folder that holds it. */
  async chooseFolder(page, folder, files) {
    for (const name of Object.keys(files)) await this.write(path.join(folder, name), files[name])
    await page.$eval('input', (input) => (input.webkitdirectory = true))
    await page.setInputFiles('input', path.join(this.folder, folder))
  }

  /** Puts a file where it can be chosen. */
  async write(name, data) {
    const file = path.join(this.folder, name)
    await mkdir(path.dirname(file), { recursive: true })
    await writeFile(file, data)
  }
}

/** What an upload on the page came to, once it did. */
export async function finished(page) {
  await page.waitForFunction('window.finished.then(() => true)')
  return page.evaluate('window.finished')
}

/** Serves the test page; `origin` is not that of any upload server, since the port differs. */
async function startPageServer() {
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
  // A start that fails half-way must not keep the whole run waiting for this server.
  server.unref()
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
