// File contents to upload, and the proof that the server holds exactly them.

import assert from 'node:assert/strict'
import { createCipheriv, createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import path from 'node:path'
import { until } from './wait.js'

export const KIB = 1024
export const MIB = 1024 * KIB

/** `size` bytes that look random and depend only on the seed: a misplaced block shows. */
export function bytes(size, seed = 0) {
  const key = createHash('md5').update(`windlass ${seed}`).digest()
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size))
}

export const sha256 = (data) => createHash('sha256').update(data).digest('hex')

/** The sha256 of a stream of bytes, and their number. */
export async function sha256OfStream(stream) {
  const hash = createHash('sha256')
  let size = 0
  for await (const chunk of stream) {
    hash.update(chunk)
    size += chunk.length
  }
  return { hash: hash.digest('hex'), size }
}

/** The upload's URL on the server itself, whatever proxy the client went through. */
export const direct = (server, url) => new URL(new URL(url).pathname, server.url).href

/** HEAD as a client asks: the status and the header fields. */
export async function head(server, url) {
  const response = await fetch(direct(server, url), {
    method: 'HEAD',
    headers: { 'Tus-Resumable': '1.0.0' },
  })
  return { status: response.status, field: (name) => response.headers.get(name) }
}

/** The offset that the server shows now. */
export async function offsetOf(server, url) {
  const { status, field } = await head(server, url)
  assert.equal(status, 200, 'HEAD of a live upload answers 200')
  return Number(field('Upload-Offset'))
}

/** Asserts that the upload is complete and that HEAD, GET and the disk all say `data`. */
export async function assertStored(server, url, data) {
  await assertStoredHash(server, url, { hash: sha256(data), size: data.length })
}

/** `assertStored` for contents known by their hash and size only. */
export async function assertStoredHash(server, url, { hash, size }) {
  const { status, field } = await head(server, url)
  assert.equal(status, 200, 'T-015: HEAD answers 200')
  assert.equal(field('Upload-Offset'), String(size), 'T-012: HEAD shows the final offset')
  assert.equal(field('Upload-Length'), String(size), 'T-013: HEAD shows the length')
  assert.equal(field('Upload-Defer-Length'), null, 'T-050: the length is no longer deferred')
  assert.equal(field('Tus-Resumable'), '1.0.0', 'T-005')
  assert.match(field('Cache-Control') ?? '', /no-store/, 'T-016')

  const response = await fetch(direct(server, url))
  assert.equal(response.status, 200, 'D-51: GET of a complete upload answers 200')
  assert.deepEqual(await sha256OfStream(response.body), { hash, size }, 'D-51: GET gives the bytes')

  if (!server.dataDir) return
  const file = fileOf(server, url)
  // A concatenated upload is answered before its plain file is laid down; any other one after.
  if (field('Upload-Concat')) {
    await until(`${path.basename(file)} in the data directory`, () => exists(file))
  }
  assert.deepEqual(await sha256OfStream(createReadStream(file)), { hash, size }, 'the plain file')
}

/** Asserts that nothing of the upload is left: not over HTTP and not as a published file. */
export async function assertGone(server, url) {
  assert.equal((await head(server, url)).status, 404, 'T-092: HEAD after DELETE answers 404')
  assert.equal(
    (await fetch(direct(server, url))).status,
    404,
    'T-092: GET after DELETE answers 404',
  )
  if (!server.dataDir) return
  for (const file of [fileOf(server, url), fileOf(server, url, '.part')]) {
    assert.equal(await exists(file), false, `${path.basename(file)} is removed`)
  }
}

/** Where the upload's bytes lie: `<id>`, or `<id>.part` while it is open. */
export const fileOf = (server, url, suffix = '') =>
  path.join(server.dataDir, path.basename(new URL(url).pathname) + suffix)

export const exists = (file) =>
  stat(file).then(
    () => true,
    () => false,
  )
