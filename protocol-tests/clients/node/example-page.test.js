// The example page (examples/page) as a person uses it, started as its README says.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, describe, test } from 'node:test'
import { Browser, recordRequests } from './support/browser.js'
import { assertGone, assertStored, bytes, KIB, MIB } from './support/content.js'
import { CuttingProxy } from './support/cutting-proxy.js'
import { BINARY, FOREIGN_SERVER, startServer } from './support/server.js'
import { patchOffsets } from './support/tus-upload.js'
import { within } from './support/wait.js'

const FOLDER = path.resolve(import.meta.dirname, '../../../examples/page')

/** Runs the page's server and gives the URLs that it prints, by name. */
async function startPage(t, environment) {
  const page = spawn(process.execPath, ['serve.js'], {
    cwd: FOLDER,
    env: { ...process.env, PORT: '0', ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(async () => {
    const exited = once(page, 'exit')
    page.kill()
    await exited
  })
  const printed = {}
  await within(
    20_000,
    'the page printing its URL',
    new Promise((resolve) => {
      createInterface({ input: page.stdout }).on('line', (line) => {
        const [, name, url] = /^(\w+): (\S+)$/.exec(line) ?? []
        printed[name] = url
        if (printed.page) resolve()
      })
    }),
  )
  return printed
}

describe('the example page', { skip: FOREIGN_SERVER }, () => {
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

  const press = (page, name) => page.getByRole('button', { name, exact: true }).click()
  const status = (page) => page.getByRole('status')
  const shows = (page, text) => status(page).filter({ hasText: text }).waitFor()

  /** The link to the finished upload. */
  async function uploaded(page, name) {
    await shows(page, `Uploaded: ${name}`)
    assert.equal(await page.getByRole('progressbar').evaluate(({ value }) => value), 1)
    return status(page).getByRole('link').getAttribute('href')
  }

  /** The page in front of a proxy, with a file chosen and its protocol. */
  async function openPage(t, protocol, name, data, target = server) {
    const proxy = await CuttingProxy.start(target.url)
    t.after(() => proxy.close())
    const urls = await startPage(t, { SERVER: proxy.url })
    const page = await browser.openEmptyPage(t)
    await page.goto(urls.page)
    await browser.write(name, data)
    await page.getByLabel('File').setInputFiles(path.join(browser.folder, name))
    await page.getByLabel(protocol).check()
    return { page, proxy, requests: recordRequests(page) }
  }

  /** The URLs, one for each chunk, of the chunks that were stored. */
  const stored = (requests) =>
    requests
      .filter(({ method, status }) => method === 'POST' && status === 200)
      .map(({ url }) => url)

  for (const protocol of ['tus', 'ResumableJS']) {
    test(`${protocol}: pause, resume, reload and resume, to the end`, async (t) => {
      const data = bytes(12 * MIB + 1, protocol)
      const name = `${protocol} ž.bin`
      const { page, proxy, requests } = await openPage(t, protocol, name, data)

      let held = proxy.holdAfter(4.5 * MIB)
      await press(page, 'Upload')
      await held
      await press(page, 'Pause')
      await shows(page, 'Paused.')
      proxy.cut('fin')

      held = proxy.holdAfter(4.5 * MIB)
      await press(page, 'Resume')
      await held
      await page.reload()
      proxy.cut('fin')

      const hint = await page.getByText('is not finished').textContent()
      assert.ok(hint.includes(name), hint)
      const before = proxy.forwarded
      await page.getByLabel('File').setInputFiles(path.join(browser.folder, name))
      assert.equal(await page.getByLabel(protocol).isChecked(), true, 'the protocol is kept')
      await press(page, 'Upload')
      const url = await uploaded(page, name)
      await assertStored(server, url, data)
      const sent = proxy.forwarded - before
      assert.ok(sent < data.length - 3 * MIB, `the last run sent ${sent} bytes of ${data.length}`)
      assert.equal(await page.getByText('is not finished').isVisible(), false)
      if (protocol === 'tus') assert.ok(patchOffsets(requests).at(-1) > 0)
      else assert.equal(new Set(stored(requests)).size, stored(requests).length, 'sent once')
    })

    test(`${protocol}: cancel, here of a paused upload, takes it away`, async (t) => {
      const { page, proxy, requests } = await openPage(t, protocol, 'cancel.bin', bytes(6 * MIB))
      const held = proxy.holdAfter(2.5 * MIB)
      await press(page, 'Upload')
      await held
      await press(page, 'Pause')
      proxy.cut('fin')
      const deleted = page.waitForResponse((response) => response.request().method() === 'DELETE')
      await press(page, 'Cancel')
      assert.equal((await deleted).status(), 204)
      await shows(page, 'Cancelled.')
      if (protocol === 'tus') {
        await assertGone(server, requests.find(({ method }) => method === 'PATCH').url)
      }
    })

    test(`${protocol}: a refusal is told in words`, async (t) => {
      // The page first, so that it is gone, with its connections, when the server stops.
      const data = bytes(3 * MIB)
      const page = await browser.openEmptyPage(t)
      const small = await startServer('--max-size', String(MIB))
      t.after(() => small.stop())
      const urls = await startPage(t, { SERVER: small.url })
      await page.goto(urls.page)
      await browser.write('large.bin', data)
      await page.getByLabel('File').setInputFiles(path.join(browser.folder, 'large.bin'))
      await page.getByLabel(protocol).check()
      await press(page, 'Upload')
      const error = page.getByRole('alert')
      await error.filter({ hasText: 'The server refused the file' }).waitFor()
      assert.match(await error.textContent(), new RegExp(`\\b${MIB}\\b`), 'the limit is told')
    })
  }

  test('a server that is gone is told in words, and Try again goes on once it is back', async (t) => {
    const data = bytes(4 * MIB, 'gone')
    const { page, proxy } = await openPage(t, 'ResumableJS', 'gone.bin', data)
    const held = proxy.holdAfter(2.5 * MIB)
    const back = proxy.target
    await press(page, 'Upload')
    await held
    // Port 9 of this machine: nobody answers.
    proxy.retarget('http://127.0.0.1:9/')
    proxy.cut('fin')
    await page.getByRole('alert').filter({ hasText: 'cannot be reached' }).waitFor()
    proxy.retarget(back)
    await press(page, 'Try again')
    await assertStored(server, await uploaded(page, 'gone.bin'), data)
  })

  test('a windlass is started beside it; everything works from the keyboard', async (t) => {
    const data = bytes(100 * KIB, 'keys')
    const urls = await startPage(t, {
      WINDLASS_BIN: BINARY,
      WINDLASS_DATA_DIR: path.join(browser.folder, 'data'),
      WINDLASS_LISTEN: '127.0.0.1:0',
    })
    const page = await browser.openEmptyPage(t)
    await page.goto(urls.page)
    await browser.write('keys.bin', data)
    await page.keyboard.press('Tab')
    assert.equal(await page.evaluate('document.activeElement.id'), 'file')
    await page.getByLabel('File').setInputFiles(path.join(browser.folder, 'keys.bin'))
    for (const key of ['Tab', 'ArrowDown', 'Tab', 'Enter']) await page.keyboard.press(key)
    const url = await uploaded(page, 'keys.bin')
    assert.equal(
      await page.evaluate('document.activeElement.tagName'),
      'BUTTON',
      'a place to go on',
    )
    await assertStored({ url: urls.tus }, url, data)
    assert.equal(await page.getByLabel('ResumableJS').isChecked(), true)
  })
})
