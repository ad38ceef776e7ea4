#!/usr/bin/env node
/**
 * The web server of Vamei's article "Python 网络 01 原始 Python 服务器", on nothing but the socket.
 * Part 1 is the article's program, line for line. Part 2 is what TCP and HTTP ask for besides, in rooms: each calls
 * only those below it, except that all write responses with `http`, connections are handed over to the listener, and
 * the command line calls `serve`.
 * Names in snake_case are the article's way of writing, names in camelCase are Node's.
 *
 *     npx tsx server.ts                            run it, then open http://127.0.0.1:8000/
 *     import { serve, http } from 'wow-server'     or use it as a module
 *
 * @module
 */
import { isUtf8 } from 'node:buffer'
import { closeSync, existsSync, openSync, readFileSync, realpathSync } from 'node:fs'
import { isIPv6, Server, type AddressInfo, type Socket } from 'node:net'
import { networkInterfaces } from 'node:os'
import { basename } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { inspect, parseArgs, styleText } from 'node:util'

// ───────────────────────────── Part 1: the article ─────────────────────────────

/**
 * Starts the web server of the article's section 3, which also answers the messages of section 2.
 * @param given where to listen, your `answer`, a `log`, a `signal` that stops it, and limits; see `Options`
 * @returns node:net's `Server`, about to listen: 'listening' and 'error' (port in use …) are its events
 * @throws TypeError or RangeError if an option is not valid, Error if test.jpg is missing
 * @example
 * const hello = http`HTTP/1.1 200 OK\nContent-Type: text/plain\n\nHello!\n`
 * serve({ port: 8080, answer: ({ src }) => src === '/hello' ? hello : undefined })
 */
export function serve(given: Options = {}): Server {
  const options = checked(given)
  const { answer, log } = options

  // Address
  const HOST = options.host ?? ''
  const PORT = options.port ?? 8000

  const reply = 'Yes'

  // Prepare HTTP response
  const text_content = http`HTTP/1.1 200 OK
Content-Type: text/html

<head>
<title>WOW</title>
</head>
<html>
<p>Wow, TypeScript Server</p>
<IMG src="test.jpg"/>
</html>
`

  // Read picture, put into HTTP format
  const f = open('test.jpg', 'r')
  const pic_content = http`HTTP/1.1 200 OK
Content-Type: image/jpeg

${readFileSync(f)}`
  closeSync(f)

  // Configure socket
  const s = new Listener(options)
  // 511: maximum number of connections waiting
  s.listen({ host: HOST, port: PORT, backlog: 511 })

  forever()
  return s

  async function forever(): Promise<never> {
    // infinite loop, server forever
    while (true) {
      // the next connection on which a whole request waits, so no client keeps another waiting
      const [conn, addr] = await s.accept()
      const request = conn.recv()
      // 2: the first two parts are enough
      const method  = request.split(' ', 2)[0]
      const src     = request.split(' ', 2)[1]
      let content

      // not HTTP: section 2 (a request that is refused has its own answer, which conn.sendall prefers)
      if (!conn.request) content = reply
      // deal with GET method (HEAD is a GET whose answer has no body)
      else if (method === 'GET' || method === 'HEAD') {
        // URL
        if (src === '/test.jpg') content = pic_content
        else content = text_content
      }
      else content = other_method(method)

      log('Connected by', addr)
      log('Request is:', request)
      // the user's own answer comes first
      conn.sendall(ask(answer, conn.request, content))
      // close connection, unless another request may follow on it
      conn.close()
    }
  }
}

// ─────────────── Part 2: what TCP and HTTP ask for besides ───────────────

// ── options and limits ──
// What a user may set, and the checks on it. What can be done in `answer` has no option.

/** Your handler, called for each HTTP request; undefined leaves the request to the article's two contents. */
export type Answer = (request: Request) => Content | undefined | PromiseLike<Content | undefined>

/** Where to listen, and what to do besides the article's answers. */
export type Options = {
  /** the address to listen on; '' (the default) is every address of this computer */
  readonly host?: string | undefined
  /** 8000 by default; 0 is any port that is free */
  readonly port?: number | undefined
  /**
   * your handler, called before the article's two contents; if it fails, the response is 500
   * @example answer: ({ src }) => src === '/hello' ? http`HTTP/1.1 200 OK\n\nHello!\n` : undefined
   */
  readonly answer?: Answer | undefined
  /** called as console.log is, with 'Connected by', 'Request is:' and 'Reply is:'; what it gets is safe to print */
  readonly log?: ((what: string, value: unknown) => void) | undefined
  /** stops the server: it takes no more connections, answers the requests in progress, closes idle connections */
  readonly signal?: AbortSignal | undefined
  /** limits that replace those in LIMITS */
  readonly limits?: { readonly [name in keyof Limits]?: number | undefined } | undefined
}

/** Options as the server uses them: complete limits, and a log that cannot end the loop or harm a terminal. */
type Checked = Options & { readonly log: Log, readonly limits: Limits }
type Log = (what: string, value: unknown) => void
const silent: Log = () => {}

const defaults = {
  /** a whole head; also the extensions and trailers of a chunked body. Browsers send 2 KiB, and cookies add up */
  head_bytes: 16_384,
  /** the request-target; 8,000 is the least that RFC 9112, 3 recommends */
  target_bytes: 8_000,
  /** one body, because it is held in memory until it is whole */
  body_bytes: 1_048_576,
  /** all bodies that the server holds at a time, because many clients could fill the memory together */
  all_bodies_bytes: 268_435_456,
  /** from connecting to the first byte: browsers connect ahead */
  silent_ms: 10_000,
  /** from the first byte of a head to its last */
  head_ms: 10_000,
  /** from the end of a head to the last byte of its body */
  body_ms: 30_000,
  /** from when the system has taken an answer to the next request: a page asks for its pictures within this */
  idle_ms: 5_000,
  /** how long the system may take nothing for a client: Linux does so in steps of 1 MiB or more */
  write_ms: 120_000,
  /** how long to read on after the last answer (RFC 9112, 9.6): longer than a round trip */
  linger_ms: 2_000,
  /** from the signal until the connections still open are cut off: service managers wait longer */
  stop_ms: 4_000,
}
type Limits = Readonly<typeof defaults>

/** The limits that hold if no others are given, in bytes and milliseconds. */
export const LIMITS: Limits = Object.freeze(defaults)

/** The largest value of each limit in bytes: what patterns and Buffers can handle on every runtime. */
const MAX_BYTES: Record<string, number> =
  { head_bytes: 262_144, target_bytes: 262_144, body_bytes: 1_073_741_824, all_bodies_bytes: 1_099_511_627_776 }
/** The largest value of a limit in milliseconds, a day: timers overflow after 24 days. */
const MAX_MS = 86_400_000

/** Checks the limits and completes them; makes the log safe. */
function checked(options: Options): Checked {
  if (typeof options !== 'object' || options === null)
    throw new TypeError(`options must be an object such as { port: 8080 }, got ${inspect(options)}`)
  const { answer, log, signal, limits = {} } = options
  for (const [name, value] of Object.entries({ answer, log }))
    if (value !== undefined && typeof value !== 'function')
      throw new TypeError(`${name} must be a function, got ${inspect(value)}`)
  if (signal !== undefined && typeof signal?.addEventListener !== 'function')
    throw new TypeError(`signal must be an AbortSignal, got ${inspect(signal)}`)
  if (typeof limits !== 'object' || limits === null)
    throw new TypeError(`limits must be an object with names from LIMITS, got ${inspect(limits)}`)
  const given = Object.entries(limits).filter(([, value]) => value !== undefined)
  const all: Limits = { ...LIMITS, ...Object.fromEntries(given) }
  for (const [name, value] of Object.entries(all)) {
    if (!Object.hasOwn(LIMITS, name))
      throw new TypeError(`unknown limit ${name}; known limits: ${Object.keys(LIMITS).join(', ')}`)
    const most = MAX_BYTES[name] ?? MAX_MS
    if (Number.isInteger(value) && value >= 1 && value <= most) continue
    const wrong = `limits.${name} must be a whole number from 1 to ${most}, got ${inspect(value)}`
    throw typeof value === 'number' ? new RangeError(wrong) : new TypeError(wrong)
  }
  return { ...options, log: log ? safe_log(log) : silent, limits: all }
}

/** Opens a file that stands beside this module; a bundler that makes CommonJS of it leaves no import.meta.url. */
function open(name: string, flags: string): number {
  const path = fileURLToPath(new URL(name, import.meta.url ?? pathToFileURL(__filename)))
  if (existsSync(path)) return openSync(path, flags)
  throw new Error(`${name} is missing: expected it at ${path}; copy it there from wow-server's folder`)
}

// ── http: a response as the text that it is on the wire ──
// The tag `http` counts and checks, so that neither the writer nor a value that is set in can break the framing.
// A body is whole: there is no streaming.

/** A response as it goes out; made by `http` only, and never changed. */
export type Content = {
  readonly status: number
  /** status line and field lines, without Date, Connection and the empty line */
  readonly head: string
  readonly body: Buffer
  /** it says `Connection: close` */
  readonly close: boolean
}

/** A value in a response: text, a number, or bytes for the body; in the head also pairs, on a line of their own. */
type Value = string | number | Uint8Array | Iterable<[name: string, value: string]>

/**
 * Makes a response of the text that it is on the wire (RFC 9112, 2.1): the line ends of its head become CRLF and
 * Content-Length is counted. Date and Connection are the server's; only `Connection: close` may be asked for.
 * @throws TypeError for what is not a status line and field lines, for a value that would add a line to the head,
 * and for a body with a status that has none; its stack begins at the caller
 * @example
 * http`HTTP/1.1 404 Not Found
 * Content-Type: text/plain
 *
 * There is no ${path} here.
 * `
 */
export function http(strings: TemplateStringsArray, ...values: Value[]): Content {
  if (!Array.isArray(strings)) throw type_error(`http is a template tag without parentheses, got ${inspect(strings)}`)
  let written = ''
  // the parts of the body; none as long as the head goes on
  const parts: (string | Uint8Array)[] = []
  strings.forEach((text: string | undefined, i) => {
    if (text === undefined) throw type_error('the template has an escape that does not exist: write \\\\ for \\')
    const [for_head = '', for_body] = parts.length ? ['', text] : text.split(/\n\r?\n([^]*)/, 2)
    written += for_head
    if (for_body !== undefined) parts.push(for_body)
    if (i === values.length) return
    const value: unknown = values[i]
    if (!parts.length) written += head_value(value, written)
    else parts.push(value instanceof Uint8Array ? value : text_value(value))
  })

  // an empty value may leave an empty line
  const lines = `${written}\n`.replace(/(?:\r?\n)+/g, '\r\n')
  // what matches is valid, up to the first line that is not
  const [valid = '', status_code] = RESPONSE_HEAD.exec(lines) ?? [], status = Number(status_code)
  if (valid !== lines) throw type_error(wrong_line(lines.slice(valid.length).split('\r\n', 1)[0] ?? '', valid === ''))
  const body = parts.every(part => typeof part === 'string') ? Buffer.from(parts.join(''))
    : Buffer.concat(parts.map(part => typeof part === 'string' ? Buffer.from(part) : part))
  // RFC 9110, 6.4.1
  const bodiless = status < 200 || status === 204 || status === 304
  if ((bodiless || status === 205) && body.length)
    throw type_error(`a response with status ${status} has no body, got one of ${body.length} bytes`)

  const own_fields = lines.replace(/\n(?:content-length|transfer-encoding|connection|date):.*\r/gi, '')
  const head = bodiless ? own_fields : `${own_fields}Content-Length: ${body.length}\r\n`
  const close = /\nconnection:(?:.*,)?[\t ]*close[\t ]*[,\r]/i.test(lines)
  return Object.freeze({ __proto__: http.prototype, status, head, body, close })
}

// status-line = HTTP-version SP status-code SP [ reason-phrase ] (RFC 9112, 4), then field lines (5)
const { raw }       = String
const VALUE         = raw`[\t\x20-\x7e\x80-\xff]*`
const TOKEN         = raw`[!#$%&'*+\-.^_\x60|~\w]+`
const FIELD_LINE    = raw`${TOKEN}:${VALUE}\r\n`
const RESPONSE_HEAD = new RegExp(raw`^HTTP/1\.1 ([1-5]\d\d) ${VALUE}\r\n(?:${FIELD_LINE})*`)

function wrong_line(line: string, is_first: boolean): string {
  const got = `got ${inspect(line)}`, name = is_first ? 'the status line' : line.split(':', 1)[0]
  if (/[^\0-\xff]/.test(line)) return `${name} must have characters of latin1 only, with others percent-encoded, ${got}`
  if (is_first)
    return `expected a status line such as 'HTTP/1.1 200 OK' (OK may be missing, but not the space), ${got}`
  return `expected a field line such as Content-Type: text/html, not indented, or an empty line before the body, ${got}`
}

/** A value for the head; `written` is what stands before it, whose last line tells the field. */
function head_value(value: unknown, written: string): string {
  const is_list = typeof value === 'object' && value !== null && Symbol.iterator in value
  // pairs have lines of their own
  if (is_list && !(value instanceof Uint8Array) && written.endsWith('\n'))
    return Array.from(value as Iterable<unknown>, field_line).join('')
  const text = text_value(value), field = written.slice(written.lastIndexOf('\n') + 1) + text
  if (!/[\0-\x1f\x7f]/.test(text)) return text
  throw type_error(`a head value must not have control characters, got ${inspect(field)}`)
}

function text_value(value: unknown): string {
  if (typeof value === 'string' || typeof value === 'number') return String(value)
  throw type_error(`a value must be text or a number, or bytes for the body, got ${inspect(value)}`)
}

function field_line(pair: unknown): string {
  const [name, value]: unknown[] = Array.isArray(pair) && pair.length === 2 ? pair : []
  if (typeof name !== 'string' || !/^[^: \0-\x1f\x7f]+$/.test(name))
    throw type_error(`expected a pair such as ['Content-Type', 'text/html'], got ${inspect(pair)}`)
  return `${name}: ${head_value(value, `${name}: `)}\n`
}

/** An error whose stack begins at the caller of `http`. */
function type_error(message: string): TypeError {
  const error = new TypeError(message)
  Error.captureStackTrace(error, http)
  return error
}

// ── listener: accept, one timer, stopping ──
// It hands over connections on which a whole request waits, as FreeBSD's accept filter "httpready" does in the kernel.
// It knows nothing of HTTP, and leaves it to the system to share connections among processes.

/** How often deadlines are looked at while there are connections: one timer serves all, no request needs its own. */
const TICK_MS = 250
/** How long a connection that was just used stays when the server stops: its next request may be on the way. */
const STOP_GRACE_MS = 500
/** How long a stopping server takes what the system has accepted already, or until how many turns bring nobody. */
const LAST_ACCEPTS_MS = 500
const LAST_ACCEPTS_TURNS = 3

/** The article's socket that listens: node:net's server, with an accept that can be awaited. */
class Listener extends Server {
  readonly options: Checked
  readonly bodies = { bytes: 0 }
  /** TICK_MS for each tick so far: good enough for deadlines, and free */
  now_ms = 0
  private clock: NodeJS.Timeout | undefined
  readonly open_connections = new Set<Connection>()
  private readonly ready: Connection[] = []
  private resolve_accept: ((accepted: Accepted) => void) | undefined

  constructor(options: Checked) {
    super({ allowHalfOpen: true })
    this.options = options
    this.on('connection', socket => {
      // a connection that comes while the server stops is read when no more come
      if (this.stopping && this.listening) socket.pause()
      this.open_connections.add(new Connection(socket, this))
      this.clock ??= setInterval(() => this.tick(), TICK_MS).unref()
    })
    // one accept that fails (no file descriptor is free) does not end the server; a failure to listen is for the user
    this.on('error', (error: NodeJS.ErrnoException) => {
      if (error.syscall !== 'accept' && this.listenerCount('error') === 1) throw error
    })
    this.on('listening', () => {
      if (this.stopping) this.stop()
      options.signal?.addEventListener('abort', this.stop)
    })
    // on Deno this may come when the server listens again
    this.on('close', () => { if (!this.listening) options.signal?.removeEventListener('abort', this.stop) })
  }

  get stopping(): boolean { return this.options.signal?.aborted === true }

  /** The next connection on which a whole request waits, and the client's address. */
  accept(): Promise<Accepted> | Accepted {
    for (let conn; (conn = this.ready.shift()); ) if (!conn.socket.destroyed) return [conn, conn.addr]
    return new Promise(resolve => { this.resolve_accept = resolve })
  }

  hand_over(conn: Connection): void {
    if (this.resolve_accept) this.resolve_accept([conn, conn.addr])
    else this.ready.push(conn)
    this.resolve_accept = undefined
  }

  /** Counts as TICK_MS even if it is late: clients do not pay for a process held up. The last one stops the clock. */
  private tick(): void {
    this.now_ms += TICK_MS
    // what has arrived is read first
    setImmediate(() => { for (const conn of this.open_connections) conn.check_deadline() })
    if (this.open_connections.size > 0) return
    clearInterval(this.clock)
    this.clock = undefined
  }

  private readonly stop = async (): Promise<void> => {
    const { stop_ms } = this.options.limits
    setTimeout(() => { for (const { socket } of this.open_connections) socket.destroy() }, stop_ms).unref()
    // closing resets connections that wait to be accepted
    let quiet_turns = 0
    this.on('connection', () => { quiet_turns = 0 })
    const deadline = performance.now() + LAST_ACCEPTS_MS
    // a millisecond a turn: on Deno, setImmediate lets nobody in
    while (quiet_turns++ < LAST_ACCEPTS_TURNS && performance.now() < deadline) await pause(1)
    if (this.listening) this.close()
    // one that was paused because too much came pauses itself again
    for (const { socket } of this.open_connections) socket.resume()
  }
}

type Accepted = [conn: Connection, addr: Address]
type Address = readonly [address: string, port: number]

// ── connection: the socket, and the state of one exchange after another ──
// A connection is in one of a few states, each named as the limit that ends it:
//
//   silent_ms   nothing has come yet                    → a head or a text, or closed
//   idle_ms     answered, and open for the next request → a head, or closed
//   head_ms     a head arrives, or what may become one  → a body, a text, answering, or 408
//   body_ms     a body arrives                          → answering, or 408
//   text_ms     a text that is not HTTP arrives         → answering
//   answering   the loop or the user's answer works     → writing, when there is an answer
//   write_ms    the client takes the answer             → idle, reading, answering, lingering, or cut off
//   linger_ms   all is said, the client may still send  → closed
//
// What is refused is handed over as well, so that any reading state may lead to answering. It knows no grammar: the
// reader says what to wait for.

/** What is sent: a response, or the text of the article's section 2. */
type Reply = Content | string
type State = 'silent_ms' | Exclude<Need, 'continue'> | 'answering' | 'write_ms' | 'linger_ms'

/** A socket knows its connection, so that all can share their listeners: thousands that are idle take little memory. */
type KnownSocket = Socket & { conn: Connection }
function on_data(this: KnownSocket, piece: Buffer): void { this.conn.on_data(piece) }
function on_end(this: KnownSocket): void { this.conn.on_end() }
// 'close' follows
function on_error(): void {}
function on_close(this: KnownSocket): void { this.conn.on_close() }

/** How long to wait for the rest of a text that is not HTTP and has no line end: TCP may have split it. */
const TEXT_WAIT_MS = 200
/** The longest body, in bytes, that is sent as one text with its head: a longer one costs less as bytes. */
const MAX_SHORT_BODY_BYTES = 8_192
/** How much is written at a time, so that progress can be seen and the others have their turn. */
const WRITE_BYTES = 65_536
/** How much of the next requests is read while an answer is due: by reading it is noticed that a client leaves. */
const MAX_UNREAD_BYTES = 32_768
const NO_BYTES = Buffer.alloc(0)
const NO_ADDRESS = ['', 0] as const

/** The article's conn, with recv, sendall and close, around Node's socket. */
class Connection {
  readonly addr: Address
  readonly socket: Socket
  private readonly server: Listener
  private readonly reader: Reader
  private state: State = 'silent_ms'
  private since: number
  /** what is answered now, and the answer to it; '' before and after */
  private message: Received | undefined
  private answer: Reply | Promise<Reply> = ''
  /** what is not written yet, and a large body that follows it */
  private pending = ''
  private body: Uint8Array = NO_BYTES
  /** no request follows */
  private last = false

  constructor(socket: Socket, server: Listener) {
    this.socket = Object.assign(socket, { conn: this })
    socket.on('data', on_data).on('end', on_end).on('error', on_error).on('close', on_close)
    this.server = server
    this.since = server.now_ms
    this.reader = new Reader(server)
    // a system call, so skipped if nobody sees it; an IPv4 address may come as ::ffff:127.0.0.1
    const { answer, log } = server.options, is_seen = answer !== undefined || log !== silent
    this.addr = is_seen ? [(socket.remoteAddress ?? '').replace(/^::ffff:/, ''), socket.remotePort ?? 0] : NO_ADDRESS
  }

  /** The request to answer; undefined for a text that is not HTTP, and for what was refused. */
  get request(): Request | undefined { return this.message?.method ? this.message : undefined }

  /** The text of the request that waits: its head in HTTP, with a character for each byte. */
  recv(): string { return this.message?.text ?? '' }

  /** Takes the answer to send, or the promise of one; a message that was refused has its own. */
  sendall(content: Reply | Promise<Reply>): void { this.answer = this.message?.refusal ?? content }

  /** Ends the exchange once its answer is sent: the connection is closed, or waits to be accepted again. */
  close(): void {
    if (typeof this.answer === 'string' || !('then' in this.answer)) return this.finish(this.answer)
    // the answers before this one do not wait for it, unless it comes at once
    if (this.pending) setImmediate(() => {
      if (this.pending) this.socket.write(this.pending, 'latin1')
      this.pending = ''
    })
    this.answer.then(content => this.finish(content))
  }

  on_data(piece: Buffer): void {
    this.reader.push(piece)
    if (this.is_reading) this.proceed()
    // stop reading: TCP pushes back
    if (!this.is_reading && this.reader.unread_bytes > MAX_UNREAD_BYTES) this.socket.pause()
  }

  /** The client sends no more. If an answer is due, it waits for that or is gone: after linger_ms it counts as gone. */
  on_end(): void {
    if (this.is_reading) this.proceed()
    else if (this.state === 'answering') this.enter('answering')
  }

  on_close(): void {
    this.server.open_connections.delete(this)
    this.message?.abort()
    // the user's answer may still work with the body
    if (!this.answer) this.reader.clear()
  }

  /** Ends the state if it has lasted too long. Times are taken at ticks, so one tick is added: never be early. */
  check_deadline(): void {
    if (this.server.now_ms - this.since <= this.limit_ms + TICK_MS) return
    if (this.is_reading) this.proceed('late')
    else if (this.state === 'answering') this.message?.abort()
    else this.socket.destroy()
  }

  private get limit_ms(): number {
    const { state, server: { options: { limits }, stopping } } = this
    if (state === 'text_ms') return Infinity
    if (state === 'answering') return this.socket.readableEnded ? limits.linger_ms : Infinity
    const is_waiting = state === 'silent_ms' || state === 'idle_ms'
    return stopping && is_waiting ? Math.min(limits[state], STOP_GRACE_MS) : limits[state]
  }

  private get is_reading(): boolean {
    return this.state !== 'answering' && this.state !== 'write_ms' && this.state !== 'linger_ms'
  }

  /** The system takes no more. writableNeedDrain alone may still hold when everything has just been taken. */
  private get is_full(): boolean { return this.socket.writableNeedDrain && this.socket.writableLength > 0 }

  /** Enough for a write of its own, after which the others have their turn. */
  private get has_much(): boolean { return this.body.length > 0 || this.pending.length > WRITE_BYTES }

  private enter(state: State): void {
    this.state = state
    this.since = this.server.now_ms
  }

  /** Reads the next request and hands it over; or writes what is ready, and waits for it. */
  private proceed(ending: Ending | undefined = this.socket.readableEnded ? 'end' : undefined): void {
    while (!this.socket.destroyed) {
      if ((this.last || this.has_much || this.is_full) && !this.write()) return
      if (this.last) return this.end()
      const next = this.reader.read(ending)
      if (next === 'continue') this.pending += 'HTTP/1.1 100 Continue\r\n\r\n'
      else if (next === 'idle_ms' && ending) this.last = true
      else if (typeof next === 'string') return this.write() ? this.wait(next) : undefined
      else {
        next.addr = this.addr
        this.message = next
        this.last = next.close
        this.enter('answering')
        return this.server.hand_over(this)
      }
    }
  }

  private wait(need: Exclude<Need, 'continue'>): void {
    this.socket.resume()
    if (need === this.state || need === 'idle_ms' && this.state === 'silent_ms') return
    this.enter(need)
    if (need === 'text_ms') setTimeout(() => { if (this.state === 'text_ms') this.proceed('late') }, TEXT_WAIT_MS)
  }

  /** Makes an answer ready to be written; several that are ready together are written together. */
  private send(content: Reply): void {
    const is_http = typeof content !== 'string', { log } = this.server.options
    if (log !== silent) log('Reply is:', is_http ? content.head.split('\r', 1)[0] : content)
    if (!is_http) return void (this.pending += content)
    // this is the last one, too, if the client has ended or the server stops, and nothing is unread
    const nobody_asks = this.socket.readableEnded || this.server.stopping || !this.server.listening
    this.last ||= content.close || nobody_asks && this.reader.unread_bytes === 0
    const body = this.recv().startsWith('HEAD ') ? NO_BYTES : content.body
    const is_short = body.length <= MAX_SHORT_BODY_BYTES
    this.pending += response_text(content, this.last, is_short ? body : NO_BYTES)
    if (!is_short) this.body = body
    // the next slice, or the next answer, is not to wait until this is acknowledged (RFC 1122, 4.2.3.4)
    if (this.has_much || !this.last) this.socket.setNoDelay(true)
  }

  private finish(content: Reply): void {
    this.answer = ''
    if (!this.socket.destroyed) this.send(content)
    this.message = undefined
    this.reader.release()
    this.proceed()
  }

  /** Writes what is ready; false if it goes on later, when the client has taken it or the others had their turn. */
  private write(): boolean {
    const { socket, body, has_much } = this, has_body = body.length > 0
    if (!this.is_full) {
      if (has_body) socket.cork()
      if (this.pending) socket.write(this.pending, 'latin1')
      if (has_body) socket.write(body.subarray(0, WRITE_BYTES))
      if (has_body) socket.uncork()
      this.pending = ''
      this.body = body.length > WRITE_BYTES ? body.subarray(WRITE_BYTES) : NO_BYTES
    }
    if (this.is_full) socket.once('drain', () => this.proceed())
    else if (this.body.length > 0 || has_much && this.reader.unread_bytes > 0) setImmediate(() => this.proceed())
    else return true
    this.enter('write_ms')
    return false
  }

  /** Sends the end, and drops what comes: closing with something unread is a reset, which can destroy the answer. */
  private end(): void {
    this.reader.clear()
    this.enter('write_ms')
    this.socket.off('data', on_data).end(() => this.enter('linger_ms')).resume()
  }
}

// ── reading: the grammar and the framing ──
// What has arrived goes in; out comes a request, a refusal, or the name of what is waited for. It knows no socket.
// A head is matched once, by one pattern; a body is bytes in one buffer that grows, outside of V8's heap.
// Of what RFC 9112 allows it leaves out transfer codings but chunked, and what chunk extensions and trailers say.

/** What the reader waits for, by the limit that ends the waiting; 'continue' asks for an interim response before. */
type Need = 'idle_ms' | 'head_ms' | 'text_ms' | 'body_ms' | 'continue'
/** Why no more comes: the limit is over, or the client has ended. */
type Ending = 'late' | 'end'
type ReaderServer = Pick<Listener, 'options' | 'bodies'>
type Steps<Result> = Generator<Need, Result, void>

/** A request as `answer` gets it. */
export type Request = Readonly<Pick<Received, 'text' | 'method' | 'src' | 'headers' | 'body' | 'addr' | 'signal'>>

/** A request that was received; or a text that is not HTTP or is refused, whose method and src are ''. */
class Received {
  /** the head, with its empty line; a character for each byte (latin1), its target in origin-form */
  readonly text: string
  /** as it came, because methods are case-sensitive */
  readonly method: string
  /** path and query, whichever form the request-target had (`*` for OPTIONS, `host:port` for CONNECT) */
  readonly src: string
  /** the client sends no other request, or may not */
  readonly close: boolean
  /** the client's address and port */
  addr: Address = NO_ADDRESS
  /** the answer, if it is refused */
  refusal: Content | undefined
  private made_body: Uint8Array<ArrayBuffer> | undefined
  private made_headers: Headers | undefined
  private controller: AbortController | undefined

  constructor(text: string, method = '', src = '', body?: Uint8Array<ArrayBuffer>, close = true) {
    this.text = text
    this.method = method
    this.src = src
    this.made_body = body
    this.close = close
  }

  /** whole; a chunked one put together; its buffer is this request's own */
  get body(): Uint8Array<ArrayBuffer> { return this.made_body ??= new Uint8Array(0) }

  /** the fetch standard's, made when first asked for */
  get headers(): Headers {
    const fields = this.text.matchAll(/\n([^: \n]+):([^\r\n]*)/g)
    return this.made_headers ??= new Headers(Array.from(fields, ([, name = '', value = '']) => [name, copy_of(value)]))
  }

  /**
   * made when first asked for; aborted when the client is gone or the server has stopped, before there is an answer;
   * a client that has closed its side counts as gone after linger_ms (a client that leaves is not noticed while more
   * than 32 KiB of its next requests wait)
   */
  get signal(): AbortSignal { return (this.controller ??= new AbortController()).signal }
  abort(): void { (this.controller ??= new AbortController()).abort() }
}

// request-line = method SP request-target SP HTTP-version CRLF (RFC 9112, 3), then field lines and an empty line
const TARGET       = '[!"$-~]+'
const REQUEST_LINE = raw`${TOKEN} ${TARGET} HTTP/\d\.\d\r\n`
/** The fields that decide where a message ends and what becomes of the connection. */
const FRAMING_NAME = '(?:host|connection|content-length|transfer-encoding|expect)'
  .replace(/[a-z]/g, letter => `[${letter}${letter.toUpperCase()}]`)
const PLAIN_FIELDS = raw`(?:[Cc]onnection: (?:keep-alive|close)\r\n|(?!${FRAMING_NAME}:)${FIELD_LINE})*`
const PLAIN_HOST   = raw`[Hh][Oo][Ss][Tt]: ?[\w\-.]+(?::\d*)?\r\n`
/** A request without a body, for a path, with one Host that is a name or an IPv4 address: it needs no closer look. */
const PLAIN_HEAD   = raw`(?!CONNECT )(${TOKEN}) (?=/)(${TARGET}) HTTP/1\.(\d)\r\n` +
  raw`${PLAIN_FIELDS}${PLAIN_HOST}${PLAIN_FIELDS}\r\n`
const LINE_END     = raw`(?:\n|\r[^])`
const WRONG_LINE   = raw`(?!${FIELD_LINE}|\r\n)[^\r\n]*${LINE_END}`
/** A whole head, which alone ends with an empty line; or one up to its first wrong line. */
const HEAD = new RegExp(raw`^(?:${PLAIN_HEAD}|${REQUEST_LINE}(?:${FIELD_LINE})*(?:\r\n|${WRONG_LINE})|` +
  raw`(?!${REQUEST_LINE})[^\r\n]*${LINE_END})`)
/** A first line that is meant as HTTP: it begins as a request line does, names the protocol, or is empty. */
const MEANT_AS_HTTP = /^(?:[A-Z]+ |[^\r\n]*[\t ]HTTP\/|[\r\n])/
/** A text that may still become a request line, whatever the method. */
const MAY_BE_HTTP = new RegExp(`^(?:${TOKEN}(?: (?:${TARGET}(?: (?:H|HT|HTT|HTTP)?)?)?)?)?$`)
/** What changes nothing when a line, a target or a method goes on with it. */
const REST = { line: /^[^\r\n]*$/, target: new RegExp(`^${TARGET}$`), method: new RegExp(`^${TOKEN}$`) }

// chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF (RFC 9112, 7.1); a size is 2 ** 53 - 1 at most
const CHUNK_LINE = new RegExp(raw`^(?:0*(1?[\da-fA-F]{1,13})(?:[\t ]*;${VALUE})?\r\n|[^\r\n]*${LINE_END})`)
const CHUNK_END  = /^(?:(\r\n)|\r[^]|[^\r])/
const TRAILERS   = new RegExp(raw`^(?:${FIELD_LINE})*(?:(\r\n)|${WRONG_LINE})`)

/** Reads what one connection brings, message by message. @internal */
export class Reader {
  private readonly server: ReaderServer
  /** what has arrived and is not read, with a character for each byte */
  private text = ''
  /** no more comes */
  private ending: Ending | undefined
  /** the message that is read: its steps, its head once it is known to be one, its body so far */
  private steps: Steps<Received | 'idle_ms'> | undefined
  private head = ''
  private body: Buffer<ArrayBuffer> = NO_BYTES
  private body_length = 0
  /** what counts of it; the user may have transferred the buffer, whose length then is 0 */
  private counted_bytes = 0
  private is_first = true

  constructor(server: ReaderServer) { this.server = server }

  get unread_bytes(): number { return this.text.length }
  push(piece: Buffer): void { this.text += piece.toString('latin1') }

  /** Reads on to the next message, which may be refused, or says what is waited for. */
  read(ending?: Ending): Received | Need {
    const { length } = this.text
    this.ending = ending
    try {
      if (!this.steps) {
        if (length === 0) return 'idle_ms'
        const match = HEAD.exec(this.text), request = match && this.plain_request(match)
        if (request) return request
        this.steps = this.read_message(copy_of(match?.[0] ?? ''))
      }
      const { value, done } = this.steps.next()
      if (ending && value === 'body_ms') throw cut_off(ending)
      if (done) this.steps = undefined
      // a slice would keep in memory what is read already
      else if (this.text.length < length) this.text = copy_of(this.text)
      return value
    } catch (refusal) {
      if (!(refusal instanceof Refusal)) throw refusal
      const text = this.head || this.text.slice(0, this.server.options.limits.head_bytes)
      return Object.assign(new Received(text), { refusal: refusal.content })
    }
  }

  /** Lets go of the message that was read; what follows is not the first. */
  release(): void {
    this.server.bodies.bytes -= this.counted_bytes
    this.counted_bytes = 0
    this.body = NO_BYTES
    this.body_length = 0
    this.head = ''
    this.is_first = false
  }

  clear(): void {
    this.release()
    this.text = ''
  }

  private take(length: number): void { this.text = this.text.slice(length) }

  /** The request of a plain head, if that was matched and is within the limits. */
  private plain_request([text, method, target = '', minor]: RegExpExecArray): Received | undefined {
    const { head_bytes, target_bytes } = this.server.options.limits
    if (method === undefined || text.length > head_bytes || target.length > target_bytes) return undefined
    this.take(text.length)
    const close = minor === '0' || /\n[Cc]onnection: close\r/.test(text)
    // a slice that `answer` keeps would keep the piece in memory
    const src = this.server.options.answer ? copy_of(target) : target
    return new Received(text, method, src, undefined, close)
  }

  private *read_message(first_match: string): Steps<Received | 'idle_ms'> {
    const head = this.head = yield* this.read_head(first_match)
    if (!head) return this.take_text()
    const { target_bytes, body_bytes } = this.server.options.limits
    const [method = '', target = '', version = ''] = head.split(/[ \r]/, 3)
    this.take(head.length)
    if (!version.startsWith('HTTP/1.'))
      throw new Refusal('505 HTTP Version Not Supported', `expected HTTP/1.1, got ${version}`)
    if (target.length > target_bytes) throw too_long('414 URI Too Long', 'a request-target', target_bytes)
    const { length, chunked, expects_100, close } = framing_of(head, version === 'HTTP/1.0')
    const { text, src } = in_origin_form(head, method, target)
    if (length > body_bytes) throw too_long('413 Content Too Large', 'a body', body_bytes)
    if (expects_100 && this.text === '') yield 'continue'
    if (chunked) yield* this.read_chunks()
    // it may grow faster than a chunked one: since its length is known, nothing is left over in the end
    else while (!this.take_body(length, length, 8)) yield 'body_ms'
    // the user can see the whole buffer: nothing else is to be in it
    const body = this.body.length > 0 ? this.body.fill(0, this.body_length).subarray(0, this.body_length) : undefined
    return new Received(text, method, copy_of(src), body, close || method === 'CONNECT')
  }

  /** Waits until a head is whole; '' for a text that is not HTTP, and for nothing. */
  private *read_head(first_match: string): Steps<string> {
    const { head_bytes } = this.server.options.limits
    let may_be_empty = true
    for (let match = first_match; ; match = copy_of(HEAD.exec(this.text)?.[0] ?? '')) {
      // one empty line before a request is ignored (RFC 9112, 2.2)
      if (may_be_empty && this.text.startsWith('\r\n')) {
        this.take(2)
        may_be_empty = false
        continue
      }
      const is_over = (match || this.text).length > head_bytes
      if (match.endsWith('\r\n\r\n') && !is_over) return match
      this.text = copy_of(this.text)
      const start = this.text.slice(0, head_bytes)
      const is_http = MEANT_AS_HTTP.test(start), may_be_http = is_http || MAY_BE_HTTP.test(start)
      if (is_over && may_be_http) throw this.too_long_head(start)
      if (match && is_http) throw wrong_head(match)
      const is_meant = this.ending === 'late' ? is_http || /^[A-Z]+$/.test(start) : is_http && start !== '\r'
      if (this.ending && is_meant) throw cut_off(this.ending)
      if (match || is_over || this.ending) return ''
      let rest: RegExp | undefined
      if (is_http) rest = REST.line
      else if (may_be_http && !/ .* /.test(start)) rest = start.includes(' ') ? REST.target : REST.method
      yield* this.wait(!start ? 'idle_ms' : may_be_http ? 'head_ms' : 'text_ms', head_bytes, rest)
    }
  }

  /** Waits for more. While that is but the rest of a line or word that drips, it is not matched again for each byte. */
  private *wait(need: Need, room: number, rest?: RegExp): Steps<void> {
    let seen
    do {
      seen = this.text.length
      yield need
      if (this.ending || seen === 0 || this.text.length > room) return
      // from the last character on, because CR LF may come in two pieces
    } while (rest?.test(this.text.slice(seen - 1)))
  }

  /** All that has arrived, as a text that is not HTTP; an empty line is nothing. */
  private take_text(): Received | 'idle_ms' {
    const { text } = this, is_empty = !/[^\r\n]/.test(text)
    if (!is_empty && !this.is_first) throw bad_request(`expected another request here, got ${shown(text)}`)
    this.clear()
    return is_empty ? 'idle_ms' : new Received(text)
  }

  /** Reads a chunked body (RFC 9112, 7.1). Its trailers are dropped (RFC 9110, 6.5.1). */
  private *read_chunks(): Steps<void> {
    const { head_bytes, body_bytes } = this.server.options.limits
    for (let room = head_bytes; ; ) {
      const [digits, length] = yield* this.take_match(CHUNK_LINE, 'a chunk size, 1fffffffffffff at most', room)
      const end = this.body_length + parseInt(digits, 16)
      if (end > body_bytes) throw too_long('413 Content Too Large', 'a body', body_bytes)
      // what the line has besides: an extension, and zeros before the size
      room -= length - digits.length - 2
      if (digits === '0') return void (yield* this.take_match(TRAILERS, 'field lines after the last chunk', room))
      while (!this.take_body(end, body_bytes, 2)) yield 'body_ms'
      yield* this.take_match(CHUNK_END, 'CR LF after the data of a chunk', 2)
    }
  }

  /** Takes what a pattern matches, once that has arrived: its group, which what is wrong has not, and its length. */
  private *take_match(pattern: RegExp, what: string, room: number): Steps<[group: string, length: number]> {
    for (; ; yield* this.wait('body_ms', room, REST.line)) {
      const [text, group] = pattern.exec(this.text) ?? []
      if ((text ?? this.text).length > room)
        throw new Refusal('431 Request Header Fields Too Large', 'the chunk extensions and trailers are too long')
      if (text === undefined) continue
      if (group === undefined) throw bad_request(`expected ${what}, got ${shown(text)} (RFC 9112, 7.1)`)
      this.take(text.length)
      return [group, text.length]
    }
  }

  /** Moves what has arrived to the body, of which `most` may come; tells whether its first `end` bytes are there. */
  private take_body(end: number, most: number, growth: number): boolean {
    const { bodies, options: { answer, limits } } = this.server, { body, body_length } = this
    const piece = this.text.slice(0, end - body_length), length = body_length + piece.length
    this.take(piece.length)
    this.body_length = length
    // without an answer, nobody asks for it
    if (answer && length > body.length) {
      // to so many times its size, so that bytes are moved seldom
      const size = Math.max(length, Math.min(growth * body.length, most)), added = size - body.length
      if (bodies.bytes + added > limits.all_bodies_bytes)
        throw new Refusal('503 Service Unavailable', 'too many bodies arrive at once', [['Retry-After', '1']])
      bodies.bytes += added
      this.counted_bytes = size
      this.body = Buffer.allocUnsafeSlow(size)
      body.copy(this.body)
    }
    if (answer) this.body.write(piece, body_length, 'latin1')
    return length === end
  }

  private too_long_head(start: string): Refusal {
    const { head_bytes, target_bytes } = this.server.options.limits
    const [line = '', rest] = start.split('\r\n', 2), target = line.split(' ', 2)[1]
    if (target === undefined) return too_long('501 Not Implemented', 'a method', head_bytes)
    if (rest === undefined || target.length > target_bytes)
      return too_long('414 URI Too Long', 'a request-target', target_bytes)
    return too_long('431 Request Header Fields Too Large', 'a head', head_bytes)
  }
}

const too_long = (status: string, what: string, bytes: number): Refusal =>
  new Refusal(status, `${what} may have at most ${bytes} bytes`)

/** A text of its own: one that was cut from a long text keeps all of that in memory. */
const copy_of = (text: string): string => Buffer.from(text, 'latin1').toString('latin1')

/** Says what is wrong with a head, whose last line is the wrong one. */
function wrong_head(head: string): Refusal {
  // the last line keeps its end, which may be what is wrong
  const lines = head.split(/\r\n(?!$)/), line = shown(lines.at(-1) ?? '')
  if (lines.length > 1) return bad_request(`expected a name, a colon, a value and CR LF, got ${line} (RFC 9112, 5)`)
  return bad_request(`expected a method, a request-target, HTTP/1.1 and CR LF, got ${line} (RFC 9112, 3)`)
}

function cut_off(ending: Ending): Refusal {
  if (ending === 'end') return bad_request('expected the rest of the request, got the end of the connection')
  return new Refusal('408 Request Timeout', 'the request did not arrive in time')
}

const FRAMING_FIELD = new RegExp(raw`\r\n(${FRAMING_NAME}):[\t ]*([^\r]*)`, 'g')
/** A list whose only expectation is 100-continue (RFC 9110, 10.1.1); empty elements are ignored (5.6.1). */
const EXPECTATIONS = /^[\t ,]*(?:(100-continue)[\t ]*(?:,[\t ,]*|$))*$/i
/** Transfer codings that end with chunked (RFC 9112, 6.1), with a group for those before it. */
const CODINGS = /^((?:[\t ]*(?!chunked[\t ;,])[^\t ,][^,]*,)+)?[\t ]*chunked[\t ]*$/i

/** What a head says of the body (RFC 9112, 6.3) and of the connection (9.3). */
function framing_of(head: string, is_1_0: boolean) {
  const fields: Record<string, string[]> = {}
  for (const [, name = '', value = ''] of head.matchAll(FRAMING_FIELD)) (fields[name.toLowerCase()] ??= []).push(value)
  // a field that appears twice becomes a list
  const [host, length, codings, expect = '', connection = ''] =
    ['host', 'content-length', 'transfer-encoding', 'expect', 'connection'].map(name => fields[name]?.join())
  if (host === undefined ? !is_1_0 : !is_host(host))
    throw bad_request(`expected a Host with a name or an address, got ${shown(host ?? 'none')} (RFC 9112, 3.2)`)
  if (length !== undefined && !(/^\d+[\t ]*$/.test(length) && Number.isSafeInteger(Number(length))))
    throw bad_request(`Content-Length must be a number up to 2 ** 53 - 1, got ${shown(length)} (RFC 9110, 8.6)`)
  // two readers, each trusting one of them, would see different requests
  if (codings !== undefined && (length !== undefined || is_1_0))
    throw bad_request('Transfer-Encoding is not allowed with Content-Length or in HTTP/1.0 (RFC 9112, 6.1)')
  const coded = CODINGS.exec(codings ?? 'chunked')
  if (!coded) throw bad_request(`the last transfer coding, and no other, must be chunked, got ${shown(codings ?? '')}`)
  if (coded[1]) throw new Refusal('501 Not Implemented', 'chunked is the only transfer coding supported here')
  const expected = EXPECTATIONS.exec(expect)
  if (!expected) throw new Refusal('417 Expectation Failed', `expected 100-continue at most, got ${shown(expect)}`)
  const bytes = Number(length ?? 0), chunked = codings !== undefined, has_body = bytes > 0 || chunked
  const close = is_1_0 || /(?:^|,)[\t ]*close[\t ]*(?:,|$)/i.test(connection)
  return { length: bytes, chunked, expects_100: has_body && expected[1] !== undefined && !is_1_0, close }
}

// uri-host [ ":" port ] (RFC 9110, 7.2), but without the comma, which would be a list
const REG_NAME   = raw`(?:[\w\-.~!$&'()*+;=]|%[\da-fA-F]{2})+`
const IP_LITERAL = raw`\[(?:v[\da-fA-F]+\.[\w\-.~!$&'()*+;=:]+|([\da-fA-F:.]+))\]`
const HOST       = new RegExp(raw`^(?:${REG_NAME}|${IP_LITERAL})(:\d*)?[\t ]*$`)

function is_host(text: string): boolean {
  const match = HOST.exec(text)
  return match !== null && (match[1] === undefined || isIPv6(match[1]))
}

/** A head in origin-form, and its path: in absolute-form the host of the target is what counts (RFC 9112, 3.2.2). */
function in_origin_form(head: string, method: string, target: string): { text: string, src: string } {
  if (method === 'CONNECT' && !(is_host(target) && Number(/:(\d+)$/.exec(target)?.[1]) < 65_536))
    throw bad_request(`expected a host and a port, got ${shown(target)} (RFC 9112, 3.2.3)`)
  const has_own_form = method === 'CONNECT' || method === 'OPTIONS' && target === '*'
  if (has_own_form || target.startsWith('/')) return { text: head, src: target }
  const [, s, host = '', path = ''] = /^http(s?):\/\/([^/?]*)(.*)$/i.exec(target) ?? []
  if (!is_host(host)) throw bad_request(`expected a path, or an http address, got ${shown(target)} (RFC 9112, 3.2)`)
  if (s) throw new Refusal('421 Misdirected Request', 'https is not served on this connection')
  const src = path.startsWith('/') ? path : `/${path}`
  const without_host = head.replace(target, () => src).replace(/\r\nhost:[^\r]*/i, '')
  return { text: without_host.replace('\r\n', () => `\r\nHost: ${host}\r\n`), src }
}

const shown = (text: string): string => inspect(text.length > 80 ? `${text.slice(0, 80)}…` : text)

// ── answers: refusals, the user's answer, other methods, the date ──
// A refusal is thrown, carries its content, and is caught in one place, by the reader. The connection closes after it.

class Refusal extends Error {
  readonly content: Content

  constructor(status: string, why: string, fields?: [string, string][]) {
    super(why)
    this.content = text_answer(status, fields, `${status}: ${why}`)
  }
}

const bad_request = (why: string): Refusal => new Refusal('400 Bad Request', why)

function text_answer(status: string, fields: [string, string][] = [], text = status): Content {
  return http`HTTP/1.1 ${status}
${fields}
Content-Type: text/plain; charset=utf-8

${text}
`
}

const SERVER_ERROR    = text_answer('500 Internal Server Error')
const NOT_IMPLEMENTED = text_answer('501 Not Implemented')
const NOT_ALLOWED     = text_answer('405 Method Not Allowed', [['Allow', 'GET, HEAD, OPTIONS']])
const OPTIONS_ANSWER  = http`HTTP/1.1 204 No Content\nAllow: GET, HEAD, OPTIONS`

/** The article's answer to a method that it does not deal with (RFC 9110, 9.1). */
function other_method(method: string | undefined): Content {
  if (method === 'OPTIONS') return OPTIONS_ANSWER
  return /^(?:POST|PUT|PATCH|DELETE|CONNECT|TRACE)$/.test(method ?? '') ? NOT_ALLOWED : NOT_IMPLEMENTED
}

/** What the user's answer gives, or else the article's content; 500 if it fails. */
function ask(answer: Answer | undefined, request: Request | undefined, content: Reply) {
  if (!answer || !request) return content
  try {
    const own: unknown = answer(request)
    if (own === undefined || is_content(own)) return own_content(own, request, content)
    // a promise of any kind, of another realm too; or what is wrong
    const settled = async (): Promise<Reply> => own_content(await own, request, content)
    return settled().catch(error => failed(request, error))
  } catch (error) {
    return failed(request, error)
  }
}

function own_content(own: unknown, request: Request, content: Reply): Reply {
  if (own === undefined) return content
  if (!is_content(own) || own.status < 200) {
    const got = is_content(own) ? own.status : summary(own)
    return failed(request, `answer must return undefined or a Content made by http, of status 200 or more, got ${got}`)
  }
  if (request.method !== 'CONNECT' || own.status >= 300) return own
  // what follows a 2xx to CONNECT is no body, whatever its length says (RFC 9110, 9.3.6)
  const head = own.head.replace(/Content-Length: \d+\r\n$/, '')
  return { ...own, head, body: NO_BYTES }
}

const is_content = (value: unknown): value is Content => value instanceof http

function failed({ method, src }: Request, error: unknown): Content {
  console.error(on_one_line(`${method} ${src} failed: ${typeof error === 'string' ? error : summary(error)}`))
  return SERVER_ERROR
}

/** An error with the first place in its stack that is not Node's; or any other value. */
function summary(value: unknown): string {
  try {
    if (!(value instanceof Error)) return inspect(value, { breakLength: Infinity })
    const [, place] = /\n +at (?!.*\bnode:)(?:.*[/\\(])?([^/\\()\n]+:\d+:\d+)\)?$/m.exec(value.stack ?? '') ?? []
    const cause = value.cause instanceof Error ? `, because of ${value.cause.message}` : ''
    return `${value.name}: ${value.message}${cause}${place ? ` (at ${place})` : ''}`
  } catch {
    return 'a value that cannot be shown'
  }
}

/** Date (RFC 9110, 6.6.1) and the text of the last usual response, kept for a second: it is often sent again. */
let second = 0, date = '', latest: Content | undefined, latest_text = ''

function response_text(content: Content, is_last: boolean, body: Buffer): string {
  const now = Math.floor(Date.now() / 1000), is_usual = body === content.body && !is_last
  if (now !== second) [second, date, latest] = [now, new Date(now * 1000).toUTCString(), undefined]
  if (content === latest && is_usual) return latest_text
  const close = is_last ? 'Connection: close\r\n' : ''
  const text = `${content.head}Date: ${date}\r\n${close}\r\n${body.toString('latin1')}`
  if (is_usual) [latest, latest_text] = [content, text]
  return text
}

// ── log text: made safe for a terminal ──
// What comes over the wire can neither move the cursor nor forge a line. It decodes UTF-8 and no other encoding.

/** A log that gets text made safe, and whose errors are thrown where they cannot end the loop. */
const safe_log = (log: Log): Log => (what, value) => {
  try {
    log(what, typeof value === 'string' ? printable(value) : value)
  } catch (error) {
    process.nextTick(() => { throw error })
  }
}

/** A message, with its lines after the first indented; decoded as UTF-8 if it is, or else as latin1. */
function printable(text: string): string {
  const bytes = Buffer.from(text, 'latin1'), decoded = isUtf8(bytes) ? bytes.toString() : text
  // with backslashes as \x5c, so that no message looks as if it had been escaped here
  return decoded.trimEnd().replaceAll('\\', '\\x5c').split(/\r?\n/).map(on_one_line).join('\n  ')
}

/** Text on one line, with its control characters, also those for the direction of text, as \xHH. */
function on_one_line(text: string): string {
  return text.replace(/[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g,
    char => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`)
}

// ── command line ──
// It starts `serve` with what the arguments say, and stops it at a signal. It has no options file and no daemon mode.

/** How much of the log may wait for its reader, and how long the end waits for that. */
const MAX_LOG_BYTES = 1_048_576
const LAST_LOG_MS = 500

const HELP = `[port] [--host address] [--quiet]

  port     the port to listen on, also as --port or -p; 8000 if not given, 0 for any that is free
  --host   the address to listen on; every address of this computer if not given
  --quiet  print no requests
  --help   print this text`

function given_arguments() {
  const { values: { port: named, ...others }, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      port: { type: 'string', short: 'p', multiple: true, default: [] },
      host: { type: 'string', default: '' },
      quiet: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  const ports = [...named, ...positionals], port = ports.length ? ports.join(' ') : '8000'
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65_535)
    throw new Error(`the port must be one number from 0 to 65535, got ${port}`)
  return { ...others, port: Number(port) }
}

function fail(error: unknown, { port, host }: { port?: number, host?: string } = {}): never {
  const { code = '', message = String(error) } = error as NodeJS.ErrnoException
  const not_here = `${host} is not an address of this computer: leave --host out to listen on every address`
  const why: Record<string, string> = {
    EADDRINUSE: `port ${port} is in use: stop the program that uses it, or take another port, as in --port 8080`,
    EACCES: `port ${port} needs special rights: take one from 1024 up`,
    ENOTFOUND: not_here, EADDRNOTAVAIL: not_here,
  }
  const is_usage = code.startsWith('ERR_PARSE_ARGS')
  console.error(on_one_line(why[code] ?? (is_usage ? `${message.split(/\.[ \n]/, 1)[0]}; see --help` : message)))
  process.exit(1)
}

/** Prints what is logged; leaves lines out while nobody reads them, so that they do not fill the memory. */
function print_to_terminal(paint: (text: string) => string): Log {
  let left_out = 0
  return (what, value) => {
    if (process.stdout.writableLength > MAX_LOG_BYTES) return void left_out++
    if (left_out > 0) console.log(`(${left_out} lines left out, because nobody read them)`)
    left_out = 0
    console.log(paint(what), value)
  }
}

/** Where to find the server: an address for this computer and, if it listens on every address, one for the others. */
function print_addresses({ address, family, port }: AddressInfo, host: string, paint: (text: string) => string): void {
  const is_every = ['', '0.0.0.0', '::'].includes(host)
  const name = is_every ? '127.0.0.1' : family === 'IPv6' ? `[${address}]` : address
  console.log('Open', paint(`http://${name}:${port}/`))
  // Deno asks its user before it tells the addresses
  if (!is_every || 'Deno' in globalThis) return
  const others = Object.values(networkInterfaces()).flat().find(other => other?.family === 'IPv4' && !other.internal)
  if (others) console.log('From another computer', paint(`http://${others.address}:${port}/`))
}

async function main(): Promise<void> {
  const given = given_arguments(), { port, host, quiet, help } = given
  if (help) return console.log(`Usage: ${basename(process.argv[1] ?? '')} ${HELP}`)
  // Deno asks its user before it tells the environment, which says whether there are colours
  const colours = !('Deno' in globalThis) && process.stdout.isTTY && process.stdout.hasColors()
  const paint = (colour: 'cyan' | 'green') => (text: string): string => colours ? styleText(colour, text) : text
  const stop = new AbortController()
  const s = serve({ port, host, signal: stop.signal, log: quiet ? undefined : print_to_terminal(paint('cyan')) })
  s.on('listening', () => print_addresses(s.address() as AddressInfo, host, paint('green')))
  s.on('error', error => s.listening ? console.error(error.message) : fail(error, given))
  // a closed stdout must neither end the server nor keep it running
  process.stdout.on('error', () => {})
  s.on('close', () => setTimeout(() => process.exit(), LAST_LOG_MS).unref())
  // a second signal finds no handler, and ends the program at once
  const stopping = (): void => {
    process.off('SIGINT', stopping).off('SIGTERM', stopping)
    stop.abort()
  }
  process.on('SIGINT', stopping).on('SIGTERM', stopping)
}

// run, not imported; Node 20 has no import.meta.main, and npm's commands are links
const is_program = (path: string): boolean => existsSync(path) && realpathSync(path) === fileURLToPath(import.meta.url)
if (import.meta.main ?? is_program(process.argv[1] ?? '')) main().catch(fail)
