import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { after, describe, it, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { send } from './client.ts'
import { serve, type Options } from './server.ts'

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

/** Waits until something is so; fails when it never is. */
async function until(so: () => boolean, what: string): Promise<void> {
  for (let tries = 0; !so(); tries++) {
    if (tries === 500) assert.fail(`never: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
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
    await until(() => printed().includes('Connection: close'), 'the request is printed')
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
      [[`127.0.0.1:${short}`, '/'], /cut short: 3 of 10 bytes/],
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
    await assert.rejects(send(`127.0.0.1:${nobody}`, 'hello', { silent_ms: 50 }), /silent/)
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
    const shipped = ['LICENSE', 'README.md', 'dist/client.d.ts', 'dist/client.js', 'dist/server.d.ts', 'dist/server.js', 'dist/test.jpg', 'package.json']
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
    while (await evaluate('document.images[0]?.naturalWidth > 0') !== true) await new Promise(resolve => setTimeout(resolve, 20))
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
