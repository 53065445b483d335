// @tus/server with its file store: node server.js PORT DIR
import {FileStore} from '@tus/file-store'
import {Server} from '@tus/server'

const [port, directory] = process.argv.slice(2)
new Server({path: '/files', datastore: new FileStore({directory})})
  .listen({host: '127.0.0.1', port: Number(port)})
