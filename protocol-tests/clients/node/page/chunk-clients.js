// Runs in the browser: resumable.js, flow.js and simple-uploader.js behind one face.

import Flow from '@flowjs/flow.js'
import Resumable102 from 'resumable102'
import Resumable110 from 'resumable110'
import Uploader from 'simple-uploader.js'

/** What differs between the libraries, apart from their names for parameters. */
const LIBRARIES = {
  resumable102: { Library: Resumable102, toFile: (file) => file },
  resumable110: { Library: Resumable110, toFile: (file) => file },
  flow: { Library: Flow, toFile: (file) => file },
  // Its events name the dropped folder first.
  simple: { Library: Uploader, toFile: (_root, file) => file },
}

/** resumable.js has no `resume`: `upload` goes on after a pause. */
const resume = (uploader) => (uploader.resume ? uploader.resume() : uploader.upload())

/** The last answer to a file as its handler gets it: JSON, text of other paths, or nothing at all. */
const parsed = (message) => (message?.startsWith('{') ? JSON.parse(message) : message || null)

/** Uploads these files by one instance of a library; settles when each succeeded or failed. */
function uploadFiles(client, options, files) {
  const { Library, toFile } = LIBRARIES[client]
  const uploader = new Library(options)
  const ended = new Promise((resolve) => {
    const outcomes = []
    const note = (failed) => (first, second, third) => {
      const file = toFile(first, second)
      outcomes.push({
        name: file.file.name,
        path: file.relativePath,
        failed,
        answer: parsed(file === second ? third : second),
      })
      if (outcomes.length === files.length) resolve(outcomes)
    }
    uploader.on('fileSuccess', note(false))
    uploader.on('fileError', note(true))
  })
  for (const file of files) uploader.addFile(file)
  // resumable.js makes its chunks in timers of their own; upload() before that finds none.
  setTimeout(() => uploader.upload())
  return { uploader, ended }
}

/**
 * Starts the upload of the chosen files, by one instance or, `apart`, by one instance for each.
 * `window.finished` is the outcome in plain values.
 */
export function startChunks(client, options, { apart } = {}) {
  const files = [...document.querySelector('input').files]
  if (options.chunkSize?.chunkSize) {
    options = { ...options, chunkSize: new Function(`return ${options.chunkSize.chunkSize}`)() }
  }
  const groups = apart ? files.map((file) => [file]) : [files]
  const uploads = groups.map((group) => uploadFiles(client, options, group))
  window.uploaders = {
    pause: () => uploads.forEach(({ uploader }) => uploader.pause()),
    resume: () => uploads.forEach(({ uploader }) => resume(uploader)),
    cancel: () => uploads.forEach(({ uploader }) => uploader.cancel()),
  }
  window.finished = Promise.all(uploads.map(({ ended }) => ended)).then((all) => all.flat())
}

/** A resumable.js with the chosen files, `added` once it has cut them. */
export function makeResumable(options) {
  const r = new Resumable110(options)
  const files = [...document.querySelector('input').files]
  window.finished = new Promise((resolve) => {
    const note = (failed) => (file, message) =>
      resolve([
        { name: file.fileName, path: file.relativePath, failed, answer: parsed(message) },
      ])
    r.on('fileSuccess', note(false))
    r.on('fileError', note(true))
  })
  // It makes its chunks in timers of their own.
  r.added = new Promise((resolve) => r.on('chunkingComplete', () => resolve(r.files)))
  r.addFiles(files)
  return r
}

/** Tells the test (`noteRequest`) of every request once it ended, as a script sees it. */
export class NotedXMLHttpRequest extends XMLHttpRequest {
  #method
  #parameters

  constructor() {
    super()
    // Before any listener of a library: in those it aborts, and the status is gone.
    for (const end of ['load', 'error', 'abort', 'timeout']) {
      this.addEventListener(end, () => this.#note())
    }
  }

  open(method, url, ...rest) {
    this.#method = method
    this.#parameters = [...new URL(url, location).searchParams]
    super.open(method, url, ...rest)
  }

  send(body) {
    if (body instanceof FormData) this.#parameters.push(...body)
    super.send(body)
  }

  #note() {
    const number = this.#parameters.find(([name]) => /chunkNumber$/i.test(name))
    const { status, responseText: text } = this
    window.noteRequest?.({ method: this.#method, chunk: Number(number?.[1]), status, text })
  }
}
