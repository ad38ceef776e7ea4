import assert from 'node:assert/strict'
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { Agent, createServer as create_http_server, get as http_get } from 'node:http'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { availableParallelism, tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { after, before, describe, it, type TestContext } from 'node:test'
import { setImmediate as turn, setTimeout as pause } from 'node:timers/promises'
import { connect as connect_tls } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { send } from './client.ts'
import { http, LIMITS, pic_content, serve, text_content, type Answer, type Content, type Options } from './server.ts'

const HERE = fileURLToPath(new URL('.', import.meta.url))
const PICTURE = readFileSync(join(HERE, 'test.jpg'))
const TSX = ['--import', 'tsx']
const SCRATCH = mkdtempSync(join(tmpdir(), 'wow-server-'))
after(() => rmSync(SCRATCH, { recursive: true, force: true }))

/** The path of a command; undefined where it is not installed, which CI does not allow. */
function command(...names: string[]): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(delimiter)
  const found = names.flatMap(name => folders.map(folder => join(folder, name))).find(path => existsSync(path))
  if (!found && process.env['WOW_COMPLETE']) throw new Error(`${names.join(' or ')} is not installed`)
  return found
}

/** Starts `serve` on a free port for one test; stops it after. */
async function serving(t: TestContext, options: Options = {}): Promise<number> {
  const stop = new AbortController()
  const server = serve({ host: '127.0.0.1', port: 0, signal: stop.signal, ...options })
  t.after(() => stop.abort())
  return port_of(server)
}

async function port_of(server: Server): Promise<number> {
  if (!server.listening) await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

/** A server of another make for one test, which does with each connection what it is told. */
async function other_server(t: TestContext, serve_one: (socket: Socket) => void): Promise<number> {
  const server = createServer(socket => {
    socket.on('error', () => {})
    serve_one(socket)
  })
  server.listen(0, '127.0.0.1')
  t.after(() => server.close())
  return port_of(server)
}

type Run = { code: number | null, stdout: Buffer, stderr: string }

/** Runs a program to its end. */
async function run(program: string, args: string[], cwd = HERE): Promise<Run> {
  const child = spawn(program, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, NO_COLOR: '1' } })
  const stdout: Buffer[] = [], stderr: Buffer[] = []
  child.stdout.on('data', (data: Buffer) => stdout.push(data))
  child.stderr.on('data', (data: Buffer) => stderr.push(data))
  const [code] = await once(child, 'close') as [number | null]
  return { code, stdout: Buffer.concat(stdout), stderr: String(Buffer.concat(stderr)) }
}

function run_client(...args: string[]): Promise<Run> {
  return run(process.execPath, [...TSX, 'client.ts', ...args])
}

/** server.ts as a program. */
type Program = { child: ChildProcess, port: number, printed: () => string, complained: () => string }

/** Starts a server program on a free port, for one test. */
async function start(t: TestContext, program = process.execPath, args = [...TSX, 'server.ts', '0'], cwd = HERE): Promise<Program> {
  const child = spawn(program, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
  t.after(() => child.kill('SIGKILL'))
  let printed = '', complained = ''
  child.stdout.on('data', data => { printed += data })
  child.stderr.on('data', data => { complained += data })
  while (!/:(\d+)\/\n/.test(printed)) {
    if (child.exitCode !== null) throw new Error(`${program} ended: ${complained}`)
    await Promise.race([once(child.stdout, 'data'), once(child, 'close')])
  }
  return { child, port: Number(/:(\d+)\/\n/.exec(printed)?.[1]), printed: () => printed, complained: () => complained }
}

/** Waits until something is so, but not for ever. */
async function until(what: string, is_so: () => boolean | Promise<boolean>, seconds = 5): Promise<void> {
  for (const end = Date.now() + seconds * 1000; !await is_so(); await pause(10)) assert.ok(Date.now() < end, `in vain waited until ${what}`)
}

function body_of(reply: Uint8Array): Buffer {
  const bytes = Buffer.from(reply)
  return bytes.subarray(bytes.indexOf('\r\n\r\n') + 4)
}

const GET = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n`

describe('the article', () => {
  it('answers the page, which names TypeScript, to a GET of any path', async t => {
    const port = await serving(t)
    for (const path of ['/', '/other', '/test.jpg/', '/test.jpg?x']) {
      const reply = String(await send(`127.0.0.1:${port}`, GET(path)))
      assert.match(reply, /^HTTP\/1\.1 200 OK\r\nContent-Type: text\/html\r\n/)
      assert.match(reply, /<title>WOW<\/title>[^]*<p>Wow, TypeScript Server<\/p>\n<IMG src="test\.jpg"\/>/)
    }
  })

  it('answers the picture, byte for byte, to a GET of /test.jpg', async t => {
    const port = await serving(t)
    const reply = await send(`127.0.0.1:${port}`, GET('/test.jpg'))
    assert.match(String(reply), /^HTTP\/1\.1 200 OK\r\nContent-Type: image\/jpeg\r\n/)
    assert.deepEqual(body_of(reply), PICTURE)
  })

  it("answers Yes to the article's own client, which sends no line end and reads once", async t => {
    const port = await serving(t)
    const s = connect(port, '127.0.0.1')
    s.write('can you hear me?')
    const [reply] = await once(s, 'data') as [Buffer]
    assert.equal(String(reply), 'Yes')
    await once(s, 'close')
  })

  it('has a picture that is a baseline JPEG under 60 KB', () => {
    assert.ok(PICTURE.length < 60_000, `${PICTURE.length} bytes`)
    assert.ok(PICTURE.includes(Buffer.from([0xff, 0xc0])) && !PICTURE.includes(Buffer.from([0xff, 0xc2])))
  })
})

describe('server.ts, the program', () => {
  it('prints the address to open, then each message and where it is from', async t => {
    const { port, printed, complained } = await start(t)
    assert.equal(printed(), `Open http://127.0.0.1:${port}/\n`)
    assert.equal(String(await send(`127.0.0.1:${port}`, 'can you hear me?\n')), 'Yes')
    await send(`127.0.0.1:${port}`, GET('/page'))
    await until('the request is printed', () => printed().includes('Connection: close'))
    const [, yes = '', page = ''] = printed().split(/^Connected by /m)
    assert.match(yes, /^\[ '127\.0\.0\.1', \d+ \]\nRequest is: can you hear me\?\n$/)
    assert.match(page, /^\[ '127\.0\.0\.1', \d+ \]\nRequest is: GET \/page HTTP\/1\.1\n {2}Host: 127\.0\.0\.1\n {2}Connection: close\n$/)
    assert.equal(complained(), '')
  })

  it('listens on every address, IPv4 and IPv6', async t => {
    const { port } = await start(t)
    for (const host of [`127.0.0.1:${port}`, `[::1]:${port}`]) assert.equal(String(await send(host, 'can you hear me?\n')), 'Yes')
  })

  it('listens on one address with --host, and prints no requests with --quiet', async t => {
    const { port, printed } = await start(t, process.execPath, [...TSX, 'server.ts', '0', '--host', '::1', '--quiet'])
    assert.equal(String(await send(`[::1]:${port}`, 'can you hear me?\n')), 'Yes')
    await assert.rejects(send(`127.0.0.1:${port}`, 'can you hear me?\n'), /refused/)
    assert.equal(printed(), `Open http://[::1]:${port}/\n`)
  })

  it('says in one line what is wrong, and ends with 1', async t => {
    const { port } = await start(t)
    const cases: [string[], RegExp][] = [
      [[`${port}`], /^port \d+ is in use: .*\n$/],
      [['80000'], /^80000 is no port: .*\n$/],
      [['http'], /^http is no port: .*\n$/],
      [['-1'], /^.*-1.*\n$/],
      [['0', '1'], /^one port is enough: .*\n$/],
      [['0', '--host', '192.0.2.1'], /^192\.0\.2\.1 is no address of this computer: .*\n$/],
      [['0', '--host', 'no.such.host.invalid'], /^no\.such\.host\.invalid is no address of this computer: .*\n$/],
      [['--loud'], /^.*--loud.*see --help\n$/],
    ]
    await Promise.all(cases.map(async ([args, line]) => {
      const { code, stdout, stderr } = await run(process.execPath, [...TSX, 'server.ts', ...args])
      assert.match(stderr, line)
      assert.deepEqual([code, String(stdout)], [1, ''], `${args}`)
    }))
  })

  it('helps', async () => {
    const { code, stdout } = await run(process.execPath, [...TSX, 'server.ts', '--help'])
    assert.equal(code, 0)
    for (const option of ['port', '--host', '--quiet', '--help']) assert.ok(String(stdout).includes(option), option)
  })

  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    it(`ends with 0 at ${signal}`, async t => {
      const { child, complained } = await start(t)
      child.kill(signal)
      assert.deepEqual(await once(child, 'close'), [0, null])
      assert.equal(complained(), '')
    })
  }
})

describe('client.ts, the program', () => {
  it('prints what the server replies to can you hear me?', async t => {
    const port = await serving(t)
    const { code, stdout, stderr } = await run_client(`127.0.0.1:${port}`)
    assert.deepEqual([code, String(stdout), stderr], [0, 'reply is: Yes\n', ''])
  })

  it('takes a path for a GET, writes just the body to a file and shows the head', async t => {
    const port = await serving(t)
    const { code, stdout, stderr } = await run_client(`127.0.0.1:${port}`, '/test.jpg')
    assert.equal(code, 0)
    assert.deepEqual(stdout, PICTURE)
    assert.match(stderr, /^HTTP\/1\.1 200 OK\n *Content-Type: image\/jpeg\n/)
  })

  it('sends any other request as it stands', async t => {
    const port = await serving(t)
    const { stdout } = await run_client(`127.0.0.1:${port}`, 'HEAD / HTTP/1.0\r\n\r\n')
    assert.match(String(stdout), /^reply is: HTTP\/1\.1 200 OK\n *Content-Type: text\/html\n/)
    assert.ok(!String(stdout).includes('Wow'))
  })

  it("speaks to the article's servers: bare text, and HTTP/1.x with line feeds and no length", async t => {
    const heard: string[] = []
    const says = (reply: string) => (socket: Socket): void => {
      socket.once('data', data => {
        heard.push(String(data))
        socket.end(reply)
      })
    }
    const section_2 = await other_server(t, says('Yes'))
    const section_3 = await other_server(t, says('HTTP/1.x 200 OK  \nContent-Type: text/html\n\n<head>\n<title>WOW</title>\n</head>\n'))
    assert.equal(String((await run_client(`127.0.0.1:${section_2}`)).stdout), 'reply is: Yes\n')
    assert.equal(String((await run_client(`127.0.0.1:${section_3}`, '/')).stdout), '<head>\n<title>WOW</title>\n</head>\n')
    assert.equal(heard[0], 'can you hear me?')
    assert.equal(heard[1], `GET / HTTP/1.1\r\nHost: 127.0.0.1:${section_3}\r\nConnection: close\r\n\r\n`)
  })

  it('puts a chunked body together', async t => {
    const port = await other_server(t, socket => socket.end('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nWow\r\n5\r\n, chu\r\n0\r\n\r\n'))
    assert.equal(String((await run_client(`127.0.0.1:${port}`, '/')).stdout), 'Wow, chu')
  })

  it('prints what comes from the other side with control characters escaped', async t => {
    const port = await other_server(t, socket => socket.end('a\x1b[2Jb\x07\x9b\\c\r\nd\n'))
    assert.equal(String((await run_client(`127.0.0.1:${port}`)).stdout), 'reply is: a\\x1b[2Jb\\x07\\x9b\\x5cc\nd\n')
  })

  it('says in one line what is wrong, and ends with 1', async t => {
    const ours = await serving(t)
    const short = await other_server(t, socket => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nWow'))
    const no_last_chunk = await other_server(t, socket => socket.end('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nWow\r\n'))
    const resets = await other_server(t, socket => { socket.once('data', () => socket.resetAndDestroy()) })
    const mute = await other_server(t, socket => { socket.end() })
    const nobody = await other_server(t, () => {})
    const cases: [string[], RegExp][] = [
      [[], /--help/],
      [[`127.0.0.1:${ours}`, 'a', 'b'], /--help/],
      [['--loud'], /--loud/],
      [['127.0.0.1:99999'], /99999 is no port/],
      [['no.such.host.invalid'], /no such host|looked up/],
      [['127.0.0.1:1'], /refused.*is the server running/],
      [[`127.0.0.1:${short}`, '/'], /cut short after 3 of 10 bytes/],
      [[`127.0.0.1:${no_last_chunk}`, '/'], /cut short/],
      [[`127.0.0.1:${resets}`], /reset/],
      [[`127.0.0.1:${mute}`], /without a reply/],
    ]
    await Promise.all(cases.map(async ([args, line]) => {
      const { code, stdout, stderr } = await run_client(...args)
      assert.match(stderr, /^[^\n]+\n$/)
      assert.match(stderr, line)
      assert.deepEqual([code, String(stdout)], [1, ''], `${args}`)
    }))
    await assert.rejects(send(`127.0.0.1:${nobody}`, 'hello', { silent_ms: 50 }), /nothing came for 0.05 s/)
    await assert.rejects(send(`127.0.0.1:${nobody}`, 'hello', { signal: AbortSignal.timeout(50) }), /aborted/)
  })

  it('does not wait for the end of a kept connection when the length is known', async t => {
    const port = await serving(t, { limits: { idle_ms: 60_000 } })
    const reply = await send(`127.0.0.1:${port}`, 'GET /test.jpg HTTP/1.1\r\nHost: a\r\n\r\n', { silent_ms: 1_000 })
    assert.deepEqual(body_of(reply), PICTURE)
  })

  it('helps', async () => {
    const { code, stdout } = await run_client('--help')
    assert.equal(code, 0)
    for (const word of ['HOST', 'PORT', 'REQUEST', '--help']) assert.ok(String(stdout).includes(word), word)
  })
})

describe('the package', () => {
  it('is found by its own name, and importing it starts nothing', async () => {
    const program = `import * as server from 'wow-server'; import * as client from 'wow-server/client'
      console.log(Object.keys({ ...server, ...client }).sort().join())`
    const { stdout, stderr } = await run(process.execPath, ['--input-type=module', '-e', program])
    assert.deepEqual([String(stdout), stderr], ['HOST,LIMITS,PORT,http,pic_content,reply,send,serve,text_content\n', ''])
  })

  it('installs from its tarball: two commands, and a module with types', async t => {
    const packed = await run('npm', ['pack', '--ignore-scripts', '--pack-destination', SCRATCH, '--json'])
    const [{ filename, files }] = JSON.parse(String(packed.stdout)) as [{ filename: string, files: { path: string }[] }]
    const shipped = ['LICENSE', 'README.md', 'README.zh-CN.md', 'dist/client.d.ts', 'dist/client.js', 'dist/server.d.ts', 'dist/server.js', 'dist/test.jpg', 'package.json']
    assert.deepEqual(files.map(file => file.path).sort(), shipped)

    const folder = join(SCRATCH, 'user')
    mkdirSync(folder)
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
    await run('npm', ['install', '--offline', '--no-audit', join(SCRATCH, filename)], folder)
    const { port } = await start(t, join(folder, 'node_modules/.bin/wow-server'), ['0'], folder)
    const { code, stdout } = await run(join(folder, 'node_modules/.bin/wow-client'), [`127.0.0.1:${port}`, '/test.jpg'], folder)
    assert.equal(code, 0)
    assert.deepEqual(stdout, PICTURE)

    writeFileSync(join(folder, 'use.ts'), `import { serve, http, LIMITS, type Answer, type Content, type Options, type Request } from 'wow-server'
      import { send } from 'wow-server/client'
      const answer: Answer = (request: Request): Content | undefined => request.src === '/' ? http\`HTTP/1.1 200 OK\n\n\${request.body}\` : undefined
      const options: Options = { answer, port: 0, limits: { head_bytes: LIMITS.head_bytes } }
      export const sent: Promise<Uint8Array> = send(String(serve(options)), 'hello')
      // @ts-expect-error: a limit that does not exist
      serve({ limits: { hats: 1 } })`)
    const types = ['--ignoreConfig', '--noEmit', '--strict', '--target', 'es2022', '--module', 'nodenext', '--typeRoots', join(HERE, 'node_modules/@types'), '--types', 'node']
    const checked = await run(join(HERE, 'node_modules/.bin/tsc'), [...types, 'use.ts'], folder)
    assert.deepEqual([checked.code, String(checked.stdout)], [0, ''])
  })
})

describe('any runtime', () => {
  const deno = ['run', '--allow-net', '--allow-read']
  const runtimes: [string, string[]][] = [['node22', []], ['node24', []], ['node26', []], ['deno', deno], ['bun', []]]
  for (const [name, args] of runtimes) {
    const program = command(name)
    it(`runs server.ts and client.ts as they are under ${name}`, { skip: program ? false : `${name} is not installed` }, async t => {
      const { child, port, complained } = await start(t, program, [...args, 'server.ts', '0'])
      for (const address of [`127.0.0.1:${port}`, `[::1]:${port}`]) {
        assert.equal(String((await run(program ?? '', [...args, 'client.ts', address])).stdout), 'reply is: Yes\n')
      }
      assert.deepEqual((await run(program ?? '', [...args, 'client.ts', `127.0.0.1:${port}`, '/test.jpg'])).stdout, PICTURE)
      const pipelined = 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n' + GET('/')
      const s = connect(port, '127.0.0.1')
      s.write(pipelined)
      let reply = ''
      for await (const piece of s) reply += piece
      assert.match(reply, /^HTTP\/1\.1 405 [^]*HTTP\/1\.1 200 OK\r\n[^]*Connection: close\r\n\r\n[^]*<\/html>\n$/)
      child.kill('SIGTERM')
      assert.deepEqual(await once(child, 'close'), [0, null])
      assert.equal(complained(), '')
    })
  }
})

describe('a browser', () => {
  const chromium = command('chromium', 'google-chrome')
  it('shows the page with the picture, and the server sees its requests', { skip: chromium ? false : 'no Chromium is installed' }, async t => {
    const seen: string[] = []
    const port = await serving(t, { answer: request => { seen.push(request.src) } })
    const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
    const child = spawn(chromium ?? '', [...flags, `--user-data-dir=${join(SCRATCH, 'chromium')}`, '--remote-debugging-pipe', 'about:blank'], { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] })
    t.after(async () => {
      child.kill('SIGKILL')
      await once(child, 'close')
    })
    const devtools = devtools_of(child)
    const { targetId } = await devtools('Target.createTarget', { url: `http://127.0.0.1:${port}/` })
    const { sessionId } = await devtools('Target.attachToTarget', { targetId, flatten: true })
    const evaluate = async (expression: string): Promise<unknown> => {
      const { result } = await devtools('Runtime.evaluate', { expression, awaitPromise: true }, sessionId) as { result?: { value?: unknown } }
      return result?.value
    }
    while (await evaluate('document.images[0]?.naturalWidth > 0') !== true) await pause(20)
    const shown = await evaluate('document.images[0].decode().then(() => [document.title, document.body.innerText.trim(), document.images[0].naturalWidth].join("|"))')
    assert.equal(shown, 'WOW|Wow, TypeScript Server|640')
    assert.deepEqual(seen.slice(0, 2), ['/', '/test.jpg'])
  })
})

type Devtools = (method: string, params: object, sessionId?: unknown) => Promise<Record<string, unknown>>

/** Speaks the DevTools protocol through Chromium's pipe: JSON, each message ended by a NUL. */
function devtools_of(child: ChildProcess): Devtools {
  const [, , , input, output] = child.stdio
  const waiting = new Map<number, (result: Record<string, unknown>) => void>()
  let text = '', last = 0
  output?.on('data', (data: Buffer) => {
    const messages = (text + data).split('\0')
    text = messages.pop() ?? ''
    for (const message of messages) {
      const { id, result } = JSON.parse(message) as { id: number, result?: Record<string, unknown> }
      waiting.get(id)?.(result ?? {})
    }
  })
  return (method, params, sessionId) => {
    const id = ++last
    if (input && 'write' in input) input.write(JSON.stringify({ id, method, params, sessionId }) + '\0')
    return new Promise(resolve => { waiting.set(id, resolve) })
  }
}

describe('HTTP/1.1 to the letter', () => {
  /** The server's end of each connection, by the client's port: it tells what has been read. */
  const ends = new Map<number, Socket>()
  const stop = new AbortController()

  async function started(options: Options): Promise<Server> {
    const s = serve({ port: 0, host: '127.0.0.1', signal: stop.signal, ...options })
    s.on('connection', socket => {
      const port = socket.remotePort ?? 0
      ends.set(port, socket)
      socket.on('close', () => ends.get(port) === socket && ends.delete(port))
    })
    await once(s, 'listening')
    return s
  }

  /**
   * Sends the pieces, each after the server has read the one before, and gives all that came back when the server has closed.
   * A RegExp among them waits for a reply that it matches, a number for so many ms; null half-closes. A reset is an error.
   */
  async function talk(s: Server, pieces: (string | RegExp | number | null)[]): Promise<string> {
    const client = connect({ port: (s.address() as AddressInfo).port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true })
    const closed = once(client, 'close')
    // it is awaited at the end
    closed.catch(() => {})
    let reply = '', sent = 0
    // more connections than there are ports: a reset, when the server has closed, leaves none waiting
    client.setEncoding('latin1').on('data', text => { reply += text }).on('end', () => client.resetAndDestroy())
    await once(client, 'connect')
    for (const piece of pieces) {
      if (client.readableEnded) break
      if (piece === null) client.end()
      else if (typeof piece === 'string') client.write(piece, 'latin1')
      else if (typeof piece === 'number') await pause(piece)
      if (typeof piece === 'string') sent += piece.length
      const port = client.localPort ?? 0
      const done = (): boolean => piece instanceof RegExp ? piece.test(reply) : (ends.get(port)?.bytesRead ?? 0) >= sent
      while (!client.readableEnded && !client.destroyed && !done()) await turn()
    }
    await closed
    return reply
  }

  /**
   * What replies say, in short: the body of a 200, the status of any other, and text that is not HTTP as it is.
   * Each is held to what every reply promises; and as the server has closed after them, the last one said so.
   */
  function gist(text: string): string {
    const said: string[] = []
    while (text.startsWith('HTTP/')) {
      const [head = '', status = ''] = /^HTTP\/1\.1 (\d{3}) [ -~]+\r\n(?:[\w-]+: [ -~]+\r\n)*\r\n/.exec(text) ?? assert.fail(`no head: ${JSON.stringify(text)}`)
      const field = (name: string): string | undefined => {
        const [line, ...more] = head.matchAll(new RegExp(`\n${name}: (.*)\r`, 'gi'))
        assert.deepEqual(more, [], `${name} stands there twice`)
        return line?.[1]
      }
      text = text.slice(head.length)
      if (status === '100') {
        assert.equal(head, 'HTTP/1.1 100 Continue\r\n\r\n')
        said.push(status)
        continue
      }
      const date = field('Date') ?? '', length = field('Content-Length')
      assert.equal(new Date(date).toUTCString(), date, 'Date is an IMF-fixdate')
      assert.ok(Math.abs(Date.parse(date) - Date.now()) < 60_000, 'Date is now')
      assert.match(length ?? 'none', status === '204' ? /^none$/ : /^\d+$/)
      const body = text.slice(0, Number(length ?? 0))
      assert.equal(body.length, Number(length ?? 0), 'Content-Length counts what follows')
      text = text.slice(body.length)
      assert.equal(field('Connection'), text ? undefined : 'close', 'the last reply, and no other, says Connection: close')
      said.push(status === '200' ? body : status)
    }
    return [...said, ...text ? [text] : []].join(', ')
  }

  /** Every way to send a message: whole, cut in two at each of its bytes, and byte by byte; what follows it comes with its end. */
  function ways(message: string, rest: string): string[][] {
    return [[message + rest], ...Array.from(message, (_, i) => [message.slice(0, i + 1), message.slice(i + 1) + rest]), [...message, rest]]
  }

  /** Sends a message in every way; all have this outcome. */
  async function same(s: Server, message: string, outcome: string, rest = NEXT): Promise<void> {
    await Promise.all(ways(message, rest).map(async pieces => assert.equal(gist(await talk(s, pieces)), outcome, JSON.stringify(pieces))))
  }

  const NEXT = 'GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'
  const lines = (...all: string[]): string => all.map(line => line + '\r\n').join('')
  const start = (line: string): string => lines(line, 'Host: a', '')
  const get = (...fields: string[]): string => lines('GET /x HTTP/1.1', 'Host: a', ...fields, '')
  const post = (...fields: string[]): string => lines('POST /x HTTP/1.1', 'Host: a', ...fields, '')
  const chunked = (body: string): string => post('Transfer-Encoding: chunked') + body

  /** Says again what was asked (HEAD gets what GET does); /page and the picture are left to the article's contents. */
  const asked: string[] = []
  const echo: Answer = ({ method, src, headers, body }) => {
    asked.push(src)
    if (src === '/page' || src === '/test.jpg' || src === '*' || method === 'CONNECT') return undefined
    const text = [method.replace('HEAD', 'GET'), src, headers.get('x') ?? '', Buffer.from(body).toString('latin1')].filter(part => part).join(' ')
    const content = http`HTTP/1.1 200 OK\n\n${Buffer.from(text, 'latin1')}`
    return src === '/later' ? turn(content) : content
  }

  let s: Server, narrow: Server
  before(async () => {
    s = await started({ answer: echo, limits: { head_ms: 5_000, body_ms: 5_000, idle_ms: 5_000 } })
    narrow = await started({ answer: echo, limits: { head_bytes: 120, target_bytes: 40, body_bytes: 20, head_ms: 5_000, body_ms: 5_000 } })
  })
  after(() => stop.abort())

  const controls = Array.from({ length: 128 }, (_, code) => String.fromCharCode(code)).filter(c => /[\0-\x08\v\f\x0e-\x1f\x7f]/.test(c))

  /** What is refused with 400, by promise; each row is a test: a sentence, and the messages that it holds for. */
  const REFUSED: Record<string, [sentence: string, ...messages: string[]][]> = {
    'a head is lines that end with CRLF, and fields': [
      ['a line ended by a bare LF (RFC 9112, 2.2)', 'GET /x HTTP/1.1\nHost: a\r\n\r\n', 'GET /x HTTP/1.1\r\nHost: a\n\r\n', get('X: a\nY: b'),
        'GET /x HTTP/1.1\r\nHost: a\r\n\n', 'GET /x HTTP/1.1\nHost: a\n\n', '\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n', get('X\n: a')],
      ['a line ended by a bare CR (RFC 9112, 2.2)', 'GET /x HTTP/1.1\rHost: a\r\n\r\n', 'GET /x HTTP/1.1\r\nHost: a\rX: b\r\n\r\n', get('X: a\rb'),
        'GET /x HTTP/1.1\r\nHost: a\r\n\r', 'GET /x HTTP/1.1\r\r\nHost: a\r\n\r\n', '\rGET /x HTTP/1.1\r\nHost: a\r\n\r\n', get('X: a\r'), get('X\r: a')],
      ['obs-fold (RFC 9112, 5.2)', get('X: a', ' b'), get('X: a', '\tb'), get('X: a', ' '), get('X:', ' a'), post('Transfer-Encoding:', ' chunked')],
      ['white space before the first field (RFC 9112, 2.2)', lines('GET /x HTTP/1.1', ' Host: a', ''), lines('GET /x HTTP/1.1', '\tX: a', 'Host: a', ''), lines('GET /x HTTP/1.1', ' ', 'Host: a', '')],
      ['white space between a field\'s name and its colon (RFC 9112, 5.1)', get('X : a'), get('X\t: a'), lines('GET /x HTTP/1.1', 'Host : a', ''),
        post('Content-Length : 5') + 'hello', post('Transfer-Encoding : chunked') + '0\r\n\r\n'],
      ['a field name that is empty or no token (RFC 9112, 5)', get(': a'), ...Array.from('"(),/;<=>?@[\\]{} \t\0\x7f\x80\xff', c => get(`X${c}Y: a`))],
      ['a field line with no colon (RFC 9112, 5)', get('X'), get('X a'), lines('GET /x HTTP/1.1', 'Host', '')],
      ['a control character but HTAB in a value (RFC 9110, 5.5)', ...controls.map(c => get(`X: a${c}b`)), get('X: \0'), post('Transfer-Encoding: \vchunked') + '0\r\n\r\n',
        post('Content-Length: 5\0') + 'hello'],
      ['two empty lines before a request line (RFC 9112, 2.2)', '\r\n\r\n' + get(), '\r\n\r\n\r\n' + get()],
      ['two Content-Type lines (RFC 9110, 5.3)', post('Content-Type: a/b', 'Content-Type: a/b', 'Content-Length: 0'), get('Content-Type: a/b', 'content-type: c/d')],
    ],
    'a request line is a method, a target and a version': [
      ['anything but single spaces between its parts (RFC 9112, 3)', ...['GET  /x HTTP/1.1', 'GET /x  HTTP/1.1', ' GET /x HTTP/1.1', 'GET\t/x HTTP/1.1', 'GET /x\tHTTP/1.1',
        'GET\t/x\tHTTP/1.1', 'GET\v/x HTTP/1.1', 'GET \t/x HTTP/1.1', 'GET HTTP/1.1', 'GET /x /y HTTP/1.1', '/x HTTP/1.1', ' /x HTTP/1.1', 'G@T /x HTTP/1.1', 'GET/x HTTP/1.1'].map(start)],
      ['something after the version (RFC 9112, 3)', ...['GET /x HTTP/1.1 ', 'GET /x HTTP/1.1\t', 'GET /x HTTP/1.1 x', 'GET /x HTTP/1.1;a', 'GET /x HTTP/1.1.1', 'GET /x HTTP/1.1\0'].map(start)],
      ['a target in none of its forms (RFC 9112, 3.2)', ...['GET x', 'GET a.b', 'GET *', 'POST *', 'GET a:80', 'OPTIONS x', 'OPTIONS **', 'GET ?x', 'GET ftp://a/', 'GET http:/x', 'GET http:x', 'GET http://',
        'GET http:///x', 'GET http://u@a/', 'GET http://a:b/', 'GET http://[::1/', 'GET //\\#', 'CONNECT /x', 'CONNECT *', 'CONNECT a', 'CONNECT a:', 'CONNECT a:b', 'CONNECT u@a:80',
        'CONNECT http://a/', 'CONNECT http://a:80'].map(line => start(`${line} HTTP/1.1`))],
      ['a target with a fragment (RFC 9112, 3.2)', ...['/#', '/x#y', 'http://a/#y', 'http://a#y'].map(target => start(`GET ${target} HTTP/1.1`))],
      ['a target with a control character, a space or a byte over 0x7e (RFC 9112, 3.2)', ...[...controls, '\t', ' ', '\x80', '\xa0', '\xff'].map(c => start(`GET /x${c}y HTTP/1.1`))],
      ['a version that is not written HTTP/digit.digit (RFC 9112, 2.3)', ...['HTTP/1', 'HTTP/1.', 'HTTP/.1', 'HTTP/11', 'HTTP/1.10', 'HTTP/01.1', 'HTTP/1,1', 'HTTP/+1.1', 'HTTP/-1.1', 'HTTP/a.1', 'HTTP/1.a',
        'HTTP/ 1.1', 'HTTP/1. 1', 'HTTP 1.1', 'http/1.1', 'Http/1.1', 'HTTPS/1.1', 'XHTTP/1.1', 'ICY/1.1', 'HTTP/\xb9.1', 'HTTP/', '/1.1'].map(version => start(`GET /x ${version}`))],
      ['no version at all (RFC 9112, 2.3)', 'GET /x\r\n', 'GET /x \r\n', 'POST /x\r\n', start('GET /x')],
    ],
    'HTTP/1.1 has one Host': [
      ['no Host (RFC 9112, 3.2)', lines('GET /x HTTP/1.1', ''), lines('GET /x HTTP/1.2', ''), lines('GET http://a/x HTTP/1.1', ''), lines('GET /x HTTP/1.1', 'X-Host: a', ''), lines('OPTIONS * HTTP/1.1', '')],
      ['more than one Host, even equal ones (RFC 9112, 3.2)', get('Host: b'), get('Host: a'), get('X: y', 'hOST: a'), lines('GET /x HTTP/1.0', 'Host: a', 'Host: a', '')],
      ['a Host that is no uri-host with optional port (RFC 9112, 3.2)', ...['', ' ', 'u@a', 'u:p@a', '@a', 'a/', 'a/x', 'a,b', 'a, b', 'a b', 'a\tb', 'http://a', 'a:b', 'a:-1', 'a:80:80', 'a:8 0', ':80', '::1', '[::1',
        '[::1]x', '[::1%25e]', '[x]', '[1:2]', '[]', 'a?x', 'a#x', 'a\\b', 'a%zz', 'a%2', '"a"', '<a>', 'a\xe9', '[::1]:x', '[::1]80'].map(host => lines('GET /x HTTP/1.1', `Host:${host}`, '')),
        lines('GET /x HTTP/1.0', 'Host: a b', ''), lines('GET http://a/x HTTP/1.1', 'Host: a/b', '')],
    ],
    'Content-Length is one number': [
      ['one that is not digits only (RFC 9110, 8.6)', ...['+5', '-5', '-0', '0x5', '5a', 'a', '', ' ', '5 5', '5.0', '5e0', '0_5', '"5"', '5;', '\xd9\xa5', '5\xa0', '\xb2'].map(length => post(`Content-Length: ${length}`) + 'hello')],
      ['one too long to count (RFC 9110, 8.6)', ...['99999999999999999999', '9007199254740993', '18446744073709551621', '4' + '0'.repeat(400)].map(length => post(`Content-Length: ${length}`))],
      ['a list (RFC 9110, 8.6)', ...['5,5', '5, 5', '5, 6', '5,', ',5'].map(length => post(`Content-Length: ${length}`) + 'hello')],
      ['one that is there twice, even equal (RFC 9112, 6.3)', post('Content-Length: 5', 'Content-Length: 5') + 'hello', post('Content-Length: 5', 'X: a', 'content-length: 6') + 'hello', get('Content-Length: 0', 'Content-Length: 0')],
      ['one beside Transfer-Encoding (RFC 9112, 6.1)', post('Content-Length: 5', 'Transfer-Encoding: chunked') + '0\r\n\r\n', post('Transfer-Encoding: chunked', 'Content-Length: 5') + '0\r\n\r\n',
        post('Content-Length: 0', 'Transfer-Encoding: chunked') + '0\r\n\r\n', post('Content-Length: 5', 'Transfer-Encoding: gzip, chunked') + '0\r\n\r\n'],
    ],
    'Transfer-Encoding ends with chunked': [
      ['one in HTTP/1.0 (RFC 9112, 6.1)', lines('POST /x HTTP/1.0', 'Host: a', 'Transfer-Encoding: chunked', '', '0', ''), lines('POST /x HTTP/1.0', 'Transfer-Encoding: gzip, chunked', '', '0', '')],
      ['one that is there twice (RFC 9112, 6.1)', post('Transfer-Encoding: chunked', 'Transfer-Encoding: chunked') + '0\r\n\r\n', post('Transfer-Encoding: gzip', 'transfer-encoding: chunked') + '0\r\n\r\n'],
      ['one that is empty or has an empty list element (RFC 9110, 5.6.1)', ...['', ' ', ',', ',chunked', ', chunked', 'chunked,', 'chunked, ', 'gzip,,chunked', 'gzip, ,chunked'].map(coding => post(`Transfer-Encoding: ${coding}`) + '0\r\n\r\n')],
      ['one whose last coding is not chunked (RFC 9112, 6.3)', ...['gzip', 'identity', 'xchunked', 'chunkedx', 'chunked, gzip', 'chunked, identity', 'chunked, x', '"chunked"', 'gzip chunked', 'chunked chunked', 'chu nked',
        'gzip;chunked', 'gzip;a=chunked', 'gzip;a=", chunked"', 'gzip;a=",chunked', 'chunked\xa0', '\xa0chunked', 'chunked;', 'chun\xeaed'].map(coding => post(`Transfer-Encoding: ${coding}`) + '0\r\n\r\n')],
      ['chunked with a parameter (RFC 9112, 7.1)', ...['chunked;a=b', 'chunked;a=chunked', 'chunked;a="chunked"', 'chunked ; a = chunked'].map(coding => post(`Transfer-Encoding: ${coding}`) + '0\r\n\r\n')],
      ['one that names chunked twice (RFC 9112, 6.1)', ...['chunked, chunked', 'chunked,Chunked', 'chunked, gzip, chunked', 'chunked;a=b, chunked'].map(coding => post(`Transfer-Encoding: ${coding}`) + '0\r\n\r\n')],
    ],
    'a chunked body is chunks, a last chunk and trailers': [
      ['a chunk size that is not hexadecimal digits only (RFC 9112, 7.1)', ...['+5', '-5', '0x5', '0X5', ' 5', '\t5', '5 ', '5\t', '0_5', 'g', '5h', '', '5.0', '5,', '\xb2', '5\0'].map(size => chunked(`${size}\r\nhello\r\n0\r\n\r\n`)),
        ...['-0', '+0', '0x0', ' 0', '0 '].map(size => chunked(`${size}\r\n\r\n`))],
      ['a chunk size too large to count (RFC 9112, 7.1)', ...['fffffffffffffffff', '10000000000000005', '20000000000001', 'f'.repeat(300)].map(size => chunked(`${size}\r\nhello\r\n0\r\n\r\n`))],
      ['a chunk size not ended by CRLF (RFC 9112, 7.1)', ...['5\nhello\r\n0\r\n\r\n', '5\rhello\r\n0\r\n\r\n', '5\r\r\nhello\r\n0\r\n\r\n', '0\n\r\n', '0\r\r\n', '5hello\r\n0\r\n\r\n'].map(chunked)],
      ['a chunk extension that is not the grammar\'s (RFC 9112, 7.1.1)', ...[';', '; ', ';;a', ';a;', ';=b', ';a=', ';a b', ';a=b c', ';a ', ';a= ', ' a', ';a="b', ';a="b"c', ';a=b"', ';a="\\', ';a=="b"', ';a,b', ';a=\0', ';a="\0"', ';a="\\\0"', ';\x07', ';a\x7f',
        ';\n', ';a\nb', ';a="\n"', ';a\n', ';\r', ';a\rb', ';a="\r"', ';a="\\\r"', ';\xe9', ';a=\xe9'].map(extension => chunked(`5${extension}\r\nhello\r\n0\r\n\r\n`)),
        ...[';', ';a=', ';a b', ';a="b', ';a\0', ';a\n', ';a\r'].map(extension => chunked(`0${extension}\r\n\r\n`))],
      ['chunk data not followed by CRLF (RFC 9112, 7.1)', ...['5\r\nhelloX\r\n', '5\r\nhello\n0\r\n\r\n', '5\r\nhello\r0\r\n\r\n', '5\r\nhello0\r\n\r\n', '5\r\nhello\r\r\n0\r\n\r\n', '4\r\nhello\r\n0\r\n\r\n', '6\r\nhello\r\n0\r\n\r\n', '5\r\nhello\n\n0\r\n\r\n'].map(chunked)],
      ['a trailer that breaks the field grammar (RFC 9112, 7.1.2)', ...['X', ': a', 'X : a', ' X: a', '\tX: a', 'X[: a', 'X: a\0', 'X: a\x7f', 'X: a\nY: b', 'X: a\rb', 'X: a\r\n b', 'X: a\r\n\tb', ' '].map(trailer => chunked(`0\r\n${trailer}\r\n\r\n`)),
        chunked('0\r\n\n'), chunked('0\r\nX: a\r\n\n'), chunked('0\r\nX: a\n\r\n'), chunked('0\r\n\r')],
    ],
  }

  /** A sentence, an outcome, and the messages that have it. */
  type Row = [sentence: string, outcome: string, ...messages: string[]]

  /** A test for each row. */
  function each(rows: Row[], on = (): Server => s, rest = NEXT): void {
    for (const [sentence, outcome, ...messages] of rows) it(sentence, async () => {
      for (const message of messages) await same(on(), message, outcome, rest)
    })
  }

  for (const [promise, rows] of Object.entries(REFUSED))
    describe(`400 for what is ambiguous: ${promise}`, () => each(rows.map(([sentence, ...messages]) => [`refuses ${sentence}`, '400', ...messages])))

  /** What else is not served; where the outcome goes on, the connection does. */
  const OTHER: Row[] = [
    ['answers 505 to a well-written major version other than 1 (RFC 9110, 15.6.6)', '505', ...['2.0', '0.9', '3.0', '9.9', '0.0', '2.1'].map(version => start(`GET /x HTTP/${version}`)), 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'GET /x HTTP/2.0\r\n\r\n'],
    ['answers 501 to a coding before a final chunked (RFC 9112, 6.1)', '501', ...['gzip, chunked', 'gzip,chunked', 'deflate , gzip,\tChunked', 'x;a="b, c" ; d = e, chunked', 'identity, chunked'].map(coding => post(`Transfer-Encoding: ${coding}`) + '0\r\n\r\n')],
    ['answers 501 to a method nobody defines, and goes on (RFC 9110, 15.6.2)', '501, GET /next', ...['BREW', 'get', 'Get', 'M-SEARCH', "!#$%&'*+-.^_`|~09", 'GETX', 'PROPFIND'].map(method => start(`${method} /page HTTP/1.1`))],
    ['answers 405 to another method of RFC 9110 and to PATCH, and goes on (RFC 9110, 15.5.6)', '405, GET /next', ...['POST', 'PUT', 'DELETE', 'TRACE', 'PATCH'].map(method => start(`${method} /page HTTP/1.1`)), start('POST /page HTTP/1.1').replace('\r\n\r\n', '\r\nContent-Length: 5\r\n\r\nhello')],
    ['answers 405 to CONNECT, and closes (RFC 9110, 9.3.6)', '405', ...['a:443', '[::1]:80', '127.0.0.1:1'].map(target => start(`CONNECT ${target} HTTP/1.1`))],
    ['answers 204 to OPTIONS, * included, and goes on (RFC 9110, 9.3.7)', '204, GET /next', start('OPTIONS * HTTP/1.1'), start('OPTIONS /page HTTP/1.1')],
    ['answers 417 to an expectation other than 100-continue (RFC 9110, 10.1.1)', '417', ...['200-ok', '100-continue, x', '100', '100-continue;a=b', 'x100-continue'].map(expectation => post('Content-Length: 5', `Expect: ${expectation}`) + 'hello'), get('Expect: x')],
  ]

  describe('other refusals: what is well written and not for us', () => {
    each(OTHER)

    it('names the methods in Allow (RFC 9110, 10.2.1)', async () => {
      assert.match(await talk(s, [start('DELETE /page HTTP/1.1') + NEXT]), /^HTTP\/1\.1 405 [^]*?\r\nAllow: GET, HEAD\r\n/)
      for (const target of ['*', '/page']) assert.match(await talk(s, [start(`OPTIONS ${target} HTTP/1.1`) + NEXT]), /^HTTP\/1\.1 204 [^]*?\r\nAllow: GET, HEAD\b/)
    })

    // of the narrow server: a head has 120 bytes at most, a target 40, a body 20
    const head = (bytes: number): string => get('X: ').replace('X: ', `X: ${'y'.repeat(bytes - get('X: ').length)}`)
    const target = (bytes: number): string => `/${'y'.repeat(bytes - 1)}`
    each([
      ['takes a target of as many bytes as it has room for (RFC 9112, 3)', `GET ${target(40)}, GET /next`, start(`GET ${target(40)} HTTP/1.1`)],
      ['answers 414 to one with a byte more (RFC 9110, 15.5.15)', '414', start(`GET ${target(41)} HTTP/1.1`), start(`GET ${target(100)} HTTP/1.1`), start(`GET ${target(200)} HTTP/1.1`), `GET /${'y'.repeat(200)}`],
      ['takes a head of as many bytes as it has room for (RFC 9112, 3)', `GET /x ${'y'.repeat(120 - get('X: ').length)}, GET /next`, head(120)],
      ['answers 431 to one with a byte more, or without end (RFC 6585, 5)', '431', head(121), head(122), head(123), head(300), get('X: ').slice(0, -4) + 'y'.repeat(200), get(...Array<string>(40).fill('Y: a'))],
      ['takes a body of as many bytes as it has room for (RFC 9112, 6)', `POST /x ${'y'.repeat(20)}, GET /next`, post('Content-Length: 20') + 'y'.repeat(20), chunked(`8\r\n${'y'.repeat(8)}\r\nc\r\n${'y'.repeat(12)}\r\n0\r\n\r\n`)],
      ['answers 413 to one with a byte more, before it comes (RFC 9110, 15.5.14)', '413', post('Content-Length: 21'), post('Content-Length: 9007199254740991'), post('Content-Length: 21', 'Expect: 100-continue'), chunked('15\r\n'), chunked('1fffffffffffff\r\n'),
        chunked(`8\r\n${'y'.repeat(8)}\r\nd\r\n`)],
      ['answers 431 to chunk extensions and trailers without end (RFC 9112, 7.1.1)', '431', chunked(`1;${'y'.repeat(200)}`), chunked(`1;${'y'.repeat(40)}\r\ny\r\n`.repeat(4)), chunked(`0\r\nX: ${'y'.repeat(200)}`), chunked(`0\r\n${'X: y\r\n'.repeat(40)}`),
        chunked('0'.repeat(200))],
    ], () => narrow)

    it('has room for 8,000 bytes of target, 16 KiB of head and 1 MiB of body, and no byte more (RFC 9112, 3)', async () => {
      const body = (bytes: number): string => post(`Content-Length: ${bytes}`) + 'y'.repeat(bytes)
      for (const message of [start(`GET ${target(8000)} HTTP/1.1`), head(16_384), body(1_048_576)]) assert.match(gist(await talk(s, [message + NEXT])), /y, GET \/next$/)
      for (const [outcome, message] of [['414', start(`GET ${target(8001)} HTTP/1.1`)], ['431', head(16_385)], ['413', body(1_048_577)]] as const) assert.equal(gist(await talk(s, [message + NEXT])), outcome)
    })
  })

  const tchars = "!#$%&'*+-.^_`|~09AZaz"
  const targets = Array.from({ length: 126 }, (_, i) => String.fromCharCode(i + 1)).filter(c => /[!"$-~]/.test(c)).join('')

  const ACCEPTED: Row[] = [
    ['HTTP/1.0, with or without Host, and closes (RFC 9112, 9.3)', 'GET /x', 'GET /x HTTP/1.0\r\n\r\n', start('GET /x HTTP/1.0'), lines('GET /x HTTP/1.0', 'Connection: keep-alive', '')],
    ['a body in HTTP/1.0, and sends no 1xx (RFC 9110, 15.2)', 'POST /x hello', lines('POST /x HTTP/1.0', 'Content-Length: 5', 'Expect: 100-continue', '') + 'hello'],
    ['1.1 and any later 1.x as 1.1 (RFC 9110, 2.5)', 'GET /x, GET /next', ...['1.1', '1.2', '1.9'].map(version => start(`GET /x HTTP/${version}`))],
    ['the absolute-form (RFC 9112, 3.2.2)', 'GET /x?y, GET /next', ...['http://a', 'HTTPS://a:443', 'http://[::1]:80', 'http://a:', 'hTTp://%61.b'].map(origin => lines(`GET ${origin}/x?y HTTP/1.1`, `Host: ${origin.replace(/.*\/\//, '')}`, ''))],
    ['the absolute-form without a path (RFC 9112, 3.2.1)', 'GET /, GET /next', start('GET http://a HTTP/1.1'), start('GET http://a/ HTTP/1.1')],
    ['the absolute-form with a query only (RFC 9112, 3.2.1)', 'GET /?y, GET /next', start('GET http://a?y HTTP/1.1'), start('GET /?y HTTP/1.1')],
    ['every character that a target may have (RFC 9112, 3.2.1)', `GET /${targets}, GET /next`, start(`GET /${targets} HTTP/1.1`)],
    ['any uri-host with optional port (RFC 9110, 7.2)', 'GET /x, GET /next', ...['a', 'a:80', 'a:', 'a.b-c_d~', '127.0.0.1:65535', '[::1]', '[::ffff:1.2.3.4]:80', '[v1.a:b]', '%41', "!$&'()*+;="].map(host => lines('GET /x HTTP/1.1', `Host: ${host}`, ''))],
    ['white space around field values (RFC 9110, 5.5)', 'POST /x a b hello, GET /next', lines('POST /x HTTP/1.1', 'Host:\t a \t', 'X: \t a b\t ', 'Content-Length: \t5\t ', 'Connection: \tx \t', '') + 'hello',
      lines('POST /x HTTP/1.1', 'Host:a', 'X:a b', 'Transfer-Encoding:  chunked \t', 'Content-Type: a/b ', '', '5', 'hello', '0', '')],
    ['empty field values (RFC 9110, 5.5)', 'GET /x, GET /next', get('X:'), get('X: '), get('X:\t'), get('Accept:', 'X:', 'Y:')],
    ['tabs and obs-text in field values (RFC 9110, 5.5)', 'GET /x a\tb\x80\xff\xa0, GET /next', get('X: a\tb\x80\xff\xa0')],
    ['every token as a field name (RFC 9110, 5.1)', 'GET /x, GET /next', get(`${tchars}: a`), get('Content_Length: 5'), get('Transfer_Encoding: chunked'), get('X-Content-Length: 5')],
    ['any case of field names and of chunked (RFC 9110, 5.1)', 'POST /x hello, GET /next', lines('POST /x HTTP/1.1', 'hOST: a', 'CONTENT-LENGTH: 5', '') + 'hello', lines('POST /x HTTP/1.1', 'HOST: a', 'tRANSFER-eNCODING: CHUNKED', '', '5', 'hello', '0', '')],
    ['a method that answer takes, whatever it is (RFC 9110, 9.1)', `${tchars} /x, GET /next`, start(`${tchars} /x HTTP/1.1`)],
    ['chunks (RFC 9112, 7.1)', 'POST /x hello, wide world, GET /next', ...['c\r\nhello, wide \r\n5\r\nworld\r\n0\r\n\r\n', 'C\r\nhello, wide \r\n005\r\nworld\r\n000\r\n\r\n', `${'0'.repeat(20)}11\r\nhello, wide world\r\n0\r\n\r\n`].map(chunked)],
    ['chunk extensions (RFC 9112, 7.1.1)', 'POST /x hello, GET /next', ...[';a', ';a=b', ';a="b"', ';a=""', ';a="b;\\"\\\\\\\t c\xff"', ' ; a = b\t;\tc\t=\t"d"', ';a;b;c=d', `;${tchars}=${tchars}`].map(extension => chunked(`5${extension}\r\nhello\r\n0${extension}\r\n\r\n`))],
    ['trailers, which are no header fields (RFC 9112, 7.1.2)', 'POST /x hello, GET /next', ...['X: a', 'X:', 'X: a\r\nY: b', 'Content-Length: 9', 'Transfer-Encoding: gzip', 'Host: b\r\nHost: c', 'X: \x80'].map(trailer => chunked(`5\r\nhello\r\n0\r\n${trailer}\r\n\r\n`))],
    ['leading zeros in a length (RFC 9110, 8.6)', 'POST /x hello, GET /next', post('Content-Length: 005') + 'hello', post(`Content-Length: ${'0'.repeat(40)}5`) + 'hello'],
    ['an empty line before a request line (RFC 9112, 2.2)', 'GET /a:b y, GET /next', lines('', 'GET /a:b HTTP/1.1', 'Host: a', 'X: y', ''), lines('', 'GET http://a:80/a:b HTTP/1.1', 'Host: a', 'X: y', '')],
    ['an empty line before each of several requests (RFC 9112, 2.2)', 'POST /x hello, GET /x, GET /next', `\r\n${post('Content-Length: 5')}hello\r\n${get()}\r\n`],
    ['Upgrade, and ignores it (RFC 9110, 7.8)', 'GET /x, GET /next', get('Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13'), get('Connection: upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AA'), get('Upgrade: x/1')],
    ['Connection: close among several options in any case (RFC 9112, 9.6)', 'GET /x', ...['close', 'CLOSE', 'keep-alive, Close', 'close,x', ' x ,\tcLoSe\t, y', ',close,'].map(option => get(`Connection: ${option}`)), get('Connection: x', 'Connection: close'), get('Connection: close', 'Connection: keep-alive')],
    ['other options of Connection, and goes on (RFC 9112, 9.3)', 'GET /x, GET /next', ...['keep-alive', 'x, closed', 'disclose', 'not-close', 'close-not', ''].map(option => get(`Connection: ${option}`))],
    ['a POST with no length, with length 0 and with an empty chunked body (RFC 9112, 6.3)', 'POST /x, GET /next', post(), post('Content-Length: 0'), post('Content-Length: 00'), chunked('0\r\n\r\n')],
    ['a GET with a body (RFC 9110, 9.3.1)', 'GET /x hello, GET /next', get('Content-Length: 5') + 'hello', get('Transfer-Encoding: chunked') + '5\r\nhello\r\n0\r\n\r\n'],
    ['a body that looks like a request as a body (RFC 9112, 6)', `PUT /x ${get()}, GET /next`, lines('PUT /x HTTP/1.1', 'Host: a', `Content-Length: ${get().length}`, '') + get(), lines('PUT /x HTTP/1.1', 'Host: a', 'Transfer-Encoding: chunked', '', get().length.toString(16), get(), '0', '')],
    ['a body of any bytes (RFC 9112, 6)', 'POST /x \0\r\n\r\n\x80\xff, GET /next', post('Content-Length: 7') + '\0\r\n\r\n\x80\xff', chunked('7\r\n\0\r\n\r\n\x80\xff\r\n0\r\n\r\n')],
  ]

  describe('what is valid is accepted', () => {
    each(ACCEPTED.map(([sentence, ...row]) => [`takes ${sentence}`, ...row]))

    it('sends 100 once, and only when a body is awaited and not yet there (RFC 9110, 10.1.1)', async () => {
      for (const [fields, body] of [['Content-Length: 5', 'hello'], ['Transfer-Encoding: chunked', '5\r\nhello\r\n0\r\n\r\n']] as const) {
        const head = post(fields, 'eXPECT: \t100-Continue \t'), cuts = Array.from(head + body, (_, i) => i + 1)
        await Promise.all(cuts.map(async cut => {
          const text = head + body + NEXT, said = gist(await talk(s, [text.slice(0, cut), text.slice(cut)]))
          assert.equal(said, cut === head.length ? '100, POST /x hello, GET /next' : 'POST /x hello, GET /next', `cut at ${cut}`)
        }))
        assert.equal(gist(await talk(s, [...head, / 100 Continue\r\n\r\n$/, ...body, NEXT])), '100, POST /x hello, GET /next')
      }
      for (const message of [post('Content-Length: 0', 'Expect: 100-continue'), post('Expect: 100-continue')]) await same(s, message, 'POST /x, GET /next')
      assert.equal(gist(await talk(s, [get() + post('Content-Length: 5', 'Expect: 100-continue'), / 100 Continue\r\n\r\n$/, 'hello' + NEXT])), 'GET /x, 100, POST /x hello, GET /next')
    })
  })

  describe('answers are in order, whole, and for whole requests', () => {
    const dateless = (reply: string): string => reply.replace(/Date: .*\r\n/g, '')

    it('answers HEAD with exactly the head of GET (RFC 9110, 9.3.2)', async () => {
      for (const target of ['/page', '/test.jpg', '/x', 'http://a/page']) {
        const [get, head] = await Promise.all(['GET', 'HEAD'].map(method => talk(s, [lines(`${method} ${target} HTTP/1.1`, 'Host: a', 'Connection: close', '')])))
        assert.equal(dateless(head ?? ''), dateless(get ?? '').replace(/\r\n\r\n[^]*/, '\r\n\r\n'))
      }
    })

    it('goes on after HEAD where its head ends, a body in it or not (RFC 9112, 6.3)', async () => {
      for (const message of [start('HEAD /page HTTP/1.1'), lines('HEAD /page HTTP/1.1', 'Host: a', 'Content-Length: 5', '') + 'hello']) {
        const reply = await talk(s, [message + get() + NEXT])
        assert.equal(gist(reply.slice(reply.indexOf('\r\n\r\n') + 4)), 'GET /x, GET /next')
      }
    })

    it('refuses a HEAD without a body, too (RFC 9110, 9.3.2)', async () => {
      for (const message of [lines('HEAD / HTTP/1.1', ''), lines('HEAD / HTTP/1.1', 'Host: a', 'X', ''), lines('HEAD / HTTP/2.0', ''), lines(`HEAD /${'y'.repeat(9000)} HTTP/1.1`, '')])
        assert.match(await talk(s, [message]), /^HTTP\/1\.1 [45]\d\d [^]*?\r\nConnection: close\r\n\r\n$/)
    })

    it('answers what came in one piece in its order, also when an answer takes its time (RFC 9112, 9.3.2)', async () => {
      const all = ['/x', '/later', '/1', '/test.jpg', '/later', '/page', '/2'], requests = all.map(src => start(`GET ${src} HTTP/1.1`)).join('')
      const outcome = ['GET /x', 'GET /later', 'GET /1', body_of(pic_content), 'GET /later', body_of(text_content), 'GET /2', 'GET /next'].join(', ')
      await same(s, requests, outcome)
    })

    it('answers no request before it is whole (RFC 9112, 6.3)', async () => {
      for (const message of [get(), post('Content-Length: 5') + 'hello', chunked('5\r\nhello\r\n0\r\n\r\n'), chunked('5\r\nhello\r\n0\r\nX: a\r\n\r\n')]) await Promise.all(Array.from(message, async (_, i) => {
        assert.doesNotMatch(await talk(s, [message.slice(0, i), null]), /^HTTP\/1\.1 [123]/)
      }))
      asked.length = 0
      for (const message of [post('Content-Length: 6') + 'hello', chunked('5\r\nhello\r\n0\r\n'), get().slice(0, -1)]) assert.equal(gist(await talk(s, [message, null])), '400')
      assert.deepEqual(asked, [])
    })

    it('answers a client that has closed its half (RFC 9112, 9.5)', async () => {
      assert.match(await talk(s, [get(), null]), /^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\nGET \/x$/)
      assert.equal(gist(await talk(s, [get() + NEXT, null])), 'GET /x, GET /next')
      // an empty line begins no request
      assert.match(await talk(s, [get() + '\r\n', null]), /^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\nGET \/x$/)
    })

    it('reads nothing after a refused request as a request (RFC 9112, 9.6)', async () => {
      asked.length = 0
      for (const message of [get('X'), start('GET /x HTTP/2.0'), post('Content-Length: x'), chunked('x\r\n'), start('CONNECT a:80 HTTP/1.1'), get('Connection: close'), 'hello\r\n'])
        await talk(s, [message + get(), NEXT])
      assert.deepEqual(asked, ['a:80', '/x'])
    })

    it('reaches with its refusal a client that is still sending, and only then closes (RFC 9112, 9.6)', async () => {
      for (const [message, status] of [[get('X'), '400'], [post('Content-Length: 99999999'), '413'], [start('GET /x HTTP/2.0'), '505'], [get('Expect: x'), '417'], [`GET /${'y'.repeat(20_000)}`, '414']] as const) {
        const client = connect((s.address() as AddressInfo).port, '127.0.0.1')
        // reads nothing before all is sent
        await new Promise<void>((resolve, reject) => client.write(message + 'y'.repeat(8 << 20), 'latin1', error => error ? reject(error) : resolve()))
        assert.equal(gist((await client.setEncoding('latin1').toArray()).join('')), status)
      }
    })
  })

  function body_of(content: Content): string {
    return typeof content.body === 'string' ? content.body : Buffer.from(content.body).toString('latin1')
  }

  describe('a head comes out of http well-formed or not at all', () => {
    const wrong: Record<string, (() => Content)[]> = {
      'a status line that is none (RFC 9112, 4)': [() => http``, () => http`hello`, () => http` HTTP/1.1 200 OK`, () => http`HTTP/1.x 200 OK`, () => http`HTTP/1.0 200 OK`, () => http`HTTP/1.1 200`, () => http`HTTP/1.1  200 OK`,
        () => http`HTTP/1.1 20 OK`, () => http`HTTP/1.1 2000 OK`, () => http`HTTP/1.1 099 OK`, () => http`HTTP/1.1 600 OK`, () => http`HTTP/1.1 ${'abc'} OK`, () => http`http/1.1 200 OK`, () => http`HTTP/1.1 200 O\x00K`, () => http`HTTP/1.1 200 O\x7fK`],
      'a field line that is none (RFC 9112, 5)': [...[' X: a', 'X : a', 'X', ': a', 'X[: a', 'X: a\n b', 'X: a\rb', 'X: a\0', 'X: a\x7f', 'X: \u4f60', '\u4f60: a'].map(line => () => http(template(`HTTP/1.1 200 OK\n${line}\n\n`)))],
      'a control character set in (RFC 9110, 5.5)': [...controls, '\r', '\n', '\t', '\u4f60'].flatMap(c => [() => http`HTTP/1.1 200 OK\nX: a${c}b\n\n`, () => http`HTTP/1.1 200 O${c}K\n\n`, () => http`HTTP/1.1 200 OK\n${[['X', `a${c}b`]]}\n\n`]),
      'a CRLF that would add a field or a response (RFC 9112, 11.1)': ['a\r\nY: b', 'a\nY: b', '\r\n\r\nHTTP/1.1 200 OK', 'a\r\n'].flatMap(value => [() => http`HTTP/1.1 200 OK\nX: ${value}\n\n`, () => http`HTTP/1.1 200 OK\n${[['X', value]]}\n\n`, () => http`HTTP/1.1 200 OK\n${[[`X: ${value}`, 'a']]}\n\n`]),
      'a field name in pairs that is no token (RFC 9110, 5.1)': ['', 'X Y', 'X: Y', 'X:', 'X ', ' X', '\u4f60'].map(name => () => http`HTTP/1.1 200 OK\n${[[name, 'a']]}\n\n`),
      'a body where there is none (RFC 9110, 6.4.1)': [204, 205, 304, 100].map(status => () => http`HTTP/1.1 ${status} x\n\nbody`),
      'a value that is neither text nor number nor bytes': [null, undefined, {}, true].flatMap(value => [() => http(template('HTTP/1.1 200 OK\nX: ', '\n\n'), value as never), () => http(template('HTTP/1.1 200 OK\n\n', ''), value as never)]),
    }
    for (const [sentence, thunks] of Object.entries(wrong)) it(`throws a TypeError for ${sentence}`, () => {
      for (const thunk of thunks) assert.throws(thunk, TypeError, String(thunk))
    })

    function template(...strings: string[]): TemplateStringsArray {
      return Object.assign(strings, { raw: strings })
    }

    it('makes line ends CRLF and counts the bytes of the body (RFC 9110, 8.6)', () => {
      assert.deepEqual({ ...http`HTTP/1.1 200 OK\nX: a\r\nY:\n\n\u4f60\n` }, { status: 200, head: 'HTTP/1.1 200 OK\r\nX: a\r\nY:\r\nContent-Length: 4\r\n', body: '\xe4\xbd\xa0\n', close: false })
      assert.equal(http`HTTP/1.1 404 Not Found\n`.head, 'HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n')
      assert.ok(Object.isFrozen(text_content))
    })

    it('puts in values: text, numbers, fields in pairs, bytes (RFC 9112, 2.1)', () => {
      const fields = new Headers([['b', '2'], ['set-cookie', 'c=\xe9'], ['set-cookie', 'd']])
      const content = http`HTTP/1.1 ${201} ${'Created'}\nA: ${1}\n${fields}\n${[]}\n\n${'<'}${2}${Buffer.from([0, 255])}>`
      assert.equal(content.head, 'HTTP/1.1 201 Created\r\nA: 1\r\nb: 2\r\nset-cookie: c=\xe9\r\nset-cookie: d\r\nContent-Length: 5\r\n')
      assert.equal(content.body, '<2\0\xff>')
    })

    it('frames by itself, whatever is written for it (RFC 9112, 6.3)', () => {
      const content = http`HTTP/1.1 200 OK\nContent-Length: 9\ntransfer-encoding: chunked\nDATE: x\nConnection: keep-alive\nX: a\n\nhello`
      assert.deepEqual([content.head, content.close], ['HTTP/1.1 200 OK\r\nX: a\r\nContent-Length: 5\r\n', false])
      for (const option of ['close', 'x, CLOSE']) assert.equal(http`HTTP/1.1 200 OK\nConnection: ${option}\n\n`.close, true)
      for (const status of [204, 304]) assert.equal(http`HTTP/1.1 ${status} x\nContent-Length: 5`.head, `HTTP/1.1 ${status} x\r\n`)
    })

    it('sends what http made: any bytes, small or large, and Connection: close (RFC 9112, 6)', async () => {
      const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, i) => i % 256))
      const server = await started({ answer: ({ src }) => http`HTTP/1.1 200 OK\nConnection: ${src === '/close' ? 'close' : 'x'}\n\n${bytes.subarray(0, Number(src.slice(1)) || 0)}` })
      const sizes = [0, 1, 256, 8192, 8193, 65_536, 65_537, 300_000], requests = sizes.map(size => start(`GET /${size} HTTP/1.1`)).join('')
      assert.equal(gist(await talk(server, [requests + start('GET /close HTTP/1.1') + NEXT])), [...sizes.map(size => bytes.subarray(0, size).toString('latin1')), ''].join(', '))
    })
  })

  describe('what is text stays text (the article, section 2)', () => {
    each([
      ['answers Yes to the article\'s message, with or without a line end', 'Yes', 'can you hear me?', 'can you hear me?\n', 'can you hear me?\r\n', 'can you hear me?\r\nreally?\r\n'],
      ['answers Yes to a first line that neither begins like a request line nor names HTTP', 'Yes', 'hello\r\n', 'hello world\r\n', 'Hello World\r\n', 'HELLO\r\n', 'HELLO\n', 'get /x\r\n', '\r\nhello\r\n', 'GETTING?\r\n', '\x16\x03\x01\0\xa5\x01\n',
        '\xe4\xbd\xa0\xe5\xa5\xbd\n', 'http/1.1\r\n', '{}', '?', 'HTTP\r\n'],
    ], () => s, '')

    it('answers Yes to capitals alone when no more will come', async () => {
      for (const message of ['HELLO', 'H', 'GET']) assert.equal(await talk(s, [message, null]), 'Yes')
    })

    it('takes a request cut after its first byte, whatever the time between, for a request (RFC 9112, 3)', async () => {
      // longer than the server waits for the rest of a text
      const outcomes = await Promise.all([get(), '\r\n' + get()].flatMap(message => [1, 2, 3, 4, 5].map(async cut => gist(await talk(s, [message.slice(0, cut), 300, message.slice(cut) + NEXT])))))
      assert.deepEqual(outcomes, Array(10).fill('GET /x, GET /next'))
    })
  })
})

describe('hard to knock over', () => {
  const GET = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
  const GET_PICTURE = 'GET /test.jpg HTTP/1.1\r\nHost: a\r\n\r\n'
  const GET_AND_CLOSE = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'
  const POST = 'POST / HTTP/1.1\r\nHost: a\r\n'
  const here = fileURLToPath(new URL('.', import.meta.url))

  /** A client that keeps its side open until it is told otherwise, and remembers what came. */
  class Peer {
    readonly socket: Socket
    /** what has come, a character for each byte */
    text = ''
    /** everything that came, when the server has closed its side, or the connection is gone */
    readonly all: Promise<string>

    constructor(port: number, text = '') {
      this.socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
      this.socket.on('data', (data: Buffer) => { this.text += data.toString('latin1') })
      this.socket.on('error', () => {})
      this.all = new Promise(resolve => {
        for (const event of ['end', 'close']) this.socket.on(event, () => resolve(this.text))
      })
      if (text) this.write(text)
    }

    write(text: string): this {
      this.socket.write(text, 'latin1')
      return this
    }

    /** Ends this side too once the server has ended its own. */
    async closed(): Promise<string> {
      const text = await this.all
      this.socket.destroy()
      return text
    }
  }

  async function ask(port: number, text = GET_AND_CLOSE): Promise<string> {
    return new Peer(port, text).closed()
  }

  /** A server in this process, with limits that no test waits for but the one it is about. */
  async function up(t: TestContext, options: Options = {}): Promise<{ port: number, server: Server, nobody: () => Promise<void> }> {
    const server = serve({ port: 0, host: '127.0.0.1', ...options })
    const sockets = new Set<Socket>()
    server.on('connection', (socket: Socket) => sockets.add(socket.on('close', () => sockets.delete(socket))))
    t.after(() => {
      server.close()
      for (const socket of sockets) socket.destroy()
    })
    if (!server.listening) await new Promise(resolve => server.once('listening', resolve))
    const { port } = server.address() as AddressInfo
    return { port, server, nobody: () => until('all connections gone', () => sockets.size === 0) }
  }

  /** Set into a server run as a program: tells, when asked, what memory and connections it holds and how many timers it made. */
  const inside = 'data:text/javascript,' + encodeURIComponent(`
  let timers = 0
  const { setTimeout: real, gc } = globalThis
  globalThis.setTimeout = (...given) => (timers++, real(...given))
  process.on('message', () => {
    for (let i = 0; i < 4; i++) gc()
    const { rss, heapUsed, external } = process.memoryUsage()
    process.send({ rss, held: heapUsed + external, timers, connections: process.getActiveResourcesInfo().filter(name => name === 'TCPSocketWrap').length })
  })
  process.channel.unref()`)
  type Inside = { rss: number, held: number, timers: number, connections: number }

  type Program = { port: number, out: () => string, err: () => string, kill: (signal: NodeJS.Signals) => void, exit: Promise<number | string>, look: () => Promise<Inside> }

  /** The server as a program of its own; `source` stands in for server.ts, and prints the address too. */
  async function run(t: TestContext, { port = 0, source = '', shell = '', quiet = true } = {}): Promise<Program> {
    const script = source ? ['--input-type=module', '--eval', source] : ['server.ts', String(port), '--host', '127.0.0.1', ...quiet ? ['--quiet'] : []]
    const args = ['--expose-gc', '--import', inside, '--import', 'tsx', ...script]
    const [command, ...rest] = shell ? ['sh', '-c', `${shell}; exec "$0" "$@"`, process.execPath, ...args] : [process.execPath, ...args]
    const child = spawn(command, rest, { cwd: here, stdio: ['ignore', 'pipe', 'pipe', 'ipc'], env: { ...process.env, NO_COLOR: '1', NODE_OPTIONS: '' } })
    t.after(() => child.kill('SIGKILL'))
    let out = '', err = ''
    child.stdout?.setEncoding('utf8').on('data', (text: string) => { out += text })
    child.stderr?.setEncoding('utf8').on('data', (text: string) => { err += text })
    const exit = new Promise<number | string>(resolve => child.on('close', (code, signal) => resolve(signal ?? code ?? '')))
    let listens = 0
    for (const end = Date.now() + 30_000; !listens; await pause(10)) {
      assert.ok(child.exitCode === null && Date.now() < end, `the server did not start: ${out} ${err}`)
      listens = Number(/:(\d+)\/\n/.exec(out)?.[1] ?? 0)
    }
    const look = (): Promise<Inside> => new Promise((resolve, reject) => {
      child.once('message', message => resolve(message as Inside))
      child.send('look', error => error && reject(error))
      exit.then(how => reject(new Error(`the server is gone (${how}): ${err}`)))
    })
    return { port: listens, out: () => out, err: () => err, kill: signal => child.kill(signal), exit, look }
  }

  const status = (text: string): string => text === '' ? '' : text.slice(0, 12)
  const count = (text: string, part: string): number => text.split(part).length - 1

  describe('Slow: nobody has all the time in the world', { concurrency: true }, () => {
    const LATE = 'HTTP/1.1 408'
    // name, the one limit that is short, what is said at once, what is then said every 50 ms, the answer
    const slow: [name: string, limit: keyof typeof LIMITS, said: string, drip: string, answer: string][] = [
      ['a connection that says nothing is just closed', 'silent_ms', '', '', ''],
      ['a head that stops is late', 'head_ms', 'GET / HTTP/1.1\r\nHost: a\r\n', '', LATE],
      ['half a method is late', 'head_ms', 'GE', '', LATE],
      ['an empty line and no more is late', 'head_ms', '\r\n', '', LATE],
      ['a request line that drips is late', 'head_ms', 'GET /', 'x', LATE],
      ['a field that drips is late', 'head_ms', 'GET / HTTP/1.1\r\nHost: a\r\nX: ', 'x', LATE],
      ['fields that drip line by line are late', 'head_ms', 'GET / HTTP/1.1\r\nHost: a\r\n', 'X: y\r\n', LATE],
      ['a second head that drips is late', 'head_ms', `${GET}GET / HTTP/1.1\r\n`, 'x', LATE],
      ['a body that stops is late', 'body_ms', `${POST}Content-Length: 9999\r\n\r\nx`, '', LATE],
      ['a body that drips is late', 'body_ms', `${POST}Content-Length: 9999\r\n\r\n`, 'x', LATE],
      ['a chunk that drips is late', 'body_ms', `${POST}Transfer-Encoding: chunked\r\n\r\nfff\r\n`, 'x', LATE],
      ['chunks that drip are late', 'body_ms', `${POST}Transfer-Encoding: chunked\r\n\r\n`, '1\r\nx\r\n', LATE],
      ['trailers that drip are late', 'body_ms', `${POST}Transfer-Encoding: chunked\r\n\r\n0\r\n`, 'X: y\r\n', LATE],
      ['an awaited body that does not come is late', 'body_ms', `${POST}Content-Length: 9\r\nExpect: 100-continue\r\n\r\n`, '', LATE],
      ['a connection kept alive and idle is closed without a word', 'idle_ms', GET, '', ''],
      ['text that drips without an end is text in the end', 'head_ms', 'can you', ' hear', 'Yes'],
    ]
    for (const [name, limit, said, drip, answer] of slow) it(`${name} (${limit})`, async t => {
      const { port, nobody } = await up(t, { limits: { [limit]: 300, linger_ms: 100 } })
      const peer = new Peer(port, said), dripping = setInterval(() => drip && peer.write(drip), 50)
      t.after(() => clearInterval(dripping))
      await until('the end', () => Promise.race([peer.all.then(() => true), pause(10, false)]))
      const before = said.startsWith(GET) ? peer.text.indexOf('</html>\n') + 8 : said.includes('Expect') ? 25 : 0
      assert.equal(status(peer.text.slice(before)), answer)
      if (answer === LATE) assert.match(peer.text, /\r\nConnection: close\r\n/)
      // the client's side is still open
      await nobody()
    })

    it('who is slow within the limits is served', async t => {
      const { port } = await up(t, { answer: request => http`HTTP/1.1 200 OK\n\n${request.body}` })
      const peer = new Peer(port)
      for (const piece of `${POST}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n`.match(/[^]{1,8}/g) ?? []) {
        peer.write(piece)
        await pause(20)
      }
      assert.match(await peer.closed(), /^HTTP\/1\.1 200 [^]*\r\n\r\nhi$/)
    })

    it('has the limits that the README names, if it is given no others', () => {
      const { silent_ms, head_ms, body_ms, idle_ms, write_ms } = LIMITS
      assert.deepEqual({ silent_ms, head_ms, body_ms, idle_ms, write_ms }, { silent_ms: 10_000, head_ms: 10_000, body_ms: 30_000, idle_ms: 5_000, write_ms: 30_000 })
    })

    it('makes no timer for a request that arrives whole', async t => {
      const { port, look } = await run(t)
      await ask(port)
      const { timers } = await look()
      await ask(port, GET.repeat(50) + `${POST}Content-Length: 2\r\n\r\nhi` + GET_PICTURE + GET_AND_CLOSE)
      assert.equal((await look()).timers, timers)
      // and the count counts
      await ask(port, 'can you hear me?')
      assert.equal((await look()).timers, timers + 1)
    })
  })

  describe('Deaf: who does not read is not read from', { concurrency: true }, () => {
    it('holds next to nothing for a thousand pictures that nobody takes, and does not read on', async t => {
      const { port, look } = await run(t)
      await ask(port, GET_PICTURE.repeat(1000) + GET_AND_CLOSE)
      const before = await look()
      const deaf = Array.from({ length: 4 }, () => new Peer(port))
      for (const { socket } of deaf) {
        socket.pause()
        socket.write(GET_PICTURE.repeat(1000))
        socket.write(Buffer.alloc(32 * 2 ** 20, GET))
      }
      await pause(1000)
      const after = await look()
      for (const { socket } of deaf) {
        assert.ok(socket.writableLength > 0, 'everything was read')
        socket.destroy()
      }
      assert.ok(after.held - before.held < 2 * 2 ** 20, `holds ${after.held - before.held} bytes more`)
      assert.ok(after.rss - before.rss < 32 * 2 ** 20, `the process has grown by ${after.rss - before.rss} bytes`)
      assert.match(await ask(port), /^HTTP\/1\.1 200 /)
    })

    const deaf: [name: string, text: string, then: string][] = [
      ['pictures', GET_PICTURE.repeat(500), ''],
      ['pictures, and goes on asking', GET_PICTURE.repeat(500), GET],
      ['pages', GET.repeat(100_000), ''],
      ['pictures, the last one its last', GET_PICTURE.repeat(500) + GET_AND_CLOSE, ''],
    ]
    for (const [name, text, then] of deaf) it(`ends a write without progress: ${name} (write_ms)`, async t => {
      const { port, nobody } = await up(t, { limits: { write_ms: 300, linger_ms: 100 } })
      const { socket } = new Peer(port)
      socket.pause()
      socket.write(text)
      await pause(200)
      socket.write(then)
      await nobody()
      socket.destroy()
    })

    it('waits for a client that reads slowly, as long as it reads', async t => {
      const big = Buffer.alloc(2 ** 24, 'x')
      const { port } = await up(t, { answer: () => http`HTTP/1.1 200 OK\nConnection: close\n\n${big}`, limits: { write_ms: 1000 } })
      const { socket } = new Peer(port, GET)
      socket.removeAllListeners('data').pause()
      let length = 0, ended = false
      socket.on('end', () => { ended = true })
      for (const start = Date.now(); !ended; await pause(10)) {
        length += (socket.read() as Buffer | null)?.length ?? 0
        assert.ok(Date.now() - start < 20_000 && !socket.destroyed)
      }
      assert.ok(length > big.length)
      socket.destroy()
    })
  })

  describe('Rude: nothing that comes over the wire ends it', { concurrency: true }, () => {
    const unfinished = ['', 'G', 'can you', 'GET / HTTP/1.1\r\nHost', `${POST}Content-Length: 9\r\n\r\nabc`, `${POST}Transfer-Encoding: chunked\r\n\r\n5\r\nab`,
      `${POST}Content-Length: 9\r\nExpect: 100-continue\r\n\r\n`, GET, GET.repeat(500), GET_PICTURE, GET_PICTURE.repeat(100), GET_AND_CLOSE, 'GET\r\n\r\n' + 'x'.repeat(100_000)]

    it('survives resets in the middle of anything, and forgets the connection', async t => {
      const { port, nobody } = await up(t)
      for (const wait of [0, 1, 30]) await Promise.all(unfinished.map(async text => {
        const peer = new Peer(port, text)
        await new Promise(resolve => peer.socket.once('connect', resolve))
        await pause(wait)
        peer.socket.resetAndDestroy()
      }))
      await nobody()
      assert.match(await ask(port), /^HTTP\/1\.1 200 /)
    })

    const slow_answer: Answer = async request => {
      await pause(50)
      return request.src === '/slow' ? http`HTTP/1.1 200 OK\n\nslow` : undefined
    }
    // what a client sends before it closes its side, and what it gets all the same
    const half_closed: [text: string, answers: RegExp][] = [
      [GET, /^HTTP\/1\.1 200 [^]*<\/html>\n$/],
      [GET.repeat(3), /^(?:HTTP\/1\.1 200 [^]*?<\/html>\n){3}$/],
      [GET_PICTURE, /^HTTP\/1\.1 200 [^]*\xff\xd9$/],
      ['GET /slow HTTP/1.1\r\nHost: a\r\n\r\n', /^HTTP\/1\.1 200 [^]*slow$/],
      [`${POST}Content-Length: 2\r\n\r\nhi`, /^HTTP\/1\.1 405 /],
      ['can you hear me?', /^Yes$/],
      ['GET / HTTP/1.1\r\nHost: a\r\n', /^HTTP\/1\.1 400 [^]*\r\nConnection: close\r\n/],
      [`${POST}Content-Length: 3\r\n\r\nhi`, /^HTTP\/1\.1 400 [^]*\r\nConnection: close\r\n/],
      ['', /^$/],
    ]
    for (const [text, answers] of half_closed) it(`answers a client that has closed its side after ${JSON.stringify(text.slice(0, 60))}`, async t => {
      const { port, nobody } = await up(t, { answer: slow_answer })
      const peer = new Peer(port, text)
      peer.socket.end()
      assert.match(await peer.all, answers)
      await nobody()
    })

    // sent piece by piece while the answer before is worked on, so that several wait in the server's buffers
    const piecemeal: string[][] = [
      ['GET /2 HTTP/1.1\r\nHost: a\r\n\r\n', 'GET /3 HTTP/1.1\r\nHost: a\r\n\r\n', 'POST /4 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n', 'abc', 'def', 'ghi'],
      ['GET /2 HT', 'TP/1.1\r\nHo', 'st: a\r\nA: b\r', '\n\r\nGET /3', ' HTTP/1.1\r\nHost: a\r\n\r', '\nPOST /4 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r', '\n\r\nabcdef', 'gh', 'i'],
      ['GET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\nPOST /4 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3', '\r\nabc', '\r\n3\r\ndef\r\n3;', 'a=b\r\n', 'ghi\r\n0\r', '\n\r', '\n'],
    ]
    for (const [i, pieces] of piecemeal.entries()) it(`loses and swaps no byte that comes while an answer is worked on (${i + 1})`, async t => {
      let go = (): void => {}
      const working = new Promise<void>(resolve => { go = resolve })
      const answer: Answer = async request => {
        if (request.src === '/1') await working
        return http`HTTP/1.1 200 OK\nX-Got: ${request.src}${request.body.length ? ' ' + Buffer.from(request.body).toString() : ''}\n\n`
      }
      const { port } = await up(t, { answer })
      const peer = new Peer(port)
      for (const piece of ['GET /1 HTTP/1.1\r\nHost: a\r\n\r\n', ...pieces]) {
        peer.write(piece)
        await pause(10)
      }
      go()
      peer.socket.end()
      assert.deepEqual((await peer.all).match(/X-Got: .*(?=\r)|HTTP\/1\.1 [45]\d\d/g), ['X-Got: /1', 'X-Got: /2', 'X-Got: /3', 'X-Got: /4 abcdefghi'])
    })

    it('tells a TLS client no more than that this is no TLS', async t => {
      const { port, nobody } = await up(t)
      const error = await new Promise<NodeJS.ErrnoException>(resolve => connect_tls({ port, host: '127.0.0.1' }).on('error', resolve))
      assert.match(String(error.code), /^ERR_SSL_|^ECONNRESET$/)
      await nobody()
      assert.match(await ask(port), /^HTTP\/1\.1 200 /)
    })

    it('answers 10,000 requests in one packet, in their order', async t => {
      const { port } = await up(t, { answer: async request => Number(request.src.slice(1)) % 7 ? http`HTTP/1.1 200 OK\nX-Src: ${request.src}\n\n` : slow_answer(request) && http`HTTP/1.1 200 OK\nX-Src: ${request.src}\n\n` })
      const requests = Array.from({ length: 10_000 }, (_, i) => `GET /${i} HTTP/1.1\r\nHost: a\r\n${i === 9999 ? 'Connection: close\r\n' : ''}\r\n`)
      const answers = (await ask(port, requests.join(''))).match(/X-Src: \/\d+/g)
      assert.deepEqual(answers, requests.map((_, i) => `X-Src: /${i}`))
    })

    it('cuts off who goes on sending or keeps its side open after the last answer (linger_ms)', async t => {
      const { port, nobody } = await up(t, { limits: { linger_ms: 300 } })
      for (const text of [GET_AND_CLOSE, 'can you hear me?\n', 'nonsense HTTP/1.1\r\n', `${POST}Content-Length: 99999999\r\n\r\n`]) {
        const peer = new Peer(port, text)
        assert.match(await peer.all, /^(?:HTTP\/1\.1 |Yes)/)
        const sending = setInterval(() => peer.write('x'), 20)
        t.after(() => clearInterval(sending))
      }
      await nobody()
    })
  })

  /** Numbers that look random and are the same for the same seed (xorshift32). */
  function random_of(seed: number): (below: number) => number {
    let state = seed || 1
    return below => {
      state ^= state << 13
      state ^= state >>> 17
      state ^= state << 5
      return (state >>> 0) % below
    }
  }

  describe('Fuzz', () => {
    const COUNT = Number(process.env['WOW_FUZZ'] ?? 500), SEED = Number(process.env['WOW_SEED'] ?? Date.now() % 2 ** 31)
    const corpus = [GET, GET_PICTURE, GET_AND_CLOSE, 'can you hear me?', 'HEAD /test.jpg HTTP/1.0\r\n\r\n', 'OPTIONS * HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n',
      'CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n', 'GET http://a/b?c HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade, keep-alive\r\n\r\n',
      `${POST}Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhello`, `${POST}Content-Type: a/b\r\nContent-Length: 0\r\n\r\n${GET}`,
      `${POST}Transfer-Encoding: chunked\r\n\r\n5;a="b\\"c"\r\nhello\r\n00\r\nX: y\r\n\r\n`, `${POST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: a\r\nCookie: ${'x'.repeat(3000)}\r\n\r\n`, '\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03', '\x1b[2J\x9b31m\\x1b\r\nConnected by\r\n']
    const spice = ['\r\n', '\r', '\n', '\0', ' ', '\t', ':', ',', ';', '\\', '"', '\xff', '\x1b', '-1', '0x', '9'.repeat(20), 'HTTP/1.1', 'chunked', 'close', 'Content-Length: 7\r\n', 'Host: b\r\n', '\r\n\r\n']

    function mutated(random: (below: number) => number): string {
      const one_of = (list: string[]): string => list[random(list.length)] ?? ''
      let text = one_of(corpus)
      for (let times = random(5); times > 0; times--) {
        const at = random(text.length + 1), to = Math.min(text.length, at + random(12)), span = text.slice(at, to)
        const put = [one_of(spice), '', span + span, String.fromCharCode(random(256)), one_of(corpus), span.repeat(random(500))][random(6)] ?? ''
        text = text.slice(0, at) + put + text.slice(to)
      }
      return random(8) ? text : text.slice(0, random(text.length + 1))
    }

    /** Sends an input in up to three pieces, then closes or resets; what comes back is an answer or nothing. */
    async function fuzz(port: number, random: (below: number) => number): Promise<void> {
      const text = mutated(random), cuts = [random(text.length + 1), random(text.length + 1)].sort((a, b) => a - b), manner = random(8)
      const peer = new Peer(port)
      if (manner < 2) for (const [i, from] of [0, ...cuts].entries()) {
        peer.write(text.slice(from, cuts[i] ?? text.length))
        await new Promise(setImmediate)
      }
      else peer.write(text)
      if (manner === 2) peer.socket.resetAndDestroy()
      else peer.socket.end()
      const reply = await peer.closed()
      assert.match(reply, /^(?:HTTP\/1\.1 [1-5]\d\d |Yes$|$)/, `the answer to ${JSON.stringify(text)}`)
    }

    it(`${COUNT} mutated inputs leave it up, quiet and as small as it was (WOW_SEED=${SEED})`, async t => {
      const { port, out, err, look } = await run(t, { quiet: false })
      const random = random_of(SEED)
      const rounds = async (times: number): Promise<void> => {
        for (let i = 0; i < times; i += 32) await Promise.all(Array.from({ length: 32 }, () => fuzz(port, random)))
      }
      await rounds(COUNT / 5)
      const before = await look()
      await rounds(COUNT * 4 / 5)
      assert.match(await ask(port), /^HTTP\/1\.1 200 /)
      assert.ok((await ask(port, GET_PICTURE + GET_AND_CLOSE)).includes(Buffer.from(pic_content.body).toString('latin1')))
      await until('no connection left', async () => (await look()).connections === 0)
      const after = await look()
      assert.ok(after.held - before.held < 2 ** 20, `holds ${after.held - before.held} bytes more`)
      assert.equal(err(), '')
      assert.doesNotMatch(out(), /[\0-\x09\x0b-\x1f\x7f-\x9f]/)
    })
  })

  describe('Many', { concurrency: true }, () => {
    it('answers honest requests in well under a second beside 1,000 connections that drip', async t => {
      const { port, look } = await run(t)
      const drippers = Array.from({ length: 1000 }, (_, i) => new Peer(port, i % 2 ? 'GET /' : `${POST}Content-Length: 999\r\n\r\n`))
      const dripping = setInterval(() => { for (const peer of drippers) peer.write('x') }, 100)
      t.after(() => {
        clearInterval(dripping)
        for (const { socket } of drippers) socket.destroy()
      })
      await until('1,000 connections', async () => (await look()).connections === 1000)
      for (let i = 0; i < 20; i++) {
        const start = Date.now()
        assert.match(await ask(port), /^HTTP\/1\.1 200 /)
        assert.ok(Date.now() - start < 900)
      }
      await until('only those', async () => (await look()).connections === 1000)
    })

    it('goes on accepting when file descriptors are free again, and who is connected notices nothing', { skip: process.platform === 'win32' && 'Windows has no ulimit' }, async t => {
      const { port, err } = await run(t, { shell: 'ulimit -n 64' })
      const honest = new Peer(port)
      let answers = 0
      const served = async (): Promise<void> => {
        honest.write(GET)
        answers++
        await until('an answer', () => count(honest.text, '</html>\n') === answers)
      }
      await served()
      for (let round = 0; round < 3; round++) {
        const crowd = Array.from({ length: 200 }, () => new Peer(port, 'GET'))
        await until('more clients than file descriptors', () => crowd.filter(({ socket }) => socket.readableEnded || socket.destroyed).length > 136)
        for (let i = 0; i < 20; i++) await served()
        for (const { socket } of crowd) socket.destroy()
        await until('an answer to a new connection', async () => (await ask(port)).startsWith('HTTP/1.1 200 '))
      }
      assert.equal(err(), '')
    })
  })

  describe('The terminal is safe', { concurrency: true }, () => {
    const nasty = 'a\x1b[2J\x1b]0;title\x07 \x9b31m \x00\x08\x7f\x85 \\x1b \tb\rc\nConnected by [ \'6.6.6.6\', 6 ]\n\nRequest is: forged'

    it('the server prints no control character as it came, and no line that was not its own', async t => {
      const { port, out } = await run(t, { quiet: false })
      for (const text of [nasty, `GET / HTTP/1.1\r\nHost: a\r\nX: \x9b\x85\\\r\n\r\n${GET_AND_CLOSE}`, `GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nConnected-by: forged\r\n\r\n`]) await ask(port, text)
      await until('the lines', () => count(out(), '\nConnected by ') === 4)
      const lines = out().trimEnd().split('\n')
      const own = lines.filter(line => !line.startsWith('  '))
      assert.deepEqual(own.map(line => line.replace(/\d{4,}.*/, '')), ['Open http://127.0.0.1:', ...[
        "Request is: a\\x1b[2J\\x1b]0;title\\x07 \\x9b31m \\x00\\x08\\x7f\\x85 \\x5cx1b \\x09b\\x0dc", 'Request is: GET / HTTP/1.1', 'Request is: GET / HTTP/1.1', 'Request is: GET / HTTP/1.1',
      ].flatMap(line => ["Connected by [ '127.0.0.1', ", line])])
      assert.ok(lines.includes("  Connected by [ '6.6.6.6', 6 ]") && lines.includes('  Request is: forged') && lines.includes('  X: \\x9b\\x85\\x5c'))
      assert.doesNotMatch(out(), /[^\n\x20-\x7e]/)
    })

    for (const [kind, head] of [['text', ''], ['HTTP', 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX: \x1b[2J\x85\\\r\n\r\n']] as const) it(`the client prints no control character as it came (${kind})`, async t => {
      const server = createServer(socket => socket.on('error', () => {}).end(head + nasty)).listen(0, '127.0.0.1')
      t.after(() => server.close())
      await new Promise(resolve => server.once('listening', resolve))
      const child = spawn(process.execPath, ['--import', 'tsx', 'client.ts', `127.0.0.1:${(server.address() as AddressInfo).port}`], { cwd: here, stdio: ['ignore', 'pipe', 'pipe'] })
      let out = ''
      for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => { out += text })
      await new Promise(resolve => child.on('close', resolve))
      assert.ok(out.startsWith('reply is: '), out)
      if (head) assert.ok(out.includes('\\x1b[2J\\x85\\x5c'), out)
      assert.doesNotMatch(out, /[^\n\x20-\x7e]/)
    })
  })

  /** A program with an `answer` that fails in the way that the path names. */
  const failing = `
import { serve, http } from './server.ts'
import { inspect } from 'node:util'
const { proxy, revoke } = Proxy.revocable({}, {})
revoke()
const unshowable = { [inspect.custom]() { throw new Error('not to be shown') } }
const trapped = Object.defineProperty(new Error('x'), 'stack', { get() { throw new Error('no stack') } })
const thrown = { error: new Error('plain'), lines: new Error('one\\ntwo\\x1b[2J\\rthree'), nothing: undefined, null: null, number: 0, symbol: Symbol('s'), bare: Object.create(null), proxy, unshowable, trapped }
const given = { text: 'text', empty: '', zero: 0, null: null, object: {}, status: { status: 200 }, interim: http\`HTTP/1.1 100 Continue\`, function: () => {}, fetch: new Response('x'), bare: Object.create(null), symbol: Symbol('s'), proxy, unshowable }
const how = {
  throws: name => { throw thrown[name] },
  rejects: name => Promise.reject(thrown[name]),
  'rejects-later': async name => { await new Promise(setImmediate); throw thrown[name] },
  'thenable-throws': name => ({ then() { throw thrown[name] } }),
  returns: name => given[name],
  resolves: async name => given[name],
}
const s = serve({ port: 0, host: '127.0.0.1', answer: async_or_not })
function async_or_not({ src }) {
  const [, way, name] = src.split('/')
  if (way === 'slow') return new Promise(resolve => setTimeout(resolve, 100, http\`HTTP/1.1 200 OK\\n\\n\${'x'.repeat(1e6)}\`))
  return how[way]?.(name)
}
s.on('listening', () => {
  console.log('http://127.0.0.1:' + s.address().port + '/')
})`

  describe('An answer that fails', { concurrency: true }, () => {
    const thrown = ['error', 'lines', 'nothing', 'null', 'number', 'symbol', 'bare', 'proxy', 'unshowable', 'trapped']
    const given = ['text', 'empty', 'zero', 'null', 'object', 'status', 'interim', 'function', 'fetch', 'bare', 'symbol', 'proxy', 'unshowable']
    const paths = [...['throws', 'rejects', 'rejects-later', 'thenable-throws'].flatMap(way => thrown.map(name => `/${way}/${name}`)), ...['returns', 'resolves'].flatMap(way => given.map(name => `/${way}/${name}`))]

    it('is a 500 for that request and one line on stderr, and the connection goes on', async t => {
      const { port, err } = await run(t, { source: failing })
      const replies = await Promise.all(paths.map(path => ask(port, `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n${GET_AND_CLOSE}`)))
      assert.deepEqual(replies.map((reply, i) => [paths[i], reply.match(/HTTP\/1\.1 \d+/g)?.join()]), paths.map(path => [path, 'HTTP/1.1 500,HTTP/1.1 200']))
      await until('the lines', () => count(err(), '\n') >= paths.length)
      assert.deepEqual(err().trimEnd().split('\n').map(line => /^GET (\S+) failed: ./.exec(line)?.[1]).sort(), paths.toSorted())
      assert.doesNotMatch(err(), /[^\n\x20-\x7e]/)
    })

    it('the client that goes away while answer works is no error', async t => {
      const { port, err, look } = await run(t, { source: failing })
      for (const way of ['reset', 'gone']) for (let i = 0; i < 10; i++) {
        const peer = new Peer(port, 'GET /slow/well HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(2))
        await pause(20)
        if (way === 'reset') peer.socket.resetAndDestroy()
        else peer.socket.destroy()
      }
      await until('no connection left', async () => (await look()).connections === 0)
      assert.ok((await ask(port, `GET /slow/well HTTP/1.1\r\nHost: a\r\n\r\n${GET_AND_CLOSE}`)).includes('x'.repeat(1e6) + 'HTTP/1.1 200 '))
      assert.equal(err(), '')
    })
  })

  describe('Stopping', { concurrency: true }, () => {
    type Stoppable = { port: number, stop: () => void, done: Promise<unknown> }
    const ways: ('SIGINT' | 'SIGTERM' | 'signal')[] = ['SIGINT', 'SIGTERM', 'signal']

    async function stoppable(t: TestContext, way: typeof ways[number]): Promise<Stoppable> {
      if (way !== 'signal') {
        const { port, kill, exit } = await run(t)
        return { port, stop: () => kill(way), done: exit }
      }
      const stop = new AbortController(), { port, server } = await up(t, { signal: stop.signal })
      return { port, stop: () => stop.abort(), done: new Promise(resolve => server.on('close', () => resolve(0))) }
    }

    const refused = (port: number): Promise<boolean> => new Promise(resolve => {
      const socket = connect({ port, host: '127.0.0.1' }, () => resolve(!socket.destroy()))
      socket.on('error', () => resolve(true))
    })

    for (const way of ways) it(`${way}: takes no more, answers what is in hand, closes what is idle`, async t => {
      const { port, stop, done } = await stoppable(t, way)
      const [idle, silent, head, body] = [new Peer(port, GET), new Peer(port), new Peer(port, GET.slice(0, -2)), new Peer(port, `${GET}${POST}Content-Length: 2\r\n\r\nh`)] as const
      await until('two answers', () => [idle, body].every(peer => peer.text.endsWith('</html>\n')))
      await pause(600)
      const start = Date.now()
      stop()
      assert.equal(count(await idle.closed(), 'HTTP/1.1 '), 1)
      assert.equal(await silent.closed(), '')
      assert.ok(Date.now() - start < 1000, 'idle connections are closed at once')
      assert.ok(await refused(port))
      head.write('\r\n')
      body.write('i')
      assert.match(await head.closed(), /^HTTP\/1\.1 200 [^]*\r\nConnection: close\r\n[^]*<\/html>\n$/)
      assert.match(await body.closed(), /HTTP\/1\.1 405 [^]*\r\nConnection: close\r\n/)
      assert.equal(await done, 0)
      assert.ok(Date.now() - start < 5000)
    })

    for (const way of ways) it(`${way}: is done within 5 s whatever clients do`, async t => {
      const { port, stop, done } = await stoppable(t, way)
      const deaf = new Peer(port, GET_PICTURE.repeat(1000))
      deaf.socket.pause()
      const stubborn = [deaf, new Peer(port), new Peer(port, GET), new Peer(port, GET_AND_CLOSE), new Peer(port, 'GET / HTTP/1.1\r\nX: '), new Peer(port, `${POST}Content-Length: 9999\r\n\r\n`)]
      const dripping = setInterval(() => { for (const peer of stubborn.slice(3)) peer.write('x') }, 50)
      t.after(() => {
        clearInterval(dripping)
        for (const { socket } of stubborn) socket.destroy()
      })
      await pause(200)
      const start = Date.now()
      stop()
      assert.equal(await done, 0)
      assert.ok(Date.now() - start < 5000)
    })

    for (const [first, second] of [['SIGINT', 'SIGINT'], ['SIGTERM', 'SIGINT'], ['SIGINT', 'SIGTERM']] as const) it(`${first}, then ${second}, ends it at once`, async t => {
      const { port, kill, exit } = await run(t)
      const peer = new Peer(port, 'GET / HTTP/1.1\r\n')
      await new Promise(resolve => peer.socket.once('connect', resolve))
      kill(first)
      await until('no more connections', () => refused(port))
      const start = Date.now()
      kill(second)
      assert.equal(await exit, second)
      assert.ok(Date.now() - start < 1000)
    })

    for (const [name, thinking_ms] of [['at full speed', 0], ['with a thought in between', 100]] as const) it(`cuts not one answer under load, clients asking ${name}`, async t => {
      const { port, kill, exit } = await run(t)
      let answers = 0, stopping = false
      // an honest client asks until it is told that this was the last answer
      const client = async (path: string): Promise<void> => {
        for (let last = false; !last; ) {
          const peer = new Peer(port)
          while (!last) {
            peer.text = ''
            peer.write(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`)
            let length = Infinity
            while (peer.text.length < length) {
              await Promise.race([new Promise(resolve => peer.socket.once('data', resolve)), peer.all])
              const [head = '', size = ''] = /^HTTP\/1\.1 200 [^]*?Content-Length: (\d+)\r\n[^]*?\r\n\r\n/.exec(peer.text) ?? []
              length = head ? head.length + Number(size) : Infinity
              assert.ok(peer.text.length >= length || !peer.socket.readableEnded && !peer.socket.destroyed, `cut after ${peer.text.length} bytes`)
            }
            answers++
            last = peer.text.includes('\r\nConnection: close\r\n')
            if (thinking_ms) await pause(thinking_ms)
          }
          await peer.closed()
        }
        assert.ok(stopping)
      }
      const clients = Array.from({ length: 24 }, (_, i) => client(i % 2 ? '/' : '/test.jpg'))
      await pause(500)
      stopping = true
      kill('SIGTERM')
      await Promise.all(clients)
      assert.equal(await exit, 0)
      assert.ok(answers > 48, `${answers} answers`)
    })

    it('a signal that came before the start leaves nothing running', async () => {
      const server = serve({ port: 0, host: '127.0.0.1', signal: AbortSignal.abort() })
      await new Promise(resolve => server.once('close', resolve))
      await pause(50)
      assert.equal(server.listening, false)
    })

    it('an accept that fails ends nothing', async t => {
      const { port, server } = await up(t)
      server.emit('error', Object.assign(new Error('accept EMFILE'), { syscall: 'accept' }))
      assert.match(await ask(port), /^HTTP\/1\.1 200 /)
    })

    it('the user\'s own close() lets connections end by themselves, each told so', async t => {
      const { port, server } = await up(t)
      const peer = new Peer(port, GET)
      await until('an answer', () => peer.text.endsWith('</html>\n'))
      const closed = new Promise(resolve => server.close(resolve))
      assert.doesNotMatch(peer.text, /Connection: close/)
      peer.write(GET)
      assert.match(await peer.closed(), /<\/html>\nHTTP\/1\.1 200 [^]*\r\nConnection: close\r\n/)
      assert.equal(await closed, undefined)
    })
  })

  describe('Restart', () => {
    it('killed with SIGKILL and started again on its port, it serves at once', async t => {
      const first = await run(t)
      const peers = [new Peer(first.port, GET), new Peer(first.port, GET_PICTURE.repeat(300)), new Peer(first.port, 'GET')]
      await ask(first.port)
      await pause(100)
      first.kill('SIGKILL')
      await first.exit
      const second = await run(t, { port: first.port })
      assert.match(await ask(second.port), /^HTTP\/1\.1 200 /)
      for (const { socket } of peers) socket.destroy()
    })
  })

  describe('Limits', { concurrency: true }, () => {
    const names = Object.keys(LIMITS)
    // the limits of bytes: the most that is taken, what a byte more gets
    const bytes: [limit: keyof typeof LIMITS, value: number, message: (length: number) => string, answer: string][] = [
      ['head_bytes', 60, length => 'GET / HTTP/1.1\r\nHost: a\r\nX: '.padEnd(length - 4, 'x') + '\r\n\r\n', 'HTTP/1.1 431'],
      ['head_bytes', 60, length => `${POST}Transfer-Encoding: chunked\r\n\r\n1;` + 'x'.repeat(length - 4) + '\r\n!\r\n0\r\n\r\n', 'HTTP/1.1 431'],
      ['target_bytes', 20, length => `GET ${'/'.padEnd(length, 'x')} HTTP/1.1\r\nHost: a\r\n\r\n`, 'HTTP/1.1 414'],
      ['body_bytes', 20, length => `${POST}Content-Length: ${length}\r\n\r\n${'x'.repeat(length)}`, 'HTTP/1.1 413'],
      ['body_bytes', 20, length => `${POST}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n${(length - 3).toString(16)}\r\n${'x'.repeat(length - 3)}\r\n0\r\n\r\n`, 'HTTP/1.1 413'],
    ]
    for (const [limit, value, message, answer] of bytes) it(`${limit} is the user's: ${value} bytes and no more (${answer.slice(-3)})`, async t => {
      const { port } = await up(t, { limits: { [limit]: value }, answer: () => http`HTTP/1.1 200 OK\n\n` })
      for (const [length, outcome] of [[value, 'HTTP/1.1 200'], [value + 1, answer]] as const) {
        const peer = new Peer(port, message(length))
        peer.socket.end()
        assert.equal(status(await peer.all), outcome, message(length))
      }
    })

    it('stop_ms is the user\'s', async t => {
      const stop = new AbortController(), { port, nobody } = await up(t, { signal: stop.signal, limits: { stop_ms: 100 } })
      const peer = new Peer(port, 'GET')
      await until('connected', () => peer.socket.readyState === 'open')
      await pause(50)
      const start = Date.now()
      stop.abort()
      await nobody()
      assert.ok(Date.now() - start < 2000)
    })

    it('a nonsensical limit is an error that names it', () => {
      const nonsense: [unknown, ErrorConstructor][] = [['10', TypeError], [null, TypeError], [undefined, TypeError], [10n, TypeError], [{}, TypeError], [true, TypeError],
        [0, RangeError], [-1, RangeError], [1.5, RangeError], [NaN, RangeError], [Infinity, RangeError]]
      for (const name of names) for (const [value, kind] of nonsense)
        assert.throws(() => serve({ port: 0, limits: { [name]: value } as Partial<typeof LIMITS> }), error => error instanceof kind && error.message.includes(name), `${name}: ${String(value)}`)
      for (const name of ['head_byte', 'HEAD_MS', 'toString', '']) assert.throws(() => serve({ port: 0, limits: { [name]: 1 } }), error => error instanceof TypeError && error.message.includes(name))
    })

    it('has no limit that the user cannot set', () => {
      for (const name of names) serve({ port: 0, limits: { [name]: 7 }, signal: AbortSignal.abort() })
    })
  })
})

describe("the README's chapters", () => {
  const project = fileURLToPath(new URL('.', import.meta.url))
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'wow-chapters-')))
  const tsx = join(project, 'node_modules/tsx/dist/cli.mjs')
  const strips_types = (version: string): boolean => /^v(?:22\.(?:1[89]|[2-9]\d)|2[3-9]|[3-9]\d)\./.test(version)
  /** a Node that runs TypeScript as it is, and has SQLite */
  const newer_node = strips_types(process.version) ? process.execPath : command('node24', 'node22', 'node26')
  const no_newer_node = newer_node ? false : `Node ${process.version} runs no TypeScript by itself, and no newer one is installed`
  const children = new Set<ChildProcess>(), started = new Set<string>()

  type Block = { chapter: string, language: string, name: string, code: string }

  /** The fenced blocks of a README, with the heading they stand under and the file name in their first line. */
  function blocks_of(readme: string): Block[] {
    let chapter = ''
    return Array.from(readFileSync(join(project, readme), 'utf8').matchAll(/^#+ (.*)|^```(\w*)\n((?:(?:\/\/|#) (\S+)\n)?[^]*?)^```$/gm), match => {
      const [, heading, language = '', code = '', name = ''] = match
      chapter = heading ?? chapter
      return { chapter, language: heading === undefined ? language : 'heading', name, code }
    }).filter(block => block.language !== 'heading')
  }

  const blocks = blocks_of('README.md'), programs = blocks.filter(block => block.language === 'ts')

  type Program = { child: ChildProcess, port: number, errors: () => string }

  async function free_port(): Promise<number> {
    const listener = createServer().listen(0)
    await once(listener, 'listening')
    const { port } = listener.address() as AddressInfo
    listener.close()
    await once(listener, 'close')
    return port
  }

  function launch(command: string, args: string[]): { child: ChildProcess, errors: () => string } {
    // a group of its own, to be ended with all that it started
    const child = spawn(command, args, { cwd: folder, detached: true, stdio: ['ignore', 'ignore', 'pipe'] })
    let text = ''
    child.stderr?.setEncoding('utf8').on('data', (piece: string) => { text += piece })
    children.add(child)
    return { child, errors: () => text }
  }

  function kill(child: ChildProcess): void {
    try {
      if (child.pid) process.kill(-child.pid, 'SIGKILL')
    } catch { /* it has ended */ }
    children.delete(child)
  }

  async function accepts(port: number): Promise<boolean> {
    const socket = connect(port, '127.0.0.1')
    const open = await new Promise<boolean>(resolve => socket.on('connect', () => resolve(true)).on('error', () => resolve(false)))
    socket.destroy()
    return open
  }

  /** Copies and runs, as the README says. */
  async function start(t: TestContext, name: string, command = [process.execPath, tsx]): Promise<Program> {
    started.add(name)
    const port = await free_port(), [node = '', ...args] = command
    const { child, errors } = launch(node, [...args, name, String(port)])
    t.after(() => kill(child))
    await until(`${name} listens: ${errors()}`, () => {
      assert.equal(child.exitCode, null, errors())
      return accepts(port)
    }, 15)
    return { child, port, errors }
  }

  /** Sends bytes as they stand and returns all that comes back. */
  async function raw(port: number, bytes: string): Promise<string> {
    const socket = connect(port, '127.0.0.1').setEncoding('latin1').setTimeout(10_000, () => socket.destroy(new Error(`no answer to ${bytes}`)))
    socket.write(bytes, 'latin1')
    let text = ''
    for await (const piece of socket) text += piece
    return text
  }

  const asked = (port: number, start_line: string, fields = ''): Promise<string> =>
    raw(port, `${start_line} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n${fields}\r\n`)
  const body_of = (response: string): string => response.slice(response.indexOf('\r\n\r\n') + 4)
  const status_of = (response: string): number => Number(response.split(' ')[1])

  /** One GET through node:http, which lets a test choose the connection and the address it comes from. */
  function got(port: number, path: string, options: { agent?: Agent, localAddress?: string, headers?: Record<string, string> } = {}): Promise<{ status: number, body: string }> {
    return new Promise((resolve, reject) => {
      http_get({ host: '127.0.0.1', port, path, agent: false, signal: AbortSignal.timeout(10_000), ...options }, response => {
        let body = ''
        response.setEncoding('utf8').on('data', (piece: string) => { body += piece }).on('error', reject)
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }))
      }).on('error', reject)
    })
  }

  before(() => {
    mkdirSync(join(folder, 'node_modules'))
    symlinkSync(project, join(folder, 'node_modules/wow-server'), 'junction')
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
    for (const { name, code } of programs) writeFileSync(join(folder, name), code)

    for (const made of ['public/sub', 'public/empty', 'public/linked', 'public-not']) mkdirSync(join(folder, made), { recursive: true })
    for (const [file, text] of [['index.html', '<p>Hello'], ['STYLE.CSS', 'p {}'], ['data.bin', '\0\x01'], ['a b.txt', 'spaced'], ['中文.txt', '你好'], ['sub/index.html', 'below'], ['.env', 'SECRET'], ['back\\slash.txt', 'SECRET'], ['../secret.txt', 'SECRET'], ['../public-not/secret.txt', 'SECRET']] as const)
      writeFileSync(join(folder, 'public', file), text)
    for (const [link, target] of [['within.txt', 'a b.txt'], ['out.txt', '../secret.txt'], ['sibling.txt', '../public-not/secret.txt'], ['out', '..'], ['linked/index.html', '../../secret.txt'], ['lost.txt', 'nowhere'], ['round', 'round']] as const)
      symlinkSync(target, join(folder, 'public', link))
    spawnSync('mkfifo', [join(folder, 'public/pipe')])
  })

  after(() => {
    for (const child of children) kill(child)
    rmSync(folder, { recursive: true, force: true })
  })

  it('both languages have the same code', () => {
    const code_of = (readme: string): string[] => blocks_of(readme).filter(block => /^(?:ts|nginx|sh)$/.test(block.language)).map(block => block.code)
    assert.ok(programs.length >= 9)
    assert.deepEqual(code_of('README.zh-CN.md'), code_of('README.md'))
  })

  it('links each line that it names to that line', () => {
    for (const readme of ['README.md', 'README.zh-CN.md']) {
      const links = Array.from(readFileSync(join(project, readme), 'utf8').matchAll(/\[(`+) ?(.+?) ?\1\]\((\w+\.ts)#L(\d+)\)/g))
      assert.ok(links.length > 25)
      for (const [, , code = '', file = '', line] of links) {
        const text = readFileSync(join(project, file), 'utf8').split('\n')[Number(line) - 1] ?? ''
        assert.ok(text.includes(code.replaceAll('\\|', '|')), `${readme}: ${file}:${line} is ${text}, not ${code}`)
      }
    }
  })

  it('names no file that is not there', () => {
    for (const readme of ['README.md', 'README.zh-CN.md']) {
      for (const [, path = ''] of readFileSync(join(project, readme), 'utf8').matchAll(/(?:\]\(|src=")(?!https?:|#)([^)#"]+)/g)) assert.ok(existsSync(join(project, path)), path)
    }
  })

  it('the module: three lines are a server', async t => {
    const { port } = await start(t, 'hello.ts')
    assert.equal(body_of(await asked(port, 'GET /hello')), 'Hello!\n')
    assert.match(await asked(port, 'GET /'), /Wow, TypeScript Server/)
  })

  it('each program has its file name, is short and passes the strict type check', () => {
    for (const { chapter, name, code } of programs) {
      assert.match(name, /^\w+\.ts$/, `a block under ${chapter} begins with its file name`)
      assert.ok(code.split('\n').length <= 42, `${name} is short`)
    }
    const options = { ...JSON.parse(readFileSync(join(project, 'tsconfig.json'), 'utf8')).compilerOptions, typeRoots: [join(project, 'node_modules/@types')] }
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, files: programs.map(({ name }) => name) }))
    const check = spawnSync(process.execPath, [join(project, 'node_modules/typescript/bin/tsc'), '-p', folder], { encoding: 'utf8' })
    assert.equal(check.stdout + check.stderr, '')
    assert.equal(check.status, 0)
  })

  it('each program that serves runs as it is by node, too', { skip: no_newer_node }, async t => {
    for (const { name, code } of programs) {
      if (!/\blisten\(|\bserve\(/.test(code)) continue
      const { port, child } = await start(t, name, [newer_node ?? ''])
      assert.match(await asked(port, 'GET /'), /^HTTP\/1\.1 (?:200|404) /, name)
      kill(child)
    }
  })

  it('1: a worker that dies takes only its own connections, and is replaced; SIGTERM drains all', async t => {
    const { child, port, errors } = await start(t, 'cluster.ts')
    const process_of = async (agent?: Agent): Promise<number> => Number((await got(port, '/process', agent ? { agent } : {})).body)
    const pids = new Set<number>()
    await until('every core has a worker', async () => pids.add(await process_of()).size === availableParallelism(), 15)

    const clients = await Promise.all(Array.from({ length: 40 }, async () => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 })
      t.after(() => agent.destroy())
      return { agent, pid: await process_of(agent), failures: 0, answers: 0 }
    }))
    const victim = clients[0]?.pid ?? 0
    let killed = false, over = false
    const load = clients.map(async client => {
      while (!over) {
        try {
          const pid = await process_of(client.agent)
          if (killed && pid !== victim) client.answers++
        } catch {
          client.failures++
        }
      }
    })
    await pause(300)
    process.kill(victim, 'SIGKILL')
    killed = true
    await until('all are answered after the death', () => clients.every(({ answers }) => answers > 0), 15)
    over = true
    await Promise.all(load)
    for (const { pid, failures } of clients) assert.ok(failures <= (pid === victim ? 1 : 0), `${failures} failures with ${pid === victim ? 'the dead' : 'a living'} worker`)
    pids.delete(victim)
    await until('the dead worker is replaced', async () => pids.add(await process_of()).size === availableParallelism(), 15)

    const [node = '', ...args] = [process.execPath, tsx, 'cluster.ts', String(port)]
    const second = launch(node, args)
    await Promise.race([once(second.child, 'exit'), pause(10_000)])
    assert.notEqual(second.child.exitCode, null, 'a second one on the port gives up')
    assert.match(second.errors(), /EADDRINUSE/)

    // in hand: a request of which the server has a half
    const halves = await Promise.all(Array.from({ length: 8 }, async () => {
      const socket = connect(port, '127.0.0.1').setEncoding('latin1')
      socket.write('POST /process HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab')
      await once(socket, 'connect')
      return socket
    }))
    await pause(200)
    child.kill('SIGTERM')
    await until('nobody is let in any more', async () => !await accepts(port), 15)
    for (const socket of halves) {
      let text = ''
      socket.write('cd')
      for await (const piece of socket) text += piece
      assert.match(text, /^HTTP\/1\.1 405 [^]*\r\nConnection: close\r\n/)
    }
    await until('the program has ended', () => child.exitCode !== null, 15)
    assert.equal(child.exitCode, 0, errors())
    for (const pid of pids) assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
  })

  it('2: the time at /time, the article for the rest', async t => {
    const { port } = await start(t, 'time.ts')
    const response = await fetch(`http://127.0.0.1:${port}/time`)
    assert.equal(response.headers.get('content-type'), 'text/plain')
    assert.equal(response.headers.get('cache-control'), 'no-store')
    const first = Date.parse(await response.text())
    assert.ok(Math.abs(Date.now() - first) < 3000)
    await pause(1100)
    assert.ok(Date.parse((await got(port, '/time')).body) > first)
    assert.equal(status_of(await asked(port, 'POST /time')), 405)
    assert.equal(body_of(await asked(port, 'HEAD /time')), '')
    assert.match(await asked(port, 'GET /'), /<p>Wow, TypeScript Server<\/p>/)
    assert.equal(body_of(await asked(port, 'GET /test.jpg')), readFileSync(join(project, 'test.jpg'), 'latin1'))
  })

  it('3: the guest book keeps what is typed, as it was typed', { skip: no_newer_node }, async t => {
    const command = [newer_node ?? '', tsx]
    rmSync(join(folder, 'guests.db'), { force: true })
    let { port, child } = await start(t, 'guests.ts', command)
    const names = [`O'Neil "the <b>bold</b>" & sons`, '王小明', '👩‍👩‍👧 🎉', '<script>alert(1)</script>', "Robert'); DROP TABLE guests;--", '" onmouseover="alert(1)', '&lt;&#60;&amp;', '100% + 1 = ?', '${1}', '中'.repeat(300)]
    const post = (name?: string): Promise<Response> =>
      fetch(`http://127.0.0.1:${port}/guests`, { method: 'POST', body: new URLSearchParams(name === undefined ? {} : { name }), redirect: 'manual' })
    for (const name of names) {
      const response = await post(name)
      assert.equal(response.status, 303)
      assert.equal(response.headers.get('location'), '/guests')
    }
    for (const nobody of [undefined, '', ' ']) assert.equal((await post(nobody)).status, 303)
    assert.equal((await post('x'.repeat(5000))).status, 413)

    const page = (await got(port, '/guests')).body
    const items = Array.from(page.matchAll(/<li>(.*)<\/li>/g), ([, item = '']) => item)
    for (const item of items) assert.doesNotMatch(item, /[<>"']/)
    assert.deepEqual(items.map(item => item.replace(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code)))), names.toReversed())
    assert.match(await asked(port, 'GET /guests'), /\r\nContent-Type: text\/html; charset=utf-8\r\n/)
    assert.equal(status_of(await asked(port, 'DELETE /guests')), 405)
    assert.match((await got(port, '/')).body, /Wow, TypeScript Server/)

    kill(child)
    ;({ port } = await start(t, 'guests.ts', command))
    assert.equal((await got(port, '/guests')).body, page, 'after a restart')
  })

  it("4: node:http gives the article's two contents too", async t => {
    const theirs = await start(t, 'higher.ts'), ours = await start(t, 'time.ts')
    const seen = async (port: number, line: string): Promise<(string | undefined)[]> => {
      const response = await asked(port, line)
      const fields = ['Content-Type', 'Content-Length'].map(name => new RegExp(`\r\n${name}: (.*)\r\n`).exec(response)?.[1])
      // node:http leaves the length out of a HEAD's answer
      return [response.split('\r\n')[0], ...line.startsWith('GET') ? fields : fields.slice(0, 1), body_of(response)]
    }
    for (const line of ['GET /', 'GET /test.jpg', 'GET /other', 'HEAD /', 'HEAD /test.jpg']) assert.deepEqual(await seen(theirs.port, line), await seen(ours.port, line))
    assert.match(await asked(theirs.port, 'POST /'), /^HTTP\/1\.1 405 [^]*\r\nAllow: GET, HEAD\r\n/)
  })

  it('4: a folder is served, and no way leads out of it', async t => {
    const { port, errors } = await start(t, 'folder.ts')
    const served: [path: string, type: string, body: string][] = [
      ['/', 'text/html; charset=utf-8', '<p>Hello'], ['/index.html?/../x', 'text/html; charset=utf-8', '<p>Hello'], ['/STYLE.CSS', 'text/css; charset=utf-8', 'p {}'],
      ['/data.bin', 'application/octet-stream', '\0\x01'], ['/a%20b.txt', 'text/plain; charset=utf-8', 'spaced'], ['/%E4%B8%AD%E6%96%87.txt', 'text/plain; charset=utf-8', '你好'],
      ['/sub/', 'text/html; charset=utf-8', 'below'], ['/sub%2findex.html', 'text/html; charset=utf-8', 'below'], ['/within.txt', 'text/plain; charset=utf-8', 'spaced'],
    ]
    for (const [path, type, body] of served) {
      const response = await fetch(`http://127.0.0.1:${port}${path}`)
      assert.deepEqual([response.status, response.headers.get('content-type'), await response.text()], [200, type, body], path)
    }
    assert.match(await asked(port, 'HEAD /'), /^HTTP\/1\.1 200 [^]*\r\nContent-Length: 8\r\n[^]*\r\n\r\n$/)
    for (const [path, location] of [['/sub', '/sub/'], ['/sub?a=/b?c', '/sub/?a=/b?c'], ['/%73ub', '/%73ub/']] as const) {
      assert.match(await asked(port, `GET ${path}`), /^HTTP\/1\.1 301 /, path)
      assert.equal(/\r\nLocation: (.*)\r\n/.exec(await asked(port, `GET ${path}`))?.[1], location)
    }
    assert.equal(status_of(await asked(port, 'POST /')), 405)

    const refused = ['/../secret.txt', '/..%2fsecret.txt', '/%2e%2e/secret.txt', '/%2E%2E%2Fsecret.txt', '/.%2e/secret.txt', '/sub/../../secret.txt', '/sub/..', '/..', '/.', '/./index.html',
      '/..\\secret.txt', '/..%5csecret.txt', '/%5c..%5csecret.txt', '/sub%5cindex.html', '/index.html%00', '/../secret.txt%00.html', '/%00', '/%252e%252e/secret.txt', '/%c0%ae%c0%ae/secret.txt', '/%ff', '/%', '/%2', '/%zz',
      '//secret.txt', '//sub', `/${folder}/secret.txt`, `/%2f${folder.slice(1)}/secret.txt`, '/file:///etc/passwd', '//etc/passwd', '/%2fetc%2fpasswd', '/etc/passwd', 'http://a/../secret.txt', 'http://a/%2e%2e/secret.txt',
      '/../public-not/secret.txt', '/out.txt', '/out/secret.txt', '/out/', '/out', '/sibling.txt', '/back\\slash.txt', '/back%5cslash.txt', '/linked/', '/linked/index.html', '/lost.txt', '/round', '/pipe', '/.env', '/%2eenv', '/sub/../.env',
      '/index.html/', '/empty/', '/nothing', `/${'a'.repeat(300)}`, `/${'a/'.repeat(3000)}`, '../secret.txt', 'secret.txt', '/constructor']
    for (const path of refused) {
      const response = await asked(port, `GET ${path}`)
      assert.match(response, /^HTTP\/1\.1 40[04] /, path)
      assert.doesNotMatch(response, /SECRET|root:/, path)
    }
    for (const path of ['/%', '/%2', '/%zz', '/%ff', '/%c0%ae']) assert.equal(status_of(await asked(port, `GET ${path}`)), 400, path)
    assert.equal(errors(), '', 'no refusal is a failure')
  })

  it("4: a form's fields, from the URL and from the body", async t => {
    const { port } = await start(t, 'form.ts')
    const fields = 'name=%E7%8E%8B+%26+%3Cb%3E&question=a?b=c&empty=&name=again'
    const text = 'name is 王 & <b>\nquestion is a?b=c\nempty is \nname is again\n'
    assert.equal((await got(port, `/form?${fields}`)).body, text)
    assert.equal(await (await fetch(`http://127.0.0.1:${port}/form?name=other`, { method: 'POST', body: fields })).text(), text)
    assert.equal((await got(port, '/form')).body, '')
    for (const line of ['GET //', 'GET //form', 'GET /', 'POST /', 'OPTIONS *', 'CONNECT a:99999']) assert.notEqual(status_of(await asked(port, line)), 500, line)
  })

  it('5: a function of the fetch standard is an answer', async t => {
    const app = await start(t, 'app.ts')
    started.add('fetch.ts')
    assert.equal((await got(app.port, '/hello')).body, 'Hello, world!\n')
    assert.equal((await got(app.port, '/hello?name=Vamei')).body, 'Hello, Vamei!\n')
    assert.equal(body_of(await asked(app.port, 'POST /echo', 'Content-Length: 2\r\n\r\nhi')), 'hi')
    assert.deepEqual(await got(app.port, '/nothing'), { status: 404, body: 'Not here\n' })

    writeFileSync(join(folder, 'own.ts'), `import { serve } from 'wow-server'
import { from_fetch } from './fetch.ts'
serve({ port: Number(process.argv[2]), answer: from_fetch(async request => {
  const { pathname } = new URL(request.url)
  if (pathname === '/cookies') return new Response(request.method === 'HEAD' ? null : 'ok', { headers: [['Set-Cookie', 'a=1; Path=/'], ['Set-Cookie', 'b=2'], ['X-Own', 'v\\xe9']] })
  if (pathname === '/none') return new Response(null, { status: 204 })
  if (pathname === '/unchanged') return new Response(null, { status: 304, headers: { ETag: '"1"' } })
  if (pathname === '/away') return Response.redirect('http://elsewhere/', 303)
  if (pathname === '/error') throw new Error('on purpose')
  if (pathname === '/bytes') return new Response(await request.arrayBuffer(), { headers: { 'Content-Type': request.headers.get('content-type') ?? 'none' } })
  return Response.json({ method: request.method, url: request.url, field: request.headers.get('x-field') })
}) })`)
    const { port, errors } = await start(t, 'own.ts'), at = `http://127.0.0.1:${port}`
    const cookies = await fetch(`${at}/cookies`)
    assert.deepEqual(cookies.headers.getSetCookie(), ['a=1; Path=/', 'b=2'])
    assert.equal(cookies.headers.get('x-own'), 'v\xe9')
    assert.equal(await cookies.text(), 'ok')

    const bytes = Uint8Array.from({ length: 100_000 }, (_, i) => i * 7)
    const echoed = await fetch(`${at}/bytes`, { method: 'PUT', body: bytes, headers: { 'Content-Type': 'image/x-own' } })
    assert.equal(echoed.headers.get('content-type'), 'image/x-own')
    assert.deepEqual(new Uint8Array(await echoed.arrayBuffer()), bytes)
    assert.equal(body_of(await asked(port, 'POST /bytes', 'Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n')), 'abc')

    const seen = async (line: string, fields = ''): Promise<unknown> => JSON.parse(body_of(await asked(port, line, fields)))
    assert.deepEqual(await seen('GET /a%20b?c=d', 'X-Field: one\r\nX-Field: two\r\n'), { method: 'GET', url: 'http://127.0.0.1/a%20b?c=d', field: 'one, two' })
    assert.deepEqual(await seen('DELETE //other/x'), { method: 'DELETE', url: 'http://127.0.0.1//other/x', field: null })
    assert.deepEqual(await seen('GET http://named:81/x'), { method: 'GET', url: 'http://named:81/x', field: null })
    assert.deepEqual(await seen('GET /', 'Content-Length: 2\r\n\r\nhi'), { method: 'GET', url: 'http://127.0.0.1/', field: null })
    assert.match(await raw(port, 'GET /old HTTP/1.0\r\n\r\n'), /"url":"http:\/\/localhost\/old"/)

    const without_date = (response: string): string => response.replace(/\r\nDate: .*/, '')
    const whole = without_date(await asked(port, 'GET /cookies')), head = without_date(await asked(port, 'HEAD /cookies'))
    assert.equal(head + 'ok', whole)
    for (const path of ['/none', '/unchanged']) assert.match(await asked(port, `GET ${path}`), /^HTTP\/1\.1 (?:204|304) (?:(?!content-length)[^])*\r\n\r\n$/i)
    assert.match(await asked(port, 'GET /away'), /^HTTP\/1\.1 303 [^]*\r\nLocation: http:\/\/elsewhere\/\r\n/i)

    assert.equal(errors(), '')
    assert.equal(status_of(await asked(port, 'GET /error')), 500)
    assert.match(errors(), /on purpose/)
    for (const [line, status] of [['CONNECT a:80', 405], ['TRACE /', 405], ['OPTIONS *', 204], ['track /', 501]] as const) assert.equal(status_of(await asked(port, line)), status, line)
    assert.equal(status_of(await raw(port, 'GET / HTTP/1.1\r\nHost: a:99999\r\nConnection: close\r\n\r\n')), 400)
    assert.equal((await got(port, '/')).status, 200)
  })

  const no_nginx = !command('nginx') ? 'nginx is not installed' : process.platform !== 'linux' && 'a second address of this computer is wanted, as on Linux'

  /** Runs nginx with the README's configuration, its ports replaced. */
  async function start_nginx(t: TestContext, ...ports: number[]): Promise<number> {
    const [block] = blocks.filter(({ language }) => language === 'nginx')
    assert.ok(block)
    const port = await free_port(), temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(name => `${name}_temp_path ${folder}/${name};`)
    const upstream = block.code.replace('127.0.0.1:8001', `127.0.0.1:${ports[0]}`).replace('127.0.0.1:8002', `127.0.0.1:${ports[1]}`)
    assert.notEqual(upstream, block.code)
    const file = join(folder, `nginx-${port}.conf`)
    writeFileSync(file, `daemon off; worker_processes 1; pid ${file}.pid; error_log ${file}.log; ${process.getuid?.() === 0 ? 'user root;' : ''}
events {} http { access_log off; ${temporary.join(' ')}\n${upstream.replace('listen 8000', `listen ${port}`)} }`)
    const { child, errors } = launch('nginx', ['-c', file])
    t.after(() => kill(child))
    await until(`nginx listens: ${errors()}`, () => accepts(port), 15)
    return port
  }

  it('6: behind nginx one of two may die, and no client sees it', { skip: no_nginx }, async t => {
    const servers = [await start(t, 'who.ts'), await start(t, 'who.ts')] as const
    const port = await start_nginx(t, servers[0].port, servers[1].port)
    const process_of = async (): Promise<string> => {
      const { status, body } = await got(port, '/who')
      assert.equal(status, 200)
      return /^You are 127\.0\.0\.1, this is process (\d+)\n$/.exec(body)?.[1] ?? assert.fail(body)
    }
    const pids = new Set<string>()
    await until('both have answered', async () => pids.add(await process_of()).size === 2, 15)

    let over = false, answers = 0
    const load = Array.from({ length: 16 }, async () => {
      for (; !over; answers++) await process_of()
    })
    await pause(500)
    kill(servers[0].child)
    const before_death = answers
    await pause(1500)
    over = true
    await Promise.all(load)
    assert.ok(before_death > 0 && answers > before_death, `${answers} answers`)
    pids.clear()
    for (let i = 0; i < 20; i++) pids.add(await process_of())
    assert.equal(pids.size, 1)

    // what the visitor says of himself counts neither through nginx nor from another address than nginx's
    const headers = { 'X-Forwarded-For': '192.0.2.66' }
    assert.match((await got(port, '/who', { headers, localAddress: '127.0.0.2' })).body, /^You are 127\.0\.0\.2,/)
    assert.match((await got(servers[1].port, '/who', { headers, localAddress: '127.0.0.3' })).body, /^You are 127\.0\.0\.3,/)
    assert.equal(status_of(await raw(port, 'GET /who HTTP/1.0\r\n\r\n')), 200)
  })

  it('6: nginx keeps its connections to the servers, and sends no POST twice', { skip: no_nginx }, async t => {
    let connections = 0, posts = 0
    const counting = create_http_server((request, response) => {
      if (request.method !== 'POST') return response.end(request.headers.host)
      posts++
      return request.socket.destroy()
    }).on('connection', () => { connections++ }).listen(0, '127.0.0.1')
    await once(counting, 'listening')
    t.after(() => counting.close())
    const upstream = (counting.address() as AddressInfo).port
    const port = await start_nginx(t, upstream, upstream)
    for (let i = 0; i < 50; i++) assert.equal((await got(port, '/', { headers: { Host: `name:${port}` } })).body, `name:${port}`)
    assert.ok(connections <= 4, `${connections} connections for 50 requests`)
    assert.equal((await fetch(`http://127.0.0.1:${port}/`, { method: 'POST', body: 'x' })).status, 502)
    assert.equal(posts, 1)
  })

  it('every program of the README was run', () => {
    assert.deepEqual(programs.map(({ name }) => name).filter(name => !started.has(name) && !(name === 'guests.ts' && no_newer_node)), [])
  })
})
