// One file, one of two protocols. Each is a function that gives the same four actions, so that
// everything below them neither knows nor cares which one runs.

/* global tus, Resumable */

/** Small enough to send again, large enough not to be busy with asking. In bytes. */
const CHUNK_SIZE = 1024 * 1024

const RETRY_DELAYS_MS = [0, 1000, 3000, 5000]

/** Uploads by tus. The library keeps the upload's URL in localStorage, and so survives a reload. */
function uploadByTus(endpoint, file, on) {
  const upload = new tus.Upload(file, {
    endpoint,
    metadata: { filename: file.name, filetype: file.type },
    retryDelays: RETRY_DELAYS_MS,
    removeFingerprintOnSuccess: true,
    onProgress: (sent) => on.progress(sent),
    onSuccess: () => on.success(upload.url),
    onError: (error) => on.error(error.originalResponse?.getBody()),
  })
  return {
    async start() {
      const [previous] = await upload.findPreviousUploads()
      if (previous) upload.resumeFromPreviousUpload(previous)
      upload.start()
    },
    pause: () => upload.abort(),
    resume: () => upload.start(),
    cancel: () => upload.abort(true),
  }
}

/** Uploads by ResumableJS. The server knows the file by name and size, and so survives a reload. */
function uploadByResumable(endpoint, file, on) {
  const resumable = new Resumable({
    target: endpoint,
    chunkSize: CHUNK_SIZE,
    chunkRetryInterval: 1000,
    maxChunkRetries: 3,
    minFileSize: 0,
  })
  let failed = false
  resumable.on('fileAdded', () => resumable.upload())
  resumable.on('fileProgress', () => {
    // A file that failed counts as done here, and one that is done has its own event.
    if (resumable.progress() < 1) on.progress(resumable.progress() * file.size)
  })
  resumable.on('fileSuccess', (_, answer) => {
    // Of a file that was there already the server tells no URL: anybody may guess its name.
    const { url } = JSON.parse(answer).upload
    on.success(url && new URL(url, endpoint).href)
  })
  resumable.on('fileError', (_, answer) => {
    failed = true
    on.error(answer && JSON.parse(answer).error.message)
  })
  return {
    start: () => resumable.addFile(file),
    pause: () => resumable.pause(),
    resume() {
      if (!failed) return resumable.upload()
      failed = false
      resumable.files[0].retry()
    },
    /** The library only stops; the server is told here. */
    async cancel() {
      const query = new URLSearchParams({
        resumableIdentifier: resumable.files[0].uniqueIdentifier,
        resumableFilename: file.name,
        resumableRelativePath: resumable.files[0].relativePath,
      })
      resumable.cancel()
      await fetch(`${endpoint}/status?${query}`, { method: 'DELETE' })
    },
  }
}

const PROTOCOLS = { tus: uploadByTus, resumable: uploadByResumable }

/** What each state lets a person do, and what the middle button is called. */
const STATES = {
  idle: { upload: true },
  running: { pause: 'Pause', cancel: true },
  paused: { pause: 'Resume', cancel: true },
  failed: { pause: 'Try again', cancel: true, upload: true },
}

const element = (id) => document.getElementById(id)
const form = element('form')
const status = element('status')

/** The upload under way, if any: what its protocol can do. */
let current = null
let state = 'idle'

function enter(next) {
  const hadFocus = document.activeElement
  const buttons = [element('pause'), element('upload')]
  state = next
  const { upload = false, pause = '', cancel = false } = STATES[state]
  element('upload').disabled = !upload
  element('pause').disabled = !pause
  element('pause').textContent = pause || 'Pause'
  element('cancel').disabled = !cancel
  const isBusy = !upload
  element('file').disabled = isBusy
  element('protocols').disabled = isBusy
  // A button that is disabled under the finger of a keyboard user would lose them their place.
  if (hadFocus?.disabled) buttons.find((button) => !button.disabled).focus()
}

const UNITS = ['bytes', 'kB', 'MB', 'GB', 'TB']

function readable(bytes) {
  const step = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(bytes, 1)) / 3))
  const amount = bytes / 1000 ** step
  return `${amount.toFixed(step && amount < 100 ? 1 : 0)} ${UNITS[step]}`
}

function showProgress(sent, size) {
  const share = size ? sent / size : sent === size ? 1 : 0
  element('progress').value = share
  element('amount').textContent =
    `${readable(sent)} of ${readable(size)} (${Math.floor(share * 100)} %)`
}

function showError(message) {
  element('error').textContent = message ?? ''
  element('error').hidden = !message
}

/** A reload forgets the file; its name is kept so that the page can say what to choose. */
const unfinished = {
  KEY: 'unfinished',
  keep: (file, protocol) =>
    localStorage.setItem(unfinished.KEY, JSON.stringify({ name: file.name, protocol })),
  forget: () => localStorage.removeItem(unfinished.KEY),
  show() {
    const kept = JSON.parse(localStorage.getItem(unfinished.KEY))
    element('unfinished').hidden = !kept
    if (!kept) return
    form.elements.protocol.value = kept.protocol
    element('unfinished').textContent =
      `“${kept.name}” is not finished. Choose it again, and it goes on where it stopped.`
  },
}

async function begin(file, protocol) {
  showError(null)
  showProgress(0, file.size)
  let endpoints
  try {
    endpoints = await (await fetch('endpoints.json')).json()
  } catch {
    return showError('The server of this page is gone. Start it again with npm start.')
  }
  unfinished.keep(file, protocol)
  element('unfinished').hidden = true
  current = PROTOCOLS[protocol](endpoints[protocol], file, {
    progress: (sent) => showProgress(sent, file.size),
    success(url) {
      unfinished.forget()
      unfinished.show()
      showProgress(file.size, file.size)
      const link = Object.assign(document.createElement('a'), { textContent: file.name })
      if (url) link.href = url
      status.replaceChildren('Uploaded: ', link)
      enter('idle')
    },
    error(reason) {
      if (reason) unfinished.forget()
      showError(
        reason
          ? `The server refused the file: ${reason.trim()}`
          : `The server at ${endpoints[protocol]} cannot be reached.`,
      )
      status.textContent = 'Stopped.'
      enter('failed')
    },
  })
  status.textContent = `Uploading ${file.name}`
  enter('running')
  current.start()
}

form.addEventListener('submit', (event) => {
  event.preventDefault()
  begin(element('file').files[0], form.elements.protocol.value)
})

element('pause').addEventListener('click', () => {
  showError(null)
  if (state === 'running') {
    current.pause()
    status.textContent = 'Paused.'
    return enter('paused')
  }
  status.textContent = 'Uploading.'
  enter('running')
  current.resume()
})

element('cancel').addEventListener('click', async () => {
  enter('idle')
  status.textContent = 'Cancelled.'
  showError(null)
  unfinished.forget()
  unfinished.show()
  try {
    await current.cancel()
  } catch {
    showError('The server cannot be reached. It keeps what it has until the upload expires.')
  }
  showProgress(0, 0)
  element('amount').textContent = ''
})

element('file').addEventListener('change', () => {
  const [file] = element('file').files
  status.textContent = file ? 'Ready.' : 'Choose a file.'
})

unfinished.show()
enter('idle')
