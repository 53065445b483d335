// What the sample backend of resumable.js does, without its framework: node server.js PORT DIR
// A form parser stores each chunk as a file, the file is renamed to the chunk's name, and when no
// chunk is missing all are copied into one file, before the last answer.
import fs from 'node:fs'
import {createServer} from 'node:http'
import path from 'node:path'
import {pipeline} from 'node:stream/promises'
import multiparty from 'multiparty'

const [port, directory] = process.argv.slice(2)

// The sample has a race here; a benchmark cannot use it.
const assembled = new Set()

const parse = (request) => new Promise((resolve, reject) => {
  new multiparty.Form({uploadDir: directory}).parse(request, (error, fields, files) => {
    if (error) reject(error)
    else resolve({field: (name) => fields[name][0], file: files.file[0]})
  })
})

async function isWhole(chunk, count) {
  for (let number = 1; number <= count; number++) {
    if (!await fs.promises.access(chunk(number)).then(() => true, () => false)) return false
  }
  return true
}

async function assemble(chunk, count, target) {
  for (let number = 1; number <= count; number++) {
    await pipeline(fs.createReadStream(chunk(number)), fs.createWriteStream(target, {flags: 'a'}))
    await fs.promises.unlink(chunk(number))
  }
}

async function answer(request, response) {
  const {field, file} = await parse(request)
  const identifier = field('resumableIdentifier').replace(/[^0-9A-Za-z_-]/g, '')
  const chunk = (number) => path.join(directory, `resumable-${identifier}.${number}`)
  await fs.promises.rename(file.path, chunk(Number(field('resumableChunkNumber'))))
  const count = Math.max(Math.floor(field('resumableTotalSize') / field('resumableChunkSize')), 1)
  const whole = await isWhole(chunk, count) && !assembled.has(identifier)
  if (whole) assembled.add(identifier)
  if (whole) await assemble(chunk, count, path.join(directory, identifier))
  response.end(whole ? 'done' : 'partly_done')
}

createServer((request, response) => {
  answer(request, response).catch((error) => {
    response.statusCode = 500
    response.end(String(error))
  })
}).listen(Number(port), '127.0.0.1')
