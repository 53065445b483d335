// One upload by tus-js-client, with everything it sent and was answered.

import { within } from './wait.js'

/** Short waits: the tests' server is near, and a retry that is never needed costs nothing. */
const RETRY_DELAYS_MS = [0, 50, 100, 200, 500, ...Array(15).fill(1000)]

/** What the slowest upload here may take on a loaded machine. */
const END_TIMEOUT_MS = 60_000

/**
 * Prepares an upload; `begin()` starts it. `done()` settles with the client's success or error;
 * `requests` lists each request's method, URL and header fields and, once it is answered, its
 * status.
 */
export function prepareUpload(tus, file, options) {
  const requests = []
  let upload
  const ended = new Promise((onSuccess, onError) => {
    upload = new tus.Upload(file, {
      retryDelays: RETRY_DELAYS_MS,
      ...options,
      onBeforeRequest(request) {
        requests.push({
          request,
          method: request.getMethod(),
          url: request.getURL(),
          field: (name) => request.getHeader(name),
        })
      },
      onAfterResponse(request, response) {
        const entry = requests.find((each) => each.request === request)
        entry.status = response.getStatus()
      },
      onSuccess,
      onError,
    })
  })
  // Tests look at the end after other events; until then an error is not an unhandled one.
  ended.catch(() => {})
  return {
    upload,
    requests,
    done: () => within(END_TIMEOUT_MS, 'the client reporting success or an error', ended),
    begin() {
      upload.start()
      return this
    },
    /** Begins, and aborts as soon as the server has acknowledged the first chunk. */
    async beginAndAbortAfterFirstChunk() {
      const aborted = new Promise((resolve, reject) => {
        upload.options.onChunkComplete = () => resolve(upload.abort())
        ended.catch(reject)
      })
      upload.start()
      await within(END_TIMEOUT_MS, 'the first chunk', aborted)
      upload.options.onChunkComplete = null
    },
  }
}

/** Uploads to the end and gives the client's upload URL and its requests. */
export async function uploadWhole(tus, file, options) {
  const { upload, done, requests } = prepareUpload(tus, file, options).begin()
  await done()
  return { url: upload.url, requests }
}

/** The methods of some requests, in order: `['POST', 'PATCH']`. */
export const methods = (requests) => requests.map(({ method }) => method)

/** The offsets that the data-carrying requests to upload URLs began at. */
export const patchOffsets = (requests) =>
  requests
    .filter(({ method, field }) => method === 'PATCH' || field('X-HTTP-Method-Override'))
    .map(({ field }) => Number(field('Upload-Offset')))
