// tus-js-client on Node, its two current lines side by side, against a live server.
// Rule numbers are those of the wire contract (wire/tus.md).

import assert from 'node:assert/strict'
import { createReadStream } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Readable } from 'node:stream'
import { after, before, describe, test } from 'node:test'
import * as tus4 from 'tus4'
import * as tus5 from 'tus5'
import { FileUrlStorage as FileUrlStorage5 } from 'tus5/node/FileUrlStorage'
import {
  assertGone,
  assertStored,
  bytes,
  direct,
  exists,
  fileOf,
  head,
  KIB,
  MIB,
  offsetOf,
} from './support/content.js'
import { CUTS, CuttingProxy } from './support/cutting-proxy.js'
import { FOREIGN_SERVER, startServer } from './support/server.js'
import { methods, patchOffsets, prepareUpload, uploadWhole } from './support/tus-upload.js'
import { until } from './support/wait.js'

const CLIENTS = [
  { name: 'tus-js-client 4.3.1', tus: tus4, FileUrlStorage: tus4.FileUrlStorage },
  { name: 'tus-js-client 5.0.0-pre2', tus: tus5, FileUrlStorage: FileUrlStorage5 },
]

/** What the proxy may have forwarded besides body bytes: request heads and chunk framing. */
const HEADS_AND_FRAMING_BYTES = 64 * KIB

for (const { name, tus, FileUrlStorage } of CLIENTS) {
  describe(name, () => {
    let server
    let endpoint
    let folder

    before(async () => {
      server = await startServer()
      endpoint = server.url
      folder = await mkdtemp(path.join(tmpdir(), 'windlass-clients-node-'))
    })
    after(async () => {
      await rm(folder, { recursive: true, force: true })
      await server?.stop()
    })

    /** A proxy in front of the server for one test. */
    async function proxyFor(t, target = server) {
      const proxy = await CuttingProxy.start(target.url)
      t.after(() => proxy.close())
      return proxy
    }

    describe('plain uploads', () => {
      for (const size of [1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 8 * MIB - 1, 16 * MIB + 1]) {
        test(`C-01, F-15: ${size} bytes in one PATCH`, async () => {
          const data = bytes(size)
          const { url, requests } = await uploadWhole(tus, data, { endpoint })
          assert.deepEqual(methods(requests), ['POST', 'PATCH'])
          await assertStored(server, url, data)
        })
      }

      for (const [size, chunkSize] of [
        [300, 1],
        [5 * MIB, MIB],
        [5 * MIB + 1, MIB],
        [5 * MIB - 1, MIB],
      ]) {
        test(`C-01, T-020: ${size} bytes in chunks of ${chunkSize}`, async () => {
          const data = bytes(size)
          const { url, requests } = await uploadWhole(tus, data, { endpoint, chunkSize })
          const starts = Array.from(
            { length: Math.ceil(size / chunkSize) },
            (_, i) => i * chunkSize,
          )
          assert.deepEqual(patchOffsets(requests), starts)
          await assertStored(server, url, data)
        })
      }

      test('C-06, T-052, F-23: an empty file is complete after its POST', async () => {
        const { url, requests } = await uploadWhole(tus, Buffer.alloc(0), { endpoint })
        assert.deepEqual(methods(requests), ['POST'])
        await assertStored(server, url, Buffer.alloc(0))
      })

      test('C-13: a file on disk, read as a stream', async () => {
        const data = bytes(3 * MIB + 7)
        const file = path.join(folder, 'from-disk')
        await writeFile(file, data)
        const { url } = await uploadWhole(tus, createReadStream(file), { endpoint })
        await assertStored(server, url, data)
      })

      test('C-07, T-011: overridePatchMethod sends POST instead of PATCH', async () => {
        const data = bytes(2 * MIB + 3)
        const { url, requests } = await uploadWhole(tus, data, {
          endpoint,
          overridePatchMethod: true,
          chunkSize: MIB,
        })
        assert.deepEqual(methods(requests), ['POST', 'POST', 'POST', 'POST'])
        assert.deepEqual(patchOffsets(requests), [0, MIB, 2 * MIB])
        await assertStored(server, url, data)
      })

      test("C-41: the user's own headers and a request id disturb nothing", async () => {
        const data = bytes(1000)
        const { url } = await uploadWhole(tus, data, {
          endpoint,
          addRequestId: true,
          headers: { Authorization: 'Bearer abc', 'X-Custom': 'a, b; c="d"' },
        })
        await assertStored(server, url, data)
      })

      test('F-19: twenty uploads at once do not mix', async () => {
        const files = Array.from({ length: 20 }, (_, i) => bytes(300 * KIB + i, i))
        const uploads = await Promise.all(
          files.map((data) => uploadWhole(tus, data, { endpoint, chunkSize: 100 * KIB })),
        )
        for (const [i, { url }] of uploads.entries()) await assertStored(server, url, files[i])
      })
    })

    describe('metadata', () => {
      test('C-14, T-044, T-054: unicode and empty values come back as they were sent', async () => {
        const metadata = {
          filename: 'žluťoučký 漢字 🎉.txt',
          empty: '',
          filetype: 'text/plain',
          last: '',
        }
        const { url } = await uploadWhole(tus, bytes(10), { endpoint, metadata })
        const { field } = await head(server, url)
        const decoded = field('Upload-Metadata')
          .split(',')
          .map((pair) => pair.split(' '))
          .map(([key, value = '']) => [key, Buffer.from(value, 'base64').toString()])
        assert.deepEqual(Object.fromEntries(decoded), metadata)
      })

      test('D-56, F-31: a download is named and typed by its metadata', async () => {
        const metadata = { filename: 'Æ 漢字.png', filetype: 'image/png' }
        const { url } = await uploadWhole(tus, bytes(10), { endpoint, metadata })
        const { headers } = await fetch(direct(server, url))
        assert.equal(headers.get('Content-Type'), 'image/png')
        const disposition = headers.get('Content-Disposition')
        assert.match(disposition, /^inline\b/)
        assert.ok(
          disposition.includes(`filename*=UTF-8''${encodeURIComponent(metadata.filename)}`),
          disposition,
        )
      })

      test('T-054: no metadata, no Upload-Metadata', async () => {
        const { url } = await uploadWhole(tus, bytes(10), { endpoint })
        assert.equal((await head(server, url)).field('Upload-Metadata'), null)
      })

      test('D-27: a key with a blank breaks the header and is a final 400', async () => {
        const { done, requests } = prepareUpload(tus, bytes(10), {
          endpoint,
          metadata: { 'two words and more': 'x' },
        }).begin()
        await assert.rejects(done(), (error) => error.originalResponse?.getStatus() === 400)
        assert.deepEqual(methods(requests), ['POST'])
      })
    })

    describe('interrupted uploads', () => {
      const size = 12 * MIB
      const cutAt = 5 * MIB
      const data = bytes(size)

      for (const manner of Object.keys(CUTS)) {
        test(`C-09, I-01, F-03, F-13: the client goes on by itself after ${manner}`, async (t) => {
          const proxy = await proxyFor(t)
          const held = proxy.holdAfter(cutAt)
          const { upload, done, requests } = prepareUpload(tus, data, {
            endpoint: proxy.url,
          }).begin()
          await held
          const seen = await until('an offset above 0', () => offsetOf(server, upload.url))
          proxy.cut(manner)
          await done()
          const offsets = patchOffsets(requests)
          assert.ok(offsets.at(-1) >= seen, `resumed at ${offsets.at(-1)}, HEAD had said ${seen}`)
          assert.deepEqual(
            offsets,
            offsets.toSorted((a, b) => a - b),
            'I-01: never goes back',
          )
          assert.equal(methods(requests).filter((method) => method === 'POST').length, 1)
          await assertStored(server, upload.url, data)
        })
      }

      test('T-026: an orderly end of the connection loses no byte', async (t) => {
        const proxy = await proxyFor(t)
        const held = proxy.holdAfter(cutAt)
        const { upload, done } = prepareUpload(tus, data, { endpoint: proxy.url }).begin()
        await held
        await upload.abort()
        proxy.cut('fin')
        await until(
          'an offset just below the cut',
          async () => (await offsetOf(server, upload.url)) >= cutAt - HEADS_AND_FRAMING_BYTES,
        )
        upload.start()
        await done()
        await assertStored(server, upload.url, data)
      })

      test('C-04, C-15: abort, then a new client finds the upload and resumes it', async (t) => {
        const proxy = await proxyFor(t)
        const options = {
          endpoint: proxy.url,
          urlStorage: new FileUrlStorage(path.join(folder, 'urls.json')),
          fingerprint: async () => `resume-${size}`,
        }
        const held = proxy.holdAfter(cutAt)
        const first = prepareUpload(tus, data, options).begin()
        await held
        await first.upload.abort()
        proxy.cut('fin')

        const second = prepareUpload(tus, data, options)
        const [previous] = await second.upload.findPreviousUploads()
        second.upload.resumeFromPreviousUpload(previous)
        second.begin()
        await second.done()
        assert.deepEqual(methods(second.requests).slice(0, 2), ['HEAD', 'PATCH'])
        assert.ok(patchOffsets(second.requests)[0] > 0, 'resumed, not begun anew')
        assert.equal(second.upload.url, first.upload.url)
        await assertStored(server, first.upload.url, data)
      })

      test('C-04: chunks that were acknowledged are not sent again', async (t) => {
        const proxy = await proxyFor(t)
        const held = proxy.holdAfter(cutAt + MIB / 2)
        const first = prepareUpload(tus, data, { endpoint: proxy.url, chunkSize: MIB }).begin()
        await held
        await first.upload.abort()
        proxy.cut('fin')
        const acknowledged = first.requests.filter(({ status }) => status === 204).length * MIB
        assert.equal(acknowledged, cutAt)

        const second = prepareUpload(tus, data, { uploadUrl: first.upload.url, endpoint }).begin()
        await second.done()
        assert.ok(patchOffsets(second.requests)[0] >= acknowledged)
        await assertStored(server, first.upload.url, data)
      })

      test('C-04: a complete upload is resumed by a HEAD alone', async () => {
        const { url } = await uploadWhole(tus, data, { endpoint })
        const again = await uploadWhole(tus, data, { endpoint, uploadUrl: url })
        assert.deepEqual(methods(again.requests), ['HEAD'])
      })

      test('C-04, F-53: a query string after the upload URL addresses the same upload', async (t) => {
        const proxy = await proxyFor(t)
        const held = proxy.holdAfter(cutAt)
        const first = prepareUpload(tus, data, { endpoint: proxy.url }).begin()
        await held
        await first.upload.abort()
        proxy.cut('fin')
        await uploadWhole(tus, data, { uploadUrl: `${direct(server, first.upload.url)}?_=1` })
        await assertStored(server, first.upload.url, data)
      })

      test('F-02, F-06: two clients at one upload both end well and the file is whole', async () => {
        const created = prepareUpload(tus, data, { endpoint, chunkSize: MIB })
        await created.beginAndAbortAfterFirstChunk()
        const options = { uploadUrl: created.upload.url, chunkSize: MIB }
        await Promise.all([uploadWhole(tus, data, options), uploadWhole(tus, data, options)])
        await assertStored(server, created.upload.url, data)
      })

      for (const signal of ['SIGTERM', 'SIGKILL']) {
        test(
          `I-09, D-59, F-07: the server ends by ${signal} in mid PATCH and comes back`,
          { skip: FOREIGN_SERVER },
          async (t) => {
            const mortal = await startServer()
            t.after(() => mortal.stop())
            const proxy = await proxyFor(t, mortal)
            const held = proxy.holdAfter(cutAt)
            const { upload, done, requests } = prepareUpload(tus, data, {
              endpoint: proxy.url,
            }).begin()
            await held
            const acknowledged = await until('an offset above 0', () =>
              offsetOf(mortal, upload.url),
            )
            await mortal.kill(signal)
            await mortal.start()
            proxy.retarget(mortal.url)
            proxy.cut('reset')
            await done()
            assert.ok(patchOffsets(requests).at(-1) >= acknowledged, 'I-09: what HEAD said stays')
            assert.equal(methods(requests).filter((method) => method === 'POST').length, 1)
            await assertStored(mortal, upload.url, data)
          },
        )
      }
    })

    describe('deferred length', () => {
      /**
       * A stream that announces its end soon after its last byte was taken. Without that, a client
       * whose last chunk was full waits for the end for ever (tus-js-client#779).
       */
      class StreamOf extends Readable {
        #data
        constructor(data) {
          super()
          this.#data = data
        }

        _read(size) {
          this.push(this.#data.subarray(0, size))
          this.#data = this.#data.subarray(size)
          if (this.#data.length === 0) this.push(null)
        }

        read(size) {
          const chunk = super.read(size)
          if (chunk && this.#data.length === 0 && this.readableLength === 0) {
            setImmediate(() => super.read(0))
          }
          return chunk
        }
      }

      for (const [size, chunkSize, patches] of [
        [2.5 * MIB, MIB, 3],
        [100, MIB, 1],
        // Every chunk is full, so the length comes with an empty PATCH of its own.
        [3 * MIB, MIB, 4],
      ]) {
        for (const uploadDataDuringCreation of [false, true]) {
          test(`C-03, D-19, F-25: ${size} bytes in chunks of ${chunkSize}, data during creation: ${uploadDataDuringCreation}`, async () => {
            const data = bytes(size)
            const { url, requests } = await uploadWhole(tus, new StreamOf(data), {
              endpoint,
              chunkSize,
              uploadLengthDeferred: true,
              uploadDataDuringCreation,
            })
            assert.equal(requests[0].field('Upload-Defer-Length'), '1')
            assert.equal(patchOffsets(requests).length, patches)
            assert.equal(requests.at(-1).field('Upload-Length'), String(size))
            await assertStored(server, url, data)
          })
        }
      }

      test('T-048, T-050: HEAD says Upload-Defer-Length until the length is known', async () => {
        const data = bytes(2.5 * MIB)
        const started = prepareUpload(tus, new StreamOf(data), {
          endpoint,
          chunkSize: MIB,
          uploadLengthDeferred: true,
        })
        await started.beginAndAbortAfterFirstChunk()
        const { field } = await head(server, started.upload.url)
        assert.equal(field('Upload-Offset'), String(MIB))
        assert.equal(field('Upload-Defer-Length'), '1')
        assert.equal(field('Upload-Length'), null)
        started.begin()
        await started.done()
        await assertStored(server, started.upload.url, data)
      })

      test(
        'D-16, T-055: a stream that passes the maximum size ends with a final 413',
        { skip: FOREIGN_SERVER },
        async (t) => {
          const small = await startServer('--max-size', String(2 * MIB))
          t.after(() => small.stop())
          const { done, requests } = prepareUpload(tus, new StreamOf(bytes(5 * MIB)), {
            endpoint: small.url,
            chunkSize: MIB,
            uploadLengthDeferred: true,
          }).begin()
          await assert.rejects(done(), (error) => error.originalResponse?.getStatus() === 413)
          assert.equal(requests.at(-1).status, 413)
        },
      )
    })

    describe('data during creation', () => {
      for (const [label, size, chunkSize, expected] of [
        ['the whole file', 2 * MIB, Infinity, ['POST']],
        ['the first of several chunks', 2.5 * MIB, MIB, ['POST', 'PATCH', 'PATCH']],
        ['an empty file', 0, Infinity, ['POST']],
      ]) {
        test(`C-02, T-062: ${label}`, async () => {
          const data = bytes(size)
          const { url, requests } = await uploadWhole(tus, data, {
            endpoint,
            chunkSize,
            uploadDataDuringCreation: true,
          })
          assert.deepEqual(methods(requests), expected)
          await assertStored(server, url, data)
        })
      }

      test('C-02, T-063: a POST cut in its body is followed by a whole upload', async (t) => {
        const data = bytes(6 * MIB)
        const proxy = await proxyFor(t)
        const held = proxy.holdAfter(2 * MIB)
        const { upload, done } = prepareUpload(tus, data, {
          endpoint: proxy.url,
          uploadDataDuringCreation: true,
        }).begin()
        await held
        proxy.cut('reset')
        await done()
        await assertStored(server, upload.url, data)
      })
    })

    describe('parallel uploads', () => {
      for (const [size, parallelUploads, extra] of [
        [6 * MIB + 1, 3, {}],
        [6 * MIB + 1, 3, { chunkSize: MIB }],
        [6 * MIB + 1, 3, { uploadDataDuringCreation: true }],
        [6 * MIB + 1, 3, { overridePatchMethod: true }],
        [2, 3, {}],
        [2, 3, { uploadDataDuringCreation: true }],
        [0, 2, {}],
      ]) {
        test(`C-11, C-12, T-114, F-34: ${size} bytes in ${parallelUploads} parts ${JSON.stringify(extra)}`, async () => {
          const data = bytes(size)
          const { url, requests } = await uploadWhole(tus, data, {
            endpoint,
            parallelUploads,
            metadata: { filename: 'whole' },
            metadataForPartialUploads: { part: 'yes' },
            ...extra,
          })
          const partial = requests.filter(({ field }) => field('Upload-Concat') === 'partial')
          const final = requests.at(-1)
          assert.equal(
            partial.filter(({ method, url }) => method === 'POST' && url === endpoint).length,
            parallelUploads,
          )
          assert.match(final.field('Upload-Concat'), /^final;/)
          await assertStored(server, url, data)

          const { field } = await head(server, url)
          assert.equal(field('Upload-Concat'), final.field('Upload-Concat'), 'T-112')
          assert.equal(field('Upload-Metadata'), `filename ${btoa('whole')}`, 'T-106')
          for (const part of final.field('Upload-Concat').slice('final;'.length).split(' ')) {
            const partHead = await head(server, part)
            assert.equal(partHead.field('Upload-Concat'), 'partial', 'T-112')
            assert.equal(partHead.field('Upload-Metadata'), `part ${btoa('yes')}`)
            assert.equal(partHead.field('Upload-Offset'), partHead.field('Upload-Length'), 'T-111')
            assert.equal((await fetch(direct(server, part))).status, 404, 'D-51: no GET of a part')
          }
        })
      }

      test('C-11, C-15: aborted in mid-upload, a new client resumes every part', async (t) => {
        const data = bytes(12 * MIB)
        const proxy = await proxyFor(t)
        const options = {
          endpoint: proxy.url,
          parallelUploads: 3,
          urlStorage: new FileUrlStorage(path.join(folder, 'parallel-urls.json')),
          fingerprint: async () => 'parallel',
        }
        // Two parts are 8 MiB, so by then the third has its URL too.
        const held = proxy.holdAfter(10 * MIB)
        const first = prepareUpload(tus, data, options).begin()
        await held
        const [previous] = await until('a stored upload', async () => {
          const found = await first.upload.findPreviousUploads()
          return found.length > 0 && found
        })
        await first.upload.abort()
        proxy.cut('fin')

        const second = prepareUpload(tus, data, options)
        assert.equal(previous.parallelUploadUrls.length, 3)
        second.upload.resumeFromPreviousUpload(previous)
        second.begin()
        await second.done()
        assert.equal(methods(second.requests).filter((method) => method === 'POST').length, 1)
        const sentAgain = proxy.forwarded - data.length
        assert.ok(sentAgain < 2 * HEADS_AND_FRAMING_BYTES, `${sentAgain} bytes sent twice`)
        await assertStored(server, second.upload.url, data)
      })

      test('C-09, C-11: a network cut in mid-upload is survived by every part', async (t) => {
        const data = bytes(12 * MIB)
        const proxy = await proxyFor(t)
        const held = proxy.holdAfter(6 * MIB)
        const { upload, done } = prepareUpload(tus, data, {
          endpoint: proxy.url,
          parallelUploads: 3,
        }).begin()
        await held
        proxy.cut('reset')
        await done()
        await assertStored(server, upload.url, data)
      })
    })

    describe('termination', () => {
      test('C-08, T-091: terminate a complete upload', async () => {
        const { url } = await uploadWhole(tus, bytes(1000), { endpoint })
        await tus.Upload.terminate(url)
        await assertGone(server, url)
      })

      for (const manner of ['fin', 'silence']) {
        test(`C-08, D-44, F-05: abort(true) in mid PATCH, connection ends by ${manner}`, async (t) => {
          const proxy = await proxyFor(t)
          const held = proxy.holdAfter(3 * MIB)
          const { upload } = prepareUpload(tus, bytes(8 * MIB), { endpoint: proxy.url }).begin()
          await held
          // Not through the held proxy: DELETE has to overtake the PATCH that still hangs there.
          upload.url = direct(server, upload.url)
          const terminated = upload.abort(true)
          if (manner === 'fin') proxy.cut('fin')
          await terminated
          await assertGone(server, upload.url)
        })
      }

      test('T-092: terminating what does not exist is an error with its status', async () => {
        await assert.rejects(
          tus.Upload.terminate(`${endpoint}/nothing-here`),
          (error) => error.originalResponse?.getStatus() === 404,
        )
      })

      test('D-39: a part may be deleted once it was concatenated', async () => {
        const data = bytes(3 * MIB)
        const { url, requests } = await uploadWhole(tus, data, { endpoint, parallelUploads: 2 })
        const parts = requests.at(-1).field('Upload-Concat').slice('final;'.length).split(' ')
        await Promise.all(parts.map((part) => tus.Upload.terminate(part)))
        await assertStored(server, url, data)
        await tus.Upload.terminate(url)
        await assertGone(server, url)
      })
    })

    describe('errors', () => {
      test(
        'T-055, D-45: above the maximum size, one POST and a final 413',
        { skip: FOREIGN_SERVER },
        async (t) => {
          const small = await startServer('--max-size', String(MIB))
          t.after(() => small.stop())
          for (const options of [{}, { uploadDataDuringCreation: true }]) {
            const { done, requests } = prepareUpload(tus, bytes(MIB + 1), {
              endpoint: small.url,
              ...options,
            }).begin()
            await assert.rejects(done(), (error) => {
              assert.equal(error.originalResponse?.getStatus(), 413)
              assert.match(error.originalResponse.getBody(), /^ERR_MAX_SIZE_EXCEEDED: .+\n$/)
              assert.equal(error.originalResponse.getHeader('Tus-Max-Size'), String(MIB))
              return true
            })
            assert.deepEqual(methods(requests), ['POST'])
          }
          const { url } = await uploadWhole(tus, bytes(MIB), { endpoint: small.url })
          await assertStored(small, url, bytes(MIB))
        },
      )

      test(
        'T-055: parts within the maximum size whose sum is above it are refused',
        { skip: FOREIGN_SERVER },
        async (t) => {
          const small = await startServer('--max-size', String(MIB))
          t.after(() => small.stop())
          const { done, requests } = prepareUpload(tus, bytes(MIB + 2), {
            endpoint: small.url,
            parallelUploads: 2,
          }).begin()
          await assert.rejects(done(), (error) => error.originalResponse?.getStatus() === 413)
          assert.match(requests.at(-1).field('Upload-Concat'), /^final;/)
        },
      )

      test('C-10, F-56: a stored URL of a deleted upload is an error without an endpoint', async () => {
        const { url } = await uploadWhole(tus, bytes(1000), { endpoint })
        await tus.Upload.terminate(url)
        const { done, requests } = prepareUpload(tus, bytes(1000), { uploadUrl: url }).begin()
        await assert.rejects(done(), (error) => {
          assert.equal(error.originalResponse?.getStatus(), 404)
          assert.equal(error.originalResponse.getHeader('Upload-Offset'), undefined)
          return true
        })
        assert.deepEqual(methods(requests), ['HEAD'])
      })

      test('C-10, D-15: foreign and old URLs make the client begin anew', async () => {
        const data = bytes(1000)
        for (const id of ['nothing-here', 'c0ffee+dots.and~more', 'a%2Fb', '%00']) {
          const { url, requests } = await uploadWhole(tus, data, {
            endpoint,
            uploadUrl: `${endpoint}/${id}`,
          })
          assert.deepEqual(methods(requests).slice(0, 2), ['HEAD', 'POST'], id)
          assert.equal(requests[0].status, 404, id)
          await assertStored(server, url, data)
        }
      })

      test(
        'T-074, F-57: an abandoned upload expires, a complete one does not',
        { skip: FOREIGN_SERVER },
        async (t) => {
          const forgetful = await startServer('--expire-after', '2s')
          t.after(() => forgetful.stop())
          const data = bytes(4 * MIB)
          const complete = await uploadWhole(tus, data, { endpoint: forgetful.url })
          const proxy = await proxyFor(t, forgetful)
          const held = proxy.holdAfter(2 * MIB)
          const abandoned = prepareUpload(tus, data, { endpoint: proxy.url }).begin()
          await held
          await abandoned.upload.abort()
          proxy.cut('fin')
          const { url } = abandoned.upload
          await until('404', async () => (await head(forgetful, url)).status === 404)
          // Once told, it stays so, also while the server gives up the bytes.
          await until('the bytes removed', async () => {
            assert.equal((await head(forgetful, url)).status, 404)
            return !(await exists(fileOf(forgetful, url, '.part')))
          })

          // C-16: version 5 starts anew as it should, and then complains about the old HEAD; what
          // counts is that the server took the new upload.
          const { upload, done, requests } = prepareUpload(tus, data, {
            endpoint: forgetful.url,
            uploadUrl: direct(forgetful, url),
          }).begin()
          await done()
          assert.deepEqual(methods(requests), ['HEAD', 'POST', 'PATCH'])
          await assertStored(forgetful, upload.url, data)
          await assertStored(forgetful, complete.url, data)
        },
      )
    })
  })
}
