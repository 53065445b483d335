// A file of 1 GiB through tus-js-client, cut once in the middle. Set WINDLASS_BIG=1 to run it.

import assert from 'node:assert/strict'
import { createReadStream } from 'node:fs'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import * as tus from 'tus4'
import { assertStoredHash, bytes, MIB, sha256OfStream } from './support/content.js'
import { CuttingProxy } from './support/cutting-proxy.js'
import { startServer } from './support/server.js'
import { methods, patchOffsets, prepareUpload } from './support/tus-upload.js'

const SIZE = 1024 * MIB
const CUT_AT = 600 * MIB
/** A checkpoint is due every 16 MiB; what came after the last one may be sent again. */
const CHECKPOINT = 16 * MIB
const SKIP = process.env.WINDLASS_BIG === '1' ? false : 'set WINDLASS_BIG=1 to upload 1 GiB'

test('F-14, T-020: 1 GiB in one PATCH, cut at 600 MiB and resumed', { skip: SKIP }, async (t) => {
  const folder = await mkdtemp(path.join(tmpdir(), 'windlass-clients-big-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const file = path.join(folder, 'big')
  await writeSparseFile(file)
  const expected = await sha256OfStream(createReadStream(file))
  assert.equal(expected.size, SIZE)

  const server = await startServer()
  t.after(() => server.stop())
  const proxy = await CuttingProxy.start(server.url)
  t.after(() => proxy.close())
  const held = proxy.holdAfter(CUT_AT)
  const { upload, done, requests } = prepareUpload(tus, createReadStream(file), {
    endpoint: proxy.url,
  }).begin()
  await held
  proxy.cut('reset')
  await done()
  assert.equal(methods(requests).filter((method) => method === 'POST').length, 1)
  const resumedAt = patchOffsets(requests).at(-1)
  assert.ok(resumedAt >= CUT_AT - CHECKPOINT, `resumed at ${resumedAt}`)
  await assertStoredHash(server, upload.url, expected)
})

/** Holes with a different mark in every MiB, so that a misplaced block changes the hash. */
async function writeSparseFile(name) {
  const file = await open(name, 'w')
  try {
    await file.truncate(SIZE)
    for (let at = 0; at < SIZE; at += MIB) await file.write(bytes(64, at), 0, 64, at)
  } finally {
    await file.close()
  }
}
