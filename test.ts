import assert from 'node:assert/strict'
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { getEventListeners, once } from 'node:events'
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync } from 'node:fs'
import { realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { Agent, createServer as create_http_server, get as http_get } from 'node:http'
import type { IncomingMessage, RequestOptions } from 'node:http'
import { createRequire } from 'node:module'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { availableParallelism, tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { text as text_from } from 'node:stream/consumers'
import { after, before, describe, it, type TestContext } from 'node:test'
import { setImmediate as turn, setTimeout as pause } from 'node:timers/promises'
import { connect as connect_tls } from 'node:tls'
import { pathToFileURL } from 'node:url'
import { build, transformSync } from 'esbuild'
import type { Answer, Content, Options, Request } from './server.ts'

// ───────────────────────────────────── Toolbox ─────────────────────────────────────

/** WOW_BUILT=1 tests what `npm run build` has made of server.ts and client.ts: modules, and programs named wow-…. */
const BUILT = process.env['WOW_BUILT'] === '1'
const file_of = (name: string): string => BUILT ? `dist/${name}.js` : `${name.replace('wow-', '')}.ts`
const { http, LIMITS, Reader, serve } = await import(`./${file_of('server')}`) as typeof import('./server.ts')
const { send } = await import(`./${file_of('client')}`) as typeof import('./client.ts')

const HERE = import.meta.dirname
/** A character for each byte, as in all text that comes from a peer or a program. */
const PICTURE = readFileSync(join(HERE, 'test.jpg'), 'latin1')
const NODE = process.execPath, TSX = [NODE, '--import', import.meta.resolve('tsx')]
const SCRATCH = realpathSync(mkdtempSync(join(tmpdir(), 'wow-server-')))
after(() => rmSync(SCRATCH, { recursive: true, force: true }))

type Limits = Partial<typeof LIMITS>
/** Time limits that no test reaches; a test shortens the one that it is about. */
const PATIENT: Limits = Object.fromEntries(Object.keys(LIMITS).flatMap(name => /_ms$/.test(name) ? [[name, 6e5]] : []))

/** The path of a command; undefined where it is not installed, which CI does not allow. */
function command(...names: string[]): string | undefined {
  const { PATH = '', WOW_COMPLETE } = process.env, paths = PATH.split(delimiter)
  const found = names.flatMap(name => paths.map(path => join(path, name))).find(path => existsSync(path))
  return found ?? (WOW_COMPLETE ? assert.fail(`${names.join(' or ')} is not installed`) : undefined)
}

/** Waits for a promise, or until a function, called again and again, gives something true; but a minute at most. */
async function until<T>(what: string, coming: Promise<T> | (() => T | Promise<T>)): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited in vain until ${what}`)), 60_000)
  })
  try {
    for (;;) {
      const value = await Promise.race([late, typeof coming === 'function' ? coming() : coming])
      if (value || typeof coming !== 'function') return value
      await pause(10)
    }
  } finally {
    clearTimeout(timer)
  }
}

/** Where something is started that ends with its test, or with its suite. */
type Scope = { after: (end: () => void) => void }

/** A port at which nobody listens, below those that the system gives to clients. */
async function free_port(): Promise<number> {
  const port = 10_000 + Math.floor(Math.random() * 20_000)
  return await accepts(port) ? free_port() : port
}

/** A server in this process, with its ends of the open connections; `nobody` waits until there are none. */
type Started = { port: number, server: Server, ends: Set<Socket>, nobody: () => Promise<unknown> }
/** Starts a server in this process: `serve` with PATIENT limits, or one that does this with a connection. */
async function start(t: Scope, how: Options | ((socket: Socket) => unknown) = {}): Promise<Started> {
  const server = typeof how === 'function'
    ? createServer(socket => how(socket.on('error', () => {}))).listen(0, '127.0.0.1')
    : serve({ host: '127.0.0.1', port: 0, ...how, limits: { ...PATIENT, ...how.limits } })
  const ends = new Set<Socket>()
  server.on('connection', socket => ends.add(socket.on('close', () => ends.delete(socket))))
  t.after(() => {
    server.close()
    for (const socket of ends) socket.destroy()
  })
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return { port, server, ends, nobody: () => until('no connection is left', () => ends.size === 0) }
}

/** A running program; it is killed at the end of its test, with all that it has started. */
class Program {
  readonly child: ChildProcess
  /** the exit code, or the signal that ended it */
  readonly exit: Promise<number | string>
  /** what it has printed, and where it listens, once it has said so */
  out = ''
  err = ''
  port = 0

  constructor(t: Scope, [program = '', ...args]: string[], cwd = HERE, stdio: 'ignore' | 'ipc' = 'ignore') {
    const env = { ...process.env, NO_COLOR: '1', NODE_OPTIONS: '' }
    this.child = spawn(program, args, { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe', stdio] })
    this.child.stdout?.setEncoding('latin1').on('data', text => { this.out += text })
    this.child.stderr?.setEncoding('latin1').on('data', text => { this.err += text })
    this.exit = once(this.child, 'close').then(([code, signal]) => signal ?? code)
    t.after(() => { try { process.kill(-(this.child.pid ?? NaN), 'SIGKILL') } catch { /* it has ended */ } })
  }

  /** Waits until a function gives something true, as long as the program runs. */
  until<T>(what: string, look: () => T | Promise<T>): Promise<T> {
    const ended = this.exit.then(how => assert.fail(`it has ended with ${how}: ${this.out}${this.err}`))
    return until(`${this.child.spawnargs.join(' ')} ${what}`, async () => {
      const value = await Promise.race([look(), ended])
      return value || Promise.race([ended, value])
    })
  }

  /** Waits until it has printed an address to open. */
  async listening(): Promise<this> {
    this.port = Number(await this.until('listens', () => /:(\d+)\/\n/.exec(this.out)?.[1]))
    return this
  }
}

/** Runs a program to its end. */
async function run(t: Scope, args: string[], cwd = HERE): Promise<{ code: number | string, out: string, err: string }> {
  const program = new Program(t, args, cwd), code = await until(`${args.join(' ')} has ended`, program.exit)
  return { code, out: program.out, err: program.err }
}

const without_types: Record<string, string> = {}
/** A copy of a program, with test.jpg; as .mjs without types, to start quickly; PATIENT except for the given limits. */
function copy_of(original: string, limits?: Record<string, number>, path = ''): string {
  let code = readFileSync(join(HERE, original), 'utf8')
  if (!path) code = without_types[original] ??= transformSync(code, { loader: 'ts' }).code
  for (const [name, value] of limits ? Object.entries({ ...PATIENT, ...limits }) : []) {
    const parts = code.split(new RegExp(`(?<=\\b${name}(?:: | = ))\\d[\\de_]*`))
    assert.equal(parts.length, 2, `one place sets ${name}`)
    code = parts.join(String(value))
  }
  path ||= join(mkdtempSync(join(SCRATCH, 'copy-')), 'copy.mjs')
  writeFileSync(path, code)
  copyFileSync(join(HERE, 'test.jpg'), join(path, '../test.jpg'))
  return path
}

/** Whether a server lets somebody in. */
async function accepts(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  return once(socket, 'connect').then(() => true, () => false).finally(() => socket.destroy())
}

/** A client that keeps its side open until told otherwise; `text` has come so far, and `all` is what came at last. */
class Peer {
  readonly socket: Socket
  text = ''
  readonly all: Promise<string>

  constructor(port: number, text = '') {
    this.socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
    this.socket.setEncoding('latin1').on('data', piece => { this.text += piece }).on('error', () => {})
    this.all = new Promise(end => this.socket.once('end', end).once('close', end)).then(() => this.text)
    this.write(text)
  }

  /** The server has closed its side, or the connection is gone. */
  get over(): boolean { return this.socket.readableEnded || this.socket.closed }

  write(text: string): this {
    if (text) this.socket.write(text, 'latin1')
    return this
  }

  /** Waits until something has come. */
  async comes(what: string, has_come = () => this.text.includes(what)): Promise<void> {
    while (!has_come()) {
      assert.ok(!this.over, `it ended before ${what} came: ${this.text.slice(-200)}`)
      const more = new Promise(next => this.socket.once('data', next))
      await until(`${what} has come`, Promise.race([more, this.all]))
    }
  }

  /** Waits until the server has closed its side, and closes ours. */
  async closed(): Promise<string> {
    const text = await until('the connection has ended', this.all)
    // a reset leaves no port waiting (TIME_WAIT). But Node 20 never exits after the reset of a socket that is ending
    this.socket[this.socket.writableEnded ? 'destroy' : 'resetAndDestroy']()
    return text
  }
}

/** What is sent; null half-closes, and a function is called to wait for something. */
type Piece = string | null | ((peer: Peer) => unknown)
/** Sends the pieces, and returns everything that came back until the server closed, which must not be by a reset. */
async function exchange(to: { port: number } | number, ...pieces: Piece[]): Promise<string> {
  const peer = new Peer(typeof to === 'number' ? to : to.port)
  for (const piece of pieces) {
    if (peer.over) break
    if (typeof piece === 'string') peer.write(piece)
    else if (piece) await piece(peer)
    else peer.socket.end()
  }
  return peer.closed().finally(() => assert.ifError(peer.socket.errored))
}

const lines = (...all: string[]): string => all.map(line => line + '\r\n').join('')
const request = (line: string, ...fields: string[]): string => lines(`${line} HTTP/1.1`, 'Host: a', ...fields, '')
const GET = request('GET /'), GET_AND_CLOSE = request('GET /', 'Connection: close')
/** The answer to one request, after which the connection is closed. */
const ask = (to: { port: number } | number, line = 'GET /', fields: string[] = [], body = ''): Promise<string> =>
  exchange(to, request(line, 'Connection: close', ...fields) + body)

const head_of = (reply: string): string => reply.slice(0, reply.indexOf('\r\n\r\n') + 4)
const body_of = (reply: string): string => reply.slice(head_of(reply).length)
const status_of = (reply: string): number => Number(/^HTTP\/1\.1 (\d{3}) /.exec(reply)?.[1])
const count = (text: string, part: string): number => text.split(part).length - 1

/** The value of a field of a reply's head; a second one is an error. */
function field_of(head: string, name: string): string | undefined {
  const [line, ...more] = head_of(head).matchAll(new RegExp(`\n${name}: (.*)\r`, 'gi'))
  assert.deepEqual(more, [], `${name} appears twice`)
  return line?.[1]
}

/** The CPU time that this takes (µs): the least of several times. */
async function cpu_of(work: () => unknown, times = 1): Promise<number> {
  const before = process.cpuUsage()
  await work()
  const { user, system } = process.cpuUsage(before)
  return Math.min(user + system, times > 1 ? await cpu_of(work, times - 1) : Infinity)
}

/** Replies in short, all checked: the body of a 200, the status of others, other text as it is; the last one closes. */
function gist(text: string): string {
  if (!text.startsWith('HTTP/')) return text
  const grammar = /^HTTP\/1\.1 (\d{3}) [ -~]+\r\n(?:[\w-]+: [ -~]+\r\n)*\r\n/
  const [head = '', status = ''] = grammar.exec(text) ?? assert.fail(`no head: ${JSON.stringify(text)}`)
  const date = field_of(head, 'Date') ?? '', length = field_of(head, 'Content-Length') ?? ''
  const end = head.length + Number(length), body = text.slice(head.length, end), rest = text.slice(end)
  if (status === '100') assert.equal(head, 'HTTP/1.1 100 Continue\r\n\r\n')
  else {
    assert.equal(new Date(date).toUTCString(), date, 'Date is an IMF-fixdate')
    assert.ok(Date.parse(date) > performance.timeOrigin - 2_000 && Date.parse(date) < Date.now() + 2_000, 'Date is now')
    assert.equal(length, status === '204' ? '' : String(body.length), 'Content-Length counts what follows')
    assert.equal(field_of(head, 'Connection'), rest ? undefined : 'close', 'the last reply, and no other, says close')
  }
  return [status === '200' ? body : status, ...rest ? [gist(rest)] : []].join(', ')
}

describe('the article', () => {
  it('answers the page, which names TypeScript, to a GET of any path', async t => {
    const server = await start(t)
    for (const path of ['/', '/other', '/test.jpg/', '/test.jpg?x']) {
      const reply = await ask(server, `GET ${path}`)
      assert.match(reply, /^HTTP\/1\.1 200 OK\r\nContent-Type: text\/html\r\n/)
      assert.match(reply, /<title>WOW<\/title>[^]*<p>Wow, TypeScript Server<\/p>\n<IMG src="test\.jpg"\/>/)
    }
  })

  it('answers the picture, byte for byte, to a GET of /test.jpg', async t => {
    const reply = await ask(await start(t), 'GET /test.jpg')
    assert.match(reply, /^HTTP\/1\.1 200 OK\r\nContent-Type: image\/jpeg\r\n/)
    assert.equal(body_of(reply), PICTURE)
  })

  it("answers Yes to the article's own client, which sends no line end and reads once", async t => {
    const { port } = await start(t)
    const s = connect(port, '127.0.0.1')
    s.write('can you hear me?')
    const [reply] = await once(s, 'data') as [Buffer]
    assert.equal(String(reply), 'Yes')
    await once(s, 'close')
  })

  it('has a picture that is a baseline JPEG under 60 KB', () => {
    assert.ok(PICTURE.length < 60_000, `${PICTURE.length} bytes`)
    assert.ok(PICTURE.includes('\xff\xc0') && !PICTURE.includes('\xff\xc2'))
  })
})

describe('the source', () => {
  const lines_of = (file: string): string[] => readFileSync(join(HERE, file), 'utf8').split('\n')
  /** The index of the rule above a part. */
  const part = (lines: string[], number: 1 | 2): number =>
    lines.findIndex(line => line.startsWith('// ──') && line.includes(`─ Part ${number}: `))

  it('has the article in at most 85 lines of server.ts', () => {
    const all = lines_of('server.ts'), length = part(all, 2) - part(all, 1)
    assert.ok(part(all, 1) > 0 && length > 30 && length <= 85, `it has ${length} lines`)
  })

  it('has no function of more than 40 lines below the article', () => {
    const all = lines_of('server.ts'), long: string[] = []
    for (const [i, line] of all.entries()) {
      if (i < part(all, 2) || !line.endsWith('{') || /^(?:export )?(?:class|type) /.test(line)) continue
      const end = /^ */.exec(line) + '}', length = all.slice(i).findIndex(other => other.startsWith(end)) + 1
      if (length > 40) long.push(`${line.trim()} has ${length} lines`)
    }
    assert.deepEqual(long, [])
  })

  it('has no line over 120 columns', () => {
    const too_long = ['server.ts', 'client.ts', 'test.ts', '.ci/bench.ts'].flatMap(file =>
      lines_of(file).flatMap((line, i) => Array.from(line).length > 120 ? [`${file}:${i + 1}`] : []))
    assert.deepEqual(too_long, [])
  })

  /** The article's programs, line by line, and the beginning of what each line has become. */
  const ARTICLE: Record<string, [file: string, ...rows: [article: string, ours: string][]]> = {
    'section 2, the server': ['server.ts',
      ["import socket", "import { isIPv6, Server, "],
      ["HOST = ''", "const HOST = "],
      ["PORT = 8000", "const PORT = "],
      ["reply = 'Yes'", "const reply = 'Yes'"],
      ["s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)", "const s = new Listener(options)"],
      ["s.bind((HOST, PORT))", "s.listen({ host: HOST, port: PORT, backlog: 511 })"],
      ["s.listen(3)", "s.listen({ host: HOST, port: PORT, backlog: 511 })"],
      ["conn, addr = s.accept()", "const [conn, addr] = await s.accept()"],
      ["request = conn.recv(1024)", "const request = conn.recv()"],
      // section 2 has these two the other way round; ours follows section 3
      ["print 'Connected by', addr", "log('Connected by', addr)"],
      ["print 'request is: ',request", "log('Request is:', request)"],
      ["conn.sendall(reply)", "conn.sendall("],
      ["conn.close()", "conn.close()"]],
    'section 2, the client': ['client.ts',
      ["import socket", "import { isIPv6, Socket }"],
      ["# Address", "// Address"],
      ["HOST = '172.20.202.155'", "const HOST = "],
      ["PORT = 8000", "const PORT = "],
      ["request = 'can you hear me?'", "request ??= 'can you hear me?'"],
      ["# configure socket", "// configure socket"],
      ["s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)", "const s = new Connection(options)"],
      ["s.connect((HOST, PORT))", "await s.connect(HOST, PORT)"],
      ["# send message", "// send message"],
      ["s.sendall(request)", "s.sendall(request)"],
      ["# receive message", "// receive message"],
      ["reply = s.recv(1024)", "const reply = await s.recv()"],
      ["print 'reply is: ',reply", "print('reply is:', reply)"],
      ["# close connection", "// close connection"],
      ["s.close()", "s.close()"]],
    'section 3, the server': ['server.ts',
      ["import socket", "import { isIPv6, Server, "],
      ["# Address", "// Address"],
      ["HOST = ''", "const HOST = "],
      ["PORT = 8000", "const PORT = "],
      ["# Prepare HTTP response", "// Prepare HTTP response"],
      ["text_content = '''HTTP/1.x 200 OK", "const text_content = http`HTTP/1.1 200 OK"],
      ["Content-Type: text/html", "Content-Type: text/html"],
      ["", ""],
      ["<head>", "<head>"],
      ["<title>WOW</title>", "<title>WOW</title>"],
      ["</head>", "</head>"],
      ["<html>", "<html>"],
      ["<p>Wow, Python Server</p>", "<p>Wow, TypeScript Server</p>"],
      ['<IMG src="test.jpg"/>', '<IMG src="test.jpg"/>'],
      ["</html>", "</html>"],
      ["'''", "`"],
      ["# Read picture, put into HTTP format", "// Read picture, put into HTTP format"],
      ["f = open('test.jpg','rb')", "const f = open('test.jpg', 'r')"],
      ["pic_content = '''HTTP/1.x 200 OK", "const pic_content = http`HTTP/1.1 200 OK"],
      ["Content-Type: image/jpg", "Content-Type: image/jpeg"],
      ["", ""],
      ["pic_content = pic_content + f.read()", "${readFileSync(f)}`"],
      ["f.close()", "closeSync(f)"],
      ["# Configure socket", "// Configure socket"],
      ["s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)", "const s = new Listener(options)"],
      // the article has this and listen(3) in its loop
      ["# 3: maximum number of requests waiting", "// 511: maximum number of connections waiting"],
      ["s.bind((HOST, PORT))", "s.listen({ host: HOST, port: PORT, backlog: 511 })"],
      ["s.listen(3)", "s.listen({ host: HOST, port: PORT, backlog: 511 })"],
      ["# infinite loop, server forever", "// infinite loop, server forever"],
      ["while True:", "while (true) {"],
      ["conn, addr = s.accept()", "const [conn, addr] = await s.accept()"],
      ["request = conn.recv(1024)", "const request = conn.recv()"],
      ["method = request.split(' ')[0]", "const method  = request.split(' ', 2)[0]"],
      ["src = request.split(' ')[1]", "const src     = request.split(' ', 2)[1]"],
      ["# deal with GET method", "// deal with GET method"],
      ["if method == 'GET':", "else if (method === 'GET' || method === 'HEAD') {"],
      ["# ULR", "// URL"],
      ["if src == '/test.jpg':", "if (src === '/test.jpg') content = pic_content"],
      ["content = pic_content", "if (src === '/test.jpg') content = pic_content"],
      ["else: content = text_content", "else content = text_content"],
      ["print 'Connected by', addr", "log('Connected by', addr)"],
      ["print 'Request is:', request", "log('Request is:', request)"],
      ["conn.sendall(content)", "conn.sendall("],
      ["# close connection", "// close connection"],
      ["conn.close()", "conn.close()"]],
  }
  for (const [section, [file, ...rows]] of Object.entries(ARTICLE)) {
    it(`has a line for each of the article's, in their order: ${section}`, () => {
      const all = lines_of(file), ours = all.slice(0, part(all, 2)).map(line => line.trim())
      let at = ours.findIndex(line => line.startsWith('import '))
      for (const [article, line] of rows) {
        const found = ours.findIndex((other, i) => i >= at && (line ? other.startsWith(line) : other === ''))
        assert.ok(found >= 0, `${file} has no ${line} after its line ${at + 1}, for the article's ${article}`)
        at = found
      }
    })
  }
})

/** The suites that run beside one another: while one waits for programs, the other has the processor. */
const beside: (() => void)[] = []

/** A sentence, an outcome as `gist` tells it, and the messages that have it; each row is a test. */
type Row = [sentence: string, outcome: string, ...messages: string[]]

beside.push(() => describe('HTTP/1.1 to the letter', { concurrency: 1 }, () => {
  /** A request as the server repeats it (HEAD as GET); undefined leaves it to the article's contents. */
  function echoed({ method, src, headers, body }: Request): string | undefined {
    if (src === '/page' || src === '/test.jpg' || src === '*' || method === 'CONNECT') return undefined
    const parts = [method.replace('HEAD', 'GET'), src, headers.get('x'), Buffer.from(body).toString('latin1')]
    return parts.filter(part => part).join(' ')
  }

  const asked: string[] = []
  const echo: Answer = request => {
    asked.push(request.src)
    const text = echoed(request)
    if (text === undefined) return undefined
    const content = http`HTTP/1.1 200 OK\n\n${Buffer.from(text, 'latin1')}`
    return request.src === '/later' ? turn(content) : content
  }

  /** What is tested: a server, and with the same limits the reader, which knows no socket. */
  type Subject = { limits: typeof LIMITS, server: Promise<Started> }
  function subject(limits: Limits): Subject {
    const started = start({ after }, { answer: echo, limits })
    // newer Nodes end nothing of a suite of which no test was chosen
    started.then(({ server }) => server.unref())
    return { limits: { ...LIMITS, ...limits }, server: started }
  }
  const wide = subject({}), narrow = subject({ head_bytes: 120, target_bytes: 40, body_bytes: 20 })

  /** The part of the server that reads, alone: it knows no socket. */
  function reader_of(limits: typeof LIMITS): InstanceType<typeof Reader> {
    const shared = { options: { limits, answer: () => undefined }, bodies: { bytes: 0 } }
    return new Reader(shared as unknown as ConstructorParameters<typeof Reader>[0])
  }

  /** What the reader makes of the pieces, and what the server answers to that; in the words of `gist`. */
  function read_all({ limits }: Subject, pieces: string[]): string {
    const reader = reader_of(limits), said: string[] = []
    for (const piece of pieces) {
      reader.push(Buffer.from(piece, 'latin1'))
      for (;;) {
        const next = reader.read()
        if (next === 'continue') said.push('100')
        else if (typeof next === 'string') break
        else {
          said.push(next.refusal ? String(next.refusal.status) : answered(next))
          if (next.close) return said.join(', ')
          reader.release()
        }
      }
    }
    const text = reader.read('late')
    assert.ok(typeof text !== 'string')
    return [...said, text.refusal ? String(text.refusal.status) : answered(text)].join(', ')
  }

  function answered(request: Request): string {
    if (!request.method) return 'Yes'
    const status = /^(?:POST|PUT|PATCH|DELETE|CONNECT|TRACE)$/.test(request.method) ? '405' : '501'
    return echoed(request) ?? (request.method === 'OPTIONS' ? '204' : status)
  }

  /** Every way to send a message: whole, cut in two at each byte, and byte by byte; the rest comes with its end. */
  function ways(message: string, rest: string): string[][] {
    const cuts = Array.from(message, (_, i) => [message.slice(0, i + 1), message.slice(i + 1) + rest])
    return [[message + rest], ...cuts, [...message, rest]]
  }

  /** Exchanges as `exchange` does, but the server has read each piece before the next one is sent. */
  function exchange_pieces(server: Started, ...pieces: Piece[]): Promise<string> {
    const waiting = pieces.flatMap(piece => [piece, (peer: Peer) => is_read(peer, server)])
    return until('the server has answered', exchange(server, ...waiting))
  }

  /** Waits until the server has read all that a client wrote, or has closed its side. */
  async function is_read(peer: Peer, { ends }: Started): Promise<void> {
    let end: Socket | undefined
    while (!peer.over && end?.bytesRead !== peer.socket.bytesWritten) {
      const more = end ? new Promise(next => end?.once('data', next)) : turn()
      await Promise.race([more, peer.all])
      end ??= Array.from(ends).find(({ remotePort }) => remotePort === peer.socket.localPort)
    }
  }

  /** Whether a piece but the last leaves what is no HTTP yet: the server waits a short while only for the rest. */
  function may_be_late({ limits }: Subject, pieces: string[]): boolean {
    const reader = reader_of(limits)
    for (const piece of pieces.slice(0, -1)) {
      reader.push(Buffer.from(piece, 'latin1'))
      const next = reader.read()
      if (typeof next !== 'string') return false
      if (next === 'text_ms') return true
    }
    return false
  }

  /** Over sockets, a message has this outcome in all of these ways, but for those that a busy machine may change. */
  async function same_over_sockets(to: Subject, all: string[][], outcome: string): Promise<void> {
    const server = await to.server, steady = all.filter(pieces => outcome === 'Yes' || !may_be_late(to, pieces))
    assert.ok(steady.length > 0, `a way to send ${JSON.stringify(all[0])}`)
    await Promise.all(steady.map(async pieces => {
      assert.equal(gist(await exchange_pieces(server, ...pieces)), outcome, JSON.stringify(pieces))
    }))
  }

  /** A message has this outcome in every way; whole, or in these ways, it goes over sockets, too. */
  async function same(to: Subject, message: string, outcome: string, rest = NEXT, over_sockets = [0]): Promise<void> {
    const all = ways(message, rest)
    for (const pieces of all) assert.equal(read_all(to, pieces), outcome, JSON.stringify(pieces))
    const few = over_sockets.map(i => all.at(i))
    await same_over_sockets(to, all.filter(pieces => few.includes(pieces)), outcome)
  }

  /** A test for each row, whose first message goes over sockets cut in two and byte by byte, too. */
  function each(rows: Row[], to = wide, rest = NEXT): void {
    for (const [sentence, outcome, ...messages] of rows) it(sentence, async () => {
      await Promise.all(messages.map((message, i) =>
        same(to, message, outcome, rest, i === 0 ? [0, message.length >> 1, -1] : [0])))
    })
  }

  /**
   * A test for each row: the work on a text of some length, and on one of four times that length. A pattern that tries
   * again for each character takes 16 times as long for the long text.
   */
  function is_linear(how: string, work: (text: string) => void, rows: Part[], length = 4_000): void {
    const repeated = (text: string, times: number) => (): void => { for (let i = 0; i < times; i++) work(text) }
    for (const [part, text_of] of rows) it(`four times as much takes four times as long, ${how}: ${part}`, async () => {
      const small = text_of(length), large = text_of(4 * length)
      // the first times take longer, because functions and patterns are compiled
      for (const text of [large, small]) repeated(text, 3)()
      const times = Math.ceil(1_000 / (1 + await cpu_of(repeated(small, 1))))
      const least_small = await cpu_of(repeated(small, times), 5), least_large = await cpu_of(repeated(large, times), 5)
      assert.ok(least_large < 10 * least_small, `${least_small} µs, then ${least_large} µs, for ${times} times`)
    })
  }
  type Part = [part: string, text: (n: number) => string]

  async function said(...pieces: Piece[]): Promise<string> {
    return gist(await exchange_pieces(await wide.server, ...pieces))
  }

  const NEXT = request('GET /next', 'Connection: close')
  const start_line = (line: string): string => lines(line, 'Host: a', '')
  const get = (...fields: string[]): string => request('GET /x', ...fields)
  const post = (...fields: string[]): string => request('POST /x', ...fields)
  const chunked = (body: string): string => post('Transfer-Encoding: chunked') + body
  const hello = (field: string): string => post(field) + 'hello'
  const coded = (coding: string): string => post(`Transfer-Encoding: ${coding}`) + '0\r\n\r\n'
  const hosted = (host: string): string => lines('GET /x HTTP/1.1', `Host:${host}`, '')
  const y = (bytes: number): string => 'y'.repeat(bytes)

  const every_byte = Array.from({ length: 256 }, (_, code) => String.fromCharCode(code))
  /** control characters, without HTAB, LF and CR */
  const controls = every_byte.filter(c => /[\0-\x08\v\f\x0e-\x1f\x7f]/.test(c))
  const tchars = "!#$%&'*+-.^_`|~09AZaz"
  const target_characters = every_byte.filter(c => /[!"$-~]/.test(c)).join('')

  /** What is refused with 400, by promise. */
  const REFUSED: Record<string, [sentence: string, ...messages: string[]][]> = {
    'a head is lines that end with CRLF, and fields': [
      ['a line ended by a bare LF (RFC 9112, 2.2)',
        'GET /x HTTP/1.1\nHost: a\r\n\r\n',
        'GET /x HTTP/1.1\r\nHost: a\n\r\n',
        'GET /x HTTP/1.1\r\nHost: a\r\n\n',
        'GET /x HTTP/1.1\nHost: a\n\n',
        '\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n',
        get('X: a\nY: b'),
        get('X\n: a')],
      ['a line ended by a bare CR (RFC 9112, 2.2)',
        'GET /x HTTP/1.1\rHost: a\r\n\r\n',
        'GET /x HTTP/1.1\r\nHost: a\rX: b\r\n\r\n',
        'GET /x HTTP/1.1\r\nHost: a\r\n\r',
        'GET /x HTTP/1.1\r\r\nHost: a\r\n\r\n',
        '\rGET /x HTTP/1.1\r\nHost: a\r\n\r\n',
        get('X: a\rb'),
        get('X: a\r'),
        get('X\r: a')],
      ['obs-fold (RFC 9112, 5.2)',
        get('X: a', ' b'),
        get('X: a', '\tb'),
        get('X: a', ' '),
        get('X:', ' a'),
        post('Transfer-Encoding:', ' chunked')],
      ['white space before the first field (RFC 9112, 2.2)',
        lines('GET /x HTTP/1.1', ' Host: a', ''),
        lines('GET /x HTTP/1.1', '\tX: a', 'Host: a', ''),
        lines('GET /x HTTP/1.1', ' ', 'Host: a', '')],
      ['white space between a field\'s name and its colon (RFC 9112, 5.1)',
        get('X : a'),
        get('X\t: a'),
        lines('GET /x HTTP/1.1', 'Host : a', ''),
        hello('Content-Length : 5'),
        post('Transfer-Encoding : chunked') + '0\r\n\r\n'],
      ['a field name that is empty or no token (RFC 9112, 5)',
        get(': a'),
        ...Array.from('"(),/;<=>?@[\\]{} \t\0\x7f\x80\xff', c => get(`X${c}Y: a`))],
      ['a field line with no colon (RFC 9112, 5)',
        get('X'),
        get('X a'),
        lines('GET /x HTTP/1.1', 'Host', '')],
      ['a control character but HTAB in a value (RFC 9110, 5.5)',
        ...controls.map(c => get(`X: a${c}b`)),
        get('X: \0'),
        post('Transfer-Encoding: \vchunked') + '0\r\n\r\n',
        hello('Content-Length: 5\0')],
      ['two empty lines before a request line (RFC 9112, 2.2)',
        '\r\n\r\n' + get(),
        '\r\n\r\n\r\n' + get()],
    ],

    'a request line is a method, a target and a version': [
      ['anything but single spaces between its parts (RFC 9112, 3)',
        start_line('GET  /x HTTP/1.1'),
        start_line('GET /x  HTTP/1.1'),
        start_line(' GET /x HTTP/1.1'),
        start_line('GET\t/x HTTP/1.1'),
        start_line('GET /x\tHTTP/1.1'),
        start_line('GET\t/x\tHTTP/1.1'),
        start_line('GET\v/x HTTP/1.1'),
        start_line('GET \t/x HTTP/1.1'),
        start_line('GET HTTP/1.1'),
        start_line('GET /x /y HTTP/1.1'),
        start_line('/x HTTP/1.1'),
        start_line(' /x HTTP/1.1'),
        start_line('G@T /x HTTP/1.1'),
        start_line('GET/x HTTP/1.1')],
      ['something after the version (RFC 9112, 3)',
        ...[' ', '\t', ' x', ';a', '.1', '\0'].map(more => start_line(`GET /x HTTP/1.1${more}`))],
      ['a target in none of its forms (RFC 9112, 3.2)',
        ...['x', 'a.b', '*', 'a:80', '?x', '//\\#'].map(target => request(`GET ${target}`)),
        ...['ftp://a/', 'http:/x', 'http:x', 'http://', 'http:///x', 'http://u@a/', 'http://a:b/', 'http://[::1/']
          .map(target => request(`GET ${target}`)),
        ...['/x', 'a', 'a:', ':80', 'a:65536', 'a/x:80', 'u@a:80', '[::1]', 'http://a:80/', '*']
          .map(target => request(`CONNECT ${target}`)),
        request('POST *'),
        request('OPTIONS x'),
        request('OPTIONS **')],
      ['a target with a fragment (RFC 9112, 3.2)',
        ...['/#', '/x#y', 'http://a/#y', 'http://a#y'].map(target => request(`GET ${target}`))],
      ['a target with a control character, a space or a byte over 0x7e (RFC 9112, 3.2)',
        ...[...controls, '\t', ' ', '\x80', '\xa0', '\xff'].map(c => request(`GET /x${c}y`))],
      ['a version that is not written HTTP/digit.digit (RFC 9112, 2.3)',
        ...['HTTP/1', 'HTTP/1.', 'HTTP/.1', 'HTTP/11', 'HTTP/1.10', 'HTTP/01.1', 'HTTP/1,1', 'HTTP/+1.1', 'HTTP/-1.1',
          'HTTP/a.1', 'HTTP/1.a', 'HTTP/ 1.1', 'HTTP/1. 1', 'HTTP 1.1', 'http/1.1', 'Http/1.1', 'HTTPS/1.1',
          'XHTTP/1.1', 'ICY/1.1', 'HTTP/\xb9.1', 'HTTP/', '/1.1'].map(version => start_line(`GET /x ${version}`))],
      ['no version at all (RFC 9112, 2.3)',
        'GET /x\r\n',
        'GET /x \r\n',
        'POST /x\r\n',
        start_line('GET /x')],
    ],

    'HTTP/1.1 has one Host': [
      ['no Host (RFC 9112, 3.2)',
        lines('GET /x HTTP/1.1', ''),
        lines('GET /x HTTP/1.2', ''),
        lines('GET http://a/x HTTP/1.1', ''),
        lines('GET /x HTTP/1.1', 'X-Host: a', ''),
        lines('OPTIONS * HTTP/1.1', '')],
      ['more than one Host, even equal ones (RFC 9112, 3.2)',
        get('Host: b'),
        get('Host: a'),
        get('X: y', 'hOST: a'),
        lines('GET /x HTTP/1.1', 'Host: [v1.a', 'Host: b]', ''),
        lines('GET /x HTTP/1.0', 'Host: a', 'Host: a', '')],
      ['a Host that is no uri-host with optional port (RFC 9112, 3.2)',
        ...['', ' ', 'u@a', 'u:p@a', '@a', 'a/', 'a/x', 'a,b', 'a, b', 'a b', 'a\tb', 'http://a', 'a:b', 'a:-1',
          'a:80:80', 'a:8 0', ':80', '::1', '[::1', '[::1]x', '[::1%25e]', '[x]', '[1:2]', '[]', 'a?x', 'a#x', 'a\\b',
          'a%zz', 'a%2', '"a"', '<a>', 'a\xe9', '[::1]:x', '[::1]80'].map(hosted),
        lines('GET /x HTTP/1.0', 'Host: a b', ''),
        lines('GET http://a/x HTTP/1.1', 'Host: a/b', '')],
    ],

    'Content-Length is one number': [
      ['one that is not digits only (RFC 9110, 8.6)',
        ...['+5', '-5', '-0', '0x5', '5a', 'a', '', ' ', '5 5', '5.0', '5e0', '0_5', '"5"', '5;', '\xd9\xa5', '5\xa0',
          '\xb2']
          .map(length => hello(`Content-Length: ${length}`))],
      ['one too long to count (RFC 9110, 8.6)',
        ...['99999999999999999999', '9007199254740993', '18446744073709551621', '4' + '0'.repeat(400)]
          .map(length => post(`Content-Length: ${length}`))],
      ['a list (RFC 9110, 8.6)',
        ...['5,5', '5, 5', '5, 6', '5,', ',5'].map(length => hello(`Content-Length: ${length}`))],
      ['one that is there twice, even equal (RFC 9112, 6.3)',
        post('Content-Length: 5', 'Content-Length: 5') + 'hello',
        post('Content-Length: 5', 'X: a', 'content-length: 6') + 'hello',
        get('Content-Length: 0', 'Content-Length: 0')],
      ['one beside Transfer-Encoding (RFC 9112, 6.1)',
        post('Content-Length: 5', 'Transfer-Encoding: chunked') + '0\r\n\r\n',
        post('Transfer-Encoding: chunked', 'Content-Length: 5') + '0\r\n\r\n',
        post('Content-Length: 0', 'Transfer-Encoding: chunked') + '0\r\n\r\n',
        post('Content-Length: 5', 'Transfer-Encoding: gzip, chunked') + '0\r\n\r\n',
        post('Transfer-Encoding: gzip', 'Content-Length: 5', 'Transfer-Encoding: chunked') + '0\r\n\r\n'],
    ],

    'Transfer-Encoding ends with chunked': [
      ['one in HTTP/1.0 (RFC 9112, 6.1)',
        lines('POST /x HTTP/1.0', 'Host: a', 'Transfer-Encoding: chunked', '', '0', ''),
        lines('POST /x HTTP/1.0', 'Transfer-Encoding: gzip, chunked', '', '0', '')],
      ['one that is there twice (RFC 9112, 6.1)',
        post('Transfer-Encoding: chunked', 'Transfer-Encoding: chunked') + '0\r\n\r\n',
        post('Transfer-Encoding: chunked', 'transfer-encoding: gzip') + '0\r\n\r\n'],
      ['one that is empty or has an empty list element (RFC 9110, 5.6.1)',
        ...['', ' ', ',', ',chunked', ', chunked', 'chunked,', 'chunked, ', 'gzip,,chunked', 'gzip, ,chunked']
          .map(coded)],
      ['one whose last coding is not chunked (RFC 9112, 6.3)',
        ...['gzip', 'identity', 'xchunked', 'chunkedx', 'chunked, gzip', 'chunked, identity', 'chunked, x', '"chunked"',
          'gzip chunked', 'chunked chunked', 'chu nked', 'gzip;chunked', 'gzip;a=chunked', 'gzip;a=", chunked"',
          'chunked\xa0', '\xa0chunked', 'chunked;', 'chun\xeaed'].map(coded)],
      ['chunked with a parameter (RFC 9112, 7.1)',
        ...['chunked;a=b', 'chunked;a=chunked', 'chunked;a="chunked"', 'chunked ; a = chunked'].map(coded)],
      ['one that names chunked twice (RFC 9112, 6.1)',
        ...['chunked, chunked', 'chunked,Chunked', 'chunked, gzip, chunked', 'chunked;a=b, chunked'].map(coded)],
    ],

    'a chunked body is chunks, a last chunk and trailers': [
      ['a chunk size that is not hexadecimal digits only (RFC 9112, 7.1)',
        ...['+5', '-5', '0x5', '0X5', ' 5', '\t5', '5 ', '5\t', '0_5', 'g', '5h', '', '5.0', '5,', '\xb2', '5\0']
          .map(size => chunked(`${size}\r\nhello\r\n0\r\n\r\n`)),
        ...['-0', '+0', '0x0', ' 0', '0 '].map(size => chunked(`${size}\r\n\r\n`))],
      ['a chunk size too large to count (RFC 9112, 7.1)',
        ...['fffffffffffffffff', '10000000000000005', '20000000000001', 'f'.repeat(300)]
          .map(size => chunked(`${size}\r\nhello\r\n0\r\n\r\n`))],
      ['a chunk size not ended by CRLF (RFC 9112, 7.1)',
        chunked('5\nhello\r\n0\r\n\r\n'),
        chunked('5\rhello\r\n0\r\n\r\n'),
        chunked('5\r\r\nhello\r\n0\r\n\r\n'),
        chunked('0\n\r\n'),
        chunked('0\r\r\n'),
        chunked('5hello\r\n0\r\n\r\n')],
      ['a chunk extension that has no semicolon, or a control character but HTAB (RFC 9112, 7.1.1)',
        ...[' a', '\ta', 'g;a', ';a=\0', ';a="\0"', ';a="\\\0"', ';\x07', ';a\x7f', ';\n', ';a\nb', ';a="\n"', ';a\n',
          ';\r', ';a\rb', ';a="\r"', ';a="\\\r"'].map(extension => chunked(`5${extension}\r\nhello\r\n0\r\n\r\n`)),
        ...[' a', ';a\0', ';a\n', ';a\r'].map(extension => chunked(`0${extension}\r\n\r\n`))],
      ['chunk data not followed by CRLF (RFC 9112, 7.1)',
        chunked('5\r\nhelloX\r\n'),
        chunked('5\r\nhello\n0\r\n\r\n'),
        chunked('5\r\nhello\r0\r\n\r\n'),
        chunked('5\r\nhello0\r\n\r\n'),
        chunked('5\r\nhello\r\r\n0\r\n\r\n'),
        chunked('4\r\nhello\r\n0\r\n\r\n'),
        chunked('6\r\nhello\r\n0\r\n\r\n'),
        chunked('5\r\nhello\n\n0\r\n\r\n')],
      ['a trailer that breaks the field grammar (RFC 9112, 7.1.2)',
        ...['X', ': a', 'X : a', ' X: a', '\tX: a', 'X[: a', 'X: a\0', 'X: a\x7f', 'X: a\nY: b', 'X: a\rb',
          'X: a\r\n b', 'X: a\r\n\tb', ' '].map(trailer => chunked(`0\r\n${trailer}\r\n\r\n`)),
        chunked('0\r\n\n'),
        chunked('0\r\nX: a\r\n\n'),
        chunked('0\r\nX: a\n\r\n'),
        chunked('0\r\n\r')],
    ],
  }

  for (const [promise, rows] of Object.entries(REFUSED)) describe(`400 for what is ambiguous: ${promise}`, () => {
    each(rows.map(([sentence, ...messages]) => [`refuses ${sentence}`, '400', ...messages]))
  })

  /** What else is not served. Where NEXT is in the outcome, the connection stays open. */
  const OTHER: Row[] = [
    ['answers 505 to a well-written major version other than 1 (RFC 9110, 15.6.6)', '505',
      ...['2.0', '0.9', '3.0', '9.9', '0.0', '2.1'].map(version => start_line(`GET /x HTTP/${version}`)),
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      'GET /x HTTP/2.0\r\n\r\n'],
    ['answers 501 to a coding before a final chunked (RFC 9112, 6.1)', '501',
      ...['gzip, chunked', 'gzip,chunked', 'deflate , gzip,\tChunked', 'x;a="b, c" ; d = e, chunked',
        'identity, chunked']
        .map(coded),
      coded('gzip;a=",chunked'),
      post('Transfer-Encoding: gzip', 'transfer-encoding: chunked') + '0\r\n\r\n',
      post('Transfer-Encoding: gzip', 'X: y', 'transfer-encoding:chunked') + '0\r\n\r\n',
      post('Transfer-Encoding: gzip, chunked', 'Expect: 100-continue')],
    ['answers 501 to a method nobody defines, and goes on (RFC 9110, 15.6.2)', '501, GET /next',
      ...['BREW', 'get', 'Get', 'M-SEARCH', "!#$%&'*+-.^_`|~09", 'GETX', 'PROPFIND']
        .map(method => request(`${method} /page`))],
    ['answers 405 to another method of RFC 9110 and to PATCH, and goes on (RFC 9110, 15.5.6)', '405, GET /next',
      ...['POST', 'PUT', 'DELETE', 'TRACE', 'PATCH'].map(method => request(`${method} /page`)),
      request('POST /page', 'Content-Length: 5') + 'hello'],
    ['answers 405 to CONNECT, and closes (RFC 9110, 9.3.6)', '405',
      ...['a:443', '[::1]:80', '127.0.0.1:1'].map(target => request(`CONNECT ${target}`))],
    ['answers 421 to an https address, and closes (RFC 9110, 7.4)', '421',
      request('GET https://a/'),
      lines('GET HTTPS://a:443/x?y HTTP/1.1', 'Host: a:443', '')],
    ['answers 204 to OPTIONS, * included, and goes on (RFC 9110, 9.3.7)', '204, GET /next',
      request('OPTIONS *'),
      request('OPTIONS /page')],
    ['answers 417 to an expectation other than 100-continue (RFC 9110, 10.1.1)', '417',
      ...['200-ok', '100-continue, x', '100', '100-continue;a=b', 'x100-continue']
        .map(expectation => post('Content-Length: 5', `Expect: ${expectation}`) + 'hello'),
      get('Expect: x')],
  ]

  /** What reaches the limits of `narrow`: 120 bytes for a head, 40 for a target, 20 for a body. */
  const head = (bytes: number): string => get(`X: ${y(bytes - get('X: ').length)}`)
  const target = (bytes: number): string => `/${y(bytes - 1)}`
  const LIMITED: Row[] = [
    ['takes a target of as many bytes as it has room for (RFC 9112, 3)', `GET ${target(40)}, GET /next`,
      request(`GET ${target(40)}`)],
    ['answers 414 to one with a byte more (RFC 9110, 15.5.15)', '414',
      request(`GET ${target(41)}`),
      request(`GET ${target(100)}`),
      request(`GET ${target(200)}`),
      request(`get ${target(200)}`),
      start_line(`get ${target(122)} HTTP/2.0`),
      `GET /${y(200)}`],
    ['answers 501 to letters alone without end, and reads nothing of them twice (RFC 9112, 3)', '501',
      'A'.repeat(121) + get(),
      'A'.repeat(300) + get()],
    ['answers Yes to a text without end, and reads nothing of it twice (the article, section 2)', 'Yes',
      `can you hear me? ${'and me? '.repeat(20)}${get()}`],
    ['takes a head of as many bytes as it has room for (RFC 9112, 3)',
      `GET /x ${y(120 - get('X: ').length)}, GET /next`,
      head(120)],
    ['answers 431 to one with a byte more, or without end (RFC 6585, 5)', '431',
      head(121),
      head(122),
      head(123),
      head(300),
      get('X: ').slice(0, -4) + y(200),
      get(...Array<string>(40).fill('Y: a'))],
    ['takes a body of as many bytes as it has room for (RFC 9112, 6)', `POST /x ${y(20)}, GET /next`,
      post('Content-Length: 20') + y(20),
      chunked(`8\r\n${y(8)}\r\nc\r\n${y(12)}\r\n0\r\n\r\n`)],
    ['answers 413 to one with a byte more, before it comes (RFC 9110, 15.5.14)', '413',
      post('Content-Length: 21'),
      post('Content-Length: 9007199254740991'),
      post('Content-Length: 21', 'Expect: 100-continue'),
      chunked('15\r\n'),
      chunked('1fffffffffffff\r\n'),
      chunked(`8\r\n${y(8)}\r\nd\r\n`)],
    ['answers 431 to chunk extensions and trailers without end (RFC 9112, 7.1.1)', '431',
      chunked(`1;${y(200)}`),
      chunked(`1;${y(40)}\r\ny\r\n`.repeat(4)),
      chunked(`0\r\nX: ${y(200)}`),
      chunked(`0\r\n${'X: y\r\n'.repeat(40)}`),
      chunked('0'.repeat(200))],
  ]

  describe('other refusals: what is well written and not for us', () => {
    each(OTHER)
    each(LIMITED, narrow)

    it('names the methods in Allow (RFC 9110, 10.2.1)', async () => {
      const server = await wide.server
      assert.match(await ask(server, 'DELETE /page'), /^HTTP\/1\.1 405 [^]*?\r\nAllow: GET, HEAD, OPTIONS\r\n/)
      for (const target of ['*', '/page']) {
        assert.match(await ask(server, `OPTIONS ${target}`), /^HTTP\/1\.1 204 [^]*?\r\nAllow: GET, HEAD\b/)
      }
    })

    it('has room for 8,000 bytes of target, 16 KiB of head and 1 MiB of body, and no byte more '
      + '(RFC 9112, 3)', async () => {
      const body = (bytes: number): string => post(`Content-Length: ${bytes}`) + y(bytes)
      for (const message of [request(`GET ${target(8000)}`), head(16_384), body(1_048_576)]) {
        assert.match(await said(message + NEXT), /y, GET \/next$/)
      }
      const over = [['414', request(`GET ${target(8001)}`)], ['431', head(16_385)], ['413', body(1_048_577)]] as const
      for (const [outcome, message] of over) assert.equal(await said(message + NEXT), outcome)
    })
  })

  describe('nothing is read twice, and nothing passes by a limit', () => {
    // each is longer than one of the limits, and what follows would be answered if it was read as a request
    const TOO_LONG: [what: string, outcome: string, stream: string][] = [
      ['letters longer than a head', '501', 'A'.repeat(16_385)],
      ['a target over both limits after a small method', '414', request(`get /${y(17_000)}`)],
      ['such a target before another version', '414', start_line(`get /${y(16_386)} HTTP/2.0`)],
      ['a head longer than its limit', '431', get(`X: ${y(17_000)}`)],
      ['a text that goes on and on', 'Yes', `can you hear me? ${'and me? '.repeat(9_000)}`],
    ]
    for (const [what, outcome, stream] of TOO_LONG) it(`answers ${outcome} and closes: ${what}`, async () => {
      asked.length = 0
      for (const cut of [16_383, 16_384, 16_385, stream.length]) {
        assert.equal(await said(stream.slice(0, cut), stream.slice(cut) + NEXT), outcome, `cut at ${cut}`)
      }
      assert.deepEqual(asked, [])
    })

    it('waits for the end of a text until it has more bytes than a head may have', async () => {
      const reader = reader_of(narrow.limits)
      reader.push(Buffer.from(`can you ${y(112)}`))
      assert.equal(typeof reader.read(), 'string')
      reader.push(Buffer.from('y'))
      assert.notEqual(typeof reader.read(), 'string')
      assert.equal(await said(...Array<string>(1000).fill('can you hear me? ')), 'Yes')
    })

    const bounds = { head_bytes: 1000, target_bytes: 300, body_bytes: 400 }
    const bounded = subject(bounds), near = Object.values(bounds).flatMap(limit => [limit - 1, limit, limit + 1])
    /** Messages with a part of such a length. */
    const PARTS: [part: string, message: (n: number) => string][] = [
      ['a method', n => request(`${'A'.repeat(n)} /x`)],
      ['letters without an end', n => `${'A'.repeat(n)} `],
      ['letters with a line end', n => `${y(n)}\r\n`],
      ['a text', n => `can you ${y(n)}`],
      ['a text that names HTTP at last', n => start_line(`can you ${y(n)} HTTP/1.1`)],
      ['a target', n => request(`GET ${target(n)}`)],
      ['a target after a small method', n => request(`get ${target(n)}`)],
      ['a target before another version', n => start_line(`get ${target(n)} HTTP/2.0`)],
      ['a target in absolute-form', n => request(`GET http://a/${y(n)}`)],
      ['white space', n => request(`GET${' '.repeat(n)}/x`)],
      ['white space at the beginning', n => request(`${' '.repeat(n)}GET /x`)],
      ['empty lines', n => '\r\n'.repeat(Math.ceil(n / 2))],
      ['a field line', n => get(`Y: ${y(n)}`)],
      ['a field name', n => get(`${y(n)}: y`)],
      ['a head', n => get(`Y: ${y(n - get('Y: ').length)}`)],
      ['a Host', n => hosted(y(n))],
      ['an Expect', n => post(`Expect:${' '.repeat(n)}`, 'Content-Length: 5') + 'hello'],
      ['a body', n => post(`Content-Length: ${n}`) + y(n)],
      ['a chunk', n => chunked(`${n.toString(16)}\r\n${y(n)}\r\n0\r\n\r\n`)],
      ['chunks of one byte', n => chunked(`${'1\r\ny\r\n'.repeat(n)}0\r\n\r\n`)],
      ['the size of a chunk', n => chunked(`${'0'.repeat(n - 1)}1\r\ny\r\n0\r\n\r\n`)],
      ['a chunk extension', n => chunked(`1;y=${y(n)}\r\ny\r\n0\r\n\r\n`)],
      ['a trailer', n => chunked(`1\r\ny\r\n0\r\nY: ${y(n)}\r\n\r\n`)],
    ]
    for (const [part, message] of PARTS) it(`with ${part} as long as the limits, cut there`, async () => {
      for (const size of [...near, 600, 800, 2000]) {
        const text = message(size), stream = text + NEXT, outcome = read_all(bounded, [stream])
        // a refusal or a text is the last that is read; the next request begins where this one ends
        const accepted = /^\S+ (\S+)(?: (\S+))?, GET \/next$/.exec(outcome)
        if (!accepted) assert.match(outcome, /^(?:[45]\d\d|Yes)$/, `${size} bytes`)
        else {
          const [, src = '', body = ''] = accepted, lengths = [head_of(text).length, src.length, body.length]
          assert.ok(lengths.every((length, i) => length <= (Object.values(bounds)[i] ?? 0)), String(lengths))
        }
        for (const cut of [...near, text.length - 1, text.length, text.length + 1, stream.length - 1]) {
          assert.equal(read_all(bounded, [stream.slice(0, cut), stream.slice(cut)]), outcome, `${size}, cut at ${cut}`)
        }
        await same_over_sockets(bounded, [[stream], [stream.slice(0, 1000), stream.slice(1000)]], outcome)
      }
    })
  })

  const ACCEPTED: Row[] = [
    ['HTTP/1.0, with or without Host, and closes (RFC 9112, 9.3)', 'GET /x',
      'GET /x HTTP/1.0\r\n\r\n',
      start_line('GET /x HTTP/1.0'),
      lines('GET /x HTTP/1.0', 'Connection: keep-alive', '')],
    ['a body in HTTP/1.0, and sends no 1xx (RFC 9110, 15.2)', 'POST /x hello',
      lines('POST /x HTTP/1.0', 'Content-Length: 5', 'Expect: 100-continue', '') + 'hello'],
    ['1.1 and any later 1.x as 1.1 (RFC 9110, 2.5)', 'GET /x, GET /next',
      ...['1.1', '1.2', '1.9'].map(version => start_line(`GET /x HTTP/${version}`))],
    ['the absolute-form (RFC 9112, 3.2.2)', 'GET /x?y, GET /next',
      ...['http://a', 'HTTP://a:443', 'http://[::1]:80', 'http://a:', 'hTTp://%61.b']
        .map(origin => lines(`GET ${origin}/x?y HTTP/1.1`, `Host: ${origin.replace(/.*\/\//, '')}`, ''))],
    ['the absolute-form without a path (RFC 9112, 3.2.1)', 'GET /, GET /next',
      request('GET http://a'),
      request('GET http://a/')],
    ['the absolute-form with a query only (RFC 9112, 3.2.1)', 'GET /?y, GET /next',
      request('GET http://a?y'),
      request('GET /?y')],
    ['every character that a target may have (RFC 9112, 3.2.1)', `GET /${target_characters}, GET /next`,
      request(`GET /${target_characters}`)],
    ['any uri-host with optional port (RFC 9110, 7.2)', 'GET /x, GET /next',
      ...['a', 'a:80', 'a:', 'a.b-c_d~', '127.0.0.1:65535', '[::1]', '[::ffff:1.2.3.4]:80', '[v1.a:b]', '%41',
        "!$&'()*+;="]
        .map(host => hosted(` ${host}`))],
    ['white space around field values (RFC 9110, 5.5)', 'POST /x a b hello, GET /next',
      'POST /x HTTP/1.1\r\nHost:\t a \t\r\nX: \t a b\t \r\nContent-Length: \t5\t \r\nConnection: \tx \t\r\n\r\nhello',
      'POST /x HTTP/1.1\r\nHost:a\r\nX:a b\r\nTransfer-Encoding:  chunked \t\r\nContent-Type: a/b \r\n\r\n'
        + '5\r\nhello\r\n0\r\n\r\n'],
    ['empty field values (RFC 9110, 5.5)', 'GET /x, GET /next',
      get('X:'),
      get('X: '),
      get('X:\t'),
      get('Accept:', 'X:', 'Y:')],
    ['tabs and obs-text in field values (RFC 9110, 5.5)', 'GET /x a\tb\x80\xff\xa0, GET /next',
      get('X: a\tb\x80\xff\xa0')],
    ['every token as a field name (RFC 9110, 5.1)', 'GET /x, GET /next',
      get(`${tchars}: a`),
      get('Content_Length: 5'),
      get('Transfer_Encoding: chunked'),
      get('X-Content-Length: 5')],
    ['any case of field names and of chunked (RFC 9110, 5.1)', 'POST /x hello, GET /next',
      lines('POST /x HTTP/1.1', 'hOST: a', 'CONTENT-LENGTH: 5', '') + 'hello',
      lines('POST /x HTTP/1.1', 'HOST: a', 'tRANSFER-eNCODING: CHUNKED', '', '5', 'hello', '0', '')],
    ['a method that answer takes, whatever it is (RFC 9110, 9.1)', `${tchars} /x, GET /next`,
      request(`${tchars} /x`)],
    ['chunks (RFC 9112, 7.1)', 'POST /x hello, wide world, GET /next',
      chunked('c\r\nhello, wide \r\n5\r\nworld\r\n0\r\n\r\n'),
      chunked('C\r\nhello, wide \r\n005\r\nworld\r\n000\r\n\r\n'),
      chunked(`${'0'.repeat(20)}11\r\nhello, wide world\r\n0\r\n\r\n`)],
    ['chunk extensions, whatever they say (RFC 9112, 7.1.1)', 'POST /x hello, GET /next',
      ...[';a', ';a=b', ';a="b"', ';a=""', ';a="b;\\"\\\\\\\t c\xff"', ' ; a = b\t;\tc\t=\t"d"', ';a;b;c=d',
        `;${tchars}=${tchars}`, ';', '; ', ';;a', ';a;', ';=b', ';a=', ';a b', ';a=b c', ';a ', ';a= ', ';a="b',
        ';a="b"c', ';a=b"', ';a="\\', ';a=="b"', ';a,b', ';\xe9', ';a=\xe9']
        .map(extension => chunked(`5${extension}\r\nhello\r\n0${extension}\r\n\r\n`))],
    ['trailers, which are no header fields (RFC 9112, 7.1.2)', 'POST /x hello, GET /next',
      ...['X: a', 'X:', 'X: a\r\nY: b', 'Content-Length: 9', 'Transfer-Encoding: gzip', 'Host: b\r\nHost: c', 'X: \x80']
        .map(trailer => chunked(`5\r\nhello\r\n0\r\n${trailer}\r\n\r\n`))],
    ['leading zeros in a length (RFC 9110, 8.6)', 'POST /x hello, GET /next',
      hello('Content-Length: 005'),
      hello(`Content-Length: ${'0'.repeat(40)}5`)],
    ['an empty line before a request line (RFC 9112, 2.2)', 'GET /a:b y, GET /next',
      lines('', 'GET /a:b HTTP/1.1', 'Host: a', 'X: y', ''),
      lines('', 'GET http://a:80/a:b HTTP/1.1', 'Host: a', 'X: y', '')],
    ['an empty line before each of several requests (RFC 9112, 2.2)', 'POST /x hello, GET /x, GET /next',
      `\r\n${hello('Content-Length: 5')}\r\n${get()}\r\n`],
    ['two Content-Type lines, which frame nothing (RFC 9110, 8.3)', 'GET /x, GET /next',
      get('Content-Type: a/b', 'Content-Type: a/b'),
      get('Content-Type: a/b', 'content-type: c/d')],
    ['Expect with empty list elements (RFC 9110, 5.6.1)', 'POST /x, GET /next',
      post('Expect:'),
      post('Expect: ,'),
      post('Expect: , 100-continue ,'),
      post('Expect: 100-continue', 'Expect: 100-Continue')],
    ['a body with Expect that has no element, which asks for nothing (RFC 9110, 10.1.1)', 'POST /x hello, GET /next',
      post('Expect:', 'Content-Length: 5') + 'hello',
      post('Expect: , ,', 'Content-Length: 5') + 'hello',
      post('Expect:', 'Content-Length: 5', 'Expect:\t') + 'hello'],
    ['Upgrade, and ignores it (RFC 9110, 7.8)', 'GET /x, GET /next',
      get('Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13'),
      get('Connection: upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AA'),
      get('Upgrade: x/1')],
    ['Connection: close among several options in any case (RFC 9112, 9.6)', 'GET /x',
      ...['close', 'CLOSE', 'keep-alive, Close', 'close,x', ' x ,\tcLoSe\t, y', ',close,']
        .map(option => get(`Connection: ${option}`)),
      get('Connection: x', 'Connection: close'),
      get('Connection: close', 'Connection: keep-alive')],
    ['other options of Connection, and goes on (RFC 9112, 9.3)', 'GET /x, GET /next',
      ...['keep-alive', 'x, closed', 'disclose', 'not-close', 'close-not', '']
        .map(option => get(`Connection: ${option}`))],
    ['a POST with no length, with length 0 and with an empty chunked body (RFC 9112, 6.3)', 'POST /x, GET /next',
      post(),
      post('Content-Length: 0'),
      post('Content-Length: 00'),
      chunked('0\r\n\r\n')],
    ['a GET with a body (RFC 9110, 9.3.1)', 'GET /x hello, GET /next',
      get('Content-Length: 5') + 'hello',
      get('Transfer-Encoding: chunked') + '5\r\nhello\r\n0\r\n\r\n'],
    ['a body that looks like a request as a body (RFC 9112, 6)', `PUT /x ${get()}, GET /next`,
      request('PUT /x', `Content-Length: ${get().length}`) + get(),
      request('PUT /x', 'Transfer-Encoding: chunked') + lines(get().length.toString(16), get(), '0', '')],
    ['a body of any bytes (RFC 9112, 6)', 'POST /x \0\r\n\r\n\x80\xff, GET /next',
      post('Content-Length: 7') + '\0\r\n\r\n\x80\xff',
      chunked('7\r\n\0\r\n\r\n\x80\xff\r\n0\r\n\r\n')],
  ]

  describe('what is valid is accepted', () => {
    each(ACCEPTED.map(([sentence, ...row]) => [`takes ${sentence}`, ...row]))

    it('sends 100 once, and only when a body is awaited and not yet there (RFC 9110, 10.1.1)', async () => {
      const waits = (peer: Peer): Promise<void> => peer.comes(' 100 Continue\r\n\r\n')
      const framings = [
        ['Content-Length: 5', 'hello'],
        ['Transfer-Encoding: chunked', '5\r\nhello\r\n0\r\n\r\n'],
      ] as const
      for (const [field, body] of framings) {
        const head = post(field, 'eXPECT: \t100-Continue \t'), message = head + body
        for (let cut = 1; cut <= message.length; cut++) {
          const pieces = [message.slice(0, cut), message.slice(cut) + NEXT]
          const outcome = cut === head.length ? '100, POST /x hello, GET /next' : 'POST /x hello, GET /next'
          assert.equal(read_all(wide, pieces), outcome, `cut at ${cut}`)
          if (Math.abs(cut - head.length) < 2) assert.equal(await said(...pieces), outcome, `cut at ${cut}`)
        }
        assert.equal(await said(...head, waits, ...body, NEXT), '100, POST /x hello, GET /next')
      }
      const with_empty_elements = [
        ['Expect: 100-continue,'],
        ['Expect: , 100-continue'],
        ['Expect:', 'Expect: ,,\t100-Continue , ,'],
      ]
      for (const fields of with_empty_elements) {
        const outcome = await said(post('Content-Length: 5', ...fields), waits, 'hello' + NEXT)
        assert.equal(outcome, '100, POST /x hello, GET /next', fields.join())
      }
      await same(wide, post('Content-Length: 0', 'Expect: 100-continue'), 'POST /x, GET /next')
      await same(wide, post('Expect: 100-continue'), 'POST /x, GET /next')
      const second = get() + post('Content-Length: 5', 'Expect: 100-continue')
      assert.equal(await said(second, waits, 'hello' + NEXT), 'GET /x, 100, POST /x hello, GET /next')
    })
  })

  describe('answers are in order, whole, and for whole requests', () => {
    const dateless = (reply: string): string => reply.replace(/Date: .*\r\n/g, '')

    it('answers HEAD with exactly the head of GET (RFC 9110, 9.3.2)', async () => {
      const server = await wide.server
      for (const target of ['/page', '/test.jpg', '/x', 'http://a/page']) {
        const [whole, head] = [await ask(server, `GET ${target}`), await ask(server, `HEAD ${target}`)]
        assert.equal(dateless(head), dateless(head_of(whole)))
      }
    })

    it('goes on after HEAD where its head ends, a body in it or not (RFC 9112, 6.3)', async () => {
      const heads = ['HEAD /page', 'HEAD /test.jpg'].map(line => request(line))
      for (const message of [...heads, request('HEAD /page', 'Content-Length: 5') + 'hello']) {
        const reply = await exchange(await wide.server, message + get() + NEXT)
        assert.equal(gist(body_of(reply)), 'GET /x, GET /next')
      }
    })

    it('refuses a HEAD without a body, too (RFC 9110, 9.3.2)', async () => {
      const refused = [
        lines('HEAD / HTTP/1.1', ''),
        lines('HEAD / HTTP/1.1', 'Host: a', 'X', ''),
        lines('HEAD / HTTP/2.0', ''),
        lines('HEAD https://[::1]/ HTTP/1.1', 'Host: a', ''),
        lines(`HEAD /${y(9000)} HTTP/1.1`, ''),
      ]
      for (const message of refused) {
        const reply = await exchange(await wide.server, message)
        assert.match(reply, /^HTTP\/1\.1 [45]\d\d [^]*?\r\nConnection: close\r\n\r\n$/)
      }
    })

    it('answers what came in one piece in its order, also when an answer takes its time '
      + '(RFC 9112, 9.3.2)', async () => {
      const page = body_of(await ask(await wide.server, 'GET /page')), picture = PICTURE
      const all = ['/x', '/later', '/1', '/test.jpg', '/later', '/page', '/2'].map(src => request(`GET ${src}`))
      const outcome = ['GET /x', 'GET /later', 'GET /1', picture, 'GET /later', page, 'GET /2', 'GET /next']
      await same_over_sockets(wide, ways(all.join(''), NEXT).filter((_, i) => i % 5 === 0), outcome.join(', '))
    })

    it('answers no request before it is whole (RFC 9112, 6.3)', async () => {
      const server = await wide.server
      const whole = [
        get(),
        hello('Content-Length: 5'),
        chunked('5\r\nhello\r\n0\r\n\r\n'),
        chunked('5\r\nhello\r\n0\r\nX: a\r\n\r\n'),
      ]
      for (const message of whole) await Promise.all(Array.from(message, async (_, i) => {
        assert.doesNotMatch(await exchange_pieces(server, message.slice(0, i), null), /^HTTP\/1\.1 [123]/)
      }))
      asked.length = 0
      for (const message of [hello('Content-Length: 6'), chunked('5\r\nhello\r\n0\r\n'), get().slice(0, -1)]) {
        assert.equal(await said(message, null), '400')
      }
      assert.deepEqual(asked, [])
    })

    it('answers a client that has closed its half (RFC 9112, 9.5)', async () => {
      // an empty line begins no request
      for (const message of [get(), get() + '\r\n']) {
        const reply = await exchange_pieces(await wide.server, message, null)
        assert.match(reply, /^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\nGET \/x$/)
      }
      assert.equal(await said(get() + NEXT, null), 'GET /x, GET /next')
    })

    it('sends neither Content-Length nor a body in a 2xx to CONNECT, and closes (RFC 9110, 9.3.6)', async t => {
      const contents = [
        http`HTTP/1.1 200 OK\n\nok`,
        http`HTTP/1.1 204 No Content\n`,
        http`HTTP/1.1 201 Created\n\n${y(20_000)}`,
      ]
      for (const content of contents) {
        const reply = await exchange(await start(t, { answer: async () => content }), request('CONNECT a:80') + get())
        assert.match(reply, /^HTTP\/1\.1 2\d\d [^]*\r\nConnection: close\r\n\r\n$/)
        assert.deepEqual([field_of(reply, 'Content-Length'), count(reply, 'HTTP/1.1 ')], [undefined, 1])
      }
      const server = await start(t, { answer: () => http`HTTP/1.1 403 Forbidden\n\nno` })
      assert.equal(gist(await exchange(server, request('CONNECT a:80'))), '403')
    })

    it('says what it expected and what came', async () => {
      const SAID: [message: string, text: string][] = [
        [lines('GET / HTTP/1.1 ', 'Host: a', ''), "a request-target, HTTP/1.1 and CR LF, got 'GET / HTTP/1.1 \\r\\n' "],
        [request('GET /', 'X y '), "a name, a colon, a value and CR LF, got 'X y \\r\\n' "],
        [lines('GET / HTTP/1.1', 'Host: a,b', ''), "a Host with a name or an address, got 'a,b' "],
        [lines('GET / HTTP/1.1', ''), "a Host with a name or an address, got 'none' "],
      ]
      for (const [message, text] of SAID) {
        const reply = await exchange(await wide.server, message)
        assert.ok(reply.startsWith('HTTP/1.1 400 ') && reply.includes(text), reply)
      }
    })

    it('reads nothing after a refused request as a request (RFC 9112, 9.6)', async () => {
      const last = [
        get('X'),
        start_line('GET /x HTTP/2.0'),
        post('Content-Length: x'),
        chunked('x\r\n'),
        request('CONNECT a:80'),
        get('Connection: close'),
        'hello\r\n',
      ]
      asked.length = 0
      for (const message of last) await exchange_pieces(await wide.server, message + get(), NEXT)
      assert.deepEqual(asked, ['a:80', '/x'])
    })

    it('reaches with its refusal a client that is still sending, and only then closes (RFC 9112, 9.6)', async () => {
      const { port } = await wide.server
      const refused: [message: string, outcome: string][] = [
        [get('X'), '400'],
        [post('Content-Length: 99999999'), '413'],
        [start_line('GET /x HTTP/2.0'), '505'],
        [get('Expect: x'), '417'],
        [`GET /${y(20_000)}`, '414'],
      ]
      for (const [message, outcome] of refused) {
        const { socket, all } = new Peer(port)
        // reads nothing before all is sent
        socket.pause()
        await until('all is sent', new Promise<void>((resolve, reject) => {
          socket.write(message + y(8 << 20), 'latin1', error => error ? reject(error) : resolve())
        }))
        socket.resume()
        assert.equal(gist(await all), outcome)
        socket.destroy()
      }
    })
  })

  describe('a head comes out of http well-formed or not at all', () => {
    const template = (...strings: string[]): TemplateStringsArray => Object.assign(strings, { raw: strings })
    const status = (line: string) => () => http(template(line))
    const field = (line: string) => () => http(template(`HTTP/1.1 200 OK\n${line}\n\n`))
    const WRONG: Record<string, (() => Content)[]> = {
      'a status line that is none (RFC 9112, 4)': [
        ...['', 'hello', ' HTTP/1.1 200 OK', 'HTTP/1.x 200 OK', 'HTTP/1.0 200 OK', 'HTTP/1.1 200', 'HTTP/1.1  200 OK',
          'HTTP/1.1 20 OK', 'HTTP/1.1 2000 OK', 'HTTP/1.1 099 OK', 'HTTP/1.1 600 OK', 'http/1.1 200 OK',
          'HTTP/1.1 200 O\x00K', 'HTTP/1.1 200 O\x7fK'].map(status),
        () => http`HTTP/1.1 ${'abc'} OK`,
      ],
      'a field line that is none (RFC 9112, 5)': [
        ...[' X: a', 'X : a', 'X', ': a', 'X[: a', 'X: a\n b', 'X: a\rb', 'X: a\0', 'X: a\x7f', 'X: \u4f60',
          '\u4f60: a'].map(field),
      ],
      'a control character set in (RFC 9110, 5.5)': [...controls, '\r', '\n', '\t', '\u4f60'].flatMap(c => [
        () => http`HTTP/1.1 200 OK\nX: a${c}b\n\n`,
        () => http`HTTP/1.1 200 O${c}K\n\n`,
        () => http`HTTP/1.1 200 OK\n${[['X', `a${c}b`]]}\n\n`,
      ]),
      'a CRLF that would add a field or a response (RFC 9112, 11.1)': [
        'a\r\nY: b', 'a\nY: b', '\r\n\r\nHTTP/1.1 200 OK', 'a\r\n',
      ].flatMap(value => [
        () => http`HTTP/1.1 200 OK\nX: ${value}\n\n`,
        () => http`HTTP/1.1 200 OK\n${[['X', value]]}\n\n`,
        () => http`HTTP/1.1 200 OK\n${[[`X: ${value}`, 'a']]}\n\n`,
      ]),
      'a field name in pairs that is no token (RFC 9110, 5.1)': [
        ...['', 'X Y', 'X: Y', 'X:', 'X ', ' X', '\u4f60']
          .map(name => () => http`HTTP/1.1 200 OK\n${[[name, 'a']]}\n\n`),
      ],
      'a body where there is none (RFC 9110, 6.4.1)': [
        ...[204, 205, 304, 100].map(status => () => http`HTTP/1.1 ${status} x\n\nbody`),
      ],
      'a value that is neither text nor number nor bytes': [null, undefined, {}, true].flatMap(value => [
        () => http(template('HTTP/1.1 200 OK\nX: ', '\n\n'), value as never),
        () => http(template('HTTP/1.1 200 OK\n\n', ''), value as never),
      ]),
    }
    for (const [sentence, thunks] of Object.entries(WRONG)) it(`throws a TypeError for ${sentence}`, () => {
      for (const thunk of thunks) assert.throws(thunk, TypeError, String(thunk))
    })

    it('says what is wrong with an escape that JavaScript does not know', () => {
      assert.throws(() => http`HTTP/1.1 200 OK\n\nC:\users`, /^TypeError: .* escape .*: write \\\\ for \\$/)
    })

    const head_with = (fields: string): string => `HTTP/1.1 200 OK\n${fields}\n\n`
    is_linear('made by http', text => {
      try {
        http(template(text))
      } catch (error) {
        assert.ok(error instanceof TypeError)
      }
    }, [
      ['a status line of spaces',    n => `HTTP/1.1 200 ${' '.repeat(n)}\0\n\n`],
      ['a value of spaces',          n => head_with(`X:${' '.repeat(n)}`)],
      ['a value with a control',     n => head_with(`X:${' '.repeat(n)}\0`)],
      ['a field name',               n => head_with(y(n))],
      ['fields',                     n => head_with('X:\n'.repeat(n / 3) + 'X:')],
      ['fields, the last one wrong', n => head_with('X:\n'.repeat(n / 3) + 'X')],
      ['Date, again and again',      n => head_with('Date: a\n'.repeat(n / 8) + 'X:')],
      ['Connection: commas',         n => head_with(`Connection:${' ,'.repeat(n / 2)}close x`)],
      ['Connection: spaces',         n => head_with(`Connection: close${' '.repeat(n)}x`)],
      ['returns without line feeds', n => head_with('\r'.repeat(n))],
      ['a body of empty lines',      n => head_with('X:') + '\r\n'.repeat(n / 2)],
    ])

    it('makes line ends CRLF and counts the bytes of the body (RFC 9110, 8.6)', () => {
      const content = http`HTTP/1.1 200 OK\nX: a\r\nY:\n\n\u4f60\n`
      const head = 'HTTP/1.1 200 OK\r\nX: a\r\nY:\r\nContent-Length: 4\r\n'
      assert.deepEqual([content.status, content.head, content.close], [200, head, false])
      assert.equal(String(content.body), '\u4f60\n')
      assert.equal(http`HTTP/1.1 404 Not Found\n`.head, 'HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n')
      assert.ok(Object.isFrozen(content))
    })

    it('puts in values: text, numbers, fields in pairs, bytes (RFC 9112, 2.1)', () => {
      const fields = new Headers([['b', '2'], ['set-cookie', 'c=\xe9'], ['set-cookie', 'd']])
      const bytes = Buffer.from([0, 255])
      const content = http`HTTP/1.1 ${201} ${'Created'}\nA: ${1}\n${fields}E: ${2}\n${[]}\n\n${'<'}${2}${bytes}>`
      const pairs = ['b: 2', 'set-cookie: c=\xe9', 'set-cookie: d']
      const made = ['HTTP/1.1 201 Created', 'A: 1', ...pairs, 'E: 2', 'Content-Length: 5']
      assert.equal(content.head, lines(...made))
      assert.deepEqual(Buffer.from(content.body), Buffer.from('<2\0\xff>', 'latin1'))
    })

    it('frames by itself, whatever is written for it (RFC 9112, 6.3)', () => {
      const content = http`HTTP/1.1 200 OK
Content-Length: 9
transfer-encoding: chunked
DATE: x
Connection: keep-alive
X: a

hello`
      assert.deepEqual([content.head, content.close], ['HTTP/1.1 200 OK\r\nX: a\r\nContent-Length: 5\r\n', false])
      for (const option of ['close', 'x, CLOSE']) {
        assert.equal(http`HTTP/1.1 200 OK\nConnection: ${option}\n\n`.close, true)
      }
      for (const status of [204, 304]) {
        assert.equal(http`HTTP/1.1 ${status} x\nContent-Length: 5`.head, `HTTP/1.1 ${status} x\r\n`)
      }
    })

    it('sends what http made: any bytes, small or large, and Connection: close (RFC 9112, 6)', async t => {
      const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, i) => i % 256))
      const sizes = [0, 1, 256, 8192, 8193, 65_536, 65_537, 300_000]
      const answer: Answer = ({ src }) => http`HTTP/1.1 200 OK
Connection: ${src === '/close' ? 'close' : 'x'}

${bytes.subarray(0, Number(src.slice(1)) || 0)}`
      const requests = [...sizes.map(size => `/${size}`), '/close'].map(src => request(`GET ${src}`)).join('')
      const bodies = [...sizes.map(size => bytes.subarray(0, size).toString('latin1')), '']
      assert.equal(gist(await exchange(await start(t, { answer }), requests + NEXT)), bodies.join(', '))
    })
  })

  describe('reading takes time in proportion to what comes', () => {
    const limits = { ...LIMITS, head_bytes: 65_536, target_bytes: 65_536 }
    const fields = (text: string): string => `GET /x HTTP/1.1\r\nHost: a\r\n${text}\r\n`

    /** Reads the pieces and their end, whatever they are. */
    function read_pieces(pieces: Iterable<string>): void {
      const reader = reader_of(limits)
      for (const piece of pieces) {
        reader.push(Buffer.from(piece, 'latin1'))
        for (let next; typeof (next = reader.read()) !== 'string'; reader.release()) if (next.refusal) return
      }
      reader.read('late')
    }

    is_linear('in one piece', text => read_pieces([text]), [
      ['a line of spaces',                 n => ' '.repeat(n)],
      ['spaces, then HTTP',                n => `a${' '.repeat(n)}HTTP/1.1\r\n\r\n`],
      ['words',                            n => 'a '.repeat(n / 2)],
      ['tabs and HTTP/',                   n => '\tHTTP'.repeat(n / 5)],
      ['a method',                         n => 'A'.repeat(n)],
      ['line ends',                        n => '\r\n'.repeat(n / 2)],
      ['a target',                         n => request(`GET /${y(n)}`)],
      ['an absolute-form of %41',          n => request(`GET http://${'%41'.repeat(n / 3)}/`)],
      ['an absolute-form of %4',           n => request(`GET http://${'%4'.repeat(n / 2)}/`)],
      ['an absolute-form of colons',       n => request(`GET http://a${':1'.repeat(n / 2)}/`)],
      ['an absolute-form before fields',   n => request('GET http://a/', 'y:\r\n'.repeat(n / 4) + 'y:')],
      ['a Host after an absolute-form',    n => `GET http://a/ HTTP/1.1\r\n${'y:\r\n'.repeat(n / 4)}Host: a\r\n\r\n`],
      ['a value of spaces',                n => fields(`Y:${' '.repeat(n)}\r\n`)],
      ['a value of spaces with a control', n => fields(`Y:${' '.repeat(n)}\x01\r\n`)],
      ['a Host of spaces',                 n => hosted(`a${' '.repeat(n)}b`)],
      ['a Host of letters',                n => hosted(`${y(n)}[`)],
      ['a Host of colons',                 n => hosted(`[${':'.repeat(n)}`)],
      ['Hosts',                            n => fields('Host: a\r\n'.repeat(n / 9))],
      ['Hosts with a port, cut',           n => `GET / HTTP/1.1\r\n${'Host: a:8\r\n'.repeat(n / 11)}`],
      ['fields that are Host-like',        n => fields('Hosts: a\r\nHost-: a\r\nHos: a\r\n'.repeat(n / 28))],
      ['Connection: keep-alive',           n => fields('Connection: keep-alive\r\n'.repeat(n / 24))],
      ['Connection: keep-alive, wrong',    n => fields(`${'Connection: keep-alive\r\n'.repeat(n / 24)}a\r\n`)],
      ['Connection: keep-alive, cut',      n => `GET / HTTP/1.1\r\n${'Connection: keep-alive\r\n'.repeat(n / 24)}`],
      ['Connection: close with spaces',    n => fields(`Connection: ${', close '.repeat(n / 8)}a\r\n`)],
      ['Connection: close, spaces',        n => fields(`Connection: close${' '.repeat(n)}a\r\n`)],
      ['Connection: commas',               n => fields(`Connection: ${','.repeat(n)}a\r\n`)],
      ['fields',                           n => fields('y:\r\n'.repeat(n / 4))],
      ['fields, the last wrong',           n => fields(`${'y:\r\n'.repeat(n / 4)}y\r\n`)],
      ['fields, the last one open',        n => `${get().slice(0, -2)}${'y:\r\n'.repeat(n / 8)}y: ${y(n / 2)}`],
      ['fields after an Expect',           n => fields(`Expect:\r\n${'y:\r\n'.repeat(n / 4)}y\r\n`)],
      ['Expect',                           n => fields('Expect:\r\n'.repeat(n / 9))],
      ['Expect: commas',                   n => fields(`Expect: ${' ,'.repeat(n / 2)}a\r\n`)],
      ['Transfer-Encoding',                n => fields('Transfer-Encoding: a\r\n'.repeat(n / 22))],
      ['Transfer-Encoding: commas',        n => fields(`Transfer-Encoding: ${','.repeat(n)}\r\n`)],
      ['Transfer-Encoding: spaces',        n => fields(`Transfer-Encoding: a${' '.repeat(n)}\r\n`)],
      ['Content-Length of digits',         n => fields(`Content-Length: ${'1'.repeat(n)}a\r\n`)],
      ['Content-Length of spaces',         n => fields(`Content-Length: 1${' '.repeat(n)}a\r\n`)],
      ['a chunk extension of spaces',      n => chunked(`1${' '.repeat(n)}\x01\r\n`)],
      ['chunk extensions',                 n => chunked(`1${';y=y'.repeat(n / 4)}\x01\r\n`)],
      ['quotes in a chunk extension',      n => chunked(`1;y=${'"\\'.repeat(n / 2)}\x01\r\n`)],
      ['the size of a chunk',              n => chunked('0'.repeat(n))],
      ['chunks of a byte',                 n => chunked('1\r\ny\r\n'.repeat(n / 6))],
      ['trailers',                         n => chunked(`0\r\n${'y:\r\n'.repeat(n / 4)}y\r\n\r\n`)],
      ['trailers that end early',          n => chunked(`0\r\n${'y: y\r\n'.repeat(n / 6)}`)],
      ['pipelined requests',               n => get().repeat(n / get().length)],
    ])

    is_linear('in one long piece', text => read_pieces([text]), [
      ['pipelined requests after empty lines', n => `\r\n${get()}`.repeat(n / (get().length + 2))],
    ], 200_000)

    is_linear('byte by byte', read_pieces, [
      ['a body', n => post(`Content-Length: ${n}`) + y(n)],
      ['chunks', n => chunked('1\r\ny\r\n'.repeat(n / 6))],
    ], 3_000)

    const DRIPPING: [part: string, text: string][] = [
      ['a value',  `${get().slice(0, -2)}Y: ${y(4_000)}`],
      ['a target', `GET /${y(4_000)}`],
      ['a method', 'A'.repeat(4_000)],
      ["a method that is no server's", 'a-'.repeat(2_000)],
      ['the target of such a method', `a /${'a/'.repeat(2_000)}`],
      ['a chunk extension', chunked(`1;${y(4_000)}`)],
      ['a trailer', chunked(`0\r\nY: ${y(4_000)}`)],
      ['fields',   get().slice(0, -2) + `Y: ${y(27)}\r\n`.repeat(125)],
    ]
    for (const [part, text] of DRIPPING) it(`matches nothing again for each byte that drips: ${part}`, async () => {
      const read_in = (pieces: Iterable<string>): void => {
        const reader = reader_of(limits)
        for (const piece of pieces) {
          reader.push(Buffer.from(piece, 'latin1'))
          assert.match(String(reader.read()), /^(?:head|body)_ms$/)
        }
      }
      // to match it for each byte is to read the whole of it half as many times as it has bytes
      const often = text.length / 8, read_often = (): void => { for (let i = 0; i < often; i++) read_in([text]) }
      const dripped = await cpu_of(() => read_in(text), 5), whole = await cpu_of(read_often, 5)
      assert.ok(dripped < whole, `${dripped} µs byte by byte, ${whole} µs for ${often} times the whole`)
    })
  })

  const TEXT: Row[] = [
    ['answers Yes to the article\'s message, with or without a line end', 'Yes',
      'can you hear me?',
      'can you hear me?\n',
      'can you hear me?\r\n',
      'can you hear me?\r\nreally?\r\n'],
    ['answers Yes to a first line that neither begins like a request line nor names HTTP', 'Yes',
      ...['hello\r\n', 'hello world\r\n', 'Hello World\r\n', 'HELLO\r\n', 'HELLO\n', 'get /x\r\n', '\r\nhello\r\n',
        'GETTING?\r\n', '\x16\x03\x01\0\xa5\x01\n', '\xe4\xbd\xa0\xe5\xa5\xbd\n', 'http/1.1\r\n', '{}', '?',
        'HTTP\r\n']],
    ['answers Yes at once to what cannot become a request line any more', 'Yes',
      ...['get / HTTQ', 'get  /', 'a\tb', '\xe9', '"', 'a b c', 'hello\n', 'hello you\r\n']],
  ]

  describe('what is text stays text (the article, section 2)', () => {
    each(TEXT, wide, '')

    it('answers Yes to capitals alone when no more will come', async () => {
      await Promise.all(['HELLO', 'H', 'GET', 'hello'].map(async message => {
        assert.equal(await exchange_pieces(await wide.server, message, null), 'Yes')
      }))
    })

    it('takes a request cut after its first byte, whatever the time between, for a request (RFC 9112, 3)', async () => {
      // longer than the server waits for the rest of a text
      await Promise.all([get(), '\r\n' + get()].flatMap(message => [1, 2, 3, 4, 5].map(async cut => {
        const outcome = await said(message.slice(0, cut), () => pause(300), message.slice(cut) + NEXT)
        assert.equal(outcome, 'GET /x, GET /next')
      })))
    })

    it('waits as for a head for what can still become a request line, whatever the method (RFC 9112, 3)', async () => {
      const cut: [begins: string, goes_on: string, outcome: string][] = [
        ['get', ' /page HTTP/1.1\r\nHost: a\r\n\r\n', '501, GET /next'],
        ['get ', '/page HTTP/1.1\r\nHost: a\r\n\r\n', '501, GET /next'],
        ['get /page', ' HTTP/1.1\r\nHost: a\r\n\r\n', '501, GET /next'],
        ['get /page ', 'HTTP/1.1\r\nHost: a\r\n\r\n', '501, GET /next'],
        ['get /page HT', 'TP/1.1\r\nHost: a\r\n\r\n', '501, GET /next'],
        ['get /page HTTP', '/1.1\r\nHost: a\r\n\r\n', '501, GET /next'],
        ['VERSION-CONTROL', ' /page HTTP/1.1\r\nHost: a\r\n\r\n', '501, GET /next'],
        ["!#$%&'*+-.^_`|~", ' /page HTTP/1.1\r\nHost: a\r\n\r\n', '501, GET /next'],
        ['M-SEARCH', ' * HTTP/1.1\r\nHost: a\r\n\r\n', '400'],
        ['GET /x HTTP/1.1\r', '\nHost: a\r\n\r\n', 'GET /x, GET /next'],
      ]
      await Promise.all(cut.map(async ([begins, goes_on, outcome]) => {
        assert.equal(await said(begins, () => pause(300), goes_on + NEXT), outcome, begins)
      }))
    })
  })
}))

/** The other runtimes of the same files, and what comes before a program's name. */
const RUNTIMES: [name: string, ...args: string[]][] =
  [['node22'], ['node24'], ['node26'], ['deno', 'run', '--allow-net', '--allow-read'], ['bun']]

beside.push(() => describe('programs', { concurrency: 2 }, () => {
  const server = [NODE, copy_of(file_of('wow-server'))], client = [NODE, copy_of(file_of('wow-client'))]

  /** Each of these command lines is refused, with one line that matches. */
  async function refuse(t: Scope, program: string[], cases: [args: string[], line: RegExp][]): Promise<void> {
    await Promise.all(cases.map(async ([args, line]) => {
      const { code, out, err } = await run(t, [...program, ...args])
      assert.match(err, /^[^\n]+\n$/)
      assert.match(err, line)
      assert.deepEqual([code, out], [1, ''], `${args}`)
    }))
  }

  describe('server.ts, the program', { concurrency: 4 }, () => {
    it('listens on every address, IPv4 and IPv6', async t => {
      const { port } = await new Program(t, [...server, '0']).listening()
      for (const host of [`127.0.0.1:${port}`, `[::1]:${port}`]) {
        assert.equal(String(await send(host, 'can you hear me?\n')), 'Yes')
      }
    })

    it('listens on one address with --host, and prints no requests with --quiet', async t => {
      const program = await new Program(t, [...server, '0', '--host', '::1', '--quiet']).listening()
      assert.equal(String(await send(`[::1]:${program.port}`, 'can you hear me?\n')), 'Yes')
      await assert.rejects(send(`127.0.0.1:${program.port}`, 'can you hear me?\n'), /refused/)
      assert.equal(program.out, `Open http://[::1]:${program.port}/\n`)
    })

    it('says in one line what is wrong, and ends with 1', async t => {
      const { port } = await start(t)
      await refuse(t, server, [
        [[`${port}`, '--host', '127.0.0.1'], /^port \d+ is in use: /],
        [['80000'], /^the port must be one number from 0 to 65535, got 80000$/m],
        [['http'], /^the port must be one number from 0 to 65535, got http$/m],
        [['-1'], /-1/],
        [['-p', 'http'], /^the port must be one number from 0 to 65535, got http$/m],
        [['--port', '65536'], /^the port must be one number from 0 to 65535, got 65536$/m],
        [['-p', '-1'], /^[^\\]*'-p'[^\\]*; see --help$/m],
        [['-p'], /^Option '-p, --port <value>' argument missing; see --help$/m],
        [['0', '1'], /^the port must be one number from 0 to 65535, got 0 1$/m],
        [['8080', '--port', '8081'], /^the port must be one number from 0 to 65535, got 8081 8080$/m],
        [['-p', '8080', '-p', '8081'], /^the port must be one number from 0 to 65535, got 8080 8081$/m],
        [['0', '--host', '192.0.2.1'], /^192\.0\.2\.1 is not an address of this computer: /],
        [['0', '--host', 'no.such.host.invalid'], /^no\.such\.host\.invalid is not an address of this computer: /],
        [['--loud'], /^Unknown option '--loud'; see --help$/m],
      ])
    })

    it('helps', async t => {
      const { code, out } = await run(t, [...server, '--help'])
      assert.equal(code, 0)
      for (const option of ['port', '-p', '--port', '--host', '--quiet', '--help']) {
        assert.ok(out.includes(option), option)
      }
    })

    for (const signal of ['SIGINT', 'SIGTERM'] as const) it(`ends with 0 at ${signal}`, async t => {
      const program = await new Program(t, [...server, '0']).listening()
      program.child.kill(signal)
      assert.equal(await until('it has ended', program.exit), 0)
      assert.equal(program.err, '')
    })
  })

  describe('client.ts, the program', { concurrency: 4 }, () => {
    it('prints what the server replies to can you hear me?', async t => {
      const { port } = await start(t)
      const { code, out, err } = await run(t, [...TSX, 'client.ts', `127.0.0.1:${port}`])
      assert.deepEqual([code, out, err], [0, 'reply is: Yes\n', ''])
    })

    it('takes a path for a GET, writes just the body to a file and shows the head', async t => {
      const { port } = await start(t)
      const { code, out, err } = await run(t, [...client, `127.0.0.1:${port}`, '/test.jpg'])
      assert.equal(code, 0)
      assert.equal(out, PICTURE)
      assert.match(err, /^HTTP\/1\.1 200 OK\n *Content-Type: image\/jpeg\n/)
    })

    it('sends any other request as it stands', async t => {
      const { port } = await start(t)
      const { out } = await run(t, [...client, `127.0.0.1:${port}`, 'HEAD / HTTP/1.0\r\n\r\n'])
      assert.match(out, /^reply is: HTTP\/1\.1 200 OK\n *Content-Type: text\/html\n/)
      assert.ok(!out.includes('Wow'))
    })

    it("speaks to the article's servers: bare text, and HTTP/1.x with line feeds and no length", async t => {
      const page = '<head>\n<title>WOW</title>\n</head>\n', heard: string[] = []
      const says = (reply: string) => (socket: Socket) => void socket.once('data', data => {
        heard.push(String(data))
        socket.end(reply)
      })
      const section_2 = await start(t, says('Yes'))
      const section_3 = await start(t, says(`HTTP/1.x 200 OK  \nContent-Type: text/html\n\n${page}`))
      const yes = await run(t, [...client, `127.0.0.1:${section_2.port}`])
      assert.equal(yes.out, 'reply is: Yes\n')
      assert.equal((await run(t, [...client, `127.0.0.1:${section_3.port}`, '/'])).out, page)
      assert.equal(heard[0], 'can you hear me?')
      assert.equal(heard[1], `GET / HTTP/1.1\r\nHost: 127.0.0.1:${section_3.port}\r\nConnection: close\r\n\r\n`)
    })

    const CHUNKED = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'

    it('puts a chunked body together', async t => {
      const reply = CHUNKED + '3;x=y\r\nWow\r\n5\r\n, chu\r\n0\r\n\r\n'
      const { port } = await start(t, socket => socket.end(reply))
      assert.equal((await run(t, [...client, `127.0.0.1:${port}`, '/'])).out, 'Wow, chu')
    })

    it('prints what comes from the other side with control characters escaped', async t => {
      const { port } = await start(t, socket => socket.end('a\x1b[2Jb\x07\x9b\\c\r\nd\n'))
      const { out } = await run(t, [...client, `127.0.0.1:${port}`])
      assert.equal(out, 'reply is: a\\x1b[2Jb\\x07\\x9b\\x5cc\nd\n')
    })

    it('says in one line what is wrong, and ends with 1', async t => {
      const at = async (serve_one?: (socket: Socket) => unknown): Promise<string> =>
        `127.0.0.1:${(await start(t, serve_one)).port}`
      const nobody = await at(() => {})
      await refuse(t, client, [
        [[], /--help/],
        [[await at(), 'a', 'b'], /--help/],
        [['--loud'], /--loud/],
        [['127.0.0.1:99999'], /a port from 1 to 65535, got .*99999/],
        [['no.such.host.invalid'], /no such host|looked up/],
        [['127.0.0.1:1'], /^127\.0\.0\.1:1: .*refused: is the server running\? npx .* starts it$/m],
        [[await at(socket => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nWow')), '/'],
          /cut short after 3 of 10 bytes/],
        [[await at(socket => socket.end(CHUNKED + '3\r\nWow\r\n')), '/'], /cut short/],
        [[await at(socket => socket.once('data', () => socket.resetAndDestroy()))], /reset/],
        [[await at(socket => socket.end())], /without a reply/],
      ])
      await assert.rejects(send(nobody, 'hello', { silent_ms: 50 }), /nothing came for 0.05 s/)
      await assert.rejects(send(nobody, 'hello', { signal: AbortSignal.timeout(50) }), /aborted/)
    })

    it('does not wait for the end of a kept connection when the length is known', async t => {
      const { port } = await start(t)
      const reply = Buffer.from(await send(`127.0.0.1:${port}`, request('GET /test.jpg'))).toString('latin1')
      assert.equal(body_of(reply), PICTURE)
    })

    it('helps', async t => {
      const { code, out } = await run(t, [...client, '--help'])
      assert.equal(code, 0)
      for (const word of ['HOST', 'PORT', 'REQUEST', '--help']) assert.ok(out.includes(word), word)
    })
  })

  describe('any runtime', { concurrency: 2 }, () => {
    for (const [name, ...args] of RUNTIMES) {
      const path = command(name) ?? '', skip = path ? false : `${name} is not installed`
      it(`runs server.ts and client.ts as they are under ${name}`, { skip }, async t => {
        const program = await new Program(t, [path, ...args, 'server.ts', '0']).listening()
        const other_client = [path, ...args, 'client.ts']
        for (const address of [`127.0.0.1:${program.port}`, `[::1]:${program.port}`]) {
          assert.equal((await run(t, [...other_client, address])).out, 'reply is: Yes\n')
        }
        assert.equal((await run(t, [...other_client, `127.0.0.1:${program.port}`, '/test.jpg'])).out, PICTURE)
        const post = request('POST /', 'Transfer-Encoding: chunked') + '3\r\nabc\r\n0\r\n\r\n'
        const replies = /^HTTP\/1\.1 405 [^]*HTTP\/1\.1 200 OK\r\n[^]*Connection: close\r\n\r\n[^]*<\/html>\n$/
        assert.match(await exchange(program.port, post + GET_AND_CLOSE), replies)
        program.child.kill('SIGTERM')
        assert.equal(await until('it has ended', program.exit), 0)
        assert.equal(program.err, '')
      })

      if (/^node/.test(name)) continue
      it(`measures time when it was closed and listens again, under ${name}`, { skip }, async t => {
        const file = join(mkdtempSync(join(SCRATCH, 'again-')), 'again.mjs')
        writeFileSync(file, `
          import { serve } from ${JSON.stringify(pathToFileURL(join(HERE, 'server.ts')).href)}
          const s = serve({ host: '127.0.0.1', port: 0, limits: { silent_ms: 300 } })
          s.once('listening', () => {
            s.close()
            s.listen(0, '127.0.0.1')
            s.once('listening', () => console.log('http://127.0.0.1:' + s.address().port + '/'))
          })`)
        const { port } = await new Program(t, [path, ...args, file]).listening()
        assert.equal(await until('it is too slow', new Peer(port).all), '')
      })

      it(`stops once it has answered those whom the system has let in, under ${name}`, { skip }, async t => {
        const file = join(mkdtempSync(join(SCRATCH, 'stop-')), 'stop.mjs'), enough = join(file, '../enough')
        writeFileSync(file, `
          import { existsSync } from 'node:fs'
          import { serve } from ${JSON.stringify(pathToFileURL(join(HERE, 'server.ts')).href)}
          const stop = new AbortController(), rest = new Int32Array(new SharedArrayBuffer(4))
          function answer() {
            if (stop.signal.aborted) return
            console.log('It is busy')
            while (!existsSync(${JSON.stringify(enough)})) Atomics.wait(rest, 0, 0, 20)
            stop.abort()
          }
          const s = serve({ host: '127.0.0.1', port: 0, signal: stop.signal, answer })
          s.once('listening', () => console.log('http://127.0.0.1:' + s.address().port + '/'))`)
        const server = await new Program(t, [path, ...args, file]).listening(), peers = [new Peer(server.port, GET)]
        await server.until('is busy', () => server.out.includes('It is busy'))
        for (let i = 0; i < 30; i++) peers.push(new Peer(server.port, GET))
        const is_sent = ({ socket }: Peer): boolean => !socket.connecting && socket.writableLength === 0
        await until('all have sent', () => peers.every(is_sent))
        writeFileSync(enough, '')
        for (const { all } of peers) assert.equal(status_of(await until('it is answered', all)), 200)
      })
    }
  })

  describe('a browser', () => {
    const path = command('chromium', 'google-chrome') ?? '', skip = path ? false : 'no Chromium is installed'
    it('shows the page with the picture, and the server sees its requests', { skip }, async t => {
      const seen: string[] = []
      const { port } = await start(t, { answer: request => { seen.push(request.src) } })
      const flags = [
        '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
        '--disable-background-networking', '--disable-component-update', '--disable-sync',
        `--user-data-dir=${join(SCRATCH, 'chromium')}`, '--remote-debugging-pipe',
      ]
      const child = spawn(path, [...flags, 'about:blank'], { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] })
      t.after(async () => {
        child.kill('SIGKILL')
        await once(child, 'close')
      })
      const devtools = devtools_of(child)
      const { targetId } = await devtools('Target.createTarget', { url: `http://127.0.0.1:${port}/` })
      const { sessionId } = await devtools('Target.attachToTarget', { targetId, flatten: true })
      const evaluate = async (expression: string): Promise<unknown> => {
        const { result } = await devtools('Runtime.evaluate', { expression, awaitPromise: true }, sessionId)
        return (result as { value?: unknown } | undefined)?.value
      }
      await until('the picture is there', async () => await evaluate('document.images[0]?.naturalWidth > 0') === true)
      const shown = '[document.title, document.body.innerText.trim(), document.images[0].naturalWidth].join("|")'
      const words = await evaluate(`document.images[0].decode().then(() => ${shown})`)
      assert.equal(words, 'WOW|Wow, TypeScript Server|640')
      assert.deepEqual(seen.slice(0, 2), ['/', '/test.jpg'])
    })
  })
}))

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
    return until(`Chromium has answered ${method}`, new Promise(resolve => { waiting.set(id, resolve) }))
  }
}

describe('send', () => {
  type How = { request?: string, piece_bytes?: number, open?: boolean, options?: Parameters<typeof send>[2] }

  /** What `send` receives from a server that replies this in pieces, and then closes or leaves the connection open. */
  async function received(reply: string | Iterable<string>, how: How = {}): Promise<string> {
    const { request = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n', piece_bytes = Infinity } = how
    const { open = false, options = {} } = how
    let end = (): void => {}
    const { port } = await start({ after: ending => { end = ending } }, socket => {
      socket.setNoDelay().once('data', async () => {
        for (const piece of typeof reply === 'string' ? cut(reply, piece_bytes) : reply) {
          // a turn of the loop, in which the client reads the piece before
          await turn()
          if (socket.destroyed) return
          if (!socket.write(piece, 'latin1')) await Promise.race([once(socket, 'drain'), once(socket, 'close')])
        }
        if (!open) socket.end()
      })
    })
    const bytes = send(`127.0.0.1:${port}`, request, { silent_ms: 60_000, ...options }).finally(end)
    return Buffer.from(await bytes).toString('latin1')
  }

  function* cut(text: string, piece_bytes: number): Iterable<string> {
    for (let at = 0; at < text.length; at += piece_bytes) yield text.slice(at, at + piece_bytes)
  }

  function* endless(start: string, rest: string): Iterable<string> {
    for (yield start; ;) yield rest
  }

  const LENGTH_5 = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n'
  const CHUNKED = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'
  const LENGTH_REPLY = `${LENGTH_5}Hello`
  const CHUNKED_REPLY = `${CHUNKED}5;a="b"\r\nHello\r\n0\r\nX: y\r\n\r\n`

  beside.push(() => describe('a cut reply is never taken for whole', { concurrency: 8 }, () => {
    it('ends a trickle after total_ms, and a silence after silent_ms', async () => {
      const trickle = received(endless('', 'x'), { options: { total_ms: 100 } })
      await assert.rejects(trickle, /expected the whole reply within 0\.1 s, got \d+ bytes of it$/)
      const silence = received('', { open: true, options: { silent_ms: 50 } })
      await assert.rejects(silence, /nothing came for 0\.05 s: is the address right/)
      const half = received(`${LENGTH_5}Hel`, { open: true, options: { silent_ms: 3_000 } })
      await assert.rejects(half, /nothing came for 3 s: the reply stopped after 41 bytes$/)
    })

    // [the reply, the method if not GET]: its end is known, so the connection stays open
    const whole: [reply: string, method?: string][] = [
      [LENGTH_REPLY],
      ['HTTP/1.1 200 OK\nContent-Length: 5\n\nHello'],
      ['HTTP/1.1 200\r\ncontent-length:\t005 \r\n\r\nHello'],
      ['HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n'],
      ['HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nHello'],
      [`HTTP/1.1 200 OK\r\nX: \x1b[2J \x80\xff\r\nEmpty:\r\nContent-Length: 0\r\n\r\n`],
      [CHUNKED_REPLY],
      [`${CHUNKED}0\r\n\r\n`],
      [`${CHUNKED}00a\t;\r\n0123456789\r\nA\r\n0123456789\r\n000\r\nX: y\r\nY: z\r\n\r\n`],
      ['HTTP/1.1 200 OK\r\nTRANSFER-ENCODING: \t Chunked \t\r\n\r\n1\r\n\n\r\n0\r\n\r\n'],
      ['HTTP/1.1 204 No Content\r\n\r\n'],
      ['HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n'],
      [LENGTH_5, 'HEAD'],
      [LENGTH_5, '\r\nHEAD'],
      [CHUNKED, 'HEAD'],
      ['HTTP/1.1 200 OK\r\n\r\n', 'CONNECT'],
      ['HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n'],
      [`HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${LENGTH_REPLY}`],
    ]
    for (const [reply, method = 'GET'] of whole) {
      const name = method.replace('\r\n', 'CR LF ')
      it(`ends with the last byte of ${name} ${JSON.stringify(reply)} on an open connection`, async () => {
        const request = `${method} / HTTP/1.1\r\nHost: a\r\n\r\n`
        assert.equal(await received(reply, { request, open: true }), reply)
        assert.equal(await received(reply, { request, open: true, piece_bytes: 1 }), reply)
        assert.equal(await received(`${reply}HTTP/1.1 200 OK\r\n\r\n`, { request, open: true }), reply)
      })
    }

    // without a length: the close is the end
    const closed = [
      'Yes',
      'Y',
      'http/1.1 200 OK\r\nContent-Length: 5\r\n\r\n',
      'HTTP/1.x 200 OK  \nContent-Type: text/html\n\n<head>\n<title>WOW</title>\n</head>\n',
      'HTTP/1.x 200 OK  \nContent-Type: image/jpg\n\n\xff\xd8\xff\x00\r\n\r\n\xff\xd9',
      'HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nHello',
      'HTTP/1.1 200 OK\r\n\r\n',
      'HTTP/1.1 200 OK\r\n\r\n0\r\n\r\nHello',
    ]
    for (const reply of closed) it(`reads ${JSON.stringify(reply)} to the close`, async () => {
      assert.equal(await received(reply), reply)
      assert.equal(await received(reply, { piece_bytes: 1 }), reply)
    })

    const length = (value: string): string => `HTTP/1.1 200 OK\r\nContent-Length:${value}\r\n\r\nHello World`
    const coding = (value: string): string => CHUNKED_REPLY.replace(' chunked', value)
    // refused as soon as it is seen: the connection stays open
    const refused: [reply: string, error: RegExp][] = [
      [length(' 11\r\nContent-Length: 1100'), /one number as Content-Length, got "11, 1100"/],
      [length(' 11\r\nContent-Length: 11'), /one number as Content-Length, got "11, 11"/],
      [length(' 5, 11'), /one number as Content-Length, got "5, 11"/],
      [length(' -5'), /one number as Content-Length, got "-5"/],
      [length(' +11'), /one number as Content-Length, got "\+11"/],
      [length(' 0xb'), /one number as Content-Length, got "0xb"/],
      [length(' 1e1'), /one number as Content-Length, got "1e1"/],
      [length(' 1 1'), /one number as Content-Length, got "1 1"/],
      [length(''), /one number as Content-Length, got ""/],
      [length(' 11\xa0'), /one number as Content-Length, got "11/],
      [length(` ${'9'.repeat(400)}`), /at most 67108864 bytes/],
      [length(' 67108865'), /at most 67108864 bytes/],
      [length(' 11\r\nTransfer-Encoding: chunked'), /Transfer-Encoding or Content-Length, got "both"/],
      [coding(' chunked\r\nContent-Length: 5'), /Transfer-Encoding or Content-Length, got "both"/],
      [coding(' chunked\r\nTransfer-Encoding: gzip'), /chunked alone as Transfer-Encoding, got "chunked, gzip"/],
      [coding(' gzip\r\nTransfer-Encoding: chunked'), /chunked alone as Transfer-Encoding, got "gzip, chunked"/],
      [coding(' chunked\r\nTransfer-Encoding: chunked'), /chunked alone as Transfer-Encoding/],
      [coding(' gzip, chunked'), /chunked alone as Transfer-Encoding/],
      [coding(' chunked,'), /chunked alone as Transfer-Encoding, got "chunked,"/],
      [coding(' chunked;a=b'), /chunked alone as Transfer-Encoding, got "chunked;a=b"/],
      [coding(' xchunked'), /chunked alone as Transfer-Encoding/],
      [coding(' identity'), /chunked alone as Transfer-Encoding/],
      [coding(''), /chunked alone as Transfer-Encoding, got ""/],
      [coding(' chunked').replace('1.1', '1.0'), /no Transfer-Encoding in HTTP\/1\.0, got "chunked"/],
      [`${CHUNKED}0x5\r\nHello\r\n0\r\n\r\n`, /chunk size in hexadecimal digits, then CRLF, got "0x5"/],
      [`${CHUNKED}+5\r\nHello\r\n0\r\n\r\n`, /chunk size .* got "\+5"/],
      [`${CHUNKED}-5\r\nHello\r\n0\r\n\r\n`, /chunk size .* got "-5"/],
      [`${CHUNKED} 5\r\nHello\r\n0\r\n\r\n`, /chunk size .* got " 5"/],
      [`${CHUNKED}5 \r\nHello\r\n0\r\n\r\n`, /chunk size .* got "5 "/],
      [`${CHUNKED}5g\r\nHello\r\n0\r\n\r\n`, /chunk size .* got "5g"/],
      [`${CHUNKED}\r\nHello\r\n0\r\n\r\n`, /chunk size .* got ""/],
      [`${CHUNKED}5;a\rb\r\nHello\r\n0\r\n\r\n`, /chunk size .* got "5;a\\x0db"/],
      [`${CHUNKED}5\nHello\r\n0\r\n\r\n`, /chunk size in hexadecimal digits, then CRLF, got "5"/],
      [`${CHUNKED}4\r\nHello\r\n0\r\n\r\n`, /CRLF after a chunk, got "o\\x0d"/],
      [`${CHUNKED}5\r\nHelloHello\r\n0\r\n\r\n`, /CRLF after a chunk, got "He"/],
      [`${CHUNKED}5\r\nHello\n0\r\n\r\n`, /CRLF after a chunk, got "\\x0a0"/],
      [`${CHUNKED}${'f'.repeat(400)}\r\nHello`, /at most 67108864 bytes/],
      [`${CHUNKED}0\r\nno colon\r\n\r\n`, /field \(Name: value\), got "no colon"/],
      ['HTTP/1.1 200 OK\r\nX: y\rContent-Length: 3\r\n\r\nYes', /Name: value\), got "X: y\\x0dContent-Length: 3"/],
      ['HTTP/1.1 200 OK\r\nX: y\r\r\nContent-Length: 3\r\n\r\nYes', /field \(Name: value\), got/],
      ['HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n', /field \(Name: value\), got "X: a\\x00b"/],
      ['HTTP/1.1 200 OK\r\nX: y\r\n Content-Length: 3\r\n\r\nYes', /field \(Name: value\), got " Content-Length: 3"/],
      ['HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nYes', /field \(Name: value\), got "Content-Length : 3"/],
      ['HTTP/1.1 200 OK\r\n: 3\r\n\r\nYes', /field \(Name: value\), got ": 3"/],
      ['HTTP/1.1 200 OK\r\nYes\r\n\r\nYes', /field \(Name: value\), got "Yes"/],
      ['HTTP/5.6 99999\r\n\r\n', /status line such as HTTP\/1\.1 200 OK, got "HTTP\/5\.6 99999"/],
      ['HTTP/2.0 200 OK\r\n\r\n', /status line/],
      ['HTTP/1.10 200 OK\r\n\r\n', /status line/],
      ['HTTP/1.1 099 OK\r\n\r\n', /status line/],
      ['HTTP/1.1 600 OK\r\n\r\n', /status line/],
      ['HTTP/1.1 2000 OK\r\n\r\n', /status line/],
      ['HTTP/1.1 20 OK\r\n\r\n', /status line/],
      ['HTTP/1.1  200 OK\r\n\r\n', /status line/],
      ['HTTP/1.1 200 O\rK\r\n\r\n', /status line such as HTTP\/1\.1 200 OK, got "HTTP\/1\.1 200 O\\x0dK"/],
      ['HTTP/\r\n\r\n', /status line/],
      [`HTTP/1.1 100 Continue\r\n\r\nYes\r\n`, /status line such as HTTP\/1\.1 200 OK, got "Yes"/],
      [`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(65_536)}`, /the head in at most 65536 bytes/],
      [`HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(11_000)}\r\n`, /the head in at most 65536 bytes/],
      [`${CHUNKED}5;${'x'.repeat(65_536)}`, /a chunk size in at most 65536 bytes/],
      [`${CHUNKED}0\r\n${'X: y\r\n'.repeat(11_000)}\r\n`, /the trailers in at most 65536 bytes/],
    ]
    for (const [reply, error] of refused) it(`refuses ${JSON.stringify(reply.slice(0, 100))} in one line`, async () => {
      for (const piece_bytes of reply.length < 1000 ? [Infinity, 1] : [Infinity, 10_000]) {
        await assert.rejects(received(reply, { open: true, piece_bytes }), ({ message }: Error) => {
          assert.match(message, error)
          assert.match(message, /^127\.0\.0\.1:\d+: [^\0-\x1f\x7f-\x9f]{1,200}$/)
          return true
        })
      }
    })

    for (const reply of [LENGTH_REPLY, CHUNKED_REPLY, `HTTP/1.1 100 Continue\n\n${CHUNKED_REPLY}`]) {
      it(`says where ${JSON.stringify(reply)} was cut, at whichever byte`, async () => {
        await assert.rejects(received(''), /closed without a reply/)
        for (let end = 1; end < reply.length; end++) {
          await assert.rejects(received(reply.slice(0, end)), /the reply was cut short/, `cut after ${end} bytes`)
        }
      })
    }

    it('counts the bytes of a cut body', async () => {
      await assert.rejects(received('HTT'), /cut short after HTT$/)
      await assert.rejects(received(`${LENGTH_5}Hel`), /cut short after 3 of 5 bytes of the body$/)
      await assert.rejects(received(`${CHUNKED}5\r\nHel`), /cut short after 3 of 5 bytes of a chunk$/)
      await assert.rejects(received(`${CHUNKED}5\r\nHello\r\n`), /cut short in a chunk size$/)
      await assert.rejects(received(`${CHUNKED}0\r\n`), /cut short in the trailers$/)
    })

    it('reads past more interim replies than a head may have bytes', async () => {
      const reply = 'HTTP/1.1 102 Processing\r\n\r\n'.repeat(4_000) + LENGTH_REPLY
      assert.equal(await received(reply, { open: true }), reply)
    })

    it('takes a head of 65536 bytes, and no longer one', async () => {
      const head = (bytes: number): string => LENGTH_5.replace('\r\n\r\n', `\r\nX: ${'x'.repeat(bytes - 43)}\r\n\r\n`)
      assert.equal(head(65_536).length, 65_536)
      assert.equal(await received(`${head(65_536)}Hello`, { open: true }), `${head(65_536)}Hello`)
      const error = /the head in at most 65536 bytes/
      await assert.rejects(received(head(65_537).slice(0, 65_536), { open: true }), error)
      for (const piece_bytes of [Infinity, 65_000]) {
        await assert.rejects(received(`${head(65_537)}Hello`, { open: true, piece_bytes }), error)
      }
    })

    const without_end: [name: string, reply: Iterable<string>][] = [
      ['text', endless('', 'Yes'.repeat(10_000))],
      ['body', endless('HTTP/1.1 200 OK\r\n\r\n', 'Yes'.repeat(10_000))],
      ['chunked body', endless(CHUNKED, '5\r\nHello\r\n'.repeat(5_000))],
      ['row of interim replies', endless('', 'HTTP/1.1 102 Processing\r\n\r\n'.repeat(1_000))],
    ]
    for (const [name, reply] of without_end) it(`takes no more than max_bytes of a ${name} without end`, async () => {
      const error = /expected a reply of at most 1000000 bytes, got more/
      await assert.rejects(received(reply, { options: { max_bytes: 1_000_000 } }), error)
    })

    it('takes a reply of max_bytes', async () => {
      for (const reply of ['Hello', LENGTH_REPLY, CHUNKED_REPLY]) {
        assert.equal(await received(reply, { options: { max_bytes: reply.length } }), reply)
        const error = new RegExp(`at most ${reply.length - 1} bytes`)
        await assert.rejects(received(reply, { options: { max_bytes: reply.length - 1 } }), error)
      }
    })

    it('gives a reply in a buffer that holds nothing else', async t => {
      for (const text of ['Yes', LENGTH_REPLY]) {
        const { port } = await start(t, socket => socket.end(text)), reply = await send(`127.0.0.1:${port}`)
        assert.equal(String(reply), text)
        assert.equal(reply.buffer.byteLength, reply.length)
      }
    })

    it('takes undefined and Infinity as options', async () => {
      const unset = { signal: undefined, silent_ms: undefined, total_ms: undefined, max_bytes: undefined }
      assert.equal(await received(LENGTH_REPLY, { options: unset }), LENGTH_REPLY)
      const unlimited = { silent_ms: Infinity, total_ms: Infinity, max_bytes: Infinity }
      assert.equal(await received(LENGTH_REPLY, { options: unlimited }), LENGTH_REPLY)
    })

    it('refuses a limit that is no limit, and names it', async () => {
      for (const name of ['silent_ms', 'total_ms', 'max_bytes']) for (const value of [0, -1, NaN, '5' as never]) {
        const message = `${name} must be a number above 0, got ${value}`
        await assert.rejects(send('127.0.0.1:1', 'hello', { [name]: value }), { name: 'RangeError', message })
      }
    })

    it("keeps the system's error as cause, and names the server to start", async () => {
      const server = BUILT ? 'npx wow-server' : 'npx tsx server.ts'
      type SystemError = Error & { cause?: { code?: string } }
      await assert.rejects(send('127.0.0.1:1', 'hello'), ({ message, cause }: SystemError) => {
        assert.equal(message, `127.0.0.1:1: connection refused: is the server running? ${server} starts it`)
        assert.equal(cause?.code, 'ECONNREFUSED')
        return true
      })
    })
  }))

  // nothing else runs in the process, so that timers and CPU time are their own
  describe('what it takes', () => {
    it('refuses a host, a request or a signal that is none, and opens no connection', async () => {
      const sockets = (): string[] => process.getActiveResourcesInfo().filter(name => name.startsWith('TCP'))
      const before = sockets()
      const request = { name: 'TypeError', message: 'a request must be text or bytes, got 5' }
      await assert.rejects(send('127.0.0.1:1', 5 as never), request)
      const host = { name: 'TypeError', message: "a host must be text such as 127.0.0.1:8000, got undefined" }
      await assert.rejects(send(undefined as never), host)
      const signal = { name: 'TypeError', message: "signal must be an AbortSignal, got 'x'" }
      await assert.rejects(send('127.0.0.1:1', 'hello', { signal: 'x' as never }), signal)
      assert.deepEqual(sockets(), before)
    })

    it('rejects when its signal is aborted, before or meanwhile, and leaves neither timer nor listener', async () => {
      const timers = (): number => process.getActiveResourcesInfo().filter(name => name === 'Timeout').length
      const before = timers(), reason = new Error('enough'), abort = new AbortController(), { signal } = abort
      await received(LENGTH_REPLY, { open: true, options: { signal } })
      await assert.rejects(received('HTT', { options: { signal } }), /cut short/)
      const waiting = received('Hel', { open: true, options: { signal } })
      setImmediate(() => abort.abort(reason))
      await assert.rejects(waiting, { message: /: aborted$/, cause: reason })
      await assert.rejects(received('Yes', { options: { signal } }), { message: /: aborted$/, cause: reason })
      assert.equal(getEventListeners(signal, 'abort').length, 0)
      assert.ok(timers() <= before, `${before} timers before, ${timers()} after`)
    })

    const SPACES = (count: number): string => ' '.repeat(count)
    const costly: [name: string, reply: (count: number) => string][] = [
      ['a Content-Type', count => `HTTP/1.1 200 OK\r\nContent-Type: a${SPACES(count)}b\r\nContent-Length: 0\r\n\r\n`],
      ['a Content-Length', count => `HTTP/1.1 200 OK\r\nContent-Length: 1${SPACES(count)}1\r\n\r\n`],
      ['a Transfer-Encoding', count => `HTTP/1.1 200 OK\r\nTransfer-Encoding: ${SPACES(count)}x\r\n\r\n`],
      ['a field with a NUL', count => `HTTP/1.1 200 OK\r\nX: ${SPACES(count)}\0\r\n\r\n`],
      ['a status line', count => `HTTP/1.1 200 ${SPACES(count)}\0\r\n\r\n`],
      ['a chunk size', count => `${CHUNKED}5${SPACES(count)}x\r\n`],
    ]
    for (const [name, reply] of costly) it(`reads 60,000 spaces in ${name} in linear time`, async () => {
      const read = (count: number) => () => received(reply(count), { open: true }).catch(() => 'refused')
      const few = await cpu_of(read(15_000)), many = await cpu_of(read(60_000))
      assert.ok(many < 8 * few + 500_000, `${few} µs for 15,000 spaces, ${many} µs for 60,000`)
    })

    it('receives a long reply in linear time', async () => {
      const reply = (megabytes: number): Iterable<string> => cut('x'.repeat(megabytes << 20), 100_000)
      const short = await cpu_of(() => received(reply(4)))
      const long = await cpu_of(() => received(reply(16)))
      assert.ok(long < 8 * short + 500_000, `${short} µs for 4 MiB, ${long} µs for 16 MiB`)
    })
  })
})

beside.push(() => describe("in other people's programs", { concurrency: 2 }, () => {
  /** A user's folder, in which the package is installed from its tarball. */
  const USER = join(SCRATCH, 'user'), BIN = join(USER, 'node_modules/.bin')
  const INSTALLED = join(USER, 'node_modules/wow-server')
  let packed: string[] = []

  before(async () => {
    mkdirSync(USER)
    writeFileSync(join(USER, 'package.json'), '{ "type": "module" }')
    const scope: Scope = { after }
    const { out } = await run(scope, ['npm', 'pack', '--ignore-scripts', '--pack-destination', SCRATCH, '--json'])
    type Packed = { filename: string, files: { path: string }[] }
    const [{ filename, files }] = JSON.parse(out) as [Packed]
    packed = files.map(file => file.path).sort()
    const install = ['npm', 'install', '--offline', '--no-audit', '--no-fund', join(SCRATCH, filename)]
    const { code, err } = await run(scope, install, USER)
    assert.equal(code, 0, err)
  })

  /** Writes a file of the user's, in a folder of its own inside the one where the package is installed. */
  function write_file(name: string, text: string): { folder: string, path: string } {
    const folder = mkdtempSync(join(USER, 'program-')), path = join(folder, name)
    writeFileSync(path, text)
    return { folder, path }
  }

  describe('the package', () => {
    it('has the built files, the two programs to read with their picture, and what every package has', () => {
      assert.deepEqual(packed, [
        'CHANGELOG.md', 'LICENSE', 'README.md', 'README.zh-CN.md', 'client.ts', 'dist/client.d.ts', 'dist/client.js',
        'dist/server.d.ts', 'dist/server.js', 'dist/test.jpg', 'dist/wow-client.js', 'dist/wow-server.js',
        'package.json', 'server.ts', 'test.jpg',
      ])
    })

    it('has two commands that run where it is installed, and exports that start nothing', async t => {
      const { port } = await new Program(t, [join(BIN, 'wow-server'), '0', '--host', '127.0.0.1'], USER).listening()
      const yes = await run(t, [join(BIN, 'wow-client'), `127.0.0.1:${port}`], USER)
      assert.deepEqual([yes.code, yes.out, yes.err], [0, 'reply is: Yes\n', ''])
      const picture = await run(t, [join(BIN, 'wow-client'), `127.0.0.1:${port}`, '/test.jpg'], USER)
      assert.equal(picture.out, PICTURE)
      const names = `import * as server from 'wow-server'; import * as client from 'wow-server/client'
        console.log(Object.keys(server).sort().join(), Object.keys(client).join())`
      const { out, err } = await run(t, [NODE, '--input-type=module', '-e', names], USER)
      // Reader is there for test.ts, and has no types outside
      assert.deepEqual([out, err], ['LIMITS,Reader,http,serve send\n', ''])
    })

    it('imports nothing but what Node brings, each with node: before it', () => {
      for (const name of ['server.js', 'client.js', 'wow-server.js', 'wow-client.js']) {
        const code = readFileSync(join(INSTALLED, 'dist', name), 'utf8')
        const imported = Array.from(code.matchAll(/^import .* from ['"](.*)['"];?$/gm), ([, from = '']) => from)
        assert.ok(imported.length > 0, name)
        assert.deepEqual(imported.filter(from => !from.startsWith('node:')), [], name)
      }
    })

    it('has no command line in its library', () => {
      for (const name of ['server.js', 'client.js']) {
        const code = readFileSync(join(INSTALLED, 'dist', name), 'utf8')
        assert.doesNotMatch(code, /Usage:|parseArgs|process\.(?:exit|on)\b|import\.meta\.main/, name)
      }
    })
  })

  describe("a bundle is the user's program", { concurrency: 2 }, () => {
    const USES_ALL = `
      import { http, serve } from 'wow-server'
      import { send } from 'wow-server/client'
      const hello = http\`HTTP/1.1 200 OK\\nContent-Type: text/plain\\n\\nHello!\\n\`
      const server = serve({ port: 0, host: '127.0.0.1', answer: ({ src }) => src === '/hello' ? hello : undefined })
      server.on('listening', async () => {
        const at = '127.0.0.1:' + server.address().port
        const get = path => send(at, 'GET ' + path + ' HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n')
        const [yes, own, picture] = [await send(at), await get('/hello'), await get('/test.jpg')]
        console.log(process.argv.slice(2).join(' '), String(yes), /Hello!\\n$/.test(own), picture.length > 50_000)
        server.close()
      })`
    const USES_HTTP_AND_SEND = `
      import { http } from 'wow-server'
      import { send } from 'wow-server/client'
      console.log(process.argv.slice(2).join(' '), http\`HTTP/1.1 200 OK\\n\\nHello!\`.status, typeof send)`
    // what wow-server's own command line would refuse
    const ARGUMENTS = ['build', '--watch', '--port', 'COM1']

    type Bundle = { folder: string, path: string, code: string, warnings: string[] }
    type Bundler = (path: string, out: string, format: 'esm' | 'cjs') => Promise<string[]>

    const with_esbuild: Bundler = async (path, outfile, format) => {
      const options = { bundle: true, platform: 'node', logLevel: 'silent' } as const
      const { warnings } = await build({ ...options, entryPoints: [path], outfile, format })
      return warnings.map(({ text }) => text)
    }
    // by require, because what tsx makes of it takes 80 MB, and to start a program takes the longer the more there is
    const { rollup } = createRequire(import.meta.url)('rollup') as typeof import('rollup')
    const with_rollup: Bundler = async (path, file, format) => {
      const warnings: string[] = []
      const found = (id: string): { id: string, moduleSideEffects: boolean } | undefined => {
        const [, name] = /^wow-server(?:\/(\w+))?$/.exec(id) ?? [undefined, '']
        if (name === '') return undefined
        return { id: join(INSTALLED, `dist/${name ?? 'server'}.js`), moduleSideEffects: false }
      }
      const bundle = await rollup({
        input: path,
        external: /^node:/,
        plugins: [{ name: 'node_modules', resolveId: found }],
        onwarn: ({ message }) => { warnings.push(message) },
      })
      await bundle.write({ file, format })
      await bundle.close()
      return warnings
    }

    async function bundle_of(bundler: Bundler, source: string, format: 'esm' | 'cjs'): Promise<Bundle> {
      const { path } = write_file('app.js', source)
      // outside of the user's folder: nothing of the package can be found from there
      const folder = mkdtempSync(join(SCRATCH, 'bundle-')), out = join(folder, format === 'esm' ? 'app.mjs' : 'app.cjs')
      const warnings = await bundler(path, out, format)
      return { folder, path: out, code: readFileSync(out, 'utf8'), warnings }
    }

    for (const [name, bundler] of Object.entries({ esbuild: with_esbuild, rollup: with_rollup })) {
      for (const format of ['esm', 'cjs'] as const) {
        it(`of ${name} as ${format}: it has its own arguments, and no command line of ours`, async t => {
          const { folder, path, code, warnings } = await bundle_of(bundler, USES_ALL, format)
          assert.doesNotMatch(code, /Usage:|parseArgs/)
          assert.deepEqual(warnings, [])
          copyFileSync(join(INSTALLED, 'dist/test.jpg'), join(folder, 'test.jpg'))
          const ran = await run(t, [NODE, path, ...ARGUMENTS], folder)
          assert.deepEqual([ran.err, ran.out], ['', `${ARGUMENTS.join(' ')} Yes true true\n`])
          assert.equal(ran.code, 0)
        })

        it(`of ${name} as ${format}: http and send need no picture, serve says where it is missing`, async t => {
          const needs_none = await bundle_of(bundler, USES_HTTP_AND_SEND, format)
          const ran = await run(t, [NODE, needs_none.path, ...ARGUMENTS], needs_none.folder)
          assert.deepEqual([ran.err, ran.out], ['', `${ARGUMENTS.join(' ')} 200 function\n`])

          const needs_it = await bundle_of(bundler, USES_ALL, format)
          const failed = await run(t, [NODE, needs_it.path], SCRATCH)
          const place = `${needs_it.folder}/test.jpg`, sentences = failed.err.match(/^Error: .*$/gm) ?? []
          const sentence = `Error: test.jpg is missing: expected it at ${place}; copy it there `
          assert.deepEqual(sentences.map(said => said.slice(0, sentence.length)), [sentence])
          assert.equal(failed.code, 1)
        })
      }
    }

    it('as CommonJS that another program requires, it finds the picture beside itself', async t => {
      const { folder, path } = await bundle_of(with_esbuild, USES_ALL, 'cjs')
      copyFileSync(join(INSTALLED, 'dist/test.jpg'), join(folder, 'test.jpg'))
      const other = write_file('other.cjs', `require(${JSON.stringify(path)})`)
      const ran = await run(t, [NODE, other.path])
      assert.deepEqual([ran.err, ran.out], ['', ' Yes true true\n'])
    })

    it('importing reads no file, prints nothing and leaves nothing behind', async t => {
      const { path } = write_file('app.mjs', `
        import { readFileSync } from 'node:fs'
        const open = () => process.getActiveResourcesInfo().filter(name => /^(?:TCP|Timeout|Immediate)/.test(name))
        const state = () => JSON.stringify([open(), process.eventNames(), process.argv])
        const before = state()
        const { http } = await import('wow-server')
        const { send } = await import('wow-server/client')
        process.stdout.write(state() === before ? 'nothing' : state())
        const picture = ${JSON.stringify(join(INSTALLED, 'dist/test.jpg'))}
        try { readFileSync(picture) } catch (error) { console.log('', error.code) }`)
      // the files that the import itself must read
      const readable = [path, ...['server.js', 'client.js'].map(name => join(INSTALLED, 'dist', name))]
      const folders = [USER, join(USER, 'node_modules'), INSTALLED, join(INSTALLED, 'dist')]
      const described = folders.map(folder => join(folder, 'package.json'))
      const allowed = [...readable, ...described].map(file => `--allow-fs-read=${file}`)
      // its name since Node 22.13
      const { allowedNodeEnvironmentFlags: flags } = process
      const permission = flags.has('--permission') ? '--permission' : '--experimental-permission'
      const ran = await run(t, [NODE, '--no-warnings', permission, ...allowed, path], USER)
      assert.deepEqual([ran.err, ran.out, ran.code], ['', 'nothing ERR_ACCESS_DENIED\n', 0])
    })
  })

  describe('types', { concurrency: 2 }, () => {
    const USES_TYPES = `
      import { type Server } from 'node:net'
      import { http, LIMITS, serve, type Answer, type Content, type Options, type Request } from 'wow-server'
      import { send, type SendOptions } from 'wow-server/client'

      const answer: Answer = async ({ method, src, headers, body, addr: [address, port], signal, text }: Request) => {
        if (src !== '/echo' || signal.aborted) return undefined
        return http\`HTTP/1.1 200 OK
      X-From: \${address}:\${port}
      \${headers}

      \${method} \${text} \${body}\`
      }

      // a unit test of an answer: its request is a plain object
      const given: Request = {
        method: 'POST', src: '/echo', text: 'POST /echo HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n', headers: new Headers(),
        body: Buffer.from('hello'), addr: ['127.0.0.1', 50_000], signal: new AbortController().signal,
      }
      const content: Content | undefined = await answer({ ...given, body: new Uint8Array(3) })
      export const status: number | undefined = content?.status

      const nowhere: Options = { host: undefined, port: undefined }
      const nothing: Options = { ...nowhere, answer: undefined, log: undefined, signal: undefined }
      const few: Options = { ...nothing, limits: { head_bytes: undefined, body_bytes: LIMITS.body_bytes } }
      const none: Options = { limits: undefined, log: console.log }
      export const servers: Server[] = [serve(), serve(few), serve(none)]
      const no_times: SendOptions = { silent_ms: undefined, total_ms: undefined }
      const sending: SendOptions = { ...no_times, signal: undefined, max_bytes: undefined }
      export const replies: Promise<Uint8Array>[] = [send('a'), send('a', undefined, sending), send('a', given.body)]
      // the body of a request goes to the fetch standard
      export const standard = new globalThis.Request('http://a/', { method: 'POST', body: given.body })

      // @ts-expect-error: nobody changes the limits of all servers
      LIMITS.head_bytes = 1
      // @ts-expect-error: a limit that does not exist
      serve({ limits: { hats: 1 } })
      // @ts-expect-error: an answer is made by http
      serve({ answer: () => 'hello' })
      // @ts-expect-error: nothing that has no text of its own
      http\`HTTP/1.1 200 OK\\n\\n\${undefined}\`
      // @ts-expect-error: a request is not changed
      given.method = 'GET'
    `

    // the oldest that knows Uint8Array<ArrayBuffer>, which the fetch standard's types ask for; the newest is ours
    const compilers = {
      'the newest TypeScript': join(HERE, 'node_modules/.bin/tsc'),
      'TypeScript 5.7': command('tsc5.7'),
    }
    for (const [name, compiler] of Object.entries(compilers)) {
      const skip = compiler ? false : `${name} is not installed as tsc5.7`
      it(`hold under ${name}, at its strictest, with nodenext and with bundler`, { skip }, async t => {
        const { folder } = write_file('use.ts', USES_TYPES.replaceAll('\n      ', '\n'))
        // the declarations are checked as the program's own: to check those of Node as well takes long
        const declarations = ['server', 'client']
        for (const name of declarations) copyFileSync(join(INSTALLED, `dist/${name}.d.ts`), join(folder, `${name}.ts`))
        for (const [module, moduleResolution] of [['nodenext', 'nodenext'], ['esnext', 'bundler']]) {
          writeFileSync(join(folder, `${moduleResolution}.json`), JSON.stringify({
            compilerOptions: {
              strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true,
              skipLibCheck: true, noEmit: true, target: 'es2022', lib: ['es2023'],
              module, moduleResolution, moduleDetection: 'force',
              typeRoots: [join(HERE, 'node_modules/@types')], types: ['node'],
            },
            files: ['use.ts', ...declarations.map(name => `${name}.ts`)],
          }))
        }
        const { code, out } = await run(t, [compiler ?? '', '-b', 'nodenext.json', 'bundler.json'], folder)
        assert.deepEqual([out, code], ['', 0])
      })
    }

    it('say on hover what serve, answer, http and send do, each with an example', () => {
      const files = ['server', 'client'].map(name => join(INSTALLED, `dist/${name}.d.ts`))
      const declared = files.map(file => readFileSync(file, 'utf8')).join('')
      const names = ['export declare function serve(', 'readonly answer?:', 'export declare function http(',
        'export declare function send(']
      for (const name of names) {
        const [, comment = ''] = /\/\*\*((?:(?!\*\/)[^])*)\*\/\s*$/.exec(declared.split(name, 1)[0] ?? '') ?? []
        assert.match(comment, /^\s*(?:\* )?\w+(?: \S+){5}/, `a sentence before ${name}`)
        assert.match(comment, /@example\s+\S/, `an example before ${name}`)
      }
    })

    it('hold when it runs: undefined is as if it were not given, and LIMITS is frozen', async t => {
      const { path } = write_file('app.mjs', `
        import { LIMITS, serve } from 'wow-server'
        import { send } from 'wow-server/client'
        const nothing = { answer: undefined, log: undefined, signal: undefined, limits: { head_bytes: undefined } }
        const server = serve({ port: 0, host: '127.0.0.1', ...nothing }).on('listening', async () => {
          const sending = { signal: undefined, silent_ms: undefined, total_ms: undefined, max_bytes: undefined }
          console.log(String(await send('127.0.0.1:' + server.address().port, undefined, sending)))
          server.close()
        })
        console.log(Object.isFrozen(LIMITS))`)
      const { out, err } = await run(t, [NODE, path], USER)
      assert.deepEqual([err, out], ['', 'true\nYes\n'])
    })
  })

  describe("errors lead to the user's line", { concurrency: 2 }, () => {
    // async, because of a tail call Bun's engine keeps no frame
    const FAILS = `import { http, serve, type Answer } from 'wow-server'
import { type AddressInfo } from 'node:net'

const value: any = undefined
const how: Record<string, Answer> = {
  head: async () => http\`HTTP/1.1 200 OK
X: \${value}

\`,
  pairs: async () => http\`HTTP/1.1 200 OK\\n\${[1, 2] as any}\\n\\nx\`,
  throws: () => { throw new RangeError('one\\ntwo\\x1b[2J C:\\\\dir') },
  deep: async () => JSON.parse('{"a'),
  async rejects() {
    await new Promise(resolve => setTimeout(resolve, 1))
    throw new Error('later')
  },
  escapes: async () => http\`HTTP/1.1 200 OK\\nX: \${'one\\ntwo\\x1b C:\\\\dir'}\\n\\n\`,
  text: () => { throw 'one\\ntwo\\x1b[2J C:\\\\dir' },
  returns: () => 'Hello!' as any,
  interim: () => http\`HTTP/1.1 100 Continue\`,
}
const server = serve({ port: 0, host: '127.0.0.1', answer: request => how[request.src.slice(1)]?.(request) })
server.on('listening', () => console.log(\`http://127.0.0.1:\${(server.address() as AddressInfo).port}/\`))
`
    // by the path: the line on stderr, once each
    const said: Record<string, RegExp> = {
      head: /^TypeError: a value must be text or a number, or bytes for the body, got undefined \(at app\.ts:6:\d+\)$/,
      pairs: /^TypeError: .* \(at app\.ts:10:\d+\)$/,
      throws: /^RangeError: one\\x0atwo\\x1b\[2J C:\\dir \(at app\.ts:11:\d+\)$/,
      deep: /^SyntaxError: .* \(at app\.ts:12:\d+\)$/,
      rejects: /^Error: later \(at app\.ts:15:\d+\)$/,
      escapes: /^TypeError: .* control characters, got 'X: one\\ntwo\\x1[bB] C:\\\\dir' \(at app\.ts:17:\d+\)$/,
      text: /^one\\x0atwo\\x1b\[2J C:\\dir$/,
      returns: /^answer must return undefined or a Content made by http, of status 200 or more, got (["'])Hello!\1$/,
      interim: /^answer must return .*, of status 200 or more, got 100$/,
    }

    const programs = RUNTIMES.map(([name, ...args]) => [name, command(name), args] as const)
    for (const [name, program, args] of [['tsx', NODE, TSX.slice(1)] as const, ...programs]) {
      it(`in one line for each, under ${name}`, { skip: program ? false : `${name} is not installed` }, async t => {
        const { folder, path } = write_file('app.ts', FAILS)
        const server = await new Program(t, [program ?? '', ...args, path], folder).listening()
        const paths = Object.keys(said)
        for (const [i, way] of paths.entries()) {
          assert.equal(status_of(await ask(server.port, `GET /${way}`)), 500, way)
          await server.until('has printed it', () => count(server.err, '\n') === i + 1)
        }
        const printed = server.err.trimEnd().split('\n')
        assert.equal(printed.length, paths.length, server.err)
        for (const [i, [way, line]] of Object.entries(said).entries()) {
          const [, about, what = ''] = /^GET \/(\w+) failed: (.*)$/.exec(printed[i] ?? '') ?? []
          assert.equal(about, way)
          assert.match(what, line)
        }
      })
    }

    const any = (value: unknown): string => value as string
    // what is written, and what must be said of it
    const mistakes: [mistake: string, write: () => unknown, said: RegExp][] = [
      ['nothing', () => http``, /^expected a status line such as 'HTTP\/1\.1 200 OK'.*, got ''$/],
      ['an empty line first', () => http`
HTTP/1.1 200 OK

`, /^expected a status line such as 'HTTP\/1\.1 200 OK'.*, got ''$/],
      ['an indented status line', () => http`  HTTP/1.1 200 OK\n\n`,
        /^expected a status line .*, got '  HTTP\/1\.1 200 OK'$/],
      ['an indented field line', () => http`HTTP/1.1 200 OK
        Content-Type: text/plain

`, /^expected a field line .*not indented.*, got ' {8}Content-Type: text\/plain'$/],
      ['no space after the status code', () => http`HTTP/1.1 200\n\n`,
        /^expected a status line .* \(OK may be missing, but not the space\), got 'HTTP\/1\.1 200'$/],
      ['a body only', () => http`Hello!`,
        /^expected a status line such as 'HTTP\/1\.1 200 OK'.*, got 'Hello!'$/],
      ["the article's version", () => http`HTTP/1.x 200 OK\n\n`,
        /^expected a status line such as 'HTTP\/1\.1 200 OK'.*, got 'HTTP\/1\.x 200 OK'$/],
      ['HTTP/1.0', () => http`HTTP/1.0 200 OK\n\n`,
        /^expected a status line such as 'HTTP\/1\.1 200 OK'.*, got 'HTTP\/1\.0 200 OK'$/],
      ['a status that is none', () => http`HTTP/1.1 ${600} No\n\n`,
        /^expected a status line such as 'HTTP\/1\.1 200 OK'.*, got 'HTTP\/1\.1 600 No'$/],
      ['a status that is missing', () => http`HTTP/1.1 ${any(undefined)} OK\n\n`,
        /^a value must be text or a number, or bytes for the body, got undefined$/],
      ['Chinese in a field', () => http`HTTP/1.1 302 Found\nLocation: /你好\n\n`,
        /^Location must have characters of latin1 only.*percent-encode.*, got '.*\/你好'$/],
      ['a value in Chinese', () => http`HTTP/1.1 302 Found\nLocation: ${'/你好'}\n\n`,
        /^Location must have characters of latin1 only.*percent-encode.*, got '.*\/你好'$/],
      ['a pair in Chinese', () => http`HTTP/1.1 302 Found\n${[['Location', '/你好']]}\n\n`,
        /^Location must have characters of latin1 only.*percent-encode.*, got '.*\/你好'$/],
      ['a reason in Chinese', () => http`HTTP/1.1 200 好\n\n`,
        /^the status line must have characters of latin1 only.*, got '.*好'$/],
      ['a reason in Chinese that is set in', () => http`HTTP/1.1 200 ${'好'}\n\n`,
        /^the status line must have characters of latin1 only.*, got '.*好'$/],
      ['a line end in a value', () => http`HTTP/1.1 302 Found\nLocation: ${'/\r\nSet-Cookie: a=b'}\n\n`,
        /must not have control characters, got 'Location: \/\\r\\nSet-Cookie: a=b'$/],
      ['a field without its colon', () => http`HTTP/1.1 200 OK\nContent-Type\n\n`,
        /^expected a field line such as Content-Type: text\/html, .*got 'Content-Type'$/],
      ['a space before the colon', () => http`HTTP/1.1 200 OK\nContent-Type : text/html\n\n`,
        /^expected a field line such as Content-Type: text\/html, .*got 'Content-Type : text\/html'$/],
      ['no empty line before the body', () => http`HTTP/1.1 200 OK\nContent-Type: text/html\n<p>Hello!</p>`,
        /^expected a field line such as .*, or an empty line before the body, got '<p>Hello!<\/p>'$/],
      ['a field name with a space', () => http`HTTP/1.1 200 OK\n${[['a b', 'c']]}\n\n`,
        /^expected a pair such as \['Content-Type', 'text\/html'\], got \[ 'a b', 'c' \]$/],
      ['a pair without its value', () => http`HTTP/1.1 200 OK\n${[['a', any(undefined)]]}\n\n`,
        /^a value must be text or a number, or bytes for the body, got undefined$/],
      ['a name without a value', () => http`HTTP/1.1 200 OK\n${[['a']] as never}\n\n`,
        /^expected a pair such as \['Content-Type', 'text\/html'\], got \[ 'a' \]$/],
      ['lines instead of pairs', () => http`HTTP/1.1 200 OK\n${[any('Set-Cookie: a=b')] as never}\n\n`,
        /^expected a pair such as \['Content-Type', 'text\/html'\], got 'Set-Cookie: a=b'$/],
      ['numbers instead of pairs', () => http`HTTP/1.1 200 OK\n${[1, 2] as never}\n\n`,
        /^expected a pair such as .*, got 1$/],
      ['pairs after a name', () => http`HTTP/1.1 200 OK\nX: ${[['a', 'b']]}\n\n`,
        /^a value must be text or a number, or bytes for the body, got \[ \[ 'a', 'b' \] \]$/],
      ['an object for the head', () => http`HTTP/1.1 200 OK\n${any({ a: 'b' })}\n\n`,
        /^a value must be text or a number, or bytes for the body, got \{ a: 'b' \}$/],
      ['a field that is undefined', () => http`HTTP/1.1 200 OK\nX: ${any(undefined)}\n\n`,
        /^a value must be text or a number, or bytes for the body, got undefined$/],
      ['an object for a body', () => http`HTTP/1.1 200 OK\n\n${any({ a: 'b' })}`,
        /^a value must be text or a number, or bytes for the body, got \{ a: 'b' \}$/],
      ['a promise for a body', () => http`HTTP/1.1 200 OK\n\n${any(Promise.resolve('a'))}`,
        /^a value must be text or a number, or bytes for the body, got Promise/],
      ['a body where none may be', () => http`HTTP/1.1 204 No Content\n\nHello!`,
        /^a response with status 204 has no body, got one of 6 bytes$/],
      ['parentheses', () => (http as unknown as (text: string) => unknown)('HTTP/1.1 200 OK\n\n'),
        /^http is a template tag\b.*, got 'HTTP\/1\.1 200 OK\\n\\n'$/],
    ]
    for (const [mistake, write, said] of mistakes) it(`http says what it expected, and that it got ${mistake}`, () => {
      assert.throws(write, { name: 'TypeError', message: said })
      try {
        write()
      } catch (error) {
        const [, first = ''] = /\n +at (.*)/.exec((error as Error).stack ?? '') ?? []
        assert.match(first, /\btest\b[\w.]*\.ts:\d+:\d+/, 'its stack begins here')
      }
    })
  })

  describe('the log', { concurrency: 2 }, () => {
    const LONG = 'x'.repeat(20_000)
    /** A message, the status line of its answer, and limits. */
    type Told = [message: string, reply: string, limits?: Limits]
    const messages: Told[] = [
      ['can you hear me?\n', 'Yes'],
      [request('GET /', 'Connection: close'), 'HTTP/1.1 200 OK'],
      [request('HEAD /', 'Connection: close'), 'HTTP/1.1 200 OK'],
      [request('OPTIONS *', 'Connection: close'), 'HTTP/1.1 204 No Content'],
      [request('PUT /', 'Connection: close'), 'HTTP/1.1 405 Method Not Allowed'],
      ['GET / HTTP/1.1\nHost: a\n\n', 'HTTP/1.1 400 Bad Request'],
      [request('POST /', 'Content-Length: 9999999'), 'HTTP/1.1 413 Content Too Large'],
      [`GET /${LONG} HTTP/1.1\r\n\r\n`, 'HTTP/1.1 414 URI Too Long'],
      [request('POST /', 'Expect: more'), 'HTTP/1.1 417 Expectation Failed'],
      [request('GET https://a/'), 'HTTP/1.1 421 Misdirected Request'],
      [request('GET /', `X: ${LONG}`), 'HTTP/1.1 431 Request Header Fields Too Large'],
      [request('POST /', 'Transfer-Encoding: gzip, chunked'), 'HTTP/1.1 501 Not Implemented'],
      ['GET / HTTP/2.0\r\n\r\n', 'HTTP/1.1 505 HTTP Version Not Supported'],
    ]
    const limited: Told[] = [
      ['GET / HTTP/1.1\r\nHost: a', 'HTTP/1.1 408 Request Timeout', { head_ms: 1 }],
      [request('POST /', 'Content-Length: 9'), 'HTTP/1.1 408 Request Timeout', { body_ms: 1 }],
      [request('POST /', 'Content-Length: 4') + 'many', 'HTTP/1.1 503 Service Unavailable', { all_bodies_bytes: 1 }],
    ]

    /** What the log shows of a message: its head, no more than a head may have. */
    function shown(message: string): string {
      const head = message.replace(/\r\n\r\n[^]*/, '').slice(0, 16_384)
      return head.trimEnd().replaceAll('\r\n', '\n').replaceAll('\n', '\n  ')
    }

    /** Sends a message; gives the port it came from, and the first line of the reply. */
    async function told(port: number, message: string): Promise<{ from: number | undefined, first: string }> {
      const peer = new Peer(port, message)
      await until('it is connected', once(peer.socket, 'connect'))
      const from = peer.socket.localPort
      return { from, first: (await peer.closed()).split('\r\n', 1)[0] ?? '' }
    }

    for (const [message, reply, limits] of [...messages, ...limited]) {
      const line = message.split('\n', 1)[0]?.trim().slice(0, 40)
      it(`has three lines for ${line} and its ${reply.replace(/^HTTP\/1\.1 /, '')}`, async t => {
        const logged: [string, unknown][] = []
        const log = (what: string, value: unknown): void => { logged.push([what, value]) }
        const { port } = await start(t, { log, limits: limits ?? {}, answer: () => undefined })
        const { from, first } = await told(port, message)
        const addr = ['127.0.0.1', from]
        assert.deepEqual(logged, [['Connected by', addr], ['Request is:', shown(message)], ['Reply is:', reply]])
        assert.equal(first, reply)
      })
    }

    it('is printed by the program: the address to open, then each message, where it is from and its reply', async t => {
      const server = await new Program(t, [...TSX, 'server.ts', '0', '--host', '127.0.0.1']).listening()
      let printed = `Open http://127.0.0.1:${server.port}/\n`
      for (const [message, reply] of messages) {
        const { from } = await told(server.port, message)
        printed += `Connected by [ '127.0.0.1', ${from} ]\nRequest is: ${shown(message)}\nReply is: ${reply}\n`
      }
      await server.until('has printed it all', () => server.out.length >= printed.length)
      assert.equal(server.out, printed)
      assert.equal(server.err, '')
    })

    it("that throws is answered all the same, and its error is the program's own", async t => {
      const source = (heard: string): string => `
        import { serve } from 'wow-server'
        ${heard}
        const log = what => { throw new Error(what) }
        const server = serve({ port: 0, host: '127.0.0.1', log })
        server.on('listening', () => console.log('http://127.0.0.1:' + server.address().port + '/'))`
      const hearing = "process.on('uncaughtException', error => console.log(error.message))"
      const hears = write_file('app.mjs', source(hearing))
      const server = await new Program(t, [NODE, hears.path], USER).listening()
      for (let i = 0; i < 2; i++) {
        assert.equal(await exchange(server.port, 'can you hear me?\n'), 'Yes')
        assert.equal(status_of(await exchange(server.port, 'GET /\n\n')), 400)
      }
      const each = 'Connected by\nRequest is:\nReply is:\n'
      await server.until('has heard of it', () => server.out.endsWith(each.repeat(4)))

      const hears_not = write_file('app.mjs', source(''))
      const other = await new Program(t, [NODE, hears_not.path], USER).listening()
      await new Peer(other.port, 'can you hear me?\n').closed()
      assert.equal(await until('it has ended', other.exit), 1)
      assert.match(other.err, /Error: Connected by\n +at (?:Object\.|\w+\.)?log .*app\.mjs:4:/)
    })
  })

  describe('the commands', { concurrency: 2 }, () => {
    it('the client names what starts the server where it is installed: npx wow-server', async t => {
      const { code, out, err } = await run(t, [join(BIN, 'wow-client'), '127.0.0.1:1'], USER)
      assert.match(err, /^127\.0\.0\.1:1: .*refused.*\bnpx wow-server\b[^\n]*\n$/)
      assert.deepEqual([code, out], [1, ''])
    })

    const ports: string[][] = [['0'], ['-p', '0'], ['-p0'], ['--port', '0'], ['--port=0']]
    for (const args of ports) it(`the server takes its port as ${args.join(' ')}`, async t => {
      const program = [join(BIN, 'wow-server'), ...args, '--host', '127.0.0.1']
      const { port } = await new Program(t, program, USER).listening()
      assert.equal(await exchange(port, 'can you hear me?\n'), 'Yes')
    })

    it('the server says in one line that its picture is missing, where the source was copied alone', async t => {
      const folder = mkdtempSync(join(SCRATCH, 'alone-'))
      copyFileSync(join(HERE, 'server.ts'), join(folder, 'server.mts'))
      const { code, out, err } = await run(t, [...TSX, 'server.mts', '0'], folder)
      assert.match(err, /^test\.jpg is missing: expected it at [^\n]+; copy it there [^\n]+\n$/)
      assert.ok(err.includes(join(folder, 'test.jpg')), err)
      assert.deepEqual([code, out], [1, ''])
    })

    it('the start prints the address on the network if it listens on every address', async t => {
      // so that the test does not depend on this computer's network
      const network = 'data:text/javascript,' + encodeURIComponent(`
        import { syncBuiltinESMExports } from 'node:module'
        import os from 'node:os'
        const of = (family, address, internal) => ({ family, address, internal })
        os.networkInterfaces = () => ({
          lo: [of('IPv4', '127.0.0.1', true), of('IPv6', '::1', true)],
          eth0: [of('IPv6', 'fe80::1', false), of('IPv4', '192.0.2.7', false)],
        })
        syncBuiltinESMExports()`)
      const printed = async (...args: string[]): Promise<[string, number]> => {
        const server = new Program(t, [NODE, '--import', network, join(BIN, 'wow-server'), '0', ...args], USER)
        const { port } = await server.listening()
        await exchange(port, 'can you hear me?\n')
        await server.until('logs', () => server.out.includes('\nReply is: Yes\n'))
        return [server.out.split('Connected by', 1)[0] ?? '', port]
      }
      const [every, port] = await printed()
      assert.equal(every, `Open http://127.0.0.1:${port}/\nFrom another computer http://192.0.2.7:${port}/\n`)
      const [one, its_port] = await printed('--host', '127.0.0.1')
      assert.equal(one, `Open http://127.0.0.1:${its_port}/\n`)
    })
  })
}))

beside.push(() => describe('the README', { concurrency: 1 }, () => {
  const READMES = ['README.md', 'README.zh-CN.md']
  const text_of = (file: string): string => readFileSync(join(HERE, file), 'utf8')

  type Block = { language: string, code: string, name: string }

  /** The fenced blocks of a README, with the file name in their first line. */
  function blocks_of(readme: string): Block[] {
    const blocks = text_of(readme).matchAll(/^```(\w*)\n((?:(?:\/\/|#) (\S+)\n)?[^]*?)^```$/gm)
    return Array.from(blocks, ([, language = '', code = '', name = '']) => ({ language, code, name }))
  }

  const blocks = blocks_of('README.md'), programs = blocks.filter(block => block.language === 'ts')

  it('both languages have the same code', () => {
    const code_of = (readme: string): string[] =>
      blocks_of(readme).filter(block => /^(?:ts|nginx|sh)$/.test(block.language)).map(block => block.code)
    assert.ok(programs.length >= 9)
    assert.deepEqual(code_of('README.zh-CN.md'), code_of('README.md'))
  })

  /** A link in a table of a README, as [`code`](file.ts#L1), with its quotes, its code, its file and its number. */
  const LINK = /\[(`+) ?(.+?) ?\1\]\((\w+\.ts)#L(\d+)\)/g

  /**
   * A README with the right line numbers in its links: that of the first line with the code, from the line of the link
   * before in the same table on, or else from the beginning. `wrong` gets what was wrong.
   */
  function with_anchors(readme: string, wrong: string[]): string {
    let line_before: Record<string, number> = {}
    return text_of(readme).split('\n').map(row => {
      if (!row.startsWith('|')) line_before = {}
      return row.replace(LINK, (link: string, _quotes: string, escaped: string, file: string, number: string) => {
        const code = escaped.replaceAll('\\|', '|'), all = text_of(file).split('\n')
        const after = all.findIndex((line, i) => i >= (line_before[file] ?? 0) && line.includes(code))
        const line = after < 0 ? all.findIndex(line => line.includes(code)) : after
        const right = line < 0 ? link : link.replace(`#L${number})`, `#L${line + 1})`)
        if (line < 0) wrong.push(`${readme}: ${link} is on no line`)
        else if (right !== link) wrong.push(`${readme}: ${link} is line ${line + 1}`)
        line_before[file] = Math.max(line, 0)
        return right
      })
    }).join('\n')
  }

  it('links each line that it names to that line', () => {
    const wrong: string[] = [], mends = process.env['WOW_ANCHORS'] === '1'
    for (const readme of READMES) {
      assert.ok(Array.from(text_of(readme).matchAll(LINK)).length > 25)
      const right = with_anchors(readme, wrong)
      if (mends) writeFileSync(join(HERE, readme), right)
    }
    assert.deepEqual(wrong.filter(link => !mends || link.endsWith('on no line')), [], '`npm run anchors` mends numbers')
  })

  it('names no file that is not there', () => {
    for (const readme of READMES) {
      for (const [, path = ''] of text_of(readme).matchAll(/(?:\]\(|src=")(?!https?:|#)([^)#"]+)/g)) {
        assert.ok(existsSync(join(HERE, path)), path)
      }
    }
  })

  it('installs the tarball that npm pack makes of this version', () => {
    const { name, version } = JSON.parse(text_of('package.json')) as { name: string, version: string }
    for (const readme of READMES) {
      const tarballs = Array.from(text_of(readme).matchAll(/\b[\w.-]+\.tgz\b/g), ([tarball]) => tarball)
      assert.deepEqual(tarballs, [`${name}-${version}.tgz`], readme)
    }
  })

  /** A clone, with the chapters' programs in it; and the package, for those that use it. */
  const folder = join(SCRATCH, 'chapters'), PACKAGE = join(folder, 'node_modules/wow-server')
  const strips_types = (version: string): boolean => /^v(?:22\.(?:1[89]|[2-9]\d)|2[3-9]|[3-9]\d)\./.test(version)
  /** a Node that runs TypeScript as it is, and has SQLite */
  const newer_node = strips_types(process.version) ? NODE : command('node24', 'node22', 'node26') ?? ''
  const no_newer_node = !newer_node && `Node ${process.version} runs no TypeScript, and no newer one is installed`
  const was_run = new Set<string>()

  before(() => {
    mkdirSync(PACKAGE, { recursive: true })
    for (const name of ['package.json', 'dist']) cpSync(join(HERE, name), join(PACKAGE, name), { recursive: true })
    copyFileSync(join(HERE, 'client.ts'), join(folder, 'client.ts'))
    writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
    // on a busy machine an honest client may be slow
    copy_of('server.ts', {}, join(folder, 'server.ts'))
    copy_of('dist/server.js', {}, join(PACKAGE, 'dist/server.js'))
    for (const { name, code } of programs) writeFileSync(join(folder, name), code)
    make_public()
  })

  /** What chapter 4 serves: files in the folder `public`, and ways out of it. */
  function make_public(): void {
    for (const made of ['public/sub', 'public/empty', 'public/linked', 'public-not']) {
      mkdirSync(join(folder, made), { recursive: true })
    }
    const files: [path: string, text: string][] = [
      ['index.html', '<p>Hello'], ['STYLE.CSS', 'p {}'], ['data.bin', '\0\x01'], ['a b.txt', 'spaced'],
      ['中文.txt', '你好'], ['sub/index.html', 'below'], ['.env', 'SECRET'], ['back\\slash.txt', 'SECRET'],
      ['../secret.txt', 'SECRET'], ['../public-not/secret.txt', 'SECRET'],
    ]
    for (const [path, text] of files) writeFileSync(join(folder, 'public', path), text)
    const links: [path: string, target: string][] = [
      ['within.txt', 'a b.txt'], ['out.txt', '../secret.txt'], ['sibling.txt', '../public-not/secret.txt'],
      ['out', '..'], ['linked/index.html', '../../secret.txt'], ['lost.txt', 'nowhere'], ['round', 'round'],
    ]
    for (const [path, target] of links) symlinkSync(target, join(folder, 'public', path))
    spawnSync('mkfifo', [join(folder, 'public/pipe')])
  }

  /** Runs TypeScript as it is; a newer Node begins in half the time that tsx takes. */
  const RUNNER = no_newer_node ? TSX : [newer_node]

  /** Copies and runs, as the README says. */
  async function start_chapter(t: Scope, name: string, node = RUNNER): Promise<Program> {
    was_run.add(name)
    const port = await free_port(), program = new Program(t, [...node, name, String(port)], folder)
    await program.until('prints where it listens', () => program.out.includes(`127.0.0.1:${port}`))
    program.port = port
    return program
  }

  /** One GET through node:http, which lets a test choose the connection and the address it comes from. */
  async function got(port: number, path: string, how: RequestOptions = {}): Promise<{ status?: number, body: string }> {
    const signal = AbortSignal.timeout(60_000)
    const asked = http_get({ host: '127.0.0.1', port, path, agent: false, signal, ...how }).on('error', () => {})
    const [response] = await once(asked, 'response') as [IncomingMessage]
    return { status: response.statusCode ?? 0, body: await text_from(response) }
  }

  describe('chapters', { concurrency: 3 }, () => {
    it('the module: a page of your own, the article for the rest', async t => {
      const { port } = await start_chapter(t, 'hello.ts')
      assert.equal(body_of(await ask(port, 'GET /hello')), 'Hello!\n')
      assert.match(await ask(port, 'GET /'), /Wow, TypeScript Server/)
    })

    it('each program has its file name, is short and passes the strict type check', async t => {
      for (const { name, code } of programs) {
        assert.match(name, /^\w+\.ts$/, `a block begins with its file name: ${code}`)
        assert.ok(code.split('\n').length <= 42, `${name} is short`)
      }
      const { compilerOptions } = JSON.parse(text_of('tsconfig.json')) as { compilerOptions: object }
      writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({
        compilerOptions: { ...compilerOptions, typeRoots: [join(HERE, 'node_modules/@types')] },
        files: programs.map(({ name }) => name),
      }))
      const check = await run(t, [NODE, join(HERE, 'node_modules/typescript/bin/tsc'), '-p', folder])
      assert.deepEqual([check.out + check.err, check.code], ['', 0])
    })

    // guests.ts has its own test, because its file is for one program at a time
    const serving = programs.filter(({ name, code }) => /\blisten\(|\bserve\(/.test(code) && name !== 'guests.ts')

    it('each program that serves runs by tsx, too', async t => {
      // one process runs them all; but a cluster starts its program again for each worker
      const is_cluster = ({ code }: Block): boolean => code.includes('node:cluster'), ports = new Map<string, number>()
      for (const block of serving) if (!is_cluster(block)) ports.set(block.name, await free_port())
      const imports = Array.from(ports, ([name, port]) => `process.argv[2] = '${port}'\nawait import('./${name}')\n`)
      writeFileSync(join(folder, 'all.ts'), imports.join(''))
      const together = new Program(t, [...TSX, 'all.ts'], folder)
      for (const { name } of serving.filter(is_cluster)) ports.set(name, (await start_chapter(t, name, TSX)).port)
      for (const [name, port] of ports) {
        await together.until(`has started ${name}`, () => accepts(port))
        assert.match(await ask(port), /^(?:HTTP\/1\.1 (?:200|404) |Yes$)/, name)
      }
    })

    async function has_no_port(t: Scope, name: string, port: number): Promise<void> {
      const { code, out, err } = await run(t, [newer_node, '--no-warnings', name, String(port)], folder)
      assert.deepEqual([code, out], [1, ''], name)
      assert.match(err, /^[^\n]*EADDRINUSE[^\n]*\n$/, name)
    }

    it('each program that serves says in one line that its port is taken', { skip: no_newer_node }, async t => {
      const { port } = await start(t, { host: '' })
      for (const { name } of serving) await has_no_port(t, name, port)
    })

    it('line by line: the server of section 2 on its own', async t => {
      const { port } = await start_chapter(t, 'yes.ts')
      const { out } = await run(t, [NODE, copy_of('client.ts'), `127.0.0.1:${port}`])
      assert.equal(out, 'reply is: Yes\n')
    })

    /** The processes of a cluster's workers. */
    async function workers_of(t: Scope, { child }: Program): Promise<number[]> {
      const { out } = await run(t, ['ps', '-A', '-o', 'ppid=,pid=,args='])
      const worker = new RegExp(`^ *${child.pid} +(\\d+) .*cluster\\.ts`, 'gm')
      return Array.from(out.matchAll(worker), ([, pid]) => Number(pid))
    }

    it('1: a worker that dies takes only its own connections, and is replaced; SIGTERM drains all', async t => {
      const program = await start_chapter(t, 'cluster.ts'), { port } = program
      const process_of = async (agent?: Agent): Promise<number> =>
        Number((await got(port, '/process', agent ? { agent } : {})).body)
      const pids = new Set<number>(), workers = Math.max(2, availableParallelism())
      await until('every core has a worker', async () => pids.add(await process_of()).size === workers)

      const clients = await Promise.all(Array.from({ length: 40 }, async () => {
        const agent = new Agent({ keepAlive: true, maxSockets: 1 })
        t.after(() => agent.destroy())
        return { agent, pid: await process_of(agent), failures: 0, answers: 0 }
      }))
      const victim = clients[0]?.pid ?? 0
      let killed = false, over = false
      const load = clients.map(async client => {
        while (!over) try {
          const pid = await process_of(client.agent)
          if (killed && pid !== victim) client.answers++
        } catch {
          client.failures++
        }
      })
      await pause(300)
      process.kill(victim, 'SIGKILL')
      killed = true
      await until('all are answered after the death', () => clients.every(({ answers }) => answers > 0))
      over = true
      await Promise.all(load)
      for (const { pid, failures } of clients) {
        const whose = pid === victim ? 'the dead' : 'a living'
        assert.ok(failures <= (pid === victim ? 1 : 0), `${failures} failures with ${whose} worker`)
      }
      pids.delete(victim)
      await until('the dead worker is replaced', async () => pids.add(await process_of()).size === workers)

      const second = await run(t, [...RUNNER, 'cluster.ts', String(port)], folder)
      assert.match(second.err, /^[^\n]*EADDRINUSE[^\n]*\n$/)
      assert.equal(second.code, 1)

      // in progress: a request of which the server has a half
      const half = 'POST /process HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab'
      const halves = Array.from({ length: 8 }, () => new Peer(port, GET + half))
      for (const peer of halves) await peer.comes('</html>')
      program.child.kill('SIGTERM')
      await until('nobody is let in any more', async () => !await accepts(port))
      for (const peer of halves) {
        peer.write('cd')
        assert.match(await peer.closed(), /<\/html>\nHTTP\/1\.1 405 [^]*\r\nConnection: close\r\n/)
      }
      assert.equal(await until('it has ended', program.exit), 0, program.err)
      for (const pid of pids) assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' })
    })

    it('1: a worker that dies while it starts is replaced too', async t => {
      const program = await start_chapter(t, 'cluster.ts'), all = Math.max(2, availableParallelism())
      const workers = (): Promise<number[]> => workers_of(t, program)
      await until('there are all workers', async () => (await workers()).length === all)
      for (let round = 0; round < 3; round++) {
        const before = await workers()
        for (const pid of before.slice(1)) process.kill(pid, 'SIGKILL')
        // these are killed in the next round, before they can have listened
        await until('there are new workers', async () => (await workers()).some(pid => !before.includes(pid)))
      }
      await until('there are all workers again', async () => (await workers()).length === all)
      assert.equal(status_of(await ask(program.port, 'GET /process')), 200)
    })

    it('1: if the first worker dies before it listens, one line says so', async t => {
      // before the program itself is loaded
      const dies = "if (cluster.isWorker) process.kill(process.pid, 'SIGKILL')"
      const dying = `data:text/javascript,import cluster from 'node:cluster'; ${dies}`
      const program = new Program(t, [...RUNNER, '--import', dying, 'cluster.ts', String(await free_port())], folder)
      assert.equal(await until('it has ended', program.exit), 1)
      assert.equal(program.err, 'SIGKILL ended the first worker before it listened\n')
    })

    it('2: the time at /time, the article for the rest', async t => {
      const { port } = await start_chapter(t, 'time.ts')
      // the page has whole seconds
      const before = Date.now() - 1000
      const response = await fetch(`http://127.0.0.1:${port}/time`)
      assert.equal(response.headers.get('content-type'), 'text/plain')
      assert.equal(response.headers.get('cache-control'), 'no-store')
      const first = Date.parse(await response.text())
      assert.ok(before < first && first <= Date.now())
      await until('time passes', async () => Date.parse((await got(port, '/time')).body) > first)
      assert.equal(status_of(await ask(port, 'POST /time')), 405)
      assert.equal(body_of(await ask(port, 'HEAD /time')), '')
      assert.match(await ask(port, 'GET /'), /<p>Wow, TypeScript Server<\/p>/)
      assert.equal(body_of(await ask(port, 'GET /test.jpg')), PICTURE)
    })

    it('3: the guest book keeps what is typed, as it was typed', { skip: no_newer_node }, async t => {
      rmSync(join(folder, 'guests.db'), { force: true })
      const first = await start_chapter(t, 'guests.ts'), { port } = first
      const names = [
        `O'Neil "the <b>bold</b>" & sons`, '王小明', '👩‍👩‍👧 🎉', '<script>alert(1)</script>',
        "Robert'); DROP TABLE guests;--", '" onmouseover="alert(1)', '&lt;&#60;&amp;', '100% + 1 = ?', '${1}',
        '中'.repeat(300),
      ]
      const post = (name?: string): Promise<Response> => fetch(`http://127.0.0.1:${port}/guests`, {
        method: 'POST', body: new URLSearchParams(name === undefined ? {} : { name }), redirect: 'manual',
      })
      for (const name of names) {
        const response = await post(name)
        assert.deepEqual([response.status, response.headers.get('location')], [303, '/guests'])
      }
      for (const nobody of [undefined, '', ' ']) assert.equal((await post(nobody)).status, 303)
      assert.equal((await post('x'.repeat(5000))).status, 413)

      const page = (await got(port, '/guests')).body
      const items = Array.from(page.matchAll(/<li>(.*)<\/li>/g), ([, item = '']) => item)
      for (const item of items) assert.doesNotMatch(item, /[<>"']/)
      const typed = items.map(item => item.replace(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code))))
      assert.deepEqual(typed, names.toReversed())
      assert.match(await ask(port, 'GET /guests'), /\r\nContent-Type: text\/html; charset=utf-8\r\n/)
      assert.equal(status_of(await ask(port, 'DELETE /guests')), 405)
      assert.match((await got(port, '/')).body, /Wow, TypeScript Server/)

      first.child.kill('SIGKILL')
      await until('it has ended', first.exit)
      // node:sqlite is newer than Node 20, on which tsx runs
      const second = await start_chapter(t, 'guests.ts', newer_node === NODE ? TSX : RUNNER)
      assert.equal((await got(second.port, '/guests')).body, page, 'after a restart')
      await has_no_port(t, 'guests.ts', second.port)
    })

    it("4: node:http gives the article's two contents too", async t => {
      const theirs = await start_chapter(t, 'higher.ts'), ours = await start(t)
      const seen = async (to: Started | number, line: string): Promise<(string | undefined)[]> => {
        const reply = await ask(to, line), length = field_of(reply, 'Content-Length')
        // node:http leaves the length out of a HEAD's answer
        const fields = [field_of(reply, 'Content-Type'), ...line.startsWith('GET') ? [length] : []]
        return [reply.split('\r\n')[0], ...fields, body_of(reply)]
      }
      for (const line of ['GET /', 'GET /test.jpg', 'GET /other', 'HEAD /', 'HEAD /test.jpg']) {
        assert.deepEqual(await seen(theirs.port, line), await seen(ours, line))
      }
      assert.match(await ask(theirs.port, 'POST /'), /^HTTP\/1\.1 405 [^]*\r\nAllow: GET, HEAD\r\n/)
    })

    it('4: a folder is served, and no way leads out of it', async t => {
      const program = await start_chapter(t, 'folder.ts'), { port } = program
      const SERVED: [path: string, type: string, body: string][] = [
        ['/', 'text/html; charset=utf-8', '<p>Hello'],
        ['/index.html?/../x', 'text/html; charset=utf-8', '<p>Hello'],
        ['/STYLE.CSS', 'text/css; charset=utf-8', 'p {}'],
        ['/data.bin', 'application/octet-stream', '\0\x01'],
        ['/a%20b.txt', 'text/plain; charset=utf-8', 'spaced'],
        ['/%E4%B8%AD%E6%96%87.txt', 'text/plain; charset=utf-8', '你好'],
        ['/sub/', 'text/html; charset=utf-8', 'below'],
        ['/sub%2findex.html', 'text/html; charset=utf-8', 'below'],
        ['/within.txt', 'text/plain; charset=utf-8', 'spaced'],
      ]
      for (const [path, type, body] of SERVED) {
        const response = await fetch(`http://127.0.0.1:${port}${path}`)
        assert.deepEqual([response.status, response.headers.get('content-type')], [200, type], path)
        assert.equal(await response.text(), body, path)
      }
      assert.match(await ask(port, 'HEAD /'), /^HTTP\/1\.1 200 [^]*\r\nContent-Length: 8\r\n[^]*\r\n\r\n$/)
      const MOVED = [['/sub', '/sub/'], ['/sub?a=/b?c', '/sub/?a=/b?c'], ['/%73ub', '/%73ub/']] as const
      for (const [path, location] of MOVED) {
        const reply = await ask(port, `GET ${path}`)
        assert.deepEqual([status_of(reply), field_of(reply, 'Location')], [301, location], path)
      }
      assert.equal(status_of(await ask(port, 'POST /')), 405)

      const REFUSED = [
        '/../secret.txt', '/..%2fsecret.txt', '/%2e%2e/secret.txt', '/%2E%2E%2Fsecret.txt', '/.%2e/secret.txt',
        '/sub/../../secret.txt', '/sub/..', '/..', '/.', '/./index.html', '/..\\secret.txt', '/..%5csecret.txt',
        '/%5c..%5csecret.txt', '/sub%5cindex.html', '/index.html%00', '/../secret.txt%00.html', '/%00',
        '/%252e%252e/secret.txt', '/%c0%ae%c0%ae/secret.txt', '/%ff', '/%', '/%2', '/%zz', '//secret.txt', '//sub',
        `/${folder}/secret.txt`, `/%2f${folder.slice(1)}/secret.txt`, '/file:///etc/passwd', '//etc/passwd',
        '/%2fetc%2fpasswd', '/etc/passwd', 'http://a/../secret.txt', 'http://a/%2e%2e/secret.txt',
        '/../public-not/secret.txt', '/out.txt', '/out/secret.txt', '/out/', '/out', '/sibling.txt',
        '/back\\slash.txt', '/back%5cslash.txt', '/linked/', '/linked/index.html', '/lost.txt', '/round', '/pipe',
        '/.env', '/%2eenv', '/sub/../.env', '/index.html/', '/empty/', '/nothing', `/${'a'.repeat(300)}`,
        `/${'a/'.repeat(3000)}`, '../secret.txt', 'secret.txt', '/constructor',
      ]
      for (const path of REFUSED) {
        const reply = await ask(port, `GET ${path}`)
        assert.match(reply, /^HTTP\/1\.1 40[04] /, path)
        assert.doesNotMatch(reply, /SECRET|root:/, path)
      }
      for (const path of ['/%', '/%2', '/%zz', '/%ff', '/%c0%ae']) {
        assert.equal(status_of(await ask(port, `GET ${path}`)), 400, path)
      }
      assert.equal(program.err, '', 'no refusal is a failure')
    })

    it("4: a form's fields, from the URL and from the body", async t => {
      const { port } = await start_chapter(t, 'form.ts')
      const fields = 'name=%E7%8E%8B+%26+%3Cb%3E&question=a?b=c&empty=&name=again'
      const text = 'name is 王 & <b>\nquestion is a?b=c\nempty is \nname is again\n'
      assert.equal((await got(port, `/form?${fields}`)).body, text)
      const posted = await fetch(`http://127.0.0.1:${port}/form?name=other`, { method: 'POST', body: fields })
      assert.equal(await posted.text(), text)
      assert.equal((await got(port, '/form')).body, '')
      for (const line of ['GET //', 'GET //form', 'GET /', 'POST /', 'OPTIONS *', 'CONNECT a:99999']) {
        assert.notEqual(status_of(await ask(port, line)), 500, line)
      }
    })

    /** Functions of the fetch standard, one for each path, behind the README's adapter. */
    const OWN = `import { serve } from './server.ts'
import { from_fetch } from './fetch.ts'
const cookies = [['Set-Cookie', 'a=1; Path=/'], ['Set-Cookie', 'b=2'], ['X-Own', 'v\\xe9']]
const answers = {
  '/cookies': request => new Response(request.method === 'HEAD' ? null : 'ok', { headers: cookies }),
  '/none': () => new Response(null, { status: 204 }),
  '/unchanged': () => new Response(null, { status: 304, headers: { ETag: '"1"' } }),
  '/away': () => Response.redirect('http://elsewhere/', 303),
  '/error': () => { throw new Error('on purpose') },
  '/late': ({ signal }) => new Promise(done => signal.addEventListener('abort', () => done(new Response('late')))),
  '/bytes': async request => new Response(await request.arrayBuffer(), {
    headers: { 'Content-Type': request.headers.get('content-type') ?? 'none' },
  }),
}
const say = ({ method, url, headers }) => Response.json({ method, url, field: headers.get('x-field') })
const handler = async request => (answers[new URL(request.url).pathname] ?? say)(request)
const port = Number(process.argv[2]), limits = { linger_ms: 100 }
const s = serve({ port, limits, answer: from_fetch(handler) })
s.on('listening', () => console.log('127.0.0.1:' + port))`

    it('5: a function of the fetch standard is an answer', async t => {
      const app = await start_chapter(t, 'app.ts')
      was_run.add('fetch.ts')
      assert.equal((await got(app.port, '/hello')).body, 'Hello, 127.0.0.1!\n')
      assert.equal((await got(app.port, '/hello?name=Vamei')).body, 'Hello, Vamei!\n')
      assert.equal(body_of(await ask(app.port, 'POST /echo', ['Content-Length: 2'], 'hi')), 'hi')
      assert.deepEqual(await got(app.port, '/nothing'), { status: 404, body: 'Not here\n' })

      writeFileSync(join(folder, 'own.ts'), OWN)
      const own = await start_chapter(t, 'own.ts'), { port } = own, at = `http://127.0.0.1:${port}`
      const cookies = await fetch(`${at}/cookies`)
      assert.deepEqual(cookies.headers.getSetCookie(), ['a=1; Path=/', 'b=2'])
      assert.deepEqual([cookies.headers.get('x-own'), await cookies.text()], ['v\xe9', 'ok'])

      const bytes = Uint8Array.from({ length: 100_000 }, (_, i) => i * 7)
      const put = { method: 'PUT', body: bytes, headers: { 'Content-Type': 'image/x-own' } }
      const echoed = await fetch(`${at}/bytes`, put)
      assert.equal(echoed.headers.get('content-type'), 'image/x-own')
      assert.deepEqual(new Uint8Array(await echoed.arrayBuffer()), bytes)
      const chunks = '2\r\nab\r\n1\r\nc\r\n0\r\n\r\n'
      assert.equal(body_of(await ask(port, 'POST /bytes', ['Transfer-Encoding: chunked'], chunks)), 'abc')

      const seen = async (line: string, fields: string[] = [], body = ''): Promise<unknown> => {
        const { method, url, field } = JSON.parse(body_of(await ask(port, line, fields, body)))
        return [method, url, field]
      }
      const fields = ['X-Field: one', 'X-Field: two']
      assert.deepEqual(await seen('GET /a%20b?c=d', fields), ['GET', 'http://a/a%20b?c=d', 'one, two'])
      assert.deepEqual(await seen('DELETE //other/x'), ['DELETE', 'http://a//other/x', null])
      assert.deepEqual(await seen('GET http://named:81/x'), ['GET', 'http://named:81/x', null])
      assert.deepEqual(await seen('GET /', ['Content-Length: 2'], 'hi'), ['GET', 'http://a/', null])
      assert.match(await exchange(port, 'GET /old HTTP/1.0\r\n\r\n'), /"url":"http:\/\/localhost\/old"/)

      const without_date = (reply: string): string => reply.replace(/\r\nDate: .*/, '')
      const whole = without_date(await ask(port, 'GET /cookies')), head = without_date(await ask(port, 'HEAD /cookies'))
      assert.equal(head + 'ok', whole)
      for (const path of ['/none', '/unchanged']) {
        assert.match(await ask(port, `GET ${path}`), /^HTTP\/1\.1 (?:204|304) (?:(?!content-length)[^])*\r\n\r\n$/i)
      }
      assert.equal(status_of(await exchange(port, request('GET /late', 'Connection: close'), null)), 503)
      const away = await ask(port, 'GET /away')
      assert.deepEqual([status_of(away), field_of(away, 'Location')], [303, 'http://elsewhere/'])

      assert.equal(own.err, '')
      assert.equal(status_of(await ask(port, 'GET /error')), 500)
      await own.until('names the error', () => own.err.includes('on purpose'))
      const others = [
        ['CONNECT a:80', 405], ['CONNECT /', 400], ['connect /', 501], ['TRACE /', 405], ['track /', 501],
        ['OPTIONS *', 204],
      ] as const
      for (const [line, status] of others) assert.equal(status_of(await ask(port, line)), status, line)
      const no_url = await exchange(port, lines('GET / HTTP/1.1', 'Host: a:99999', 'Connection: close', ''))
      assert.equal(status_of(no_url), 400)
      assert.equal((await got(port, '/')).status, 200)
    })

    /** Handlers that do not come to an end, and what has become of them. */
    const ENDLESS = `import { serve } from './server.ts'
import { from_fetch } from './fetch.ts'
const piece = new Uint8Array(65_536), seen = { open: 0, cancelled: 0 }
const start = () => { seen.open++ }, cancel = () => { seen.open--; seen.cancelled++ }
const answers = {
  '/endless': () => new Response(new ReadableStream({ start, cancel, pull: async controller => {
    await new Promise(setImmediate)
    controller.enqueue(piece)
  } })),
  '/silent': () => new Response(new ReadableStream({ start, cancel })),
  '/never': request => new Promise((resolve, reject) => {
    start()
    request.signal.addEventListener('abort', () => {
      cancel()
      reject(request.signal.reason)
    })
  }),
  '/most': () => new Response(new Uint8Array(4_194_304)),
  '/more': () => new Response(new Uint8Array(4_194_305)),
  '/failing': () => new Response(new ReadableStream({ pull: controller => controller.error(new Error('on purpose')) })),
  '/teapot': () => new Response('short', { status: 418 }),
  '/addr': (request, addr) => Response.json(addr),
  '/seen': () => {
    globalThis.gc()
    const { heapUsed, external } = process.memoryUsage()
    return Response.json({ ...seen, held: heapUsed + external })
  },
}
const handler = (request, addr) => answers[new URL(request.url).pathname](request, addr)
const port = Number(process.argv[2]), s = serve({ port, answer: from_fetch(handler) })
s.on('listening', () => console.log('127.0.0.1:' + port))`
    type Seen = { open: number, cancelled: number, held: number }

    async function start_endless(t: Scope): Promise<{ program: Program, port: number, seen: () => Promise<Seen> }> {
      writeFileSync(join(folder, 'endless.ts'), ENDLESS)
      const [node = '', ...args] = RUNNER
      const program = await start_chapter(t, 'endless.ts', [node, '--expose-gc', ...args]), { port } = program
      return { program, port, seen: async () => JSON.parse((await got(port, '/seen')).body) as Seen }
    }

    it('5: a body without end is cancelled, and fills no memory', async t => {
      const { program, port, seen } = await start_endless(t)
      const refusal = { status: 501, body: 'A response has 4194304 bytes at most, because nothing is streamed here.\n' }
      const ask_20_times = (): Promise<void[]> => Promise.all(Array.from({ length: 20 }, async () => {
        assert.deepEqual(await got(port, '/endless'), refusal)
      }))
      await ask_20_times()
      const before = await seen()
      for (let i = 0; i < 5; i++) await ask_20_times()
      const after = await seen()
      assert.deepEqual([after.open, after.cancelled], [0, 120])
      // the bodies were 400 MiB
      assert.ok(after.held < before.held + 67_108_864, `${before.held} bytes before, ${after.held} after`)

      assert.equal((await got(port, '/most')).body.length, 4_194_304)
      assert.deepEqual(await got(port, '/more'), refusal)
      assert.equal(status_of(await ask(port, 'HEAD /endless')), 501)
      assert.match(await ask(port, 'GET /teapot'), /^HTTP\/1\.1 418 I'm a Teapot\r\n/)
      assert.match((await got(port, '/addr')).body, /^\["127\.0\.0\.1",\d+\]$/)
      assert.equal(status_of(await exchange(port, request('POST /addr', 'Content-Length: 1048577'))), 413)
      assert.equal(program.err, '')
      assert.equal((await got(port, '/failing')).status, 500)
      await program.until('names the error', () => program.err.includes('GET /failing failed: Error: on purpose'))
    })

    it('5: what a client has asked for is cancelled when it leaves', async t => {
      const { program, port, seen } = await start_endless(t)
      for (const path of ['/endless', '/silent', '/never']) {
        const peers = Array.from({ length: 20 }, () => new Peer(port, request(`GET ${path}`)))
        if (path !== '/endless') await until('all are at work', async () => (await seen()).open === 20)
        for (const peer of peers) peer.socket.resetAndDestroy()
        await until(`${path} is cancelled`, async () => (await seen()).open === 0)
      }
      assert.equal(program.err, '')
    })

    const no_nginx = !command('nginx') ? 'nginx is not installed'
      : process.platform !== 'linux' && 'a second address of this computer is wanted, as on Linux'

    /** Runs nginx with the README's configuration, its ports replaced. */
    async function start_nginx(t: Scope, ...servers: number[]): Promise<number> {
      const [block] = blocks.filter(({ language }) => language === 'nginx')
      assert.ok(block)
      const port = await free_port(), file = join(folder, `nginx-${port}.conf`)
      const [first = 0, second = 0] = servers
      let code = block.code
      for (const [from, to] of Object.entries({ ':8001': first, ':8002': second, 'listen 8000': port })) {
        assert.equal(count(code, from), 1)
        code = code.replace(from, from.replace(/\d+/, String(to)))
      }
      const modules = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
      const temporary = modules.map(name => `${name}_temp_path ${folder}/${name};`)
      writeFileSync(file, `daemon off; worker_processes 1; pid ${file}.pid; error_log ${file}.log;
${process.getuid?.() === 0 ? 'user root;' : ''} events {} http { access_log off; ${temporary.join(' ')}\n${code} }`)
      await new Program(t, ['nginx', '-c', file], folder).until('listens', () => accepts(port))
      return port
    }

    it('6: behind nginx one of two may die, and no client sees it', { skip: no_nginx }, async t => {
      const servers = [await start_chapter(t, 'who.ts'), await start_chapter(t, 'who.ts')] as const
      const port = await start_nginx(t, servers[0].port, servers[1].port)
      const process_of = async (): Promise<string> => {
        const { status, body } = await got(port, '/who')
        assert.equal(status, 200)
        return /^You are 127\.0\.0\.1, this is process (\d+)\n$/.exec(body)?.[1] ?? assert.fail(body)
      }
      const pids = new Set<string>()
      await until('both have answered', async () => pids.add(await process_of()).size === 2)

      let over = false, answers = 0
      const load = Promise.all(Array.from({ length: 16 }, async () => {
        for (; !over; answers++) await process_of()
      }))
      const more = (than: number): Promise<unknown> =>
        Promise.race([until(`there are more than ${than} answers`, () => answers > than), load])
      await more(200)
      servers[0].child.kill('SIGKILL')
      await more(answers + 400)
      over = true
      await load
      pids.clear()
      for (let i = 0; i < 20; i++) pids.add(await process_of())
      assert.equal(pids.size, 1)

      // a visitor's own X-Forwarded-For does not count, neither through nginx nor past it
      const headers = { 'X-Forwarded-For': '192.0.2.66' }
      for (const [to, localAddress] of [[port, '127.0.0.2'], [servers[1].port, '127.0.0.3']] as const) {
        const { body } = await got(to, '/who', { headers, localAddress })
        assert.ok(body.startsWith(`You are ${localAddress},`), body)
      }
      assert.equal(status_of(await exchange(port, 'GET /who HTTP/1.0\r\n\r\n')), 200)
    })

    it('6: nginx keeps its connections to the servers, and sends no POST twice', { skip: no_nginx }, async t => {
      let connections = 0, posts = 0
      const upstream = create_http_server((request, response) => {
        if (request.method !== 'POST') return response.end(request.headers.host)
        posts++
        return request.socket.destroy()
      }).on('connection', () => { connections++ })
      const { port: to } = await start(t, socket => upstream.emit('connection', socket))
      const port = await start_nginx(t, to, to)
      for (let i = 0; i < 50; i++) {
        assert.equal((await got(port, '/', { headers: { Host: `name:${port}` } })).body, `name:${port}`)
      }
      assert.ok(connections <= 4, `${connections} connections for 50 requests`)
      assert.equal((await fetch(`http://127.0.0.1:${port}/`, { method: 'POST', body: 'x' })).status, 502)
      assert.equal(posts, 1)
    })
  })

  it('every program of the README was run', () => {
    const expected = programs.map(({ name }) => name).filter(name => name !== 'guests.ts' || !no_newer_node)
    assert.deepEqual(expected.filter(name => !was_run.has(name)), [])
  })
}))

describe('two suites at a time', { concurrency: 2 }, () => beside.forEach(start => start()))

describe('hard to knock over', { concurrency: 4 }, () => {
  /** Loaded into a Node program: when asked, it tells what the program holds and how many timers it has made. */
  const LOOK = 'data:text/javascript,' + encodeURIComponent(`
    let timers = 0
    const { setTimeout: real, gc } = globalThis
    globalThis.setTimeout = (...given) => (timers++, real(...given))
    process.on('message', to_collect => {
      if (to_collect) for (let i = 0; i < 4; i++) gc()
      const { rss, heapUsed, external } = process.memoryUsage()
      const connections = process.getActiveResourcesInfo().filter(name => name === 'TCPSocketWrap').length
      process.send({ rss, held: heapUsed + external, timers, connections })
    })
    process.channel.unref()`)
  type Look = { rss: number, held: number, timers: number, connections: number }

  /** What a program holds, if LOOK is loaded into it, once its garbage is collected. */
  function look(program: Program, to_collect = true): Promise<Look> {
    const told = once(program.child, 'message') as Promise<[Look]>
    program.child.send(to_collect)
    return program.until('tells what it holds', () => told.then(([look]) => look))
  }

  /** Waits until a program into which LOOK is loaded has so many connections. */
  async function connected(program: Program, count: number): Promise<void> {
    await program.until(`has ${count} connections`, async () => (await look(program, false)).connections === count)
  }

  /** A program that calls `serve` with such options, written as source text; SIGTERM stops it. */
  const serving = (options: string): string => `
  import { http, serve } from './server.ts'
  const stop = new AbortController()
  process.on('SIGTERM', () => stop.abort())
  const s = serve({ port: 0, host: '127.0.0.1', signal: stop.signal, ${options} })
  s.on('listening', () => console.log('http://127.0.0.1:' + s.address().port + '/'))`

  type HowToStart = { limits?: Record<string, number>, args?: string[], source?: string, node?: string[] }
  /** Starts a copy of server.ts, or a program (`source`) that imports it, with LOOK and these and PATIENT limits. */
  async function start_program(t: Scope, how: HowToStart = {}): Promise<Program> {
    const { limits = {}, args = ['0', '--quiet'], source, node = [NODE] } = how
    const path = copy_of(file_of(source ? 'server' : 'wow-server'), limits)
    const script = source
      ? ['--input-type=module', '--eval', source.replace('./server.ts', pathToFileURL(path).href)]
      : [path, ...args, '--host', '127.0.0.1']
    return new Program(t, [...node, '--expose-gc', '--import', LOOK, ...script], HERE, 'ipc').listening()
  }

  const GET_PICTURE = request('GET /test.jpg')
  /** The beginning of a head. */
  const POST = lines('POST / HTTP/1.1', 'Host: a')
  const x = (bytes: number): string => 'x'.repeat(bytes)
  const post_of = (length: number, body = x(length)): string => request('POST /', `Content-Length: ${length}`) + body
  const chunked_post = (chunks: string): string => request('POST /', 'Transfer-Encoding: chunked') + chunks
  const chunk_of = (data: string): string => lines(data.length.toString(16), data)
  const LAST_CHUNK = '0\r\n\r\n'
  /** The statuses of all replies, and Yes. */
  const statuses_of = (replies: string): string[] =>
    Array.from(replies.matchAll(/HTTP\/1\.1 (\d{3}) |Yes$/g), ([all, status]) => status ?? all)
  /** Waits until all that the peer has written is with the system. */
  const sent = (peer: Peer): Promise<boolean> =>
    until('all is sent', () => peer.over || !peer.socket.connecting && peer.socket.writableLength === 0)

  describe('a process that was held up', { concurrency: true }, () => {
    it('answers what arrived while it was stopped', async t => {
      const { child, port } = await start_program(t, { limits: { idle_ms: 6_000, silent_ms: 6_000, head_ms: 6_000 } })
      const peers_of = (count: number, text = ''): Peer[] => Array.from({ length: count }, () => new Peer(port, text))
      const kept = peers_of(20, GET)
      for (const peer of kept) await peer.comes('HTTP/1.1 200 ')
      const half = peers_of(5, GET_AND_CLOSE.slice(0, 20)), silent = peers_of(5)
      for (const peer of [...half, ...silent]) await sent(peer)
      child.kill('SIGSTOP')
      for (const peer of [...kept, ...silent]) peer.write(GET_AND_CLOSE)
      for (const peer of half) peer.write(GET_AND_CLOSE.slice(20))
      await pause(7_000)
      child.kill('SIGCONT')
      for (const peer of kept) assert.deepEqual(statuses_of(await peer.closed()), ['200', '200'])
      for (const peer of [...half, ...silent]) assert.deepEqual(statuses_of(await peer.closed()), ['200'])
    })

    it('answers what arrived while answer kept it busy', async t => {
      const enough = join(SCRATCH, 'busy-enough')
      const source = `
        import { existsSync } from 'node:fs'
        let asked = 0
        const is_enough = () => existsSync(${JSON.stringify(enough)})
        const never = new Int32Array(new SharedArrayBuffer(4))
        const be_busy = () => { for (console.log('busy'); !is_enough(); ) Atomics.wait(never, 0, 0, 10) }
        ${serving('answer() { if (++asked === 20) be_busy() }, limits: { idle_ms: 500 }')}`
      const server = await start_program(t, { source })
      const kept = Array.from({ length: 20 }, () => new Peer(server.port))
      for (const peer of kept) await sent(peer)
      for (const peer of kept) peer.write(GET)
      await server.until('is busy', () => server.out.includes('busy'))
      for (const peer of kept) peer.write(GET_AND_CLOSE)
      await pause(1_500)
      writeFileSync(enough, '')
      for (const peer of kept) assert.deepEqual(statuses_of(await peer.closed()), ['200', '200'])
    })
  })

  describe('backpressure', { concurrency: 3 }, () => {
    it('waits for a client that reads slowly, as long as it reads', async t => {
      const write_ms = 2_000, started = performance.now()
      const big = Buffer.alloc(32 * 2 ** 20, 'x')
      const answer: Answer = () => http`HTTP/1.1 200 OK\nConnection: close\n\n${big}`
      const { port } = await start(t, { answer, limits: { write_ms } })
      const socket = connect(port, '127.0.0.1')
      t.after(() => socket.destroy())
      socket.write(GET)
      // after each MiB a pause
      let length = 0, pauses = 0
      for await (const piece of socket as AsyncIterable<Buffer>) {
        length += piece.length
        if (length < pauses << 20) continue
        pauses++
        await pause(100)
      }
      assert.ok(length > big.length)
      assert.ok(performance.now() - started > write_ms, 'it took longer than a write may')
    })

    it('holds next to nothing for a thousand pictures that nobody takes, and does not read on', async t => {
      const server = await start_program(t)
      await exchange(server.port, GET_PICTURE.repeat(1000) + GET_AND_CLOSE)
      const before = await look(server)
      const deaf = Array.from({ length: 4 }, () => new Peer(server.port).socket), much = Buffer.alloc(32 * 2 ** 20, GET)
      for (const socket of deaf) {
        socket.pause()
        socket.write(GET_PICTURE.repeat(1000))
        socket.write(much)
      }
      let unread = Infinity
      await until('the server reads no more', async () => {
        const last = unread
        await pause(500)
        unread = deaf.reduce((sum, { writableLength }) => sum + writableLength, 0)
        return unread === last
      })
      const after = await look(server)
      for (const socket of deaf) {
        assert.ok(socket.writableLength > 0, 'everything was read')
        socket.destroy()
      }
      assert.ok(after.held - before.held < 2 * 2 ** 20, `holds ${after.held - before.held} bytes more`)
      assert.ok(after.rss - before.rss < 32 * 2 ** 20, `the process has grown by ${after.rss - before.rss} bytes`)
      assert.match(await ask(server.port), /^HTTP\/1\.1 200 /)
    })

    it('reads little ahead of an answer that is due, because thousands may send much', async t => {
      const server = await start(t, { answer: () => new Promise<undefined>(() => {}) })
      new Peer(server.port, GET + x(2 ** 20))
      await until('it reads no more', () => Array.from(server.ends).some(end => end.isPaused()))
      // a socket takes one more piece when it is paused
      for (const { bytesRead } of server.ends) assert.ok(bytesRead <= 163_840, `${bytesRead} bytes were read`)
    })

    for (const [kind, promised] of [['at once', false], ['by a promise', true]] as const) {
      it(`stops asking for answers that nobody takes: given ${kind}`, async t => {
        const page = http`HTTP/1.1 200 OK\n\n${x(8_000)}`, { port, ends } =
          await start(t, { answer: () => promised ? Promise.resolve(page) : page })
        const peer = new Peer(port)
        peer.socket.pause()
        peer.write(GET.repeat(20_000))
        let held = -1
        await until('the server writes no more', async () => {
          const last = held
          await pause(300)
          held = Array.from(ends, end => end.writableLength).reduce((sum, length) => sum + length, 0)
          return held === last && held > 0
        })
        assert.ok(held < 2 ** 20, `${held} bytes wait for a client that takes nothing`)
        peer.socket.destroy()
      })
    }

    const DEAF: [what: string, text: string, then: string][] = [
      ['pictures', GET_PICTURE.repeat(500), ''],
      ['pictures, and goes on asking', GET_PICTURE.repeat(500), GET],
      ['pages', GET.repeat(100_000), ''],
      ['pictures, the last one its last', GET_PICTURE.repeat(500) + GET_AND_CLOSE, ''],
    ]
    for (const [what, text, then] of DEAF) it(`ends a write without progress: ${what} (write_ms)`, async t => {
      const { port, nobody } = await start(t, { limits: { write_ms: 300, linger_ms: 100 } })
      const peer = new Peer(port)
      peer.socket.pause()
      peer.write(text)
      await pause(200)
      peer.write(then)
      await nobody()
      peer.socket.destroy()
    })
  })

  describe('stopping', { concurrency: 3 }, () => {
    type Stoppable = { port: number, stop: () => void, done: Promise<number | string> }
    const WAYS = ['SIGINT', 'SIGTERM', 'signal'] as const

    async function stoppable(t: TestContext, way: typeof WAYS[number], limits: Limits = {}): Promise<Stoppable> {
      if (way !== 'signal') {
        const { port, child, exit } = await start_program(t, { limits })
        return { port, stop: () => child.kill(way), done: exit }
      }
      const stop = new AbortController(), { port, server } = await start(t, { signal: stop.signal, limits })
      return { port, stop: () => stop.abort(), done: once(server, 'close').then(() => 0) }
    }

    for (const way of WAYS) it(`${way}: takes no more, answers what is in hand, closes what is idle`, async t => {
      const { port, stop, done } = await stoppable(t, way)
      const idle = new Peer(port, GET), silent = new Peer(port), head = new Peer(port, GET + GET.slice(0, -2))
      const body = new Peer(port, `${GET}${POST}Content-Length: 2\r\n\r\nh`)
      // once the first answer is here, the half request behind it has been read, too
      for (const peer of [idle, head, body]) await peer.comes('</html>\n')
      stop()
      assert.equal(count(await idle.closed(), 'HTTP/1.1 '), 1)
      assert.equal(await silent.closed(), '')
      await until('nobody is let in any more', async () => !await accepts(port))
      assert.deepEqual([head.over, body.over], [false, false])
      head.write('\r\n')
      body.write('i')
      assert.match(await head.closed(), /<\/html>\nHTTP\/1\.1 200 [^]*\r\nConnection: close\r\n[^]*<\/html>\n$/)
      assert.match(await body.closed(), /HTTP\/1\.1 405 [^]*\r\nConnection: close\r\n/)
      assert.equal(await until('it has ended', done), 0)
    })

    for (const way of WAYS) it(`${way}: ends although clients never end (stop_ms)`, async t => {
      const { port, stop, done } = await stoppable(t, way, { stop_ms: 500 })
      const deaf = new Peer(port, GET_PICTURE.repeat(1000))
      deaf.socket.pause()
      const stubborn = [
        deaf,
        new Peer(port),
        new Peer(port, GET),
        new Peer(port, GET_AND_CLOSE),
        new Peer(port, 'GET / HTTP/1.1\r\nX: '),
        new Peer(port, `${POST}Content-Length: 9999\r\n\r\n`),
      ]
      const dripping = setInterval(() => { for (const peer of stubborn.slice(3)) peer.write('x') }, 50)
      t.after(() => {
        clearInterval(dripping)
        for (const { socket } of stubborn) socket.destroy()
      })
      for (const peer of stubborn.slice(2, 4)) await peer.comes('</html>')
      stop()
      assert.equal(await until('it has ended', done), 0)
    })

    for (const [first, second] of [['SIGINT', 'SIGINT'], ['SIGTERM', 'SIGINT'], ['SIGINT', 'SIGTERM']] as const) {
      it(`${first}, then ${second}, ends it at once`, async t => {
        const { port, child, exit } = await start_program(t)
        const peer = new Peer(port, 'GET / HTTP/1.1\r\n')
        await once(peer.socket, 'connect')
        child.kill(first)
        await until('nobody is let in any more', async () => !await accepts(port))
        child.kill(second)
        assert.equal(await until('it has ended', exit), second)
      })
    }

    /** A client that asks again and again, until it cannot connect any more. */
    async function honest_client(port: number, path: string, answered: (last: boolean) => unknown): Promise<void> {
      for (;;) {
        const peer = new Peer(port)
        const length = (): number => Number(field_of(peer.text, 'Content-Length') ?? Infinity)
        for (let first = true, last = false; !last; first = false) {
          peer.text = ''
          peer.write(request(`GET ${path}`))
          await peer.comes('an answer', () => peer.over || body_of(peer.text).length >= length())
          // who comes while the port is closed may be let in no more
          if (first && !peer.text) break
          assert.deepEqual([status_of(peer.text), body_of(peer.text).length], [200, length()])
          last = field_of(peer.text, 'Connection') === 'close'
          await answered(last)
        }
        const { errored } = peer.socket
        peer.socket.destroy()
        if (errored && 'code' in errored && errored.code === 'ECONNREFUSED') return
      }
    }

    for (const [name, thinking_ms] of [['at full speed', 0], ['with a thought in between', 100]] as const) {
      it(`cuts not one answer under load, clients asking ${name}`, async t => {
        // a connection that is closed while it is idle cuts no answer (RFC 9112, 9.3.1), but would hide one that is cut
        const { port, child, exit } = await start_program(t, { limits: { STOP_GRACE_MS: 600_000 } })
        let answers = 0, stopping = false
        const clients = Array.from({ length: 24 }, async (_, i) => {
          await honest_client(port, i % 2 ? '/' : '/test.jpg', last => {
            answers++
            assert.ok(stopping || !last, 'told that it was the last before the end')
            return thinking_ms && pause(thinking_ms)
          })
          assert.ok(stopping, 'not let in before the end')
        })
        await Promise.race([until('there were answers for all', () => answers > 96), Promise.all(clients)])
        stopping = true
        child.kill('SIGTERM')
        await Promise.all(clients)
        assert.equal(await until('it has ended', exit), 0)
      })
    }

    it('a signal that came before the start leaves nothing running', async () => {
      const server = serve({ port: 0, host: '127.0.0.1', signal: AbortSignal.abort() })
      await once(server, 'close')
      await pause(50)
      assert.equal(server.listening, false)
    })

    it('an accept that fails ends nothing', async t => {
      const server = await start(t)
      server.server.emit('error', Object.assign(new Error('accept EMFILE'), { syscall: 'accept' }))
      assert.match(await ask(server), /^HTTP\/1\.1 200 /)
    })

    it('answers all who were connected when the signal came, though it has not accepted them yet', async t => {
      const { port, child, exit } = await start_program(t)
      await ask(port)
      // as many as wait in the system, which accepts them for it
      child.kill('SIGSTOP')
      const clients = Array.from({ length: 200 }, () => new Peer(port, GET_AND_CLOSE))
      for (const peer of clients) await sent(peer)
      child.kill('SIGTERM')
      child.kill('SIGCONT')
      for (const peer of clients) assert.deepEqual(statuses_of(await peer.closed()), ['200'])
      assert.equal(await until('it has ended', exit), 0)
    })

    it('ends under clients of every kind, also those that come, reset or say nothing meanwhile (stop_ms)', async t => {
      const answer = `({ src }) => src === '/never' ? new Promise(() => {}) : undefined`
      const options = `answer: ${answer}, limits: { stop_ms: 1_500 }`
      const { port, child, exit } = await start_program(t, { source: serving(options) })
      const never = request('GET /never')
      const messages = [
        '', 'GET', 'GET / HTTP/1.1\r\nHo', 'can you', 'can you hear me? ', '\r\n', 'NO / HTTP/9.9\r\n\r\n',
        GET, GET_AND_CLOSE, never, GET + GET.slice(0, 20), never + GET,
        post_of(9, 'x'), chunked_post('5\r\nx'), chunked_post(chunk_of('xxxxx')),
      ]
      const steady = messages.map(text => new Peer(port, text))
      for (let i = 0; child.exitCode === null && child.signalCode === null; i++) {
        const peer = new Peer(port, messages[i % messages.length]), leave = [
          () => peer.socket.resetAndDestroy(),
          () => peer.socket.end(),
        ][i % 3]
        if (leave) setTimeout(leave, i % 20)
        if (i === 300) child.kill('SIGTERM')
        await pause(1)
      }
      assert.equal(await exit, 0)
      for (const peer of steady) await peer.closed()
    })

    it("the user's own close() takes no more, and lets connections end by themselves, each told so", async t => {
      const finish = new AbortController(), finished = once(finish.signal, 'abort').then(() => undefined)
      const answer: Answer = ({ src }) => src === '/slow' ? finished : undefined
      const { port, server, ends } = await start(t, { answer, limits: { idle_ms: 1_000 } })
      const slow = new Peer(port, request('GET /slow')), kept = new Peer(port, GET), idle = new Peer(port, GET)
      for (const peer of [kept, idle]) await peer.comes('</html>\n')
      await until('all are connected', () => ends.size === 3)
      const closed = new Promise(resolve => server.close(resolve))
      await until('nobody is let in any more', async () => !await accepts(port))
      assert.doesNotMatch(kept.text, /Connection: close/)
      kept.write(GET)
      assert.match(await kept.closed(), /<\/html>\nHTTP\/1\.1 200 [^]*\r\nConnection: close\r\n/)
      assert.deepEqual(statuses_of(await idle.closed()), ['200'])
      finish.abort()
      assert.match(await slow.closed(), /^HTTP\/1\.1 200 [^]*\r\nConnection: close\r\n/)
      assert.equal(await until('it has ended', closed), undefined)
    })

    it('a server that was closed twice listens again, and can be stopped', async t => {
      const stop = new AbortController(), { server } = await start(t, { signal: stop.signal })
      const closed = once(server, 'close')
      server.close()
      server.close()
      await until('it has ended', closed)
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      const { port } = server.address() as AddressInfo, peer = new Peer(port, GET)
      await peer.comes('HTTP/1.1 200 ')
      const closed_again = once(server, 'close')
      stop.abort()
      assert.deepEqual(statuses_of(await peer.closed()), ['200'])
      await until('it has ended', closed_again)
    })

    it('a log may stop it while it refuses a request, and the refusal is sent', async t => {
      const stop = new AbortController(), log = (): void => stop.abort()
      const server = await start(t, { log, signal: stop.signal, limits: { head_ms: 300 } })
      assert.match(await exchange(server, 'GET / HTTP/1.1\r\n'), /^HTTP\/1\.1 408 /)
      await server.nobody()
    })

    it('a server that listens again while a connection is open measures time as before', async t => {
      const { port, server } = await start(t, { limits: { silent_ms: 3_000 } })
      const open = new Peer(port, GET)
      await open.comes('HTTP/1.1 200 ')
      server.close()
      server.listen(port, '127.0.0.1')
      await once(server, 'listening')
      const begin = performance.now(), silent = new Peer(port)
      assert.equal(await until('it has ended', silent.all), '')
      assert.ok(performance.now() - begin >= 1_000)
    })

    it('a server that is closed, and then told to stop, says once that it has closed', async t => {
      const stop = new AbortController(), { server } = await start(t, { signal: stop.signal })
      let closed = 0
      server.on('close', () => closed++)
      server.close()
      stop.abort()
      await until('it has closed', () => closed > 0)
      for (let i = 0; i < 10; i++) await turn()
      assert.equal(closed, 1)
    })

    it('to listen twice at a time is refused, and ends nothing', async t => {
      const server = await start(t)
      assert.throws(() => server.server.listen(0), { code: 'ERR_SERVER_ALREADY_LISTEN' })
      assert.deepEqual(statuses_of(await ask(server)), ['200'])
    })

    it('killed with SIGKILL and started again on its port, it serves at once', async t => {
      const first = await start_program(t, { args: [`${await free_port()}`] })
      const peers = [GET, GET_PICTURE.repeat(300), 'GET'].map(text => new Peer(first.port, text))
      await ask(first.port)
      for (const peer of peers.slice(0, 2)) await peer.comes('HTTP/1.1 200 ')
      first.child.kill('SIGKILL')
      await until('it has ended', first.exit)
      const second = await start_program(t, { args: [`${first.port}`] })
      assert.match(await ask(second.port), /^HTTP\/1\.1 200 /)
      for (const { socket } of peers) socket.destroy()
    })
  })

  describe('timeouts', { concurrency: true }, () => {
    const LATE = 'HTTP/1.1 408'
    type Slow = [sentence: string, limit: keyof typeof LIMITS, at_once: string, every_50_ms: string, answer: string]
    /** The one limit that is short, what the client sends at once, what it then sends every 50 ms, and the answer. */
    const SLOW: Slow[] = [
      ['a connection that says nothing is just closed', 'silent_ms', '', '', ''],
      ['a head that stops is late', 'head_ms', 'GET / HTTP/1.1\r\nHost: a\r\n', '', LATE],
      ['half a method is late', 'head_ms', 'GE', '', LATE],
      ['an empty line is ignored, and no more is closed without a word', 'silent_ms', '\r\n', '', ''],
      ['an empty line after a request keeps nothing open', 'idle_ms', `${GET}\r\n`, '', ''],
      ['a request line that drips is late', 'head_ms', 'GET /', 'x', LATE],
      ['a field that drips is late', 'head_ms', 'GET / HTTP/1.1\r\nHost: a\r\nX: ', 'x', LATE],
      ['fields that drip line by line are late', 'head_ms', 'GET / HTTP/1.1\r\nHost: a\r\n', 'X: y\r\n', LATE],
      ['a second head that drips is late', 'head_ms', `${GET}GET / HTTP/1.1\r\n`, 'x', LATE],
      ['a body that stops is late', 'body_ms', `${POST}Content-Length: 9999\r\n\r\nx`, '', LATE],
      ['a body that drips is late', 'body_ms', `${POST}Content-Length: 9999\r\n\r\n`, 'x', LATE],
      ['a chunk that drips is late', 'body_ms', `${POST}Transfer-Encoding: chunked\r\n\r\nfff\r\n`, 'x', LATE],
      ['chunks that drip are late', 'body_ms', `${POST}Transfer-Encoding: chunked\r\n\r\n`, '1\r\nx\r\n', LATE],
      ['trailers that drip are late', 'body_ms', `${POST}Transfer-Encoding: chunked\r\n\r\n0\r\n`, 'X: y\r\n', LATE],
      ['an awaited body that does not come is late', 'body_ms',
        `${POST}Content-Length: 9\r\nExpect: 100-continue\r\n\r\n`, '', LATE],
      ['a connection kept alive and idle is closed without a word', 'idle_ms', GET, '', ''],
      ['text that drips without an end is text in the end', 'head_ms', 'can', 'n', 'Yes'],
      ['a word that stops is text in the end', 'head_ms', 'hello', '', 'Yes'],
    ]
    for (const [sentence, limit, at_once, drip, answer] of SLOW) it(`${sentence} (${limit})`, async t => {
      const { port, nobody } = await start(t, { limits: { [limit]: 300, linger_ms: 100 } })
      const peer = new Peer(port, at_once), dripping = setInterval(() => peer.write(drip), 50)
      t.after(() => clearInterval(dripping))
      await until('it has ended', peer.all)
      const before = at_once.startsWith(GET) ? peer.text.indexOf('</html>\n') + 8 : at_once.includes('Expect') ? 25 : 0
      assert.equal(peer.text.slice(before, before + 12), answer)
      if (answer === LATE) assert.match(peer.text, /\r\nConnection: close\r\n/)
      // the client's side is still open
      await nobody()
    })

    it('who is slow within the limits is served', async t => {
      const { port } = await start(t, { answer: ({ body }) => http`HTTP/1.1 200 OK\n\n${body}` })
      const peer = new Peer(port)
      const message = `${POST}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n`
      for (const piece of message.match(/[^]{1,8}/g) ?? []) {
        peer.write(piece)
        await pause(20)
      }
      assert.match(await peer.closed(), /^HTTP\/1\.1 200 [^]*\r\n\r\nhi$/)
    })

    it('has the limits that the README names, if it is given no others', () => {
      const { silent_ms, head_ms, body_ms, idle_ms, write_ms, stop_ms } = LIMITS
      assert.deepEqual({ silent_ms, head_ms, body_ms, idle_ms, write_ms, stop_ms }, {
        silent_ms: 10_000, head_ms: 10_000, body_ms: 30_000, idle_ms: 5_000, write_ms: 120_000, stop_ms: 4_000,
      })
    })

    it('makes no timer for a request that arrives whole', async t => {
      const server = await start_program(t)
      await ask(server.port)
      const { timers } = await look(server)
      const requests = GET.repeat(50) + `${POST}Content-Length: 2\r\n\r\nhi` + GET_PICTURE + GET_AND_CLOSE
      await exchange(server.port, requests)
      assert.equal((await look(server)).timers, timers)
      // and the count counts
      await exchange(server.port, 'can you hear me?')
      assert.equal((await look(server)).timers, timers + 1)
    })
  })

  describe('bodies', { concurrency: 4 }, () => {
    const options = 'answer: () => http`HTTP/1.1 200 OK\\n\\nok`', ok = (): Content => http`HTTP/1.1 200 OK\n\nok`
    const posted = async (to: Started, bytes: number): Promise<string> =>
      gist(await ask(to, 'POST /', [`Content-Length: ${bytes}`], x(bytes)))

    it('of 1 MiB less a byte from 600 clients leave it serving with a heap of 256 MiB', async t => {
      const server = await start_program(t, { source: serving(options), node: [NODE, '--max-old-space-size=256'] })
      const bytes = Buffer.from(chunked_post(`100000\r\n${x(1_048_575)}`))
      const clients = Array.from({ length: 600 }, () => new Peer(server.port))
      for (const { socket } of clients) socket.write(bytes)
      for (const peer of clients) await sent(peer)
      assert.deepEqual(statuses_of(await ask(server.port)), ['200'])
      const answers = new Set(clients.flatMap(peer => statuses_of(peer.text)))
      assert.deepEqual([...answers], ['503'])
      for (const { socket } of clients) socket.destroy()
      await connected(server, 0)
    })

    it('in chunks of 2 bytes from 40 clients leave it serving with a heap of 64 MiB', async t => {
      const server = await start_program(t, { source: serving(options), node: [NODE, '--max-old-space-size=64'] })
      const message = chunked_post(chunk_of('xx').repeat(20_000))
      const clients = Array.from({ length: 40 }, () => new Peer(server.port, message))
      for (const peer of clients) await sent(peer)
      assert.deepEqual(statuses_of(await ask(server.port)), ['200'])
      for (const peer of clients) peer.write(LAST_CHUNK).socket.end()
      for (const peer of clients) assert.deepEqual(statuses_of(await peer.closed()), ['200'])
    })

    it('are the request\'s own, so that an answer may transfer them, and they are given back', async t => {
      const answer: Answer = ({ body }) => {
        structuredClone(body, { transfer: [body.buffer] })
        return ok()
      }
      const server = await start(t, { answer, limits: { all_bodies_bytes: 100_000 } })
      for (let i = 0; i < 3; i++) {
        assert.equal(await posted(server, 90_000), 'ok')
        assert.equal(gist(await ask(server)), 'ok')
        // not a plain head
        assert.equal(gist(await ask(server, 'GET http://[::1]/')), 'ok')
      }
    })

    it('show nothing of what was in memory before', async t => {
      const answer: Answer = ({ body }) => http`HTTP/1.1 200 OK\n\n${Buffer.from(body.buffer)}`
      const server = await start(t, { answer })
      for (let i = 0; i < 20; i++) {
        await ask(server, 'POST /', ['Content-Length: 70000'], 'secret '.repeat(10_000))
        const chunks = chunk_of(x(40_000)) + chunk_of(x(1_000)) + LAST_CHUNK
        assert.match(gist(await ask(server, 'POST /', ['Transfer-Encoding: chunked'], chunks)), /^x{41000}\0*$/)
      }
    })

    const ENDINGS: [ending: string, end: (first: Peer) => unknown, body_ms?: number][] = [
      ['is answered', first => first.write(x(10_000)).comes('HTTP/1.1 200 ')],
      ['is reset', first => first.socket.resetAndDestroy()],
      ['ends too early', first => first.socket.end()],
      ['is too late', () => {}, 2_000],
    ]
    for (const [ending, end, body_ms = 600_000] of ENDINGS) {
      it(`that together would pass all_bodies_bytes are 503, until the body before ${ending}`, async t => {
        const server = await start(t, { answer: ok, limits: { all_bodies_bytes: 100_000, body_ms } })
        const first = new Peer(server.port, post_of(90_000, x(80_000)))
        await until('it is read', () => [...server.ends][0]?.bytesRead === first.socket.bytesWritten)
        const refused = await exchange(server, post_of(50_000))
        assert.match(refused, /^HTTP\/1\.1 503 [^]*\r\nRetry-After: \d+\r\n/)
        assert.equal(gist(refused), '503')
        assert.deepEqual(statuses_of(await ask(server)), ['200'], 'a request without a body')
        await end(first)
        await until('its bytes are given back', async () => await posted(server, 50_000) === 'ok')
      })
    }

    it('count until their answer is there, even if the client is gone', async t => {
      let asked = 0
      const finish = new AbortController(), finished = once(finish.signal, 'abort').then(ok)
      const answer: Answer = () => {
        asked++
        return finished
      }
      const server = await start(t, { answer, limits: { all_bodies_bytes: 100_000 } })
      const { socket } = new Peer(server.port, post_of(60_000))
      await until('answer has it', () => asked === 1)
      socket.resetAndDestroy()
      await server.nobody()
      assert.equal(await posted(server, 60_000), '503')
      assert.equal(asked, 1)
      finish.abort()
      await until('its bytes are given back', async () => await posted(server, 60_000) === 'ok')
    })

    it('are given back after resets and ends in the middle of anything', async t => {
      const answer: Answer = () => turn(ok())
      const server = await start(t, { answer, limits: { all_bodies_bytes: 20_000 } })
      const chunk = chunk_of(x(8_000))
      const messages = [
        post_of(9_000),
        post_of(9_000).repeat(5),
        post_of(9_000, x(8_000)),
        post_of(9_000) + post_of(9_000, 'x'),
        post_of(30_000),
        chunked_post(chunk + LAST_CHUNK),
        chunked_post(chunk + 'x'),
        chunked_post(chunk),
        chunked_post(chunk.repeat(3)),
      ]
      for (let i = 0; i < 99; i++) {
        const peer = new Peer(server.port, messages[i % messages.length])
        for (let turns = i % 11; turns > 0; turns--) await turn()
        if (i % 2) peer.socket.resetAndDestroy()
        else {
          peer.socket.end()
          await peer.closed()
        }
      }
      await server.nobody()
      assert.deepEqual(statuses_of(await exchange(server, post_of(19_999), null)), ['200'])
    })

    it('are held about once each, however small the pieces are', async t => {
      const server = await start_program(t, { source: serving(options) })
      const clients = Array.from({ length: 10 }, () => new Peer(server.port, post_of(10_000, '')))
      for (const peer of clients) await sent(peer)
      const before = await look(server)
      for (let i = 0; i < 3_000; i++) {
        for (const peer of clients) peer.write('x')
        await turn()
      }
      for (const peer of clients) await sent(peer)
      const { held } = await look(server)
      assert.ok(held - before.held < 700_000, `30,000 bytes take ${held - before.held}`)
      for (const peer of clients) peer.write(x(7_000)).socket.end()
      for (const peer of clients) assert.deepEqual(statuses_of(await peer.closed()), ['200'])
    })

    it('are not kept where there is no answer to read them', async t => {
      const { port } = await start(t, { limits: { all_bodies_bytes: 10 } })
      for (const message of [post_of(500_000), chunked_post(chunk_of(x(4_096)) + LAST_CHUNK)]) {
        assert.deepEqual(statuses_of(await exchange(port, message, null)), ['405'])
      }
      const server = await start_program(t), before = await look(server)
      const clients = Array.from({ length: 40 }, () => new Peer(server.port, post_of(1_000_000, x(999_999))))
      for (const peer of clients) await sent(peer)
      const { held } = await look(server)
      assert.ok(held - before.held < 4_000_000, `40 bodies take ${held - before.held} bytes`)
      for (const peer of clients) peer.write('x').socket.end()
      for (const peer of clients) assert.deepEqual(statuses_of(await peer.closed()), ['405'])
    })
  })

  describe('a connection that waits holds nothing of what it was sent', { concurrency: 3 }, () => {
    // longer than what is read from a socket at a time
    const long_gets = request(`GET /${x(500)}`).repeat(300), body = post_of(150_000)
    const SERVED: [what: string, text: string, answers: number][] = [
      ['a body with a length', body, 1],
      ['a chunked body', chunked_post(chunk_of(x(150_000)) + LAST_CHUNK), 1],
      ['many requests', long_gets, 300],
      ['a long head', request('GET /', `X: ${x(16_000)}`), 1],
      ['a large body before half a head', `${body}GET / HT`, 1],
      // long enough for a slice of what came before it
      ['many requests before half a head', long_gets + GET.slice(0, 20), 300],
      ['a large body before half a body', body + post_of(9, 'x'), 1],
      ['many requests before half a body', long_gets + post_of(9, 'x'), 300],
      ['many requests before some of a body', long_gets + post_of(1_000, x(500)), 300],
      ['many requests before some of a chunk', long_gets + chunked_post(`9;${x(20)}\r\nx`), 300],
      ['a large body of its own was sent to it', request('GET /large'), 1],
    ]
    const options = "answer: ({ src }) => http`HTTP/1.1 200 OK\\n\\n${src === '/large' ? Buffer.alloc(150_000) : ''}ok`"
    for (const [what, text, answers] of SERVED) it(`after ${what}`, async t => {
      const server = await start_program(t, { source: serving(options) })
      const clients = Array.from({ length: 100 }, () => new Peer(server.port))
      await connected(server, 100)
      const before = await look(server)
      for (const peer of clients) peer.write(text)
      for (const peer of clients) {
        await peer.comes(`answer ${answers}`, () => count(peer.text, 'ok') === answers)
      }
      const held = ((await look(server)).held - before.held) / clients.length
      assert.ok(held < 10_000, `each holds ${Math.round(held)} bytes`)
      for (const { socket } of clients) socket.destroy()
    })
  })

  it('a path or a value that an answer keeps holds nothing else of its request', async t => {
    const answer = "({ src, headers }) => void kept.push(src, headers.get('x-id'))"
    const server = await start_program(t, { source: `const kept = [];${serving(`answer: ${answer}`)}` })
    // the first Headers load what they are made of
    await ask(server)
    const before = await look(server), padding = `X: ${x(15_000)}`
    const requests = Array.from({ length: 500 }, (_, i) => {
      const long = `${i}-${x(20)}`
      return request(`GET ${i % 2 ? '' : 'http://a'}/${long}`, `X-Id: ${long}`, padding)
    })
    await exchange(server, ...requests, GET_AND_CLOSE)
    const { held } = await look(server)
    assert.ok(held - before.held < 2_000_000, `they hold ${held - before.held} bytes`)
  })

  describe('abrupt clients', { concurrency: 4 }, () => {
    const UNFINISHED = [
      '',
      'G',
      'can you',
      'GET / HTTP/1.1\r\nHost',
      `${POST}Content-Length: 9\r\n\r\nabc`,
      `${POST}Transfer-Encoding: chunked\r\n\r\n5\r\nab`,
      `${POST}Content-Length: 9\r\nExpect: 100-continue\r\n\r\n`,
      GET,
      GET.repeat(500),
      GET_PICTURE,
      GET_PICTURE.repeat(100),
      GET_AND_CLOSE,
      'GET\r\n\r\n' + 'x'.repeat(100_000),
    ]

    /** Requests of every kind, each with the status of its answer. */
    const STREAM: [message: string, status: string][] = [
      [GET_PICTURE, '200'],
      [post_of(5), '405'],
      [chunked_post('3;a=b\r\nxxx\r\n2\r\nxx\r\n0\r\nX: y\r\n\r\n'), '405'],
      [GET_AND_CLOSE, '200'],
    ]
    const stream = STREAM.map(([message]) => message).join('')

    it('survives resets in the middle of anything, and forgets the connection', async t => {
      const server = await start(t, { answer: () => turn(undefined) })
      const texts = [...UNFINISHED, ...Array.from(stream, (_, length) => stream.slice(0, length))]
      for (const wait of [0, 1, 30]) await Promise.all(texts.map(async text => {
        const peer = new Peer(server.port, text)
        await once(peer.socket, 'connect')
        await pause(wait)
        peer.socket.resetAndDestroy()
      }))
      await server.nobody()
      assert.match(await ask(server), /^HTTP\/1\.1 200 /)
    })

    const slow_answer: Answer = async ({ src }) => {
      await pause(50)
      return src === '/slow' ? http`HTTP/1.1 200 OK\n\nslow` : undefined
    }
    /** What a client sends before it closes its side, and what it gets all the same. */
    const HALF_CLOSED: [text: string, answers: RegExp][] = [
      [GET, /^HTTP\/1\.1 200 [^]*<\/html>\n$/],
      [GET.repeat(3), /^(?:HTTP\/1\.1 200 [^]*?<\/html>\n){3}$/],
      [GET_PICTURE, /^HTTP\/1\.1 200 [^]*\xff\xd9$/],
      [request('GET /slow'), /^HTTP\/1\.1 200 [^]*slow$/],
      [`${POST}Content-Length: 2\r\n\r\nhi`, /^HTTP\/1\.1 405 /],
      ['can you hear me?', /^Yes$/],
      ['GET / HTTP/1.1\r\nHost: a\r\n', /^HTTP\/1\.1 400 [^]*\r\nConnection: close\r\n/],
      [`${POST}Content-Length: 3\r\n\r\nhi`, /^HTTP\/1\.1 400 [^]*\r\nConnection: close\r\n/],
      ['', /^$/],
    ]
    for (const [text, answers] of HALF_CLOSED) {
      it(`answers a client that has closed its side after ${JSON.stringify(text.slice(0, 60))}`, async t => {
        const { port, nobody } = await start(t, { answer: slow_answer })
        const peer = new Peer(port, text)
        peer.socket.end()
        assert.match(await until('it is answered', peer.all), answers)
        await nobody()
      })
    }

    it('answers a client up to where it has closed its side, wherever that is', async t => {
      const { port } = await start(t)
      await Promise.all(Array.from(stream, async (_, length) => {
        const peer = new Peer(port, stream.slice(0, length))
        peer.socket.end()
        const statuses: string[] = []
        let rest = length
        for (const [message, status] of STREAM) {
          if (rest >= message.length) statuses.push(status)
          // letters alone may be a text
          else if (rest > 0) statuses.push(length <= 3 ? 'Yes' : '400')
          rest -= message.length
        }
        assert.deepEqual(statuses_of(await peer.closed()), statuses, `after ${length} bytes`)
      }))
    })

    it('asks answer for nothing more once the client is gone, though its requests have arrived', async t => {
      let asked = 0
      const answer: Answer = async () => {
        asked++
        await server.nobody()
        return undefined
      }
      const server = await start(t, { answer })
      const peer = new Peer(server.port, GET.repeat(1700))
      await until('the first is asked for', () => asked > 0)
      peer.socket.resetAndDestroy()
      await server.nobody()
      for (let i = 0; i < 200; i++) await turn()
      assert.equal(asked, 1)
    })

    it('notices that a client is gone that has sent more than the server takes', async t => {
      let asked = 0, is_gone = false, asked_for_nobody = 0
      const answer: Answer = () => {
        asked++
        if (is_gone) asked_for_nobody++
        return turn(undefined)
      }
      const server = await start(t, { answer }), peer = new Peer(server.port, GET.repeat(50_000))
      await until('some are asked for', () => asked > 100)
      peer.socket.resetAndDestroy()
      is_gone = true
      await server.nobody()
      for (let i = 0; i < 200; i++) await turn()
      assert.ok(asked_for_nobody < 10_000, `${asked_for_nobody} requests of nobody`)
    })

    /** Sent piece by piece while an answer is worked on, so that several pieces wait in the server. */
    const PIECEMEAL: string[][] = [
      [
        request('GET /2'),
        request('GET /3'),
        request('POST /4', 'Content-Length: 9'),
        'abc', 'def', 'ghi',
      ],
      [
        'GET /2 HT', 'TP/1.1\r\nHo', 'st: a\r\nA: b\r', '\n\r\nGET /3', ' HTTP/1.1\r\nHost: a\r\n\r',
        '\nPOST /4 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r', '\n\r\nabcdef', 'gh', 'i',
      ],
      [
        request('GET /2') + request('GET /3') + request('POST /4', 'Transfer-Encoding: chunked') + '3',
        '\r\nabc', '\r\n3\r\ndef\r\n3;', 'a=b\r\n', 'ghi\r\n0\r', '\n\r', '\n',
      ],
    ]
    for (const [i, pieces] of PIECEMEAL.entries()) {
      it(`loses and swaps no byte that comes while an answer is worked on (${i + 1})`, async t => {
        const go = new AbortController(), working = once(go.signal, 'abort')
        const answer: Answer = async ({ src, body }) => {
          if (src === '/1') await working
          return http`HTTP/1.1 200 OK\nX-Got: ${src}${body.length ? ` ${Buffer.from(body)}` : ''}\n\n`
        }
        const { port } = await start(t, { answer })
        const peer = new Peer(port)
        for (const piece of [request('GET /1'), ...pieces]) {
          peer.write(piece)
          await pause(10)
        }
        go.abort()
        peer.socket.end()
        const got = (await until('it is answered', peer.all)).match(/X-Got: .*(?=\r)|HTTP\/1\.1 [45]\d\d/g)
        assert.deepEqual(got, ['X-Got: /1', 'X-Got: /2', 'X-Got: /3', 'X-Got: /4 abcdefghi'])
      })
    }

    it('tells a TLS client no more than that this is no TLS', async t => {
      const server = await start(t)
      const failed = new Promise<NodeJS.ErrnoException>(resolve => {
        connect_tls({ port: server.port, host: '127.0.0.1' }).on('error', resolve)
      })
      assert.match(String((await until('it has failed', failed)).code), /^ERR_SSL_|^ECONNRESET$/)
      await server.nobody()
      assert.match(await ask(server), /^HTTP\/1\.1 200 /)
    })

    it('answers 10,000 requests in one packet, in their order', async t => {
      const answer: Answer = async ({ src }) => {
        if (Number(src.slice(1)) % 1000 === 0) await pause(5)
        return http`HTTP/1.1 200 OK\nX-Src: ${src}\n\n`
      }
      const sources = Array.from({ length: 10_000 }, (_, i) => `/${i}`)
      const requests = sources.map((src, i) => request(`GET ${src}`, ...i === 9_999 ? ['Connection: close'] : []))
      const answers = (await exchange(await start(t, { answer }), requests.join(''))).match(/X-Src: \/\d+/g)
      assert.deepEqual(answers, sources.map(src => `X-Src: ${src}`))
    })

    it('asks answer for one request after another, however long each takes and however large it is', async t => {
      let at_once = 0, most_at_once = 0
      const answer: Answer = async ({ src }) => {
        const number = Number(src.slice(1))
        most_at_once = Math.max(most_at_once, ++at_once)
        for (let turns = number * 7 % 5; turns > 0; turns--) await turn()
        at_once--
        return http`HTTP/1.1 200 OK\nX-Src: ${src}\n\n${x(number % 3 * 10_000)}`
      }
      const sources = Array.from({ length: 300 }, (_, i) => `/${i}`)
      const requests = sources.map(src => request(`GET ${src}`)).join('') + GET_AND_CLOSE.replace('/', '/300')
      const pieces = requests.match(/[^]{1,1000}/g) ?? [], server = await start(t, { answer })
      const replies = await exchange(server.port, ...pieces)
      assert.deepEqual(replies.match(/X-Src: \/\d+/g), [...sources, '/300'].map(src => `X-Src: ${src}`))
      assert.equal(most_at_once, 1)
    })

    it('cuts off who goes on sending or keeps its side open after the last answer (linger_ms)', async t => {
      const { port, nobody } = await start(t, { limits: { linger_ms: 300 } })
      const last = [
        GET_AND_CLOSE,
        'can you hear me?\n',
        'nonsense HTTP/1.1\r\n',
        `${POST}Content-Length: 99999999\r\n\r\n`,
      ]
      for (const text of last) {
        const peer = new Peer(port, text)
        assert.match(await until('it is answered', peer.all), /^(?:HTTP\/1\.1 |Yes)/)
        const sending = setInterval(() => peer.write('x'), 20)
        t.after(() => clearInterval(sending))
      }
      await nobody()
    })
  })

  describe('an answer that never settles', { concurrency: true }, () => {
    /** A server whose answer never settles, and the first request that it gets. */
    type Deaf = Started & { first: () => Promise<Request> }
    async function deaf(t: TestContext, options: Options = {}): Promise<Deaf> {
      const requests: Request[] = []
      const answer: Answer = request => new Promise(() => requests.push(request))
      const first = async (): Promise<Request> =>
        await until('answer has the request', () => requests[0]) ?? assert.fail()
      return { ...await start(t, { answer, ...options }), first }
    }

    const RESET: [message: string, text: string][] = [
      ['a GET', GET],
      ['a POST', post_of(5)],
      ['a chunked POST', chunked_post(chunk_of('x') + LAST_CHUNK)],
      ['the last one', GET_AND_CLOSE],
      ['two together', GET + GET],
    ]
    for (const [message, text] of RESET) it(`learns from signal that the client has reset: ${message}`, async t => {
      const { port, first } = await deaf(t), { socket } = new Peer(port, text), { signal } = await first()
      assert.equal(signal.aborted, false)
      socket.resetAndDestroy()
      await until('it is aborted', () => signal.aborted)
    })

    const LEAVES: [how: string, leave: (socket: Socket) => unknown][] = [
      ['has reset', socket => socket.resetAndDestroy()],
      ['has closed its side', socket => socket.end()],
    ]
    for (const [how, leave] of LEAVES) it(`learns that the client ${how} after it has asked for more`, async t => {
      const { port, first } = await deaf(t, { limits: { linger_ms: 100 } })
      const peer = new Peer(port, GET), { signal } = await first()
      for (let i = 0; i < 5; i++) {
        peer.write(GET)
        await pause(20)
      }
      assert.equal(signal.aborted, false)
      leave(peer.socket)
      await until('it is aborted', () => signal.aborted)
    })

    it('has no reply in the log if its client is gone before', async t => {
      const logged: string[] = []
      const finish = new AbortController(), answer: Answer = () => once(finish.signal, 'abort').then(() => undefined)
      const server = await start(t, { answer, log: what => void logged.push(what) })
      const peer = new Peer(server.port, GET)
      await until('it is asked for', () => logged.length === 2)
      peer.socket.resetAndDestroy()
      await server.nobody()
      finish.abort()
      await turn()
      assert.deepEqual(logged, ['Connected by', 'Request is:'])
    })

    it('learns that the client has closed its side linger_ms ago, and may answer all the same', async t => {
      let aborted: boolean | undefined
      const answer: Answer = async ({ src, signal }) => {
        if (src === '/slow') await once(signal, 'abort')
        else await pause(50)
        aborted = signal.aborted
        return http`HTTP/1.1 200 OK\n\n${src}`
      }
      const quick = await start(t, { answer, limits: { linger_ms: 300 } })
      assert.equal(gist(await exchange(quick, request('GET /slow', 'Connection: close'), null)), '/slow')
      assert.equal(aborted, true)
      const patient = await start(t, { answer })
      assert.equal(gist(await exchange(patient, GET_AND_CLOSE, null)), '/')
      assert.equal(aborted, false)
    })

    it('learns that the server has stopped, and does not hold it up (stop_ms)', async t => {
      const stop = new AbortController()
      const { port, server, first } = await deaf(t, { signal: stop.signal, limits: { stop_ms: 200 } })
      const peer = new Peer(port, GET), { signal } = await first(), closed = once(server, 'close')
      stop.abort()
      await until('it is aborted', () => signal.aborted)
      await until('it has ended', closed)
      await peer.closed()
    })

    it('finds signal aborted if it asks for it after the client is gone', async t => {
      const { port, first, nobody } = await deaf(t), { socket } = new Peer(port, GET), request = await first()
      socket.resetAndDestroy()
      await nobody()
      assert.equal(request.signal.aborted, true)
    })

    it('has one signal for each request, which is not aborted while the client waits', async t => {
      const signals = new Set<AbortSignal>()
      const answer: Answer = request => void signals.add(request.signal).add(request.signal)
      await exchange(await start(t, { answer }), GET + GET + GET_AND_CLOSE)
      assert.deepEqual(Array.from(signals, ({ aborted }) => aborted), [false, false, false])
    })
  })

  describe('clients that ask for much and take nothing', { concurrency: true }, () => {
    const GREEDY: [what: string, text: string, times: number][] = [
      ['pictures', GET_PICTURE, 500],
      ['pages', GET, 10_000],
      ['promised pages', request('GET /promised'), 10_000],
    ]
    const promised = http`HTTP/1.1 200 OK\n\n${x(8_000)}`
    for (const [what, text, times] of GREEDY) it(`leave others their turn after 1 MiB: ${times} ${what}`, async t => {
      let greedy = 0, before = Infinity
      const answer: Answer = ({ src }) => {
        if (src === '/honest') before = greedy
        // it arrives while the first answer of the other is made
        else if (greedy++ === 0) honest.write(request('GET /honest'))
        return src === '/promised' ? Promise.resolve(promised) : undefined
      }
      const { port } = await start(t, { answer }), honest = new Peer(port)
      await until('it is connected', once(honest.socket, 'connect'))
      const peer = new Peer(port, text.repeat(times))
      peer.socket.pause()
      await honest.comes('HTTP/1.1 ')
      peer.socket.resume()
      await peer.comes('HTTP/1.1 ')
      const { length } = body_of(peer.text).split('HTTP/1.1 ', 1)[0] ?? ''
      assert.ok(before * length < 2 ** 20, `${before} answers came first, of ${length} bytes`)
      peer.socket.destroy()
    })

    it('50 with 500 pictures each leave honest clients their answers', async t => {
      const { port } = await start_program(t)
      const greedy = Array.from({ length: 50 }, () => new Peer(port))
      for (const { socket } of greedy) socket.pause()
      for (const peer of greedy) peer.write(GET_PICTURE.repeat(500))
      const kept = new Peer(port)
      for (let i = 1; i <= 20; i++) {
        await kept.write(GET).comes(`answer ${i}`, () => count(kept.text, 'HTTP/1.1 200 ') === i)
        assert.deepEqual(statuses_of(await ask(port)), ['200'])
      }
      assert.deepEqual(greedy.filter(({ over, text }) => over || text), [], 'the attack still stands')
      for (const { socket } of greedy) socket.destroy()
    })
  })

  describe('fuzz', () => {
    const COUNT = Number(process.env['WOW_FUZZ'] ?? 500), SEED = Number(process.env['WOW_SEED'] ?? Date.now() % 2 ** 31)
    const CORPUS = [
      GET,
      GET_PICTURE,
      GET_AND_CLOSE,
      'can you hear me?',
      'HEAD /test.jpg HTTP/1.0\r\n\r\n',
      'OPTIONS * HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n',
      'CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n',
      request('GET http://a/b?c', 'Upgrade: h2c', 'Connection: upgrade, keep-alive'),
      `${POST}Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhello`,
      `${POST}Content-Type: a/b\r\nContent-Length: 0\r\n\r\n${GET}`,
      `${POST}Transfer-Encoding: chunked\r\n\r\n5;a="b\\"c"\r\nhello\r\n00\r\nX: y\r\n\r\n`,
      `${POST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`,
      request('GET /', `Cookie: ${'x'.repeat(3000)}`),
      '\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03',
      '\x1b[2J\x9b31m\\x1b\r\nConnected by\r\n',
    ]
    const SPICE = [
      '\r\n', '\r', '\n', '\0', ' ', '\t', ':', ',', ';', '\\', '"', '\xff', '\x1b', '-1', '0x', '9'.repeat(20),
      'HTTP/1.1', 'chunked', 'close', 'Content-Length: 7\r\n', 'Host: b\r\n', '\r\n\r\n',
    ]

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

    function mutated(random: (below: number) => number): string {
      const one_of = (list: string[]): string => list[random(list.length)] ?? ''
      let text = one_of(CORPUS)
      for (let times = random(5); times > 0; times--) {
        const at = random(text.length + 1), to = Math.min(text.length, at + random(12)), span = text.slice(at, to)
        const byte = String.fromCharCode(random(256)), many = span.repeat(random(500))
        const put = one_of([one_of(SPICE), '', span + span, byte, one_of(CORPUS), many])
        text = text.slice(0, at) + put + text.slice(to)
      }
      return random(8) ? text : text.slice(0, random(text.length + 1))
    }

    /** Sends an input in up to three pieces, then closes or resets; an answer comes back, or nothing. */
    async function fuzz(port: number, random: (below: number) => number): Promise<void> {
      const text = mutated(random), manner = random(8)
      const cuts = [random(text.length + 1), random(text.length + 1)].sort((a, b) => a - b)
      const peer = new Peer(port)
      let from = 0
      for (const to of manner < 2 ? [...cuts, text.length] : [text.length]) {
        peer.write(text.slice(from, to))
        from = to
        await turn()
      }
      if (manner === 2) peer.socket.resetAndDestroy()
      else peer.socket.end()
      assert.match(await peer.closed(), /^(?:HTTP\/1\.1 [1-5]\d\d |Yes$|$)/, `the answer to ${JSON.stringify(text)}`)
    }

    it(`${COUNT} mutated inputs leave it up, quiet and as small as it was (WOW_SEED=${SEED})`, async t => {
      const server = await start_program(t, { args: ['0'] }), random = random_of(SEED)
      const rounds = async (times: number): Promise<void> => {
        for (; times > 0; times -= 32) await Promise.all(Array.from({ length: 32 }, () => fuzz(server.port, random)))
      }
      await rounds(COUNT / 5)
      const before = await look(server)
      await rounds(COUNT * 4 / 5)
      assert.match(await ask(server.port), /^HTTP\/1\.1 200 /)
      assert.equal(body_of(await ask(server.port, 'GET /test.jpg')), PICTURE)
      await connected(server, 0)
      const after = await look(server)
      assert.ok(after.held - before.held < 2 ** 20, `holds ${after.held - before.held} bytes more`)
      assert.equal(server.err, '')
      assert.doesNotMatch(String(Buffer.from(server.out, 'latin1')), /[\0-\x09\x0b-\x1f\x7f-\x9f]/)
    })
  })

  describe('many connections', { concurrency: true }, () => {
    it('answers honest requests beside 1,000 connections that drip, and these go on', async t => {
      const server = await start_program(t)
      const beginnings = ['GET /', `${POST}Content-Length: 999\r\n\r\n`]
      const drippers = Array.from({ length: 1000 }, (_, i) => new Peer(server.port, beginnings[i % 2]))
      t.after(() => { for (const { socket } of drippers) socket.destroy() })
      await connected(server, 1000)
      for (let round = 0; round < 20; round++) {
        for (const peer of drippers) peer.write('x')
        assert.match(await ask(server.port), /^HTTP\/1\.1 200 /)
      }
      assert.deepEqual(drippers.filter(({ over, text }) => over || text).map(({ text }) => text), [])
      await connected(server, 1000)
    })

    const skip = process.platform === 'win32' && 'Windows has no ulimit'
    it('goes on accepting when file descriptors are free again, '
      + 'and who is connected notices nothing', { skip }, async t => {
      const server = await start_program(t, { node: ['sh', '-c', 'ulimit -n 64; exec "$0" "$@"', NODE] })
      const honest = new Peer(server.port)
      let answers = 0
      const served = async (): Promise<void> => {
        honest.write(GET)
        answers++
        await until('the honest client has its answer', () => count(honest.text, '</html>\n') === answers)
      }
      await served()
      for (let round = 0; round < 3; round++) {
        const crowd = Array.from({ length: 200 }, () => new Peer(server.port, 'GET'))
        await until('not all have been let in', () => crowd.filter(({ over }) => over).length > 136)
        for (let i = 0; i < 20; i++) await served()
        for (const { socket } of crowd) socket.destroy()
        await until('a new one is answered', async () => status_of(await ask(server.port).catch(String)) === 200)
      }
      assert.equal(server.err, '')
    })
  })

  describe('what is printed', { concurrency: true }, () => {
    const NASTY = 'a\x1b[2J\x1b]0;title\x07 \x9b31m \x00\x08\x7f\x85 \\x1b \tb\rc\n'
      + "Connected by [ '6.6.6.6', 6 ]\n\nRequest is: forged"

    it('the server prints no control character as it came, and no line that was not its own', async t => {
      const server = await start_program(t, { args: ['0'] })
      const messages = [
        NASTY,
        request('GET /', 'X: \x9b\x85\\') + GET_AND_CLOSE,
        request('GET /', 'Connection: close', 'Connected-by: forged'),
      ]
      for (const message of messages) await exchange(server.port, message)
      await server.until('has printed the lines', () => count(server.out, '\nReply is: ') === 4)
      const printed = server.out.trimEnd().split('\n')
      const own = printed.filter(line => !line.startsWith('  ')).map(line => line.replace(/\d{4,}.*/, ''))
      const text = 'a\\x1b[2J\\x1b]0;title\\x07 \\x9b31m \\x00\\x08\\x7f\\x85 \\x5cx1b \\x09b\\x0dc'
      const exchanges = [[text, 'Yes'], ...Array(3).fill(['GET / HTTP/1.1', 'HTTP/1.1 200 OK'])]
      assert.deepEqual(own, ['Open http://127.0.0.1:', ...exchanges.flatMap(([message, reply]) => [
        "Connected by [ '127.0.0.1', ", `Request is: ${message}`, `Reply is: ${reply}`,
      ])])
      for (const line of ["  Connected by [ '6.6.6.6', 6 ]", '  Request is: forged', '  X: \\x9b\\x85\\x5c']) {
        assert.ok(printed.includes(line), line)
      }
      assert.doesNotMatch(server.out, /[^\n\x20-\x7e]/)
    })

    it('neither side prints what turns the direction of text', async t => {
      const text = Buffer.from('a\u202eb\u2066c\u2028é').toString('latin1'), safe = 'a\\x202eb\\x2066c\\x2028é'
      const server = await start_program(t, { args: ['0'] })
      const { port } = await start(t, socket => socket.end(text, 'latin1'))
      await exchange(server.port, text)
      await server.until('has printed the message', () => Buffer.from(server.out, 'latin1').includes(safe))
      const { out } = await run(t, [NODE, copy_of('client.ts'), `127.0.0.1:${port}`])
      assert.equal(Buffer.from(out, 'latin1').toString(), `reply is: ${safe}\n`)
    })

    const HEAD = lines('HTTP/1.1 200 OK', 'Content-Type: text/plain', 'X: \x1b[2J\x85\\', '')
    for (const [kind, head] of [['text', ''], ['HTTP', HEAD]] as const) {
      it(`the client prints no control character as it came (${kind})`, async t => {
        const { port } = await start(t, socket => socket.end(head + NASTY))
        const { out, err } = await run(t, [NODE, copy_of('client.ts'), `127.0.0.1:${port}`])
        const printed = out + err
        assert.ok(printed.startsWith('reply is: '), printed)
        if (head) assert.ok(printed.includes('\\x1b[2J\\x85\\x5c'), printed)
        assert.doesNotMatch(printed, /[^\n\x20-\x7e]/)
      })
    }
  })

  describe('a log that nobody reads', { concurrency: true }, () => {
    async function unheard(t: TestContext): Promise<Program> {
      const server = await start_program(t, { args: ['0'] }), before = await look(server)
      server.child.stdout?.pause()
      const requests = request('GET /', `X: ${x(900)}`).repeat(999) + GET_AND_CLOSE
      for (let i = 0; i < 8; i++) assert.equal(statuses_of(await exchange(server.port, requests)).length, 1000)
      const { held } = await look(server)
      assert.ok(held - before.held < 4_000_000, `it holds ${held - before.held} bytes`)
      return server
    }

    it('has lines left out, and says so, but not for each line', async t => {
      const server = await unheard(t)
      server.child.stdout?.resume()
      await server.until('has printed what waited', async () => {
        await ask(server.port, 'GET /last')
        return server.out.includes('GET /last ')
      })
      // once more if the system takes a last piece when it is left out already
      const said = server.out.match(/^\(\d+ lines left out.*\)$/gm) ?? []
      assert.ok(said.length === 1 || said.length === 2, said.join(' '))
      assert.ok(server.out.length < 3_000_000, `${server.out.length} characters waited for their reader`)
    })

    it('holds up no end', async t => {
      const { child } = await unheard(t)
      child.kill('SIGTERM')
      // its output is still open
      assert.deepEqual(await until('it has ended', once(child, 'exit')), [0, null])
    })
  })

  describe('an answer that fails', { concurrency: true }, () => {
    /** A program with an `answer` that fails in the way that the path names. */
    const FAILING = `import { inspect } from 'node:util'
${serving('answer')}
const { proxy, revoke } = Proxy.revocable({}, {})
revoke()
const unshowable = { [inspect.custom]() { throw new Error('not to be shown') } }
const trapped = Object.defineProperty(new Error('x'), 'stack', { get() { throw new Error('no stack') } })
const thrown = {
  error: new Error('plain'), lines: new Error('one\\ntwo\\x1b[2J\\rthree'), nothing: undefined, null: null, number: 0,
  symbol: Symbol('s'), bare: Object.create(null), proxy, unshowable, trapped,
}
const given = {
  text: 'text', empty: '', zero: 0, null: null, object: {}, status: { status: 200 }, function: () => {},
  symbol: Symbol('s'), interim: http\`HTTP/1.1 100 Continue\`, fetch: new Response('x'), bare: Object.create(null),
  proxy, unshowable,
}
const how = {
  throws: name => { throw thrown[name] },
  rejects: name => Promise.reject(thrown[name]),
  'rejects-later': async name => { await new Promise(setImmediate); throw thrown[name] },
  'thenable-throws': name => ({ then() { throw thrown[name] } }),
  returns: name => given[name],
  resolves: async name => given[name],
}
const slow = http\`HTTP/1.1 200 OK\\n\\n\${'x'.repeat(1e6)}\`
function answer({ src }) {
  const [, way, name] = src.split('/')
  if (way === 'slow') return new Promise(resolve => setTimeout(resolve, 100, slow))
  return how[way]?.(name)
}`

    const thrown = ['error', 'lines', 'nothing', 'null', 'number', 'symbol', 'bare', 'proxy', 'unshowable', 'trapped']
    const given = [
      'text', 'empty', 'zero', 'null', 'object', 'status', 'function', 'symbol', 'interim', 'fetch', 'bare', 'proxy',
      'unshowable',
    ]
    const paths = [
      ...['throws', 'rejects', 'rejects-later', 'thenable-throws']
        .flatMap(way => thrown.map(name => `/${way}/${name}`)),
      ...['returns', 'resolves'].flatMap(way => given.map(name => `/${way}/${name}`)),
    ]

    it('is a 500 for that request and one line on stderr, and the connection goes on', async t => {
      const server = await start_program(t, { source: FAILING })
      const statuses = await Promise.all(paths.map(async path => {
        const replies = await exchange(server.port, request(`GET ${path}`) + GET_AND_CLOSE)
        return [path, replies.match(/HTTP\/1\.1 \d+/g)?.join()]
      }))
      assert.deepEqual(statuses, paths.map(path => [path, 'HTTP/1.1 500,HTTP/1.1 200']))
      await server.until('has printed the lines', () => count(server.err, '\n') >= paths.length)
      const failed = server.err.trimEnd().split('\n').map(line => /^GET (\S+) failed: ./.exec(line)?.[1])
      assert.deepEqual(failed.sort(), paths.toSorted())
      assert.doesNotMatch(server.err, /[^\n\x20-\x7e]/)
    })

    it('the client that goes away while answer works is no error', async t => {
      const server = await start_program(t, { source: FAILING }), slow = request('GET /slow/well')
      for (const way of ['resetAndDestroy', 'destroy'] as const) for (let i = 0; i < 10; i++) {
        const { socket } = new Peer(server.port, slow.repeat(2))
        await pause(20)
        socket[way]()
      }
      await connected(server, 0)
      const replies = await exchange(server.port, slow + GET_AND_CLOSE)
      assert.ok(replies.includes('x'.repeat(1e6) + 'HTTP/1.1 200 '))
      assert.equal(server.err, '')
    })
  })

  describe('an answer that is promised', { concurrency: true }, () => {
    /** What answer gives, by the path, and the status that this becomes. */
    const PROMISED: [path: string, given: string, status: string][] = [
      ['/promise', 'Promise.resolve(ok)', '200'],
      ["/another-realm's", "runInNewContext('Promise.resolve(ok)', { ok })", '200'],
      ["/another-realm's-rejected", "runInNewContext('Promise.reject(new Error())')", '500'],
      ["/another-realm's-nothing", "runInNewContext('Promise.resolve()')", '200'],
      ['/object', '{ then: f => f(ok) }', '200'],
      ['/function', 'Object.assign(() => {}, { then: f => f(ok) })', '200'],
      ['/calls-twice', '{ then: (f, g) => { f(ok); g(1) } }', '200'],
      ['/throws', '{ then: () => { throw new Error() } }', '500'],
      ['/has-no-then-to-get', '{ get then() { throw new Error() } }', '500'],
      ['/then-is-no-function', '{ then: 1 }', '500'],
      ["/has-a-then-of-its-own", 'Object.assign(Promise.resolve(ok), { then: () => ({ catch: () => ({}) }) })', '200'],
      ['/promise-of-an-object', 'Promise.resolve({ then: f => f({ then: g => g(ok) }) })', '200'],
    ]

    it('may be any thenable, of any realm', async t => {
      const cases = PROMISED.map(([path, given]) => `case ${JSON.stringify(path)}: return (${given})`).join('\n')
      const source = `
        import { runInNewContext } from 'node:vm'
        ${serving(`answer: ({ src }) => { switch (src) { ${cases} } }`)}
        const ok = http\`HTTP/1.1 200 OK\\n\\nok\``
      const server = await start_program(t, { source })
      const statuses = await Promise.all(PROMISED.map(async ([path, given]) =>
        [path, given, ...statuses_of(await ask(server.port, `GET ${path}`))]))
      assert.deepEqual(statuses, PROMISED)
      const failed = PROMISED.filter(([, , status]) => status === '500').length
      await server.until('has printed the lines', () => count(server.err, '\n') >= failed)
      assert.equal(count(server.err, ' failed: '), failed, server.err)
    })

    it('may be of the native kind where the program has another Promise', async t => {
      const answer = '(globalThis.Promise = class extends Promise {}, async () => http`HTTP/1.1 200 OK\\n\\nown`)'
      const server = await start_program(t, { source: serving(`answer: ${answer}`) })
      assert.equal(gist(await ask(server.port)), 'own')
    })

    it('may be rejected after its client is gone', async t => {
      const rejected = `new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('late'))))`
      const answer = `({ src, signal }) => src === '/slow' ? ${rejected} : undefined`
      const server = await start_program(t, { source: serving(`answer: ${answer}`) })
      const peer = new Peer(server.port, request('GET /slow'))
      await connected(server, 1)
      await sent(peer)
      peer.socket.resetAndDestroy()
      await server.until('has printed the line', () => server.err.includes('GET /slow failed: Error: late'))
      assert.deepEqual(statuses_of(await ask(server.port)), ['200'])
    })
  })

  describe('limits', { concurrency: true }, () => {
    type Bytes = [limit: keyof typeof LIMITS, most: number, outcome: number, message: (length: number) => string]
    /** The limits of bytes: the most that is taken, what a byte more gets, a message of such a length. */
    const BYTES: Bytes[] = [
      ['head_bytes', 60, 431, length => 'GET / HTTP/1.1\r\nHost: a\r\nX: '.padEnd(length - 4, 'x') + '\r\n\r\n'],
      ['head_bytes', 60, 431, length => chunked_post(`1;${x(length - 4)}\r\n!\r\n0\r\n\r\n`)],
      ['target_bytes', 20, 414, length => request(`GET /${x(length - 1)}`)],
      ['body_bytes', 20, 413, length => post_of(length)],
      ['body_bytes', 20, 413, length =>
        chunked_post(`3\r\nabc\r\n${(length - 3).toString(16)}\r\n${x(length - 3)}\r\n0\r\n\r\n`)],
    ]
    for (const [limit, most, outcome, message] of BYTES) {
      it(`${limit} is the user's: ${most} bytes and no more (${outcome})`, async t => {
        const server = await start(t, { limits: { [limit]: most }, answer: () => http`HTTP/1.1 200 OK\n\n` })
        for (const [length, status] of [[most, 200], [most + 1, outcome]] as const) {
          assert.equal(status_of(await exchange(server, message(length), null)), status, message(length))
        }
      })
    }

    it('stop_ms is the user\'s', async t => {
      const stop = new AbortController()
      const server = await start(t, { signal: stop.signal, limits: { stop_ms: 100 } })
      const peer = new Peer(server.port, 'GET')
      await until('it is read', () => [...server.ends][0]?.bytesRead === 3)
      stop.abort()
      await server.nobody()
      peer.socket.destroy()
    })

    const LIMIT_NAMES = Object.keys(LIMITS)
    /** The most that each limit may be: what patterns and Buffers can take, and a day. */
    const MOST: [limit: string, most: number][] = [
      ['head_bytes', 262_144],
      ['target_bytes', 262_144],
      ['body_bytes', 2 ** 30],
      ['all_bodies_bytes', 2 ** 40],
      ...Object.keys(PATIENT).map((name): [string, number] => [name, 86_400_000]),
    ]

    it('a nonsensical limit is an error that names it', () => {
      const nonsense: [unknown, ErrorConstructor][] = [
        ...['10', null, 10n, {}, true].map((value): [unknown, ErrorConstructor] => [value, TypeError]),
        ...[0, -1, 1.5, NaN, Infinity].map((value): [unknown, ErrorConstructor] => [value, RangeError]),
      ]
      const refuses = (name: string, value: unknown, kind: ErrorConstructor): void => assert.throws(
        () => serve({ port: 0, limits: { [name]: value } as Limits }),
        error => error instanceof kind && error.message.includes(name),
        `${name}: ${String(value)}`,
      )
      for (const name of LIMIT_NAMES) for (const [value, kind] of nonsense) refuses(name, value, kind)
      for (const [name, most] of MOST) for (const times of [2, 12_000_000]) refuses(name, times * most, RangeError)
      for (const [name, most] of MOST) refuses(name, most + 1, RangeError)
      for (const name of ['head_byte', 'HEAD_MS', 'toString', '']) refuses(name, 1, TypeError)
    })

    it('a port or a handler in place of options is an error that says what is expected', () => {
      for (const wrong of [8080, '8080', null, () => {}]) {
        const message = /^TypeError: options must be an object such as \{ port: 8080 \}, got (?:'?8080|null|\[Function)/
        assert.throws(() => serve(wrong as Options), message)
      }
    })

    it('what is not an object of limits is an error that says so', () => {
      for (const limits of [5, 'head_ms', null]) {
        const start_with = (): Server => serve({ port: 0, limits: limits as never })
        assert.throws(start_with, /^TypeError: limits must be an object with names from LIMITS, got /)
      }
    })

    it('what is not a signal is an error that says so', () => {
      for (const signal of [new AbortController(), null, 'stop', {}]) {
        const start_with = (): Server => serve({ port: 0, signal: signal as AbortSignal })
        assert.throws(start_with, /^TypeError: signal must be an AbortSignal, got /)
      }
    })

    it('has no limit that the user cannot set, up to its most', () => {
      assert.deepEqual(MOST.map(([name]) => name).sort(), LIMIT_NAMES.toSorted())
      for (const [name, most] of MOST) for (const value of [1, most]) {
        serve({ port: 0, limits: { [name]: value }, signal: AbortSignal.abort() })
      }
    })

    it('answers every hostile head, once, with the highest limits', async t => {
      const ROOM = 262_144, server = await start(t, { limits: { head_bytes: ROOM, target_bytes: ROOM } })
      const fill = (part: string, room: number): string => part.repeat(Math.floor(room / part.length))
      const of_lines = ['a:', 'a: ', 'Connection: keep-alive', 'Host: a', 'Expect:'].flatMap(line => [
        request('GET /', fill(`${line}\r\n`, ROOM - 80) + line),
        request('GET /', `${fill(`${line}\r\n`, ROOM - 40)}a`),
        request('GET /', fill(`${line}\r\n`, ROOM + 40)),
      ])
      const of_parts = ['A', ' ', '/', '%41', ',', '1', 'chunked,', '[', '\xff'].flatMap(part => [
        request(`GET /${fill(part, ROOM - 40)}`),
        request(`GET http://a${fill(part, ROOM - 40)}`),
        ...['Host', 'Connection', 'Transfer-Encoding', 'Expect', 'Content-Length']
          .map(name => lines('GET / HTTP/1.1', `${name}: ${fill(part, ROOM - 60)}a`, '')),
      ])
      for (const head of [...of_lines, ...of_parts]) {
        assert.equal(statuses_of(await exchange(server, head, null)).length, 1, head.slice(0, 100))
      }
      assert.deepEqual(statuses_of(await ask(server)), ['200'])
    })
  })
})
