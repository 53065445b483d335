// resumable.js, flow.js and simple-uploader.js in headless Chromium, on a page of another origin
// than the server's. Rule numbers are those of the wire contract (wire/resumablejs.md).

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Browser, finished, recordRequests } from './support/browser.js'
import { assertGone, assertStored, bytes, direct, head, KIB, offsetOf } from './support/content.js'
import { CuttingProxy } from './support/cutting-proxy.js'
import { recipe } from './support/recipes.js'
import { FOREIGN_SERVER, startServer } from './support/server.js'
import { patchOffsets } from './support/tus-upload.js'
import { until } from './support/wait.js'

/** `client` is the page's name for a library; its parameters begin with `prefix`. */
const CLIENTS = [
  {
    title: 'resumable.js 1.0.2',
    client: 'resumable102',
    prefix: 'resumable',
    dropsEmpty: true,
    testsByHead: true,
  },
  {
    title: 'resumable.js 1.1.0',
    client: 'resumable110',
    prefix: 'resumable',
    dropsEmpty: true,
    testsByHead: true,
    base64: true,
  },
  { title: 'flow.js 2.14.1', client: 'flow', prefix: 'flow' },
  { title: 'simple-uploader.js 0.6.0', client: 'simple', prefix: '' },
]

/** What the libraries cut: small, so that files of many chunks cost no time. */
const CHUNK = 16 * KIB

/** Chunks of the file of tests that interrupt an upload, and how many arrive before that. */
const MANY = 20
const HELD_AFTER = 12.5

/**
 * Answers that such a test waits for: of what was let through, up to three chunks are incomplete,
 * and tests and preflights take their share.
 */
const ANSWERED = 6

/** File sizes on both sides of every boundary. */
const SIZES = [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 3.5 * CHUNK]

/** Names that a URL, a form, a header or a path could get wrong. */
const NAMES = ['žluťoučký 漢字 🎉.txt', `a "quoted" name; 100%41 +&=#'[*].txt`, '.hidden', 'no-dot']

/** What applications and the tools that watch them add to every request. */
const TRACING = {
  'X-Mine': '1',
  'Cache-Control': 'no-cache',
  baggage: 'a=b',
  'sentry-trace': '1-2-0',
  traceparent: '00-1-2-01',
}

/** flow.js and simple-uploader.js retry nothing unless told; a restart takes longer than one try. */
const RETRYING = { maxChunkRetries: 200, chunkRetryInterval: 50 }

const range = (count) => Array.from({ length: count }, (_, i) => i + 1)

/** Chunks by either rule for the end of a file (C-51). */
const chunksOf = (size, { forceChunkSize, chunkSize = CHUNK }) =>
  Math.max(1, Math[forceChunkSize ? 'ceil' : 'floor'](size / chunkSize))

const isUpload = ({ method }) => ['POST', 'PUT', 'PATCH'].includes(method)
const isTest = (request) => !isUpload(request)

/** The numbers of the chunks of these requests, ascending; of those with one status if given. */
const chunksWith = (requests, kind, status) => {
  const matching = requests.filter(
    (each) => kind(each) && [undefined, each.status].includes(status),
  )
  return [...new Set(matching.map(({ chunk }) => chunk))].sort(ascending)
}

const ascending = (a, b) => a - b
const without = (numbers, others) => numbers.filter((number) => !others.includes(number))

/** The status resource (J-060) of a file without a folder. */
const statusUrl = ({ url }, prefix, name, size) => {
  const field = (word) => (prefix ? `${prefix}${word}` : word[0].toLowerCase() + word.slice(1))
  const query = new URLSearchParams({
    [field('Identifier')]: `${size}-${name.replace(/[^0-9a-zA-Z_-]/g, '')}`,
    [field('Filename')]: name,
    [field('RelativePath')]: name,
  })
  return `${new URL('/resumable/status', url)}?${query}`
}

describe('ResumableJS in the browser', { skip: FOREIGN_SERVER }, () => {
  let server
  let small
  let browser

  before(async () => {
    server = await startServer()
    small = await startServer('--max-size', String((MANY - 1) * CHUNK))
    browser = await Browser.start()
  })
  after(async () => {
    await browser?.close()
    await small?.stop()
    await server?.stop()
  })

  const targetOf = (base) => new URL('/resumable', base).href

  /** A page, and what its scripts were answered: method, chunk number, status and text. */
  async function openPage(t) {
    const page = await browser.openEmptyPage(t)
    const noted = []
    await page.exposeFunction('noteRequest', (request) => void noted.push(request))
    await browser.load(page)
    return { page, noted }
  }

  /** Starts the upload of the chosen files to a server or a proxy. */
  const start = (page, client, { url }, options = {}, how = {}) =>
    page.evaluate(
      ([client, options, how]) => window.startChunks(client, options, how),
      [client, { target: targetOf(url), chunkSize: CHUNK, ...options }, how],
    )

  /** The answers that the libraries' success handlers got, of all files of all tests. */
  const lastAnswers = []

  /** The tus URL that an answer names. */
  const urlOf = ({ upload }, of = server) => new URL(upload.url, of.url).href

  /** The URLs of uploads by their files' paths: answers that a name alone gets have none (S-002). */
  const urls = new Map()

  /** Asserts that each outcome is a success, and that the bytes are there. */
  async function assertUploaded(outcomes, files, of = server) {
    assert.deepEqual(outcomes.map(({ path }) => path).sort(), Object.keys(files).sort())
    for (const { name, path, failed, answer } of outcomes) {
      assert.equal(failed, false, `${path}: ${JSON.stringify(answer)}`)
      if (answer.upload.url) urls.set(path, urlOf(answer, of))
      await assertStored(of, urls.get(path), files[path])
      lastAnswers.push(answer)
      if (answer.fileUploadStatus) assert.equal(answer.upload.name, name)
      else assert.equal(answer.chunkUploadStatus, true)
    }
  }

  async function proxyFor(t, of = server) {
    const proxy = await CuttingProxy.start(of.url)
    t.after(() => proxy.close())
    return proxy
  }

  /**
   * An upload of `MANY` chunks that stands still in the middle of one, with at least `ANSWERED`
   * answered; `stored()` says which.
   */
  async function underway(t, client, name, options = {}, of = server) {
    name = `${client} ${name}`
    const data = bytes(MANY * CHUNK, name)
    const proxy = await proxyFor(t, of)
    const { page, noted } = await openPage(t)
    await browser.choose(page, { [name]: data })
    const held = proxy.holdAfter(HELD_AFTER * CHUNK)
    await start(page, client, proxy, options)
    await held
    const stored = () => chunksWith(noted, isUpload, 200)
    await until(`${ANSWERED} chunks stored`, () => stored().length >= ANSWERED)
    return { data, proxy, page, noted, name, stored, files: { [name]: data } }
  }

  for (const { title, client, prefix, dropsEmpty, base64, testsByHead } of CLIENTS) {
    describe(title, () => {
      // One page for what leaves nothing behind: these libraries store nothing in the browser.
      let shared
      before(async () => {
        shared = await openPage()
      })
      after(() => shared.page.context().close())

      /** Uploads files on the shared page; gives the outcomes and the requests. */
      async function upload(files, options, how, of = server) {
        const { page, noted } = shared
        const since = noted.length
        await browser.choose(page, files)
        await start(page, client, of, options, how)
        const outcomes = await finished(page)
        return { outcomes, requests: noted.slice(since) }
      }

      for (const [label, options] of [
        ['multipart, floor rule', {}],
        ['multipart, forceChunkSize, 5 at once', { forceChunkSize: true, simultaneousUploads: 5 }],
        ['octet, floor rule, 5 at once', { method: 'octet', simultaneousUploads: 5 }],
        ['octet, forceChunkSize', { method: 'octet', forceChunkSize: true }],
        ...(base64
          ? [
              ['base64, floor rule', { chunkFormat: 'base64' }],
              ['base64, forceChunkSize', { chunkFormat: 'base64', forceChunkSize: true }],
            ]
          : []),
      ]) {
        test(`F-06, F-07, F-27, J-011: files of all sizes side by side: ${label}`, async () => {
          const files = {}
          const add = (name, size) => (files[`${client} ${label} ${name}`] = bytes(size, name))
          for (const size of [0, ...SIZES]) add(`${size}.bin`, size)
          for (const name of NAMES) add(name, 2.2 * CHUNK)
          const empty = dropsEmpty ? { minFileSize: 0 } : {}
          const { outcomes, requests } = await upload(files, { ...options, ...empty })
          await assertUploaded(outcomes, files)
          const chunks = Object.values(files).map(({ length }) => chunksOf(length, options))
          const total = chunks.reduce((sum, count) => sum + count)
          assert.equal(requests.filter(isUpload).length, total, 'each chunk is sent once')
          assert.equal(requests.filter(isTest).length, total, 'and tested once')
        })
      }

      for (const [label, options] of [
        ['F-31: PUT', { uploadMethod: 'PUT' }],
        ['F-31: PATCH', { uploadMethod: 'PATCH' }],
        ['F-31: PUT, octet', { uploadMethod: 'PUT', method: 'octet' }],
        ...(testsByHead ? [['J-009, F-31: tests by HEAD', { testMethod: 'HEAD' }]] : []),
        ['J-009, F-31: tests by POST', { testMethod: 'POST' }],
        ['C-57: no tests', { testChunks: false }],
        ['C-57: first and last chunk first', { prioritizeFirstAndLastChunk: true }],
        ['F-29: query fields', { query: { _token: 'ž&=#%41', file_id: 7, empty: '' } }],
        ['F-29: query fields, octet', { method: 'octet', query: { _token: 'ž&=#%41' } }],
        ['F-32: a header field that is allowed', { headers: { 'X-CSRF-TOKEN': 'token' } }],
      ]) {
        test(`${label}; the same file again sends nothing`, async () => {
          const files = { [`${client} ${label.replace(/\W/g, '')}.bin`]: bytes(4.5 * CHUNK, label) }
          const first = await upload(files, options)
          await assertUploaded(first.outcomes, files)
          const { uploadMethod = 'POST', testMethod = 'GET', testChunks = true } = options
          const sent = first.requests.filter(
            ({ method, status }) => method === uploadMethod && status === 200,
          )
          assert.deepEqual(
            chunksWith(sent, () => true, 200),
            range(4),
          )
          if (!testChunks) return assert.equal(first.requests.length, 4)

          const second = await upload(files, options)
          assert.deepEqual(
            second.outcomes.map(({ failed }) => failed),
            [false],
          )
          const asked = second.requests.map(({ method, status }) => `${method} ${status}`)
          assert.deepEqual(asked, Array(4).fill(`${testMethod} 200`), 'F-16, S-010: all is there')
          if (testMethod !== 'HEAD') await assertUploaded(second.outcomes, files)
        })
      }

      // JSON has no infinity, so that the page makes it.
      for (const chunkSize of ['Infinity', 'Number.MAX_VALUE']) {
        for (const method of ['multipart', 'octet']) {
          test(`J-001: chunkSize: ${chunkSize}, ${method}: the file is one chunk`, async () => {
            const files = { [`${client} ${chunkSize} ${method}.bin`]: bytes(2.5 * CHUNK, client) }
            const { outcomes, requests } = await upload(files, { method, chunkSize: { chunkSize } })
            await assertUploaded(outcomes, files)
            assert.deepEqual(
              requests.map(({ status }) => status),
              [204, 200],
            )
          })
        }
      }

      if (!testsByHead) {
        test('J-009, F-02: tests by HEAD, which carry nothing, only cost the bytes again', async () => {
          const files = { [`${client} head.bin`]: bytes(4.5 * CHUNK) }
          for (const _ of ['first', 'second']) {
            const { outcomes, requests } = await upload(files, { testMethod: 'HEAD' })
            await assertUploaded(outcomes, files)
            assert.deepEqual(chunksWith(requests, isTest, 400), range(4))
            assert.deepEqual(chunksWith(requests, isUpload, 200), range(4))
          }
        })
      }

      test('F-37, S-001: files whose identifiers collide stay two files', async () => {
        const files = {
          [`${client} 你好.txt`]: bytes(3 * CHUNK, 'hello'),
          [`${client} 再见.txt`]: bytes(3 * CHUNK, 'goodbye'),
        }
        const { outcomes } = await upload(files, {}, { apart: true })
        const [first, second] = outcomes.map(({ answer }) => answer)
        assert.equal(first.resumableIdentifier, second.resumableIdentifier, 'they collide')
        assert.notEqual(first.upload.id, second.upload.id)
        await assertUploaded(outcomes, files)
      })

      test('F-37, S-001: the same name in two folders, and paths that collide', async (t) => {
        const { page } = await openPage(t)
        const tree = {
          'one/same.bin': bytes(2.5 * CHUNK, 'one'),
          'two/same.bin': bytes(2.5 * CHUNK, 'two'),
          'ab/c.bin': bytes(2.5 * CHUNK, 'ab'),
          'a/bc.bin': bytes(2.5 * CHUNK, 'a'),
        }
        await browser.chooseFolder(page, `${client} tree`, tree)
        await start(page, client, server, {}, { apart: true })
        const files = Object.entries(tree).map(([name, data]) => [`${client} tree/${name}`, data])
        const outcomes = await finished(page)
        await assertUploaded(outcomes, Object.fromEntries(files))
        assert.equal(new Set(outcomes.map(({ answer }) => answer.resumableIdentifier)).size, 3)
      })

      test('F-12, J-020: reload in mid-upload; no chunk that was acknowledged is sent again', async (t) => {
        const { page, noted, proxy, name, files, stored } = await underway(
          t,
          client,
          'reloaded.bin',
        )
        await browser.load(page)
        proxy.cut('fin')
        const before = stored()
        const since = noted.length
        await browser.chooseAgain(page, name)
        await start(page, client, proxy)
        await assertUploaded(await finished(page), files)
        const requests = noted.slice(since)
        const present = chunksWith(requests, isTest, 200)
        const sent = chunksWith(requests, isUpload)
        assert.deepEqual(without(before, present), [], 'what was acknowledged is found')
        assert.deepEqual(without(sent, before), sent, 'and not sent again')
        assert.deepEqual([...present, ...sent].sort(ascending), range(MANY), 'the rest is, once')
        assert.equal(requests.filter(isUpload).length, sent.length)
      })

      test('F-19, J-021: after the reload chunks are three times as large, and the bytes are right', async (t) => {
        const { page, noted, proxy, name, files } = await underway(t, client, 'recut.bin')
        await browser.load(page)
        proxy.cut('fin')
        const since = noted.length
        await browser.chooseAgain(page, name)
        await start(page, client, proxy, { chunkSize: 3 * CHUNK })
        await assertUploaded(await finished(page), files)
        const requests = noted.slice(since)
        assert.notDeepEqual(chunksWith(requests, isTest, 200), [], 'whole ones are found')
      })

      test('C-58, J-023: pause and resume in mid-upload', async (t) => {
        const { page, noted, proxy, files, stored } = await underway(t, client, 'paused.bin')
        await page.evaluate('uploaders.pause()')
        proxy.cut('fin')
        const before = stored()
        const since = noted.length
        await page.evaluate('uploaders.resume()')
        await assertUploaded(await finished(page), files)
        const sent = chunksWith(noted.slice(since), isUpload, 200)
        assert.deepEqual(without(sent, before), sent, 'what was acknowledged is not sent again')
      })

      test('J-042, F-43: cancel tells the server nothing; DELETE of the status does', async (t) => {
        const { page, noted, proxy, name, stored } = await underway(t, client, 'cancelled.bin')
        await page.evaluate('uploaders.cancel()')
        proxy.cut('fin')
        const { upload } = JSON.parse(
          noted.find((each) => isUpload(each) && each.status === 200).text,
        )
        const url = urlOf({ upload })
        assert.equal((await head(server, url)).status, 200, 'the upload waits for its file')

        const status = statusUrl(server, prefix, name, MANY * CHUNK)
        const ask = (method) =>
          page.evaluate(
            async ([url, method]) => {
              const response = await fetch(url, { method })
              return {
                status: response.status,
                offset: response.headers.get('Upload-Offset'),
                missing: response.headers.get('Upload-Missing'),
              }
            },
            [status, method],
          )
        const known = await ask('GET')
        assert.equal(known.status, 200)
        assert.equal(Number(known.offset), await offsetOf(server, url))
        assert.match(known.missing, /^\d+-\d+/)
        assert.ok(stored().length >= ANSWERED)
        assert.equal((await ask('DELETE')).status, 204)
        await assertGone(server, url)
        assert.equal((await ask('HEAD')).status, 404)
      })

      test('F-34, F-33, F-32: a file over --max-size stops at once, and the page reads why', async (t) => {
        const { page, noted } = await openPage(t)
        const large = { [`${client} large.bin`]: bytes(MANY * CHUNK) }
        await browser.choose(page, large)
        await start(page, client, small)
        const [{ failed, answer }] = await finished(page)
        assert.equal(failed, true)
        assert.equal(answer.chunkUploadStatus, false)
        assert.equal(answer.error.code, 'file_too_large')
        const uploads = noted.filter(isUpload)
        assert.ok(uploads.length <= 3, `${uploads.length} POSTs`)
        assert.ok(uploads.some(({ status }) => status === 400))

        const files = { [`${client} small.bin`]: bytes(4 * CHUNK) }
        await browser.choose(page, files)
        await start(page, client, small)
        await assertUploaded(await finished(page), files, small)
      })

      for (const [path, told] of [
        ['/files', 'go to /resumable'],
        ['/nowhere', 'ResumableJS is at /resumable'],
      ]) {
        test(`F-51: a page that uploads to ${path} stops at once, and reads where to go`, async (t) => {
          const { page, noted } = await openPage(t)
          await browser.choose(page, { 'lost.bin': bytes(MANY * CHUNK) })
          await start(page, client, server, { target: new URL(path, server.url).href })
          const [{ failed, answer }] = await finished(page)
          assert.equal(failed, true)
          const requests = noted.length
          assert.ok(requests <= 6, `${requests} requests`)
          if (answer) assert.ok(answer.includes(told), answer)
          const texts = noted.filter(isUpload).map(({ text }) => text)
          assert.ok(texts.some((text) => text?.includes(told)) || noted.every(isTest), texts)
        })
      }

      for (const signal of ['SIGKILL', 'SIGTERM']) {
        test(`F-39, J-035: ${signal} and a new start in mid-upload: the client does not notice`, async (t) => {
          const restarted = await startServer()
          t.after(() => restarted.stop())
          const { page, noted, proxy, files, stored } = await underway(
            t,
            client,
            'restarted.bin',
            RETRYING,
            restarted,
          )
          const ended = restarted.kill(signal)
          proxy.cut('fin')
          await ended
          const before = stored()
          const since = noted.length
          await restarted.start()
          proxy.retarget(restarted.url)
          await assertUploaded(await finished(page), files, restarted)
          const sent = chunksWith(noted.slice(since), isUpload, 200)
          assert.deepEqual(without(sent, before), sent, 'nothing acknowledged is sent again')
        })
      }

      test('F-45, J-050 to J-053: tus goes on with the upload, and this library with that', async (t) => {
        const { page, noted, proxy, data, name, files, stored } = await underway(
          t,
          client,
          'both.bin',
        )
        const { text } = noted.find((each) => isUpload(each) && each.status === 200)
        const url = urlOf(JSON.parse(text))
        await browser.load(page)
        proxy.cut('fin')
        const before = stored()

        const requests = recordRequests(page)
        await browser.chooseAgain(page, name)
        const held = proxy.holdAfter(4 * CHUNK)
        await page.evaluate(
          ([uploadUrl, chunkSize]) => void window.uploadByTus(4, { uploadUrl, chunkSize }),
          [new URL(new URL(url).pathname, proxy.url).href, 2.5 * CHUNK],
        )
        await held
        await browser.load(page)
        proxy.cut('fin')
        const [prefix] = patchOffsets(requests)
        const contiguous = before.filter((number, i) => number === i + 1).length
        assert.ok(
          prefix >= contiguous * CHUNK,
          `PATCH at ${prefix}, ${contiguous} chunks were told`,
        )
        // The first PATCH of the tus client is whole; the second may be cut anywhere.
        const offset = await until("the tus client's bytes", async () => {
          const offset = await offsetOf(server, url)
          return offset >= prefix + 2.5 * CHUNK && offset
        })

        const since = noted.length
        await browser.chooseAgain(page, name)
        await start(page, client, server)
        await assertUploaded(await finished(page), files)
        const sent = chunksWith(noted.slice(since), isUpload)
        assert.deepEqual(without(sent, before), sent)
        assert.ok(Math.min(...sent) * CHUNK > offset, "the tus client's chunks are found")
        await assertStored(server, url, data)
      })
    })
  }

  test('S-001: what one library began another finds, if names and identifiers agree', async (t) => {
    const { page, noted } = await openPage(t)
    const files = { 'any.bin': bytes(4 * CHUNK, 'any') }
    for (const { client } of CLIENTS) {
      await browser.choose(page, files)
      await start(page, client, server)
      await assertUploaded(await finished(page), files)
    }
    assert.deepEqual(chunksWith(noted.slice(0, 8), isUpload, 200), range(4))
    const later = noted.slice(8).map(({ method, status }) => `${method} ${status}`)
    assert.deepEqual(later, Array(12).fill('GET 200'))
  })

  test('J-060: simple-uploader.js asks the status resource once and sends what is missing', async (t) => {
    const { page, noted, proxy, name, files, stored } = await underway(t, 'simple', 'status.bin')
    await browser.load(page)
    proxy.cut('fin')
    const before = stored()
    const since = noted.length
    await browser.chooseAgain(page, name)
    await startByStatus(page, proxy)
    await assertUploaded(await finished(page), files)
    const requests = noted.slice(since)
    const sent = chunksWith(requests, isUpload)
    assert.equal(requests.filter(isTest).length, 1)
    assert.deepEqual(without(sent, before), sent, 'what was acknowledged is not sent again')
  })

  /** Starts simple-uploader.js as docs/resumablejs.md has it for the status resource. */
  const startByStatus = (page, of) =>
    page.evaluate(
      ([code, chunkSize]) => {
        class Uploader {
          constructor(documented) {
            window.startChunks('simple', { chunkSize, ...documented })
          }
        }
        window.runRecipe(code, 'uploader', { Uploader })
      },
      [recipe('With simple-uploader.js:', of), CHUNK],
    )

  /** Starts resumable.js as docs/resumablejs.md has it, with the one method that npm's lacks. */
  const startByMarks = (page, of) =>
    page.evaluate(
      async ([code, target, chunkSize]) => {
        const r = window.makeResumable({ target, chunkSize })
        const [file] = await r.added
        file.markChunksCompleted = (count) => {
          if (file.chunks.length <= count) return
          for (const chunk of file.chunks.slice(0, count)) chunk.status = () => 'success'
        }
        await window.runRecipe(`return (async () => {${code}})()`, 'null', { r, file })
      },
      [recipe('With resumable.js from its repository:', of), targetOf(of.url), CHUNK],
    )

  for (const [title, startBy] of [
    ['simple-uploader.js', startByStatus],
    ['resumable.js', startByMarks],
  ]) {
    test(`section 5, 4: ${title} asks the status resource: what is there is not sent again`, async (t) => {
      const client = title === 'resumable.js' ? 'resumable110' : 'simple'
      const { page, noted, proxy, name, files } = await underway(t, client, 'recipe.bin')
      await browser.load(page)
      proxy.cut('fin')
      const since = noted.length
      await browser.chooseAgain(page, name)
      await startBy(page, proxy)
      await assertUploaded(await finished(page), files)
      const sent = noted.slice(since).filter(isUpload)
      assert.ok(sent.length < MANY, `${sent.length} of ${MANY} chunks sent`)
    })

    test(`J-044: ${title} asks the status resource: an edited file is not taken for stored`, async (t) => {
      const { page, noted } = await openPage(t)
      const name = `${title} edited.bin`
      const data = bytes(4 * CHUNK, name)
      await browser.choose(page, { [name]: data })
      await startBy(page, server)
      await assertUploaded(await finished(page), { [name]: data })

      const since = noted.length
      data[CHUNK + 1] ^= 1
      await browser.choose(page, { [name]: data })
      await startBy(page, server)
      const [{ failed, answer }] = await finished(page)
      assert.notDeepEqual(chunksWith(noted.slice(since), isUpload), [], 'it is sent')
      // Either it is refused while the first one is held, or stored as an upload of its own.
      if (failed) assert.equal(answer.error.code, 'content_conflict')
      else await assertStored(server, urlOf(answer), data)
    })
  }

  for (const version of [4, 5]) {
    test(`F-45, J-052: tus-js-client ${version} finishes what resumable.js began`, async (t) => {
      const { page, noted, proxy, data, name } = await underway(
        t,
        'resumable110',
        `tus${version}.bin`,
      )
      const { text } = noted.find((each) => isUpload(each) && each.status === 200)
      const uploadUrl = urlOf(JSON.parse(text))
      await browser.load(page)
      proxy.cut('fin')
      const requests = recordRequests(page)
      await browser.chooseAgain(page, name)
      const outcome = await page.evaluate(
        ([version, options]) => window.uploadByTus(version, options),
        [version, { uploadUrl }],
      )
      assert.deepEqual(outcome, { url: uploadUrl })
      assert.ok(patchOffsets(requests)[0] > 0, 'it begins at the prefix')
      await assertStored(server, uploadUrl, data)
    })
  }

  for (const [label, flags, options, allowed] of [
    ['its own origin listed', (origin) => ['--cors-origin', origin], {}, true],
    ['another origin listed', () => ['--cors-origin', 'https://example.com'], {}, false],
    ['CORS off', () => ['--no-cors'], {}, false],
    ['withCredentials', (origin) => ['--cors-origin', origin], { withCredentials: true }, false],
    ['header fields of its own', () => [], { headers: TRACING }, true],
    ['the same, its origin listed', (origin) => ['--cors-origin', origin], { headers: TRACING }, true],
  ]) {
    test(`F-32: ${label}: the page ${allowed ? 'uploads' : 'is kept out by the browser'}`, async (t) => {
      // The page first, so that it is gone, with its connections, when the server stops.
      const { page, noted } = await openPage(t)
      const strict = await startServer(...flags(browser.pages.origin))
      t.after(() => strict.stop())
      const files = { 'origin.bin': bytes(CHUNK, 'origin') }
      await browser.choose(page, files)
      await start(page, 'resumable110', strict, { maxChunkRetries: 0, ...options })
      const outcomes = await finished(page)
      if (allowed) return assertUploaded(outcomes, files, strict)
      assert.deepEqual(
        outcomes.map(({ failed }) => failed),
        [true],
      )
      assert.deepEqual(
        noted.map(({ status }) => status),
        [0, 0],
      )
    })
  }

  test('F-42, J-033: the answer that a success handler gets says that the file is complete', () => {
    // Answers on two connections may overtake each other in the browser, so not quite always.
    const complete = lastAnswers.filter(
      ({ fileUploadStatus, upload }) => fileUploadStatus && upload.complete,
    )
    const [said, all] = [complete.length, lastAnswers.length]
    assert.ok(said >= 0.99 * all, `${said} of ${all} say so`)
  })
})
