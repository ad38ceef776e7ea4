/**
 * `npm run bench`: what a request costs this server and others, in CPU time of the server's process.
 *
 * That is the time of all its threads and child processes, in the kernel too. On loopback the sender also pays for the
 * receiver's part of TCP: the way of an answer is on the server's account, the way of a request is not. All contenders
 * take turns under the same load, and the smallest figure of each counts: the machine's other work can only add to it.
 *
 * autocannon asks on kept connections; npx fetches it, so it is no dependency. What it cannot do is done here.
 * "busy" is the server's CPU time as a share of the turn: a server that waits for the client finds less to do each time
 * it wakes up, and pays more for each request. So the figure of a contender that is not fully busy may be too high.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { cpus, release, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { send } from '../client.ts'

const AUTOCANNON = 'autocannon@8.0.0'
/** Short, so that the contenders take turns often: the machine's other work then meets all of them. */
const TURN_SECONDS = 0.5
type Autocannon = (options: object) => Promise<{ '2xx': number, non2xx: number, errors: number }>
/**
 * What autocannon shall do; or the message that is sent here, whether the server then closes, and how many are sent in
 * a second, on one connection after the other, answered yet or not.
 */
type Load = { shots?: object, message?: string, closing?: boolean, rate?: number, seconds?: number }
/** The cost is µs of CPU time for a request, or (memory) KiB for a connection that waits. */
type Scenario = Load & { title: string, contenders: string[], connections: number[], memory?: boolean }
type Figure = { cost: number, busy: number, rate: number }
/** By contender, its smallest figure in each run. */
type Results = Map<string, Figure[]>
type Server = { pid: number, port: number }
/** ask() resolves once the answer is there. */
type Connection = { ask: () => Promise<void>, close: () => unknown }
/** run() puts the load on the connections, and resolves with how many answers came. */
type Client = { run: () => Promise<number>, close: () => unknown }

// ─────────────────────────────── the contenders ───────────────────────────────

const path_of = (file: string): string => fileURLToPath(new URL(`../${file}`, import.meta.url))
const PROGRAM = path_of('dist/wow-server.js'), MODULE = path_of('dist/server.js')

/** The least that answers: looks for the empty line, writes a constant. */
const bare_loop = (send: 'write' | 'end'): string => String.raw`
import { createServer } from 'node:net'
const { PORT, ANSWER } = process.env
createServer(socket => socket.on('error', () => {}).on('data', data => {
  const text = data.latin1Slice()
  let answers = ''
  for (let at = -4; (at = text.indexOf('\r\n\r\n', at + 4)) >= 0; ) answers += ANSWER
  socket.${send}(answers, 'latin1')
})).listen(PORT, '127.0.0.1')`

const NODE_HTTP = `
import { createServer } from 'node:http'
const { PORT, PAGE } = process.env
createServer((request, response) => {
  const send = body => response.writeHead(200, { 'Content-Type': 'text/html', 'Content-Length': body.length }).end(body)
  if (request.method !== 'POST') return send(PAGE)
  const parts = []
  request.on('data', part => parts.push(part)).on('end', () => send(Buffer.concat(parts).length + ' bytes'))
}).listen(PORT, '127.0.0.1')`

/** This server as a module that answers a POST; alone (0), or in processes as in the README's chapter on these. */
const module_in = (processes: number): string => `
import cluster from 'node:cluster'
import { http, serve } from ${JSON.stringify(MODULE)}
const answer = ({ method, body }) =>
  method === 'POST' ? http\`HTTP/1.1 200 OK\nContent-Type: text/plain\n\n\${body.length} bytes\` : undefined
cluster.schedulingPolicy = cluster.SCHED_NONE
if (${processes} && cluster.isPrimary) for (let i = 0; i < ${processes}; i++) cluster.fork()
else serve({ host: '127.0.0.1', port: Number(process.env.PORT), answer })`

const RESPONSE = `() => new Response(PAGE, { headers: { 'Content-Type': 'text/html' } })`
const BUN = `const { PORT: port, PAGE } = process.env; Bun.serve({ hostname: '127.0.0.1', port, fetch: ${RESPONSE} })`
const DENO = `const { PORT, PAGE } = Deno.env.toObject()
Deno.serve({ hostname: '127.0.0.1', port: Number(PORT) }, ${RESPONSE})`

const nginx_configuration = (port: number): string => `
daemon off; user root; worker_processes 1; pid ${folder}/pid; events { worker_connections 1024; }
http { access_log off; default_type text/html; sendfile on; keepalive_requests 1000000000;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(name => `${name}_temp_path ${folder}/${name};`).join(' ')}
  server { listen 127.0.0.1:${port}; root ${folder}; } }`

const program = (port: number, file = PROGRAM): string[] => [file, String(port), '--quiet', '--host', '127.0.0.1']
const node = (port: number, text: string): string[] => [process.execPath, temporary(`${port}.mjs`, text)]

/** The command that starts each of them; those that are not installed take no part. */
const CONTENDERS: Record<string, (port: number) => string[]> = {
  'ours': port => [process.execPath, ...program(port)],
  'other build': port => [process.execPath, ...program(port, against)],
  'ours with an answer': port => node(port, module_in(0)),
  '1 process': port => node(port, module_in(1)),
  '2 processes': port => node(port, module_in(2)),
  'bare loop': port => node(port, bare_loop('write')),
  'closing bare loop': port => node(port, bare_loop('end')),
  'node:http': port => node(port, NODE_HTTP),
  'nginx': port => ['nginx', '-e', 'stderr', '-c', temporary('nginx.conf', nginx_configuration(port))],
  'ours on Bun': port => ['bun', ...program(port)],
  'Bun.serve': () => ['bun', '-e', BUN],
  'ours on Deno': port => ['deno', 'run', '--quiet', '--allow-net', '--allow-read', ...program(port)],
  'Deno.serve': () => ['deno', 'eval', DENO],
}

// ──────────────────────────────── the scenarios ────────────────────────────────

const message = (method: string, fields: string[], body = ''): string =>
  [`${method} / HTTP/1.1`, 'Host: localhost', ...fields, '', body].join('\r\n')
const GET = message('GET', [])
const BROWSER = {
  'Cache-Control': 'max-age=0', 'Upgrade-Insecure-Requests': '1',
  'User-Agent': 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36',
  'Accept': 'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8',
  'Sec-Fetch-Site': 'none', 'Sec-Fetch-Mode': 'navigate', 'Sec-Fetch-User': '?1', 'Sec-Fetch-Dest': 'document',
  'Accept-Encoding': 'gzip, deflate, br, zstd', 'Accept-Language': 'en-US,en;q=0.9',
}
const BODY = 'x'.repeat(2 ** 20), chunk = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`
const CHUNKS = `${chunk(BODY.slice(0, 1049)).repeat(999)}${chunk(BODY.slice(999 * 1049))}0\r\n\r\n`

/** A process needs some descriptors for other things. */
const MOST = (parseInt(spawnSync('sh', ['-c', 'ulimit -n'], { encoding: 'utf8' }).stdout) || Infinity) - 100
const kept = { contenders: ['ours', 'bare loop', 'node:http', 'nginx'], connections: [32], shots: {} }
const posted = { contenders: ['ours with an answer', 'node:http'], connections: [4] }
const scaled = { title: '5,000 requests a second', connections: [Math.min(10_000, MOST), 10], rate: 5_000, seconds: 2 }

/** Those in which node:http takes part are in the picture, which breaks a title after its comma. */
const SCENARIOS: Record<string, Scenario> = {
  'keep-alive': { ...kept, title: 'Kept connections, a bare head' },
  'browser': { ...kept, title: "Kept connections, a browser's head", shots: { headers: BROWSER } },
  'pipelined': { ...kept, title: 'Kept connections, 16 requests at a time', shots: { pipelining: 16 } },
  'one-each': { title: 'A connection for each request', contenders: ['ours', 'closing bare loop', 'node:http', 'nginx'],
    message: message('GET', ['Connection: close']), closing: true, connections: [32] },
  'post': { ...posted, title: 'A POST of 1 MiB, by length', shots: { method: 'POST', body: BODY } },
  'chunked': { ...posted, title: 'A POST of 1 MiB, in 1,000 chunks',
    message: message('POST', ['Transfer-Encoding: chunked'], CHUNKS) },
  // one request a second: they wait, but not so long that the server closes them
  'idle': { title: 'Memory for an idle connection', contenders: ['ours', 'bare loop', 'node:http'], memory: true,
    rate: 1, seconds: 1, connections: [Math.min(8_000, MOST)] },
  'bun': { ...kept, title: 'Kept connections, on Bun', contenders: ['ours on Bun', 'Bun.serve'] },
  'deno': { ...kept, title: 'Kept connections, on Deno', contenders: ['ours on Deno', 'Deno.serve'] },
  'cluster': { ...kept, title: 'Kept connections, processes', contenders: ['2 processes', '1 process'] },
  'scale': { ...scaled, contenders: ['ours'] },
  'scale-bare': { ...scaled, contenders: ['bare loop'] },
}

// ───────────────────────────────── measuring ─────────────────────────────────

/** Lets the contenders take turns, and adds the smallest figure of each to the results. */
async function compare({ contenders, connections, memory = false, ...load }: Scenario, all: Results): Promise<void> {
  const best = new Map<string, Figure>()
  const candidates = contenders.flatMap(name => name === 'ours' && against ? [name, 'other build'] : [name])
  const present = candidates.filter(name => !spawnSync(CONTENDERS[name]?.(0)[0] ?? '', ['-v']).error)
  for (let round = 0; round < rounds; round++) {
    for (const contender of present) for (const count of connections) {
      if (memory) stop(contender)
      const server = servers.get(contender) ?? await start(contender)
      // a new process first has to compile its code and grow its heap
      if (memory) await measure(server, { seconds: 2 }, 32, memory).then(() => sleep(1000))
      const figure = await measure(server, load, count, memory)
      const name = connections.length > 1 ? `${contender}, ${count} open` : contender
      if (figure.cost < (best.get(name)?.cost ?? Infinity)) best.set(name, figure)
    }
  }
  for (const [name, figure] of best) all.set(name, [...all.get(name) ?? [], figure])
}

/** One turn. What it takes to open the connections and to answer once on each is memory, but not CPU time. */
async function measure({ pid, port }: Server, load: Load, connections: number, memory: boolean): Promise<Figure> {
  const resident_kib = (): number => Number(/VmRSS:\s*(\d+)/.exec(read(`/proc/${pid}/status`))?.[1])
  const empty = resident_kib()
  const client = await (load.shots ? shooting : messaging)(port, load, connections)
  const begin = performance.now(), before = cpu_time(pid)
  const requests = await client.run()
  const cpu = cpu_time(pid) - before, seconds = (performance.now() - begin) / 1000
  const cost = memory ? (resident_kib() - empty) / connections : cpu / requests
  client.close()
  return { cost, busy: cpu / seconds / 1e6, rate: requests / seconds }
}

/** In µs, with the processes that it has started. /proc/PID/stat has it too, but in hundredths of a second. */
function cpu_time(pid: number): number {
  return readdirSync(`/proc/${pid}/task`).map(id => `/proc/${pid}/task/${id}`).reduce((sum, thread) => {
    const children = read(`${thread}/children`).split(' ').filter(Boolean).map(Number)
    return children.reduce((sum, child) => sum + cpu_time(child), sum + parseInt(read(`${thread}/schedstat`)) / 1000)
  }, 0)
}

const read = (file: string): string => readFileSync(file, 'utf8')

/** Lets autocannon ask. */
function shooting(port: number, { shots }: Load, connections: number): Client {
  const run = async (): Promise<number> => {
    const url = `http://localhost:${port}/`
    const result = await autocannon({ url, connections, duration: TURN_SECONDS, sampleInt: 50, ...shots })
    if (result.errors || result.non2xx) fail(`${result.errors} errors, ${result.non2xx} answers with no 2xx`)
    return result['2xx']
  }
  return { run, close: () => {} }
}

const buffer = Buffer.alloc(65_536)

/** Connects. Only the bytes of the answers are counted: the less a client does, the less a server waits. */
function open(port: number, request: Buffer, expected: number, closing: boolean): Connection {
  const asked: (() => void)[] = []
  let received = 0
  const callback = (length: number): boolean => {
    for (received += length; received >= expected && !closing; received -= expected) asked.shift()?.()
    return true
  }
  const socket = connect({ port, host: '127.0.0.1', noDelay: !closing, onread: { buffer, callback } })
  socket.on('error', fail).on('close', () => {
    if (closing && received === expected) asked.shift()?.()
    else fail(`expected ${expected} bytes of an answer, but the connection was closed after ${received}`)
  })
  const ask = (): Promise<void> => new Promise(resolve => {
    asked.push(resolve)
    socket.write(request)
  })
  return { ask, close: () => socket.removeAllListeners('close').resetAndDestroy() }
}

/** Opens connections and has one answer on each; those that close are opened later, one for each request. */
async function messaging(port: number, load: Load, connections: number): Promise<Client> {
  const { message = GET, closing = false, rate = 0, seconds = TURN_SECONDS } = load
  const expected = (await answer_of(port, message)).length, request = Buffer.from(message)
  if (!expected) fail(`expected an answer with status 200 to ${message.split('\r\n', 1)[0]}`)
  const another = (): Connection => open(port, request, expected, closing), kept: Connection[] = []
  while (!closing && kept.length < connections) {
    // no more at a time than fit into the server's backlog
    const some = Array.from({ length: Math.min(64, connections - kept.length) }, another)
    await Promise.all(some.map(({ ask }) => ask()))
    kept.push(...some)
  }
  const run = async (): Promise<number> => {
    const begin = performance.now(), passed = (): number => (performance.now() - begin) / 1000
    const answers: Promise<void>[] = []
    for (; rate && passed() < seconds; await sleep(1)) {
      while (answers.length < passed() * rate) answers.push((kept[answers.length % connections] ?? another()).ask())
    }
    await Promise.all(answers)
    let count = answers.length
    if (!rate) await Promise.all(Array.from({ length: connections }, async (_, i) => {
      for (; passed() < seconds; count++) await (kept[i] ?? another()).ask()
    }))
    return count
  }
  return { run, close: () => kept.forEach(({ close }) => close()) }
}

/** An answer with status 200, whole as it is on the wire; '' if there is none. */
async function answer_of(port: number, message: string): Promise<string> {
  const bytes = await send(`127.0.0.1:${port}`, message, { silent_ms: 5_000 }).catch(() => '')
  const reply = Buffer.from(bytes).toString('latin1')
  return reply.startsWith('HTTP/1.1 200 ') ? reply : ''
}

/** Starts a contender, and resolves once it answers. */
async function start(name: string): Promise<Server> {
  const port = next_port++, [command = '', ...args] = CONTENDERS[name]?.(port) ?? []
  const env = { ...process.env, PORT: String(port) }
  // a group of its own, to be stopped with the processes that it starts
  const child = spawn(command, args, { detached: true, stdio: ['ignore', 'ignore', 'pipe'], env }).on('error', fail)
  const { pid = fail(`cannot run ${command}`) } = child, give_up = performance.now() + 20_000
  servers.set(name, { pid, port })
  let complaint = ''
  child.stderr.on('data', data => { complaint += data })
  for (; !await answer_of(port, GET); await sleep(20)) {
    if (child.exitCode !== null || performance.now() > give_up) fail(`${name} does not start: ${complaint}`)
  }
  return { pid, port }
}

function stop(name: string): void {
  const server = servers.get(name)
  if (server) spawnSync('kill', ['-KILL', '--', `-${server.pid}`])
  servers.delete(name)
}

/** The path of a file with this text, for as long as the benchmark runs. */
function temporary(name: string, text: string): string {
  writeFileSync(join(folder, name), text)
  return join(folder, name)
}

function fail(error: unknown): never {
  console.error(error instanceof Error ? error.message : error)
  process.exit(1)
}

// ───────────────────────────── table and picture ─────────────────────────────

const median = (figures: Figure[]): Figure =>
  figures.toSorted((a, b) => a.cost - b.cost)[(figures.length - 1) >> 1] ?? { cost: NaN, busy: NaN, rate: NaN }
const text_of = (value: number, digits = value < 100 ? 1 : 0): string =>
  value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits })

/** The medians of all runs so far, and the range of the first contender's cost in a run divided by each one's. */
function print(title: string, unit: string, all: Results): void {
  const line = (name: string, ...cells: string[]): void =>
    console.log(name.padEnd(22), ...cells.map(cell => cell.padStart(13)))
  const [first] = all.values()
  console.log(`\n${title}${first ? '' : ': not installed'}`)
  if (first) line('', unit, 'first / this', 'busy', 'requests/s')
  for (const [name, figures] of all) {
    const ratios = figures.map(({ cost }, run) => (first?.[run]?.cost ?? NaN) / cost)
    const range = new Set([Math.min(...ratios), Math.max(...ratios)].map(ratio => text_of(ratio, 2)))
    const { cost, busy, rate } = median(figures)
    line(name, text_of(cost), [...range].join(' to '), `${text_of(busy * 100, 0)} %`, text_of(rate, 0))
  }
}

const STYLE = `
  text { font: 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #57606a } .name { text-anchor: end }
  .strong { font-weight: 600; fill: #1f2328 } rect { fill: #a8b1bb } .card { fill: #fff; stroke: #d0d7de }
  @media (prefers-color-scheme: dark) { text { fill: #9da7b3 } .strong { fill: #e6edf3 }
    rect { fill: #656d76 } .card { fill: #0d1117; stroke: #30363d } } .ours { fill: #2f81f7 }`

/** The scenarios with node:http as bars, each as long as the cost is beside node:http's, with the figure as text. */
function picture(): string {
  const text = (x: number, y: number, kind: string, content: string): string =>
    `<text x="${x}" y="${y}" class="${kind}">${content.replaceAll('&', '&amp;')}</text>`
  const relative = (all: Results, figures: Figure[]): number =>
    median(figures).cost / median(all.get('node:http') ?? []).cost
  const shown = chosen.filter(({ all }) => all.has('node:http')), drawn: string[] = [], said: string[] = []
  const unit = 290 / Math.max(...shown.flatMap(({ all }) => [...all.values()].map(figures => relative(all, figures))))
  let y = 84
  for (const { title, memory, all } of shown) {
    drawn.push(...title.split(/(?<=,) /).map((part, i) => text(20, y + 13 + i * 18, i ? '' : 'strong', part)))
    const values = Array.from(all, ([name, figures]) => {
      const width = Math.round(unit * relative(all, figures))
      const value = `${text_of(median(figures).cost)} ${memory ? 'KiB' : 'µs'}`
      const [label, strong] = name.startsWith('ours') ? ['this server', 'strong'] : [name.replace('closing ', ''), '']
      drawn.push(text(330, y + 13, `name ${strong}`, label), text(350 + width, y + 13, strong, value),
        `<rect x="342" y="${y}" width="${width}" height="17" rx="2" class="${strong && 'ours'}"/>`)
      y += 22
      return `${label} ${value}`
    })
    said.push(`${title}: ${values.join(', ')}.`)
    y += 18
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="720" height="${y + 22}" viewBox="0 0 720 ${y + 22}"
  role="img" aria-labelledby="title description"><style>${STYLE}</style>
<title id="title">What a request costs this server and others</title>
<desc id="description">${said.join('\n')}</desc>
<rect class="card" x="0.5" y="0.5" width="719" height="${y + 21}" rx="6"/>
${text(20, 34, 'strong', "What a request costs: CPU time of the server's process")}
${text(20, 56, '', 'Shorter is better. The bars of a group are drawn relative to that of node:http.')}
${drawn.join('\n')}
${text(20, y + 6, '', MACHINE)}
</svg>\n`
}

// ─────────────────────────────────── the run ───────────────────────────────────

process.on('uncaughtException', fail)
const [kernel = ''] = release().split('-', 1), [core] = cpus()
const MACHINE = `Node ${process.versions.node}, Linux ${kernel}, ${cpus().length} × ${core?.model.trim()}`
const HELP = `Usage: npm run bench -- [option]…

  --only SCENARIO  one of: ${Object.keys(SCENARIOS).join(' ')}
  --rounds N       how often each contender has its turn (6); the smallest of its figures counts
  --runs N         how often all of it is measured (1): shows median costs, and the range of each ratio
  --against FILE   another build of the server, such as a former dist/server.js, takes part too
  --svg            draws .github/bench.svg, of the scenarios that have node:http

It needs Linux, npm run build first, and npx, which fetches ${AUTOCANNON}.
nginx, Bun and Deno take part where they are installed.`

const { values: options } = parseArgs({ options: {
  only: { type: 'string', multiple: true, default: Object.keys(SCENARIOS) }, against: { type: 'string', default: '' },
  rounds: { type: 'string', default: '6' }, runs: { type: 'string', default: '1' },
  svg: { type: 'boolean' }, help: { type: 'boolean' },
} })
if (options.help) {
  console.log(HELP)
  process.exit()
}
const [rounds = 0, runs = 0] = [options.rounds, options.runs].map(Number)
const against = options.against && resolve(options.against)
const missing = [PROGRAM, MODULE, against].find(file => file && !existsSync(file))
if (!(rounds > 0 && runs > 0)) fail('--rounds and --runs must be above 0')
if (process.platform !== 'linux') fail('expected Linux, which tells the CPU time of a process in /proc')
if (missing) fail(`${missing} does not exist (npm run build makes this server's)`)
const chosen = options.only.map(id =>
  ({ id, all: new Map<string, Figure[]>(), ...SCENARIOS[id] ?? fail(`unknown scenario ${id}; see --help`) }))

const servers = new Map<string, Server>(), folder = mkdtempSync(join(tmpdir(), 'wow-bench-'))
// below the ports that Linux gives to clients
let next_port = 20_000 + process.pid % 10_000
process.on('exit', () => {
  for (const name of servers.keys()) stop(name)
  rmSync(folder, { recursive: true, force: true })
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(1))

process.env['PATH'] += ':/usr/sbin'
// the path of its program tells where npx has put the module
const npx = ['--yes', `--package=${AUTOCANNON}`, '-c', 'command -v autocannon']
const program_path = execFileSync('npx', npx, { encoding: 'utf8', stdio: 'pipe' }).trim()
const { default: autocannon } = await import(realpathSync(program_path)) as { default: Autocannon }
const whole = await answer_of((await start('ours')).port, GET), page = whole.slice(whole.indexOf('\r\n\r\n') + 4)
Object.assign(process.env, { ANSWER: whole, PAGE: page })
temporary('index.html', page)
console.log(`${MACHINE}\nThe smallest of ${rounds} turns of ${TURN_SECONDS} s counts.`)
for (let run = 0; run < runs; run++) for (const { id, all, ...scenario } of chosen) {
  await compare(scenario, all)
  print(`${id}: ${scenario.title}`, scenario.memory ? 'KiB each' : 'µs/request', all)
}
if (options.svg) writeFileSync(path_of('.github/bench.svg'), picture())
process.exit()
