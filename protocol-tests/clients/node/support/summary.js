// A reporter for `node --test` that adds one line: how many tests passed and failed.

export default async function* summary(events) {
  let passed = 0
  let failed = 0
  let skipped = 0
  for await (const { type, data } of events) {
    if (data?.details?.type === 'suite') continue
    if (type === 'test:fail') failed += 1
    else if (type === 'test:pass' && data.skip !== undefined) skipped += 1
    else if (type === 'test:pass') passed += 1
  }
  yield `node: ${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}\n`
}
