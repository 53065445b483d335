// Runs in the browser: makes the clients available to the tests, and nothing else.

import Uppy from '@uppy/core'
import Tus from '@uppy/tus'
import * as tus4 from 'tus4'
import * as tus5 from 'tus5'
import { makeResumable, NotedXMLHttpRequest, startChunks } from './chunk-clients.js'
import './page-clients.js'

const chosenFiles = () => [...document.querySelector('input').files]

/** An Uppy with the files chosen on the page, as an application would set it up. */
function createUppy(tusOptions) {
  const uppy = new Uppy().use(Tus, tusOptions)
  window.uppy = uppy
  for (const data of chosenFiles()) {
    uppy.addFile({ name: data.name, type: data.type, data, source: 'page' })
  }
  return uppy
}

/** Starts the upload of the chosen files; `window.finished` is its outcome, in plain values. */
function startUppy(tusOptions) {
  const uppy = createUppy(tusOptions)
  const errors = []
  uppy.on('upload-error', (file, error, response) => {
    errors.push({
      name: file.name,
      message: error.message,
      isNetworkError: error.isNetworkError === true,
      status: response?.status,
      body: response?.body.xhr.responseText,
      maxSize: response?.body.xhr.getResponseHeader('Tus-Max-Size'),
    })
  })
  window.finished = uppy.upload().then(() => ({
    errors,
    files: uppy.getFiles().map(({ name, uploadURL, progress }) => ({
      name,
      uploadURL,
      complete: progress.uploadComplete,
    })),
  }))
}

/** Uploads the first chosen file by tus-js-client; gives its URL or its error. */
function uploadByTus(version, { asStream, abortAfterFirstChunk, ...options }) {
  const tus = { 4: tus4, 5: tus5 }[version]
  const [file] = chosenFiles()
  // Version 4 takes the reader of a stream, version 5 the stream itself.
  const stream = () => (version === 4 ? file.stream().getReader() : file.stream())
  return new Promise((resolve) => {
    const upload = new tus.Upload(asStream ? stream() : file, {
      retryDelays: [0, 100, 500],
      ...options,
      onChunkComplete() {
        if (!abortAfterFirstChunk) return
        upload.abort(true).then(
          () => resolve({ url: upload.url, terminated: true }),
          (error) => resolve({ error: error.message }),
        )
      },
      onSuccess: () => resolve({ url: upload.url }),
      onError: (error) =>
        resolve({ error: error.message, status: error.originalResponse?.getStatus() }),
    })
    upload.start()
  })
}

Object.assign(window, {
  makeResumable,
  startChunks,
  startUppy,
  uploadByTus,
  XMLHttpRequest: NotedXMLHttpRequest,
})
