// Serves the page, and starts the upload server that it talks to. `npm start` runs this.
//
//   PORT          where the page is served; default 8000, 0 takes a free one
//   SERVER        use the server at this URL, such as http://127.0.0.1:8080, and start none
//   WINDLASS_BIN  start this binary; default: `cargo run --release` in this repository

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import path from 'node:path'
import { createInterface } from 'node:readline'

const HERE = import.meta.dirname
const { PORT = '8000', SERVER, WINDLASS_BIN } = process.env

/** What the page may fetch. The libraries are what npm installed, untouched. */
const FILES = {
  '/': ['text/html', 'public/index.html'],
  '/app.js': ['text/javascript', 'public/app.js'],
  '/style.css': ['text/css', 'public/style.css'],
  '/resumable.js': ['text/javascript', 'node_modules/resumablejs/resumable.js'],
  '/tus.js': ['text/javascript', 'node_modules/tus-js-client/dist/tus.min.js'],
}

/** The URL of each protocol on a running server, at its default paths. */
const endpointsOf = (server) => ({
  tus: new URL('/files', server).href,
  resumable: new URL('/resumable', server).href,
})

/** Starts windlass and reads the URLs that it prints. It ends with this process, and this with it. */
async function startServer() {
  const [command, ...args] = WINDLASS_BIN
    ? [WINDLASS_BIN]
    : ['cargo', 'run', '--release', '--manifest-path', path.join(HERE, '../../Cargo.toml')]
  const windlass = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  windlass.on('error', (error) => {
    console.error(`cannot run ${command}: ${error.message}`)
    process.exit(1)
  })
  windlass.on('exit', (code) => process.exit(code ?? 1))
  // Ctrl-C reaches both by itself; other ends are passed on.
  process.on('SIGINT', () => {})
  process.on('SIGTERM', () => windlass.kill())

  const endpoints = {}
  return new Promise((resolve) => {
    createInterface({ input: windlass.stdout }).on('line', (line) => {
      const [, protocol, url] = /^(\w+): (http\S+)/.exec(line) ?? []
      if (protocol) endpoints[protocol] = url
      if (endpoints.tus && endpoints.resumable) resolve(endpoints)
    })
  })
}

const endpoints = SERVER ? endpointsOf(SERVER) : await startServer()

const page = createServer(async (request, response) => {
  const send = (status, type, body) =>
    response.writeHead(status, { 'Content-Type': `${type}; charset=utf-8` }).end(body)
  if (request.url === '/endpoints.json') {
    return send(200, 'application/json', JSON.stringify(endpoints))
  }
  const [type, file] = FILES[request.url] ?? []
  if (!file) return send(404, 'text/plain', 'There is nothing here.\n')
  send(200, type, await readFile(path.join(HERE, file)))
})
page.listen(Number(PORT), '127.0.0.1')
await once(page, 'listening')
console.log(`tus: ${endpoints.tus}`)
console.log(`resumable: ${endpoints.resumable}`)
console.log(`page: http://127.0.0.1:${page.address().port}`)
