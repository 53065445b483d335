// Uppy and tus-js-client in headless Chromium, on a page of another origin than the server's.
// Rule numbers are those of the wire contract (wire/tus.md).

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Browser, finished, recordRequests } from './support/browser.js'
import {
  assertGone,
  assertStored,
  bytes,
  direct,
  head,
  KIB,
  MIB,
  offsetOf,
  sha256,
} from './support/content.js'
import { CUTS, CuttingProxy } from './support/cutting-proxy.js'
import { FOREIGN_SERVER, startServer } from './support/server.js'
import { methods, patchOffsets } from './support/tus-upload.js'
import { until } from './support/wait.js'

/** What the proxy may have forwarded besides body bytes: request heads and preflights. */
const HEADS_BYTES = 64 * KIB

describe('in the browser', () => {
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

  async function proxyFor(t) {
    const proxy = await CuttingProxy.start(server.url)
    t.after(() => proxy.close())
    return proxy
  }

  /** The offset once the server has seen the end of a request cut after so many bytes (T-026). */
  const offsetAfterCut = (url, forwarded) =>
    until(`an offset just below ${forwarded}`, async () => {
      const offset = await offsetOf(server, url)
      return offset >= forwarded - HEADS_BYTES && offset
    })

  const startUppy = (page, options) => page.evaluate((each) => window.startUppy(each), options)

  describe('Uppy', () => {
    test('C-17, F-46: several files at once, an empty and a unicode one among them', async (t) => {
      const files = { 'empty.bin': Buffer.alloc(0), 'žluťoučký 漢字 🎉.txt': bytes(3 * MIB, 'u') }
      for (let i = 0; i < 10; i++) files[`file-${i}.bin`] = bytes(200 * KIB + i, i)
      const page = await browser.openPage(t)
      await browser.choose(page, files)
      await startUppy(page, { endpoint: server.url })
      const outcome = await finished(page)
      assert.deepEqual(outcome.errors, [])
      assert.equal(outcome.files.length, 12)
      for (const { name, uploadURL } of outcome.files) {
        await assertStored(server, uploadURL, files[name])
        const metadata = (await head(server, uploadURL)).field('Upload-Metadata')
        const filename = `filename ${Buffer.from(name).toString('base64')}`
        assert.ok(metadata.split(',').includes(filename), metadata)
      }
    })

    test('C-01: one file in many chunks', async (t) => {
      const data = bytes(5 * MIB + 1)
      const page = await browser.openPage(t)
      const requests = recordRequests(page)
      await browser.choose(page, { 'chunks.bin': data })
      await startUppy(page, { endpoint: server.url, chunkSize: MIB })
      const { files } = await finished(page)
      assert.deepEqual(
        patchOffsets(requests),
        [0, 1, 2, 3, 4, 5].map((i) => i * MIB),
      )
      await assertStored(server, files[0].uploadURL, data)
    })

    test('C-17: pause and resume in mid-upload', async (t) => {
      const data = bytes(12 * MIB)
      const page = await browser.openPage(t)
      const requests = recordRequests(page)
      const proxy = await proxyFor(t)
      await browser.choose(page, { 'paused.bin': data })
      const held = proxy.holdAfter(5 * MIB)
      await startUppy(page, { endpoint: proxy.url })
      await held
      await page.evaluate('uppy.pauseAll()')
      proxy.cut('fin')
      const { url } = requests.find(({ method }) => method === 'PATCH')
      const kept = await offsetAfterCut(url, 5 * MIB)
      const before = requests.length
      await page.evaluate('uppy.resumeAll()')
      const { errors, files } = await finished(page)
      assert.deepEqual(errors, [])
      assert.deepEqual(methods(requests).slice(before), ['HEAD', 'PATCH'])
      assert.equal(patchOffsets(requests).at(-1), kept)
      await assertStored(server, files[0].uploadURL, data)
    })

    for (const options of [{}, { chunkSize: MIB }]) {
      test(`C-15, C-17: page reload in mid-upload, the same file resumes ${JSON.stringify(options)}`, async (t) => {
        const data = bytes(12 * MIB)
        const page = await browser.openPage(t)
        const requests = recordRequests(page)
        const proxy = await proxyFor(t)
        await browser.choose(page, { 'reloaded.bin': data })
        const held = proxy.holdAfter(5.5 * MIB)
        await startUppy(page, { endpoint: proxy.url, ...options })
        await held
        await browser.load(page)
        proxy.cut('fin')
        const { url } = requests.find(({ method }) => method === 'PATCH')
        const kept = await offsetAfterCut(url, 5.5 * MIB)

        const before = requests.length
        const forwarded = proxy.forwarded
        await browser.chooseAgain(page, 'reloaded.bin')
        await startUppy(page, { endpoint: proxy.url, ...options })
        const { errors, files } = await finished(page)
        assert.deepEqual(errors, [])
        const after = requests.slice(before)
        assert.deepEqual(methods(after).slice(0, 2), ['HEAD', 'PATCH'])
        assert.equal(patchOffsets(after)[0], kept)
        assert.equal(files[0].uploadURL, url)
        const sent = proxy.forwarded - forwarded
        assert.ok(sent < data.length - kept + HEADS_BYTES, `${sent} bytes sent, ${kept} were there`)
        await assertStored(server, url, data)
      })
    }

    for (const manner of Object.keys(CUTS)) {
      test(`C-09, F-03: goes on by itself after ${manner}`, async (t) => {
        const data = bytes(12 * MIB)
        const page = await browser.openPage(t)
        const requests = recordRequests(page)
        const proxy = await proxyFor(t)
        await browser.choose(page, { 'cut.bin': data })
        const held = proxy.holdAfter(5 * MIB)
        await startUppy(page, { endpoint: proxy.url })
        await held
        const { url } = requests.find(({ method }) => method === 'PATCH')
        const seen = await until('an offset above 0', () => offsetOf(server, url))
        proxy.cut(manner)
        const { errors, files } = await finished(page)
        assert.deepEqual(errors, [])
        assert.ok(patchOffsets(requests).at(-1) >= seen)
        await assertStored(server, files[0].uploadURL, data)
      })
    }

    for (const [action, call] of [
      ['cancelAll', 'uppy.cancelAll()'],
      ['removeFile', 'uppy.removeFile(uppy.getFiles()[0].id)'],
    ]) {
      test(`C-08, C-17, D-44: ${action} in mid-upload deletes the upload`, async (t) => {
        const page = await browser.openPage(t)
        const requests = recordRequests(page)
        const proxy = await proxyFor(t)
        await browser.choose(page, { 'cancelled.bin': bytes(8 * MIB) })
        const held = proxy.holdAfter(3 * MIB)
        await startUppy(page, { endpoint: proxy.url })
        await held
        const { url } = requests.find(({ method }) => method === 'PATCH')
        const deleted = page.waitForResponse((response) => response.request().method() === 'DELETE')
        await page.evaluate(call)
        proxy.cut('fin')
        assert.equal((await deleted).status(), 204)
        await assertGone(server, url)
      })
    }
  })

  describe('errors as the page sees them', () => {
    test(
      'I-10, T-055, F-46: 413 reaches the page with its status, text and Tus-Max-Size',
      { skip: FOREIGN_SERVER },
      async (t) => {
        const small = await startServer('--max-size', String(MIB))
        t.after(() => small.stop())
        const page = await browser.openPage(t)
        const requests = recordRequests(page)
        await browser.choose(page, { 'large.bin': bytes(MIB + 1), 'small.bin': bytes(MIB) })
        await startUppy(page, { endpoint: small.url })
        const { errors, files } = await finished(page)
        assert.equal(errors.length, 1)
        assert.equal(errors[0].name, 'large.bin')
        assert.equal(errors[0].status, 413)
        assert.match(errors[0].body, /^ERR_MAX_SIZE_EXCEEDED: .+\n$/)
        assert.equal(errors[0].maxSize, String(MIB))
        assert.equal(
          methods(requests).filter((method) => method === 'POST').length,
          2,
          'D-45: not retried',
        )
        const stored = files.find(({ name }) => name === 'small.bin')
        await assertStored(small, stored.uploadURL, bytes(MIB))
      },
    )

    test('I-10, C-10: a 404 on a stored URL is seen, and the file uploaded anew', async (t) => {
      const data = bytes(1000)
      const page = await browser.openPage(t)
      await browser.choose(page, { 'again.bin': data })
      await startUppy(page, { endpoint: server.url })
      const [first] = (await finished(page)).files
      await fetch(first.uploadURL, { method: 'DELETE', headers: { 'Tus-Resumable': '1.0.0' } })
      await browser.load(page)
      const requests = recordRequests(page)
      await browser.chooseAgain(page, 'again.bin')
      await startUppy(page, { endpoint: server.url })
      const [second] = (await finished(page)).files
      assert.deepEqual(methods(requests), ['HEAD', 'POST', 'PATCH'])
      assert.equal(requests[0].status, 404)
      assert.notEqual(second.uploadURL, first.uploadURL)
      await assertStored(server, second.uploadURL, data)
    })

    test('D-57, F-46: a page reads statuses and tus fields of successes and errors', async (t) => {
      const page = await browser.openPage(t)
      const data = bytes(1000)
      await browser.choose(page, { 'fields.bin': data })
      await startUppy(page, { endpoint: server.url })
      const [{ uploadURL }] = (await finished(page)).files
      const seen = await page.evaluate(
        async ({ uploadURL, endpoint }) => {
          const tus = { 'Tus-Resumable': '1.0.0' }
          const ask = async (url, method, headers = tus, body) => {
            const response = await fetch(url, { method, headers, body })
            const fields = Object.fromEntries(response.headers)
            return { status: response.status, fields, text: await response.text() }
          }
          const octets = 'application/offset+octet-stream'
          const sha1 = { 'Upload-Checksum': 'sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=' }
          const created = await ask(endpoint, 'POST', { ...tus, 'Upload-Length': '5' })
          const url = new URL(created.fields.location, endpoint).href
          return {
            created,
            head: await ask(uploadURL, 'HEAD'),
            options: await ask(endpoint, 'OPTIONS'),
            unknown: await ask(`${endpoint}/nothing-here`, 'HEAD'),
            conflict: await ask(
              url,
              'PATCH',
              { ...tus, 'Content-Type': octets, 'Upload-Offset': '3' },
              'ab',
            ),
            mismatch: await ask(
              url,
              'PATCH',
              { ...tus, ...sha1, 'Content-Type': octets, 'Upload-Offset': '0' },
              'hello',
            ),
            mediaType: await ask(
              url,
              'PATCH',
              { ...tus, 'Content-Type': 'text/plain', 'Upload-Offset': '0' },
              'hello',
            ),
            version: await ask(endpoint, 'POST', {
              'Tus-Resumable': '0.2.2',
              'Upload-Length': '1',
            }),
            notAllowed: await ask(endpoint, 'PATCH'),
            deleted: await ask(url, 'DELETE'),
          }
        },
        { uploadURL, endpoint: server.url },
      )

      assert.equal(seen.created.status, 201)
      assert.equal(seen.created.fields['upload-offset'], '0')
      assert.equal(seen.head.status, 200)
      assert.equal(seen.head.fields['upload-offset'], '1000')
      assert.equal(seen.head.fields['upload-length'], '1000')
      assert.match(seen.head.fields['upload-metadata'], /filename/)
      assert.equal(seen.options.status, 204)
      assert.match(seen.options.fields['tus-extension'], /concatenation/)
      assert.equal(seen.options.fields['tus-checksum-algorithm'], 'sha1,sha256,sha512,md5')
      assert.equal(seen.unknown.status, 404)
      assert.equal(seen.conflict.status, 409)
      assert.equal(seen.conflict.fields['upload-offset'], '0', 'D-09')
      assert.match(seen.conflict.text, /^ERR_MISMATCHED_OFFSET: /)
      assert.equal(seen.mismatch.status, 460)
      assert.match(seen.mismatch.text, /^ERR_CHECKSUM_MISMATCH: /)
      assert.equal(seen.mediaType.status, 415)
      assert.equal(seen.version.status, 412)
      assert.equal(seen.version.fields['tus-version'], '1.0.0')
      assert.equal(seen.notAllowed.status, 405)
      assert.equal(seen.deleted.status, 204)
      for (const [name, { fields }] of Object.entries(seen)) {
        assert.equal(fields['tus-resumable'], '1.0.0', `I-10: Tus-Resumable on ${name}`)
      }
    })

    test('D-51, D-57: a page of another origin downloads what was uploaded', async (t) => {
      const data = bytes(2 * MIB)
      const page = await browser.openPage(t)
      await browser.choose(page, { 'download.bin': data })
      await startUppy(page, { endpoint: server.url })
      const [{ uploadURL }] = (await finished(page)).files
      const hash = await page.evaluate(async (url) => {
        const content = await (await fetch(url)).arrayBuffer()
        const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', content))
        return [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('')
      }, uploadURL)
      assert.equal(hash, sha256(data))
    })

    for (const [label, flags, allowed] of [
      [
        'its own origin listed',
        () => ['--cors-origin', 'https://example.com', '--cors-origin', browser.pages.origin],
        true,
      ],
      ['only others listed', () => ['--cors-origin', 'https://example.com'], false],
      ['CORS off', () => ['--no-cors'], false],
    ]) {
      test(
        `D-57: ${label}: the page ${allowed ? 'uploads' : 'is kept out by the browser'}`,
        { skip: FOREIGN_SERVER },
        async (t) => {
          const strict = await startServer(...flags())
          t.after(() => strict.stop())
          const page = await browser.openPage(t)
          await browser.choose(page, { 'origin.bin': bytes(1000) })
          await startUppy(page, { endpoint: strict.url, retryDelays: [] })
          const { errors, files } = await finished(page)
          if (allowed) await assertStored(strict, files[0].uploadURL, bytes(1000))
          else
            assert.deepEqual(
              errors.map(({ isNetworkError, status }) => [isNetworkError, status]),
              [[true, undefined]],
            )
        },
      )
    }
  })

  for (const version of [4, 5]) {
    describe(`tus-js-client ${version}`, () => {
      // One page for all: this client resumes only when it is told to.
      let page
      before(async () => {
        page = await browser.openPage()
      })
      after(() => page.context().close())

      for (const [label, size, options] of [
        ['C-01: one PATCH', 3 * MIB + 1, {}],
        ['C-01: chunks', 3 * MIB + 1, { chunkSize: MIB }],
        [
          'C-02: data during creation',
          3 * MIB + 1,
          { uploadDataDuringCreation: true, chunkSize: MIB },
        ],
        [
          'C-03: deferred length from a stream',
          2.5 * MIB,
          { asStream: true, uploadLengthDeferred: true, chunkSize: MIB },
        ],
        [
          'C-03, F-25: deferred length, size a multiple of the chunk',
          3 * MIB,
          { asStream: true, uploadLengthDeferred: true, chunkSize: MIB },
        ],
        [
          'C-02, C-03: deferred length and data during creation',
          2.5 * MIB,
          {
            asStream: true,
            uploadLengthDeferred: true,
            uploadDataDuringCreation: true,
            chunkSize: MIB,
          },
        ],
        ['C-06: empty file', 0, {}],
        [
          'C-07, D-57: overridePatchMethod',
          3 * MIB + 1,
          { overridePatchMethod: true, chunkSize: MIB },
        ],
        ['C-11: parallel uploads', 3 * MIB + 1, { parallelUploads: 3 }],
        ['C-12: more parts than bytes', 2, { parallelUploads: 3 }],
        [
          'C-41, D-57: request id and credentials in headers',
          1000,
          { addRequestId: true, headers: { Authorization: 'Bearer abc' } },
        ],
        [
          'D-57: fields that applications and the tools that watch them add',
          1000,
          {
            headers: {
              'Cache-Control': 'no-cache',
              'X-CSRF-Token': 'abc',
              'x-upsert': 'true',
              baggage: 'a=b',
              'sentry-trace': '1-2-0',
              traceparent: '00-1-2-01',
            },
          },
        ],
      ]) {
        test(`${label}, ${size} bytes`, async () => {
          const data = bytes(size)
          await browser.choose(page, { 'tus.bin': data })
          const outcome = await page.evaluate(
            ([version, options]) => window.uploadByTus(version, options),
            [version, { endpoint: server.url, ...options }],
          )
          assert.equal(outcome.error, undefined)
          await assertStored(server, outcome.url, data)
        })
      }

      test('D-57, F-51: a page that uploads to nowhere reads 404 and stops', async () => {
        await browser.choose(page, { 'lost.bin': bytes(1000) })
        const outcome = await page.evaluate(
          ([version, options]) => window.uploadByTus(version, options),
          [version, { endpoint: new URL('/nowhere', server.url).href }],
        )
        assert.equal(outcome.status, 404, outcome.error)
        assert.ok(outcome.error.includes('tus is at /files'), outcome.error)
      })

      test('C-08: abort(true) after the first chunk', async () => {
        await browser.choose(page, { 'aborted.bin': bytes(3 * MIB) })
        const outcome = await page.evaluate(
          ([version, options]) => window.uploadByTus(version, options),
          [version, { endpoint: server.url, chunkSize: MIB, abortAfterFirstChunk: true }],
        )
        assert.equal(outcome.terminated, true, outcome.error)
        await assertGone(server, direct(server, outcome.url))
      })
    })
  }
})
