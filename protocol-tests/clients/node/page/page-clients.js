// Runs in the browser: the libraries whose settings docs/resumablejs.md has, set up as it says.

import Dropzone6 from 'dropzone'
import * as dropzone5 from 'dropzone5'
import qq from 'fine-uploader/lib/core'
import plupload from 'plupload/js/plupload.min'

const { Dropzone: Dropzone5 } = dropzone5.default

/**
 * Runs JavaScript of the documentation with the libraries in scope, and `given` besides. What it
 * ends with, `return NAME`, is what it made.
 */
function runRecipe(recipe, name, given = {}) {
  const scope = { Dropzone: Dropzone6, qq, plupload, ...given }
  return new Function(...Object.keys(scope), `${recipe}\nreturn ${name}`)(...Object.values(scope))
}

/** The files chosen on the page. */
const chosenFiles = () => [...document.querySelector('input').files]

/** Settles with an outcome for each of `count` files, `note(name, failed, answer)` being called. */
function collect(count, listen) {
  const outcomes = []
  return new Promise((resolve) => {
    listen((name, failed, answer) => {
      outcomes.push({ name, failed, answer })
      if (outcomes.length === count) resolve(outcomes)
    })
  })
}

const parsed = (text) => (text ? JSON.parse(text) : null)

/** What people see of a failed file in Dropzone's preview. */
const shownBy = (file) => file.previewElement.querySelector('[data-dz-errormessage]').textContent

/** Uploads the chosen files by Dropzone, of version 5 or 6; `window.finished` is the outcome. */
function startDropzone(recipe, version, options = {}) {
  const Base = version === 5 ? Dropzone5 : Dropzone6
  // The documented settings, with what a test changes.
  class Dropzone extends Base {
    constructor(element, documented) {
      super(element, { ...documented, ...options })
    }
  }
  document.querySelector('#uploads')?.remove()
  document.body.insertAdjacentHTML('beforeend', '<div id="uploads"></div>')
  const dropzone = runRecipe(recipe, 'dropzone', { Dropzone })
  const files = chosenFiles()
  window.finished = collect(files.length, (note) => {
    dropzone.on('success', (file, answer) => note(file.name, false, answer))
    dropzone.on('error', (file, answer) => note(file.name, true, { answer, shown: shownBy(file) }))
  })
  for (const file of files) dropzone.addFile(file)
}

/** The same by Fine Uploader. */
function startFineUploader(recipe) {
  const uploader = runRecipe(recipe, 'uploader')
  const files = chosenFiles()
  // With the end of a file its handler gets no answer; that of each chunk does.
  const answers = new Map()
  window.finished = collect(files.length, (note) => {
    const { callbacks } = uploader._options
    callbacks.onUploadChunkSuccess = (id, _, answer) => {
      if (answer.fileUploadStatus) answers.set(id, answer)
    }
    callbacks.onComplete = (id, name, { success, error }) =>
      note(name, !success, answers.get(id) ?? error)
  })
  uploader.addFiles(files)
}

/** The same by plupload. */
function startPlupload(recipe) {
  document.body.insertAdjacentHTML('beforeend', '<button id="browse">choose</button>')
  const uploader = runRecipe(recipe, 'uploader')
  const files = chosenFiles()
  window.finished = collect(files.length, (note) => {
    uploader.bind('FileUploaded', (_, { name }, { response }) => note(name, false, parsed(response)))
    uploader.bind('Error', (_, { file, response }) => note(file?.name, true, parsed(response)))
  })
  uploader.bind('FilesAdded', () => uploader.start())
  const add = () => files.forEach((file) => uploader.addFile(file))
  if (uploader.runtime) add()
  else uploader.bind('PostInit', add)
}

Object.assign(window, { runRecipe, startDropzone, startFineUploader, startPlupload })
