// The JavaScript of docs/resumablejs.md, so that tests run what readers copy.

import { readFileSync } from 'node:fs'
import path from 'node:path'

const DOCUMENT = readFileSync(
  path.resolve(import.meta.dirname, '../../../../docs/resumablejs.md'),
  'utf8',
)

/**
 * The first code block after this text, with the paths of the route as URLs of `server`, and with
 * each replacement made.
 */
export function recipe(after, server, replacements = {}) {
  const [, rest] = DOCUMENT.split(after, 2)
  const block = rest && /```js\n(.*?)```/s.exec(rest)
  if (!block) throw new Error(`docs/resumablejs.md has no code after ${JSON.stringify(after)}`)
  const { origin } = new URL(server.url)
  let code = block[1].replaceAll(/(['`])\/resumable/g, `$1${origin}/resumable`)
  for (const [from, to] of Object.entries(replacements)) {
    if (!code.includes(from)) throw new Error(`${from} is not in the code after ${after}`)
    code = code.replaceAll(from, to)
  }
  return code
}
