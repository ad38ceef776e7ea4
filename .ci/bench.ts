/**
 * `npm run bench`: what a request costs this server and its peers, in CPU time of the server's process. That holds
 * on a busy machine, where requests per second do not: the contenders take turns, and the smallest figure of each counts.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer, type AddressInfo } from 'node:net'
import { cpus, release, tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const AUTOCANNON = 'autocannon@8.0.0'
const SERVER = fileURLToPath(new URL('../dist/server.js', import.meta.url))

type Server = { child: ChildProcess, pid: number, port: number }
/** What the client is to do, by autocannon (path, headers, pipelining) or by itself (mode, connections, message). */
type Work =
  | { path: string, headers?: Record<string, string>, pipelining?: number }
  | { mode: 'close' | 'keep' | 'hold' | 'release', connections?: number, message?: string }
type Turn = { requests: number, seconds: number }
type Figure = { cpu: number, rate: number }
type Scenario = { title: string, contenders: string[], work: Work, columns?: string[] }

// ─────────────────────────────── the contenders ───────────────────────────────

/** The least that answers: looks for the blank line, writes a constant. */
const BARE_LOOP = String.raw`
import { createServer } from 'node:net'
const { PORT, ANSWER, CLOSING } = process.env
createServer(socket => {
  socket.on('error', () => {})
  socket.on('data', data => {
    const text = data.latin1Slice()
    let answers = ''
    for (let at = -4; (at = text.indexOf('\r\n\r\n', at + 4)) >= 0; ) answers += ANSWER
    if (CLOSING) socket.end(answers, 'latin1')
    else socket.write(answers, 'latin1')
  })
}).listen(PORT, '127.0.0.1')`

const NODE_HTTP = `
import { createServer } from 'node:http'
import { readFileSync } from 'node:fs'
const { PORT, PAGE, PICTURE } = process.env, picture = readFileSync(PICTURE)
createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
  const send = (type, body) => response.writeHead(200, { 'Content-Type': type, 'Content-Length': body.length }).end(body)
  const pieces = []
  if (request.method === 'POST') request.on('data', piece => pieces.push(piece)).on('end', () => send('text/plain', Buffer.concat(pieces).length + ' bytes'))
  else if (request.url === '/test.jpg') send('image/jpeg', picture)
  else send('text/html', PAGE)
}).listen(PORT, '127.0.0.1')`

/** This server as a module, with an answer that is the same content each time, or is made for each request. */
const imported = (answer: 'same' | 'made'): string => `
const { serve, http } = await import(process.env.SERVER), { PORT, PAGE } = process.env
const html = body => http\`HTTP/1.1 200 OK\nContent-Type: text/html\n\n\${body}\`, page = html(PAGE)
const same = () => page
const made = ({ method, src, body }) => html(method === 'POST' ? body.length + ' bytes' : '<p>What stands at ' + src + '</p>')
serve({ host: '127.0.0.1', port: Number(PORT), limits: { idle_ms: 60_000 }, answer: ${answer} })`

const BUN_SERVE = `
const { PORT, PAGE } = process.env
Bun.serve({ hostname: '127.0.0.1', port: PORT, fetch: () => new Response(PAGE, { headers: { 'Content-Type': 'text/html' } }) })`
const DENO_SERVE = `
const { PORT, PAGE } = Deno.env.toObject()
Deno.serve({ hostname: '127.0.0.1', port: Number(PORT) }, () => new Response(PAGE, { headers: { 'Content-Type': 'text/html' } }))`

const nginx = binary('nginx'), bun = binary('bun', process.env['BUN']), deno = binary('deno', process.env['DENO'])
const node = (program: string): string[] => [process.execPath, '--input-type=module', '-e', program]
const ours = (port: number): string[] => [SERVER, String(port), '--quiet', '--host', '127.0.0.1']

/** The command that starts each; undefined where it is not installed. */
const CONTENDERS: Record<string, (port: number) => string[] | undefined> = {
  'ours': port => [process.execPath, ...ours(port)],
  'ours, same answer': () => node(imported('same')),
  'ours, answer made': () => node(imported('made')),
  'bare loop': () => node(BARE_LOOP),
  'closing bare loop': () => node(`process.env.CLOSING = 'yes'${BARE_LOOP}`),
  'node:http': () => node(NODE_HTTP),
  'nginx': port => nginx ? [nginx, '-e', 'stderr', '-c', nginx_configuration(port)] : undefined,
  'ours on Bun': port => bun ? [bun, ...ours(port)] : undefined,
  'Bun.serve': () => bun ? [bun, '-e', BUN_SERVE] : undefined,
  'ours on Deno': port => deno ? [deno, 'run', '--quiet', '--allow-net', '--allow-read', ...ours(port)] : undefined,
  'Deno.serve': () => deno ? [deno, 'eval', DENO_SERVE] : undefined,
}

function nginx_configuration(port: number): string {
  writeFileSync(join(folder, 'index.html'), environment.PAGE)
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(name => `${name}_temp_path ${folder}/${name};`)
  writeFileSync(join(folder, 'nginx.conf'), `daemon off; worker_processes 1; pid ${folder}/nginx.pid; events { worker_connections 1024; }
http { access_log off; default_type text/html; sendfile on; keepalive_requests 1000000000; ${paths.join(' ')}
  server { listen 127.0.0.1:${port}; root ${folder}; } }`)
  return join(folder, 'nginx.conf')
}

// ──────────────────────────────── the scenarios ────────────────────────────────

const MEBIBYTE = 2 ** 20
const GET = 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'
const GET_AND_CLOSE = 'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
const POST_BY_LENGTH = `POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${MEBIBYTE}\r\n\r\n${'x'.repeat(MEBIBYTE)}`
const chunk = (size: number): string => `${size.toString(16)}\r\n${'x'.repeat(size)}\r\n`
const POST_IN_CHUNKS = `POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n${
  chunk(1049).repeat(999) + chunk(MEBIBYTE - 999 * 1049)}0\r\n\r\n`
const BROWSER_HEAD = {
  'Cache-Control': 'max-age=0', 'Upgrade-Insecure-Requests': '1',
  'User-Agent': 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36',
  'Accept': 'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8',
  'Sec-Fetch-Site': 'none', 'Sec-Fetch-Mode': 'navigate', 'Sec-Fetch-User': '?1', 'Sec-Fetch-Dest': 'document',
  'Accept-Encoding': 'gzip, deflate, br, zstd', 'Accept-Language': 'en-US,en;q=0.9',
}

const get = { path: '/' }
const ALL = ['ours', 'bare loop', 'node:http', 'nginx']

/** Beside its figures a table has them divided by each other contender's, or `columns`: '/ chunked' is by its own of that table. */
const SCENARIOS: Record<string, Scenario> = {
  'keep-alive': { title: '32 connections, GET / with a bare head', contenders: ALL, work: get },
  'browser': { title: 'the same with the head of a browser, 12 fields', contenders: ALL, work: { ...get, headers: BROWSER_HEAD } },
  'pipelined': { title: 'as keep-alive, 16 requests at a time', contenders: ALL, work: { ...get, pipelining: 16 }, columns: ['/ bare loop', '/ node:http', '/ nginx', '/ keep-alive'] },
  'one-each': { title: 'a connection for each request, 32 at a time', contenders: ['ours', 'closing bare loop', 'node:http', 'nginx'], work: { mode: 'close', connections: 32, message: GET_AND_CLOSE } },
  'picture': { title: '32 connections, GET /test.jpg', contenders: ['ours', 'node:http'], work: { path: '/test.jpg' } },
  'answer': { title: 'as keep-alive, with an answer', contenders: ['ours', 'ours, same answer', 'ours, answer made'], work: get, columns: ['- ours'] },
  'post': { title: '4 connections, POST of 1 MiB by length', contenders: ['ours, answer made', 'node:http'], work: { mode: 'keep', connections: 4, message: POST_BY_LENGTH } },
  'chunked': { title: 'the same in 1,000 chunks', contenders: ['ours, answer made', 'node:http'], work: { mode: 'keep', connections: 4, message: POST_IN_CHUNKS }, columns: ['/ node:http', '/ post'] },
  'bun': { title: 'as keep-alive, on Bun', contenders: ['ours on Bun', 'Bun.serve'], work: get },
  'deno': { title: 'as keep-alive, on Deno', contenders: ['ours on Deno', 'Deno.serve'], work: get },
}

async function compare(name: string, { title, contenders, work, columns = contenders.slice(1).map(other => `/ ${other}`) }: Scenario): Promise<void> {
  const present: [string, Server][] = []
  for (const contender of contenders) {
    const server = servers.get(contender) ?? await start(contender)
    if (!server) continue
    servers.set(contender, server)
    present.push([contender, server])
  }
  const figures = await take_turns(present, work)
  results.set(name, figures)
  if (!figures.size) return console.log(`${name}: not installed\n`)
  const shown = columns.filter(column => figures.has(column.slice(2)) || results.has(column.slice(2)))
  const rows = Array.from(figures, ([contender, { cpu, rate }]) => {
    const others = shown.map(column => (figures.get(column.slice(2)) ?? results.get(column.slice(2))?.get(contender))?.cpu ?? NaN)
    const beside = others.map((other, i) => shown[i]?.startsWith('/') ? (cpu / other).toFixed(2) : (cpu - other).toFixed(1))
    return [contender, cpu.toFixed(1), Math.round(rate).toLocaleString('en'), ...beside]
  })
  print(`${name}: ${title}`, ['', 'µs/request', 'requests/s', ...shown], rows)
}

/** What connections hold that have had an answer and wait, and what they cost the others. Node gives memory back only when it needs some. */
async function idle(): Promise<void> {
  const descriptors = parseInt(spawnSync('sh', ['-c', 'ulimit -n'], { encoding: 'utf8' }).stdout) || Infinity
  const count = Math.min(8000, descriptors - 100), rows: string[][] = []
  for (const name of ['ours, same answer', 'bare loop', 'node:http']) {
    const server = await start(name)
    if (!server) continue
    const alone = (await take_turns([[name, server]], get)).get(name)?.cpu, before = await memory(server)
    await turn(server, { mode: 'hold', connections: count, message: GET })
    const held = await memory(server), beside = (await take_turns([[name, server]], get)).get(name)?.cpu
    await turn(server, { mode: 'release' })
    const gone = await memory(server)
    stop(server.child)
    rows.push([name, ((held - before) / count).toFixed(1), ...[before, held, gone].map(kib => (kib / 1024).toFixed(0)), ...[alone, beside].map(cpu => cpu?.toFixed(1) ?? '')])
  }
  print(`idle: ${count.toLocaleString('en')} connections that wait, and requests as keep-alive beside them`,
    ['', 'KiB each', 'MiB before', 'with them', 'afterwards', 'µs/request before', 'with them'], rows)
}

/** From the command to the first answer. */
async function start_up(): Promise<void> {
  const took = new Map<string, number>()
  for (let round = 0; round < 2 * rounds; round++) {
    for (const name of ['node -e 0', 'ours', 'node:http']) {
      const begin = performance.now(), server = name in CONTENDERS ? await start(name) : undefined
      if (!server) spawnSync(process.execPath, ['-e', '0'])
      took.set(name, Math.min(took.get(name) ?? Infinity, performance.now() - begin))
      if (server) stop(server.child)
    }
  }
  const nothing = took.get('node -e 0') ?? NaN
  print('start: from the command to the first answer', ['', 'ms', '- node -e 0'], Array.from(took, ([name, ms]) => [name, ms.toFixed(0), (ms - nothing).toFixed(0)]))
}

// ───────────────────────────────── measuring ─────────────────────────────────

/** Lets one after the other have its turn, as often as there are rounds, and keeps the best of each. */
async function take_turns(contenders: [string, Server][], work: Work): Promise<Map<string, Figure>> {
  const figures = new Map<string, Figure>()
  for (let round = 0; round < rounds; round++) {
    for (const [name, server] of contenders) {
      const before = cpu_time(server.pid), { requests, seconds } = await turn(server, work)
      const { cpu, rate } = figures.get(name) ?? { cpu: Infinity, rate: 0 }
      figures.set(name, { cpu: Math.min(cpu, (cpu_time(server.pid) - before) / requests), rate: Math.max(rate, requests / seconds) })
    }
  }
  return figures
}

/** A process and those that it has started, as nginx starts its worker. */
function family(pid: number): number[] {
  const children = readdirSync(`/proc/${pid}/task`).flatMap(task => read(`/proc/${pid}/task/${task}/children`).split(' ').filter(Boolean))
  return [pid, ...children.flatMap(child => family(Number(child)))]
}

/** In µs. /proc/PID/stat has it too, but in hundredths of a second. */
function cpu_time(pid: number): number {
  const tasks = family(pid).flatMap(pid => readdirSync(`/proc/${pid}/task`).map(task => `/proc/${pid}/task/${task}/schedstat`))
  return tasks.reduce((sum, task) => sum + parseInt(read(task)) / 1000, 0)
}

/** Resident memory in KiB, a second later. */
async function memory({ pid }: Server): Promise<number> {
  await sleep(1000)
  return Number(/VmRSS:\s*(\d+)/.exec(read(`/proc/${pid}/status`))?.[1])
}

/** A file of /proc; '' if its process has just ended. */
function read(file: string): string {
  return existsSync(file) ? readFileSync(file, 'utf8') : ''
}

/** The client: autocannon, and what that does not: a connection for each request ('close'), chunked bodies ('keep'), connections that wait ('hold'). */
const CLIENT = String.raw`
import { connect } from 'node:net'
const { default: autocannon } = await import(process.env.AUTOCANNON), sockets = new Set()
process.on('message', async work => {
  try {
    process.send(work.path ? await load(work) : await drive(work))
  } catch (error) {
    process.send({ error: error.message })
  }
})
async function load({ port, path, seconds, ...options }) {
  const result = await autocannon({ url: 'http://127.0.0.1:' + port + path, connections: 32, duration: seconds, sampleInt: 50, ...options })
  if (result.errors || result.non2xx) throw new Error('autocannon had ' + result.errors + ' errors and ' + result.non2xx + ' other answers than 200')
  return { requests: result['2xx'], seconds: result.duration }
}
function drive({ port, mode, connections, message, seconds }) {
  const bytes = Buffer.from(message ?? ''), begin = performance.now(), passed = () => (performance.now() - begin) / 1000
  let opened = 0, requests = 0
  return new Promise((resolve, reject) => {
    function open() {
      let text = ''
      const socket = connect({ port, host: '127.0.0.1', noDelay: true }, () => socket.write(bytes))
      opened++
      sockets.add(socket)
      socket.on('error', reject).on('data', data => {
        text += data.latin1Slice()
        const [head, body] = text.split('\r\n\r\n')
        if (body === undefined || body.length < /content-length: *(\d+)/i.exec(head)?.[1]) return
        if (!head.startsWith('HTTP/1.1 200 ')) return reject(new Error(head))
        text = ''
        requests++
        if (mode === 'keep') passed() < seconds ? socket.write(bytes) : socket.destroy()
        if (mode === 'hold') opened < connections ? open() : requests === connections && resolve({ requests, seconds: passed() })
      }).on('close', () => {
        sockets.delete(socket)
        if (mode === 'close' && passed() < seconds) open()
        else if (!sockets.size) resolve({ requests, seconds: passed() })
      })
    }
    if (mode === 'release') {
      for (const socket of sockets) socket.destroy()
      resolve({ requests, seconds: passed() })
    } else for (let i = 0; i < Math.min(connections, 64); i++) open()
  })
}`

async function turn({ port }: Server, work: Work): Promise<Turn> {
  client.send({ ...work, port, seconds })
  const [result] = await once(client, 'message') as [Turn & { error?: string }]
  if (result.error) throw new Error(result.error)
  return result
}

// ───────────────────────────────── processes ─────────────────────────────────

async function start(name: string): Promise<Server | undefined> {
  const port = await free_port(), command = CONTENDERS[name]?.(port), give_up = performance.now() + 10_000
  if (!command) return undefined
  const child = launch(command, { PORT: String(port) })
  let complaint = ''
  child.stderr?.on('data', data => { complaint += data })
  for (; !await first_answer(port); await sleep(2)) {
    if (!children.has(child) || performance.now() > give_up) throw new Error(`${name} does not start: ${complaint.trim() || command[0]}`)
  }
  return { child, pid: child.pid ?? 0, port }
}

/** Starts a process in a group of its own, to be stopped with those that it starts. */
function launch([command = '', ...args]: string[], variables: Record<string, string>, channel: 'ipc' | 'ignore' = 'ignore'): ChildProcess {
  const child = spawn(command, args, { detached: true, stdio: ['ignore', 'ignore', 'pipe', channel], env: { ...process.env, ...environment, ...variables } })
  children.add(child)
  return child.on('error', () => children.delete(child)).on('exit', () => children.delete(child))
}

function stop(child: ChildProcess): void {
  try {
    if (children.delete(child) && child.pid) process.kill(-child.pid, 'SIGKILL')
  } catch {
    // it has just ended by itself
  }
}

/** A port that is free just now. */
async function free_port(): Promise<number> {
  const listener = createServer().listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const { port } = listener.address() as AddressInfo
  listener.close()
  return port
}

/** The answer to a GET, as it is on the wire; '' if nobody listens yet. */
function first_answer(port: number): Promise<string> {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1', () => socket.write(GET)).setTimeout(5000, () => socket.destroy())
    socket.on('error', () => {}).on('close', () => resolve('')).on('data', data => {
      resolve(data.toString('latin1'))
      socket.destroy()
    })
  })
}

/** Where a program is: as given, or the first of that name in PATH. */
function binary(name: string, given?: string): string | undefined {
  return given || `${process.env['PATH']}:/usr/sbin`.split(delimiter).map(folder => join(folder, name)).find(file => existsSync(file))
}

/** Has npx fetch autocannon; where its program is then. */
function fetch_autocannon(): string {
  const { stdout, stderr, status } = spawnSync('npx', ['--yes', `--package=${AUTOCANNON}`, '-c', 'command -v autocannon'], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`npx cannot fetch ${AUTOCANNON}: ${/npm (?:error|ERR!).*/.exec(stderr)?.[0] ?? 'is npx installed?'}`)
  return realpathSync(stdout.trim())
}

function print(title: string, head: string[], rows: string[][]): void {
  const widths = head.map((_, i) => Math.max(...[head, ...rows].map(row => row[i]?.length ?? 0)))
  const line = (row: string[]): string => row.map((cell, i) => i ? cell.padStart((widths[i] ?? 0) + 2) : cell.padEnd(widths[i] ?? 0)).join('')
  console.log([title, line(head), ...rows.map(line), ''].join('\n'))
}

// ─────────────────────────────────── the run ───────────────────────────────────

const TABLES: Record<string, () => Promise<void>> = {
  ...Object.fromEntries(Object.entries(SCENARIOS).map(([name, scenario]) => [name, () => compare(name, scenario)])),
  idle,
  start: start_up,
}

const HELP = `Usage: npm run bench -- [--rounds N] [--seconds S] [--only table]…

  --rounds   how often each contender has its turn (6); the smallest of its figures counts
  --seconds  how long a turn is (0.5)
  --only     one of: ${Object.keys(TABLES).join(' ')}
  --help     this text

It needs Linux, whose /proc tells the CPU time, and a built server (npm run build). npx fetches ${AUTOCANNON}.
nginx, Bun and Deno take part where they are installed; BUN and DENO may name their programs.`

const children = new Set<ChildProcess>(), servers = new Map<string, Server>(), results = new Map<string, Map<string, Figure>>()
const environment = { SERVER, PICTURE: join(SERVER, '../test.jpg'), PAGE: '', ANSWER: '' }
let folder = '', client: ChildProcess, rounds = 0, seconds = 0

async function main(): Promise<void> {
  const { values: { only, help, ...numbers } } = parseArgs({ options: {
    rounds: { type: 'string', default: '6' },
    seconds: { type: 'string', default: '0.5' },
    only: { type: 'string', multiple: true, default: Object.keys(TABLES) },
    help: { type: 'boolean', default: false },
  } })
  if (help) return console.log(HELP)
  rounds = Number(numbers.rounds)
  seconds = Number(numbers.seconds)
  if (!(Number.isInteger(rounds) && rounds > 0 && seconds >= 0.1)) throw new Error('--rounds is a whole number from 1, --seconds a number from 0.1')
  for (const name of only) if (!TABLES[name]) throw new Error(`${name} is no table; these are: ${Object.keys(TABLES).join(' ')}`)
  if (!(parseInt(read('/proc/self/schedstat')) > 0)) throw new Error('this needs Linux: the CPU time of a process is read from its /proc/PID/schedstat')
  if (!existsSync(SERVER)) throw new Error('npm run build first')

  folder = mkdtempSync(join(tmpdir(), 'wow-bench-'))
  // root's nginx reads it as another user
  chmodSync(folder, 0o755)
  client = launch(node(CLIENT), { AUTOCANNON: fetch_autocannon() }, 'ipc').on('exit', () => fail(new Error('the client has ended')))
  const server = await start('ours')
  if (!server) return
  servers.set('ours', server)
  environment.ANSWER = await first_answer(server.port)
  environment.PAGE = environment.ANSWER.replace(/.*?\r\n\r\n/s, '')

  console.log(`Node ${process.version}, Linux ${release()}, ${cpus().length} × ${cpus()[0]?.model.trim()}
µs/request: CPU time of the server's process, the smallest of ${rounds} turns of ${seconds} s
requests/s: the most, as far as the client on the same machine can ask\n`)
  for (const name of only) await TABLES[name]?.()
}

function fail(error: unknown): never {
  console.error(error instanceof Error ? error.message : error)
  process.exit(1)
}

process.on('exit', () => {
  for (const child of children) stop(child)
  if (folder) rmSync(folder, { recursive: true, force: true })
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(1))
main().then(() => process.exit(), fail)
