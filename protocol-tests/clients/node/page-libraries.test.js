// Dropzone, Fine Uploader and plupload in headless Chromium, set up as docs/resumablejs.md says, on a
// page of another origin than the server's; and its other recipes. Rule numbers are those of the wire
// contract (wire/resumablejs.md).

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Browser, finished, recordRequests } from './support/browser.js'
import { assertStored, bytes, KIB } from './support/content.js'
import { CuttingProxy } from './support/cutting-proxy.js'
import { recipe } from './support/recipes.js'
import { FOREIGN_SERVER, startServer } from './support/server.js'

/** What the libraries cut here: small, so that files of many chunks cost no time. */
const CHUNK = 16 * KIB

/** File sizes on both sides of every boundary; a form ends with a line break of two bytes. */
const SIZES = [1, CHUNK - 1, CHUNK, CHUNK + 1, CHUNK + 2, 2 * CHUNK, 2 * CHUNK + 1, 3.5 * CHUNK]

/** Names that a form could get wrong. */
const NAMES = ['žluťoučký 漢字 🎉.txt', `a "quoted" name; +&=#'[*].txt`]

const LIBRARIES = [
  {
    title: 'Dropzone 6.3.5',
    heading: '## Dropzone',
    cut: ['4 * 1024 * 1024', CHUNK],
    start: (code, options) => window.startDropzone(code, 6, options),
    takesEmpty: true,
  },
  {
    title: 'Dropzone 5.9.3',
    heading: '## Dropzone',
    cut: ['4 * 1024 * 1024', CHUNK],
    start: (code, options) => window.startDropzone(code, 5, options),
  },
  {
    title: 'Fine Uploader 5.16.2',
    heading: '## Fine Uploader',
    cut: ['4 * 1024 * 1024', CHUNK],
    start: (code) => window.startFineUploader(code),
  },
  {
    title: 'plupload 2.3.9',
    heading: '## plupload',
    cut: ["'4mb'", CHUNK],
    start: (code) => window.startPlupload(code),
  },
]

describe('page libraries in the browser', { skip: FOREIGN_SERVER }, () => {
  let server
  let browser

  before(async () => {
    server = await startServer()
    browser = await Browser.start()
  })
  after(async () => {
    await browser?.close()
    await server?.stop()
  })

  /** A page with these files chosen. */
  async function openPage(t, files) {
    const page = await browser.openPage(t)
    await browser.choose(page, files)
    return page
  }

  /** Starts the upload of the chosen files as the documentation has it. */
  const startBy = ({ heading, cut: [from, to], start }, page, of, options = {}) =>
    page.evaluate(
      ([start, code, options]) => new Function(`return ${start}`)()(code, options),
      [start.toString(), recipe(heading, of, { [from]: String(to) }), options],
    )

  async function assertUploaded(outcomes, files) {
    const names = outcomes.map(({ name }) => name)
    assert.deepEqual(names.sort(), Object.keys(files).sort())
    for (const { name, failed, answer } of outcomes) {
      assert.equal(failed, false, `${name}: ${JSON.stringify(answer)}`)
      assert.equal(answer.fileUploadStatus, true)
      assert.equal(answer.upload.name, name)
      await assertStored(server, new URL(answer.upload.url, server.url).href, files[name])
    }
  }

  for (const library of LIBRARIES) {
    describe(library.title, () => {
      test('J-004, J-011: files of all sizes side by side', async (t) => {
        const files = {}
        const sizes = library.takesEmpty ? [0, ...SIZES] : SIZES
        for (const size of sizes) files[`${library.title} ${size}.bin`] = bytes(size, size)
        for (const name of NAMES) files[name] = bytes(2.2 * CHUNK, library.title + name)
        const page = await openPage(t, files)
        const requests = recordRequests(page)
        await startBy(library, page, server)
        await assertUploaded(await finished(page), files)
        const chunks = Object.values(files).map(({ length }) => Math.ceil(length / CHUNK) || 1)
        const total = chunks.reduce((sum, count) => sum + count)
        assert.equal(requests.length, total, 'each chunk is sent once')
      })

      for (const manner of ['fin', 'reset']) {
        test(`J-023: a connection that is cut (${manner}) in mid-chunk: the chunk is sent again`, async (t) => {
          const files = { [`${library.title} ${manner}.bin`]: bytes(8.5 * CHUNK, manner) }
          const proxy = await CuttingProxy.start(server.url)
          t.after(() => proxy.close())
          const page = await openPage(t, files)
          const requests = recordRequests(page)
          const held = proxy.holdAfter(3.5 * CHUNK)
          await startBy(library, page, proxy)
          await held
          // The browser itself repeats what it sent on a connection that it had used before; the
          // second cut is the library's to see.
          proxy.cut(manner)
          const again = proxy.holdAfter(CHUNK / 2)
          await again
          proxy.cut(manner)
          await assertUploaded(await finished(page), files)
          assert.ok(requests.length > 9, `${requests.length} requests for 9 chunks`)
        })
      }
    })
  }

  for (const [label, options] of [
    ['chunks in parallel', { parallelChunkUploads: true }],
    ['no chunks: a size of Number.MAX_VALUE', { chunkSize: Number.MAX_VALUE }],
    ['PUT', { method: 'put' }],
  ]) {
    test(`Dropzone: ${label}`, async (t) => {
      const [library] = LIBRARIES
      const files = { [`dropzone ${label.replace(/\W/g, '')}.bin`]: bytes(4.5 * CHUNK, label) }
      const page = await openPage(t, files)
      await startBy(library, page, server, options)
      await assertUploaded(await finished(page), files)
    })
  }

  for (const version of [5, 6]) {
    test(`Dropzone ${version} shows why a file is refused`, async (t) => {
      const small = await startServer('--max-size', String(CHUNK))
      const page = await openPage(t, { 'large.bin': bytes(2 * CHUNK) })
      t.after(() => small.stop())
      const library = LIBRARIES.find(({ title }) => title.includes(` ${version}`))
      await startBy(library, page, small, { retryChunks: false })
      const [{ failed, answer }] = await finished(page)
      const shown = `the file has ${2 * CHUNK} bytes; uploads are limited to ${CHUNK} bytes`
      assert.deepEqual([failed, answer.shown], [true, shown])
      assert.equal(answer.answer.code, 'file_too_large')

      // A file of one chunk, which Dropzone sends without its fields.
      await browser.choose(page, { 'small.bin': bytes(CHUNK / 2) })
      await startBy(library, page, small, { retryChunks: false, forceChunking: false })
      const [refused] = await finished(page)
      assert.match(refused.answer.shown, /missing: .*dzchunkindex.*forceChunking: true/)
    })
  }
})
