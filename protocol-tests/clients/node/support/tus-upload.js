// One upload by tus-js-client, with everything it sent and was answered.

import { within } from './wait.js'

/** Short waits: the tests' server is near, and a retry that is never needed costs nothing. */
const RETRY_DELAYS_MS = [0, 50, 100, 200, 500, ...Array(15).fill(1000)]

/**
 * Starts an upload. `done` settles with the client's success or error; `requests` lists each
 * request's method, URL and header fields and, once it is answered, its status.
 */
export function startUpload(tus, file, options) {
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
  const done = within(60_000, 'the client reporting success or an error', ended)
  // Tests await `done` after other events; until then an error is not an unhandled one.
  done.catch(() => {})
  return {
    upload,
    done,
    requests,
    begin() {
      upload.start()
      return this
    },
  }
}

/** Uploads to the end and gives the client's upload URL and its requests. */
export async function uploadWhole(tus, file, options) {
  const { upload, done, requests } = startUpload(tus, file, options).begin()
  await done
  return { url: upload.url, requests }
}

/** Begins an upload and aborts it as soon as the server has acknowledged its first chunk. */
export async function abortAfterFirstChunk({ upload, begin, done }) {
  const aborted = new Promise((resolve, reject) => {
    upload.options.onChunkComplete = () => resolve(upload.abort())
    done.catch(reject)
  })
  begin()
  await aborted
  upload.options.onChunkComplete = null
}

/** The methods of some requests, in order: `['POST', 'PATCH']`. */
export const methods = (requests) => requests.map(({ method }) => method)

/** The offsets that the data-carrying requests to upload URLs began at. */
export const patchOffsets = (requests) =>
  requests
    .filter(({ method, field }) => method === 'PATCH' || field('X-HTTP-Method-Override'))
    .map(({ field }) => Number(field('Upload-Offset')))
