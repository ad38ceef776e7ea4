#!/usr/bin/env node
/**
 * The client of Vamei's article "Python 网络 01 原始 Python 服务器", on nothing but the socket.
 * Part 1 is the article, in its order; Part 2 is what TCP and HTTP ask for besides.
 *
 *     npx tsx client.ts 127.0.0.1                  run it, with the server's address
 *     import { send } from 'wow-server/client'     or use it as a module
 *
 * Names in snake_case are the article's and ours, names in camelCase are Node's.
 *
 * @module
 */
import { isUtf8 } from 'node:buffer'
import { existsSync, realpathSync } from 'node:fs'
import { isIPv6, Socket } from 'node:net'
import { basename } from 'node:path'
import { pathToFileURL } from 'node:url'
import { inspect, parseArgs } from 'node:util'

// ───────────────────────────── Part 1: the article ─────────────────────────────

/**
 * Sends a request and receives the whole reply. The reply ends where its head says (RFC 9112, 6.3), or else where the
 * server closes the connection: an HTTP request should ask for `Connection: close`.
 *
 * @example
 * const reply = await send('127.0.0.1', 'GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nConnection: close\r\n\r\n')
 * console.log(String(reply)) // HTTP/1.1 200 OK …
 *
 * @param host 'name', 'name:port', '::1' or '[::1]:port'; the port is 8000 if none is given
 * @param request is sent as it stands, text as UTF-8; 'can you hear me?' if none is given
 * @returns the reply as it came, a Buffer: interim heads (1xx), the head, and the body, a chunked one still in chunks
 * @throws Error that says why there is no whole reply; its `cause` is the system's error or the signal's reason, if any
 */
export async function send(
  host: string, request?: string | Uint8Array, options: SendOptions = {},
): Promise<Uint8Array> {
  if (typeof host !== 'string') throw new TypeError(`a host must be text such as 127.0.0.1:8000, got ${inspect(host)}`)
  if (!(typeof (request ?? '') === 'string' || request instanceof Uint8Array))
    throw new TypeError(`a request must be text or bytes, got ${inspect(request)}`)
  return client(host, request, options, () => {})
}

/** The article's program; `print` is the command line's. */
async function client(host: string, request: Request, options: SendOptions, print: Print): Promise<Uint8Array> {
  // Address
  const HOST = address_of(host).name
  const PORT = address_of(host).port ?? 8000

  request ??= 'can you hear me?'

  // configure socket
  const s = new Connection(options)
  await s.connect(HOST, PORT)

  // send message
  s.sendall(request)
  // receive message
  const reply = await s.recv()
  print('reply is:', reply)
  // close connection
  s.close()

  return reply.bytes
}

// ──────────────────── Part 2: what TCP and HTTP ask for besides ────────────────────

// ───────────────────────────── the connection ─────────────────────────────
// The article's socket, with limits. A failure closes it and rejects the step that is waiting.
// It receives one reply: it is not kept for another request, and no request is sent twice.

/** What ends an exchange early. */
export type SendOptions = {
  /** Aborting it ends the exchange. */
  signal?: AbortSignal | undefined
  /** The longest silence on the connection (milliseconds); 30 s by default, as long as servers work on an answer. */
  silent_ms?: number | undefined
  /** How long the whole exchange may take (milliseconds); a minute by default, so that a trickle ends too. */
  total_ms?: number | undefined
  /** How long the reply may be (bytes); 64 MiB by default, which any computer can hold. */
  max_bytes?: number | undefined
}

type Request = string | Uint8Array | undefined
type Print = (label: string, reply: Reply) => void

/** The longest time that Node's timers can wait (milliseconds); a longer time, such as Infinity, is cut to this. */
const MAX_TIMER_MS = 2_147_483_647

class Connection {
  private readonly socket = new Socket()
  private readonly options: SendOptions
  private peer = ''
  private method = ''
  private error: Error | undefined
  private reject = (_error: Error): void => {}
  private release = (): void => {}

  constructor(options: SendOptions) {
    for (const name of ['silent_ms', 'total_ms', 'max_bytes'] as const) {
      const value = options[name]
      if (value !== undefined && !(typeof value === 'number' && value > 0))
        throw new RangeError(`${name} must be a number above 0, got ${value}`)
    }
    const { signal } = options
    if (signal !== undefined && typeof signal?.addEventListener !== 'function')
      throw new TypeError(`signal must be an AbortSignal, got ${inspect(signal)}`)
    this.options = options
  }

  connect(host: string, port: number): Promise<void> {
    const { socket, options: { signal, silent_ms = 30_000, total_ms = 60_000 } } = this
    this.peer = authority_of(host, port)
    const on_silence = (): void => this.fail(`nothing came for ${silent_ms / 1000} s: ${socket.bytesRead
      ? `the reply stopped after ${socket.bytesRead} bytes`
      : 'is the address right, and the request whole (a head in HTTP ends with an empty line)?'}`)
    const on_deadline = (): void =>
      this.fail(`expected the whole reply within ${total_ms / 1000} s, got ${socket.bytesRead} bytes of it`)
    const on_abort = (): void => this.fail('aborted', signal?.reason)
    socket.on('error', (error: NodeJS.ErrnoException) => this.fail(reason_of(error), error))
    socket.setTimeout(Math.min(silent_ms, MAX_TIMER_MS), on_silence)
    const timer = setTimeout(on_deadline, Math.min(total_ms, MAX_TIMER_MS))
    signal?.addEventListener('abort', on_abort)
    this.release = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', on_abort)
    }
    if (signal?.aborted) on_abort()
    return this.wait(resolve => socket.connect(port, host, resolve))
  }

  /** Does not wait until all is sent: a server may answer before. */
  sendall(request: string | Uint8Array): void {
    const message = Buffer.from(request)
    // a server ignores an empty line before it (RFC 9112, 2.2)
    this.method = /^(?:\r\n)?(\w+) /.exec(message.toString('latin1', 0, 10))?.[1] ?? ''
    this.socket.write(message)
  }

  recv(): Promise<Reply> {
    const { max_bytes = 67_108_864 } = this.options
    const reading = new Reader(max_bytes).read_reply(this.method)
    return this.wait(resolve => {
      const read = (piece?: Buffer): void => {
        try {
          const { done, value } = reading.next(piece)
          if (done) resolve(value)
        } catch (error) {
          this.fail(error instanceof Error ? error.message : String(error))
        }
      }
      read()
      this.socket.on('data', read).on('end', read)
    })
  }

  close(): void {
    this.release()
    this.socket.destroy()
  }

  private wait<T>(start: (resolve: (value: T) => void) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      this.reject = reject
      if (this.error) reject(this.error)
      else start(resolve)
    })
  }

  private fail(message: string, cause?: unknown): void {
    this.error ??= new Error(`${this.peer}: ${message}`, cause === undefined ? {} : { cause })
    this.close()
    this.reject(this.error)
  }
}

// ───────────────────────────── reading a reply ─────────────────────────────
// Where a reply ends (RFC 9112, 6.3). It knows no socket: a generator yields for each piece (undefined once the server
// has closed), returns the whole reply, or throws what is wrong with it. A length that could be read in two ways is an
// error. It knows no transfer coding but chunked, and leaves the chunks in place.

type Reply = { bytes: Buffer, body_start: number, chunked: boolean, type: string }
/** Field names in lower case; the values of one name are joined by commas (RFC 9110, 5.3). */
type Head = { version: string, status: number, fields: Map<string, string> }
type Reading<T> = Generator<void, T, Buffer | undefined>

/** The most bytes that a head, a chunk's first line or the trailers may have: four times what our server takes. */
const MAX_HEAD_BYTES = 65_536

// HTTP-version SP status-code SP [ reason-phrase ]; the last space may be missing, and the article's version is 1.x
const STATUS_LINE = /^HTTP\/(1\.[\dx]) ([1-5]\d\d)(?: [^\0\r\n]*)?\r?\n$/
// field-name ":" OWS field-value OWS: a space before the name (obs-fold) or the colon is an error
const FIELD_LINE = /^([!#$%&'*+.^_`|~\w-]+):([^\0\r\n]*)\r?\n$/
// chunk-size [ chunk-ext ] CRLF
const CHUNK_LINE = /^([\dA-Fa-f]+)(?:[\t ]*;[^\0\r\n]*)?\r\n$/

class Reader {
  private readonly max_bytes: number
  /** Doubles when it is full, so that a reply in pieces of one byte takes no more memory than another. */
  private buffer = Buffer.alloc(0)
  /** What has arrived. */
  private bytes = this.buffer
  private at = 0
  private ended = false

  constructor(max_bytes: number) {
    this.max_bytes = max_bytes
  }

  *read_reply(method: string): Reading<Reply> {
    if (!(yield* this.is_http())) {
      yield* this.read_to_close()
      return { bytes: this.reply(), body_start: 0, chunked: false, type: '' }
    }
    let head = yield* this.read_head()
    // interim heads come before the one that counts; what follows 101 is not HTTP (RFC 9110, 15.2)
    while (head.status < 200 && head.status !== 101) head = yield* this.read_head()
    const body_start = this.at, { fields } = head
    yield* this.read_body(head, method)
    const chunked = this.at > body_start && fields.has('transfer-encoding')
    const type = fields.get('content-type')?.split(/[\t ;]/, 1)[0] ?? ''
    return { bytes: this.reply(), body_start, chunked, type }
  }

  /** What has been read, in a buffer of its own: the user can see the whole buffer. */
  private reply(): Buffer { return Buffer.from(new Uint8Array(this.bytes.subarray(0, this.at)).buffer) }

  /** What is not HTTP is bare text, such as the article's `Yes`. */
  private *is_http(): Reading<boolean> {
    for (;;) {
      const start = this.bytes.toString('latin1', 0, 5)
      if (start.length === 5 || !'HTTP/'.startsWith(start)) return start === 'HTTP/'
      if (this.ended && !start) throw new Error('the connection was closed without a reply')
      yield* this.receive(`after ${start}`)
    }
  }

  private *read_head(): Reading<Head> {
    const limit = this.at + MAX_HEAD_BYTES
    const line = yield* this.read_line('the head', limit)
    const [, version, status] = STATUS_LINE.exec(line) ?? []
    if (!version) throw unexpected('a status line such as HTTP/1.1 200 OK', line)
    return { version, status: Number(status), fields: yield* this.read_fields('the head', limit) }
  }

  private *read_fields(part: string, limit: number): Reading<Map<string, string>> {
    const fields = new Map<string, string>()
    for (;;) {
      const line = yield* this.read_line(part, limit)
      if (line === '\r\n' || line === '\n') return fields
      const [, name, value = ''] = FIELD_LINE.exec(line) ?? []
      if (!name) throw unexpected('a field (Name: value)', line)
      const key = name.toLowerCase(), list = fields.get(key), item = value.replace(/^[\t ]+/, '')
      fields.set(key, list === undefined ? item : `${list}, ${item}`)
    }
  }

  /** Returns a line with its end, which may be LF alone (RFC 9112, 2.2), as in the article. */
  private *read_line(part: string, limit: number): Reading<string> {
    let end = this.bytes.indexOf('\n', this.at)
    while (end < 0 && this.bytes.length < limit) {
      const searched = this.bytes.length
      yield* this.receive(`in ${part}`)
      end = this.bytes.indexOf('\n', searched)
    }
    if (end < 0 || end >= limit) throw new Error(`expected ${part} in at most ${MAX_HEAD_BYTES} bytes, got more`)
    const line = this.bytes.toString('latin1', this.at, end + 1)
    this.at = end + 1
    return line
  }

  /** In the order of RFC 9112, 6.3. Two fields of one name have become a list, which is refused. */
  private *read_body({ version, status, fields }: Head, method: string): Reading<void> {
    const is_tunnel = method === 'CONNECT' && status >= 200 && status < 300
    const has_no_body = method === 'HEAD' || is_tunnel || [101, 204, 304].includes(status)
    if (has_no_body) return
    const coding = fields.get('transfer-encoding'), length = fields.get('content-length')
    if (coding !== undefined) {
      if (length !== undefined) throw unexpected('Transfer-Encoding or Content-Length', 'both')
      if (version === '1.0') throw unexpected('no Transfer-Encoding in HTTP/1.0', coding)
      if (!/^chunked[\t ]*$/i.test(coding)) throw unexpected('chunked alone as Transfer-Encoding', coding)
      return yield* this.read_chunks()
    }
    if (length === undefined) return yield* this.read_to_close()
    if (!/^\d+[\t ]*$/.test(length)) throw unexpected('one number as Content-Length', length)
    yield* this.read_bytes(Number(length), 'the body')
  }

  /** To the end of the trailers (RFC 9112, 7.1). */
  private *read_chunks(): Reading<void> {
    for (;;) {
      const line = yield* this.read_line('a chunk size', this.at + MAX_HEAD_BYTES)
      const digits = CHUNK_LINE.exec(line)?.[1]
      if (!digits) throw unexpected('a chunk size in hexadecimal digits, then CRLF', line)
      const size = parseInt(digits, 16)
      if (size === 0) break
      yield* this.read_bytes(size, 'a chunk')
      yield* this.read_bytes(2, 'the CRLF after a chunk')
      const crlf = this.bytes.toString('latin1', this.at - 2, this.at)
      if (crlf !== '\r\n') throw unexpected('CRLF after a chunk', crlf)
    }
    yield* this.read_fields('the trailers', this.at + MAX_HEAD_BYTES)
  }

  private *read_bytes(length: number, part: string): Reading<void> {
    const end = this.at + length
    this.check_length(end)
    while (this.bytes.length < end) {
      yield* this.receive(`after ${this.bytes.length - this.at} of ${length} bytes of ${part}`)
    }
    this.at = end
  }

  private *read_to_close(): Reading<void> {
    while (!this.ended) yield* this.receive('')
    this.at = this.bytes.length
  }

  /** Takes the next piece; `place` is where the reply was cut if there is none. */
  private *receive(place: string): Reading<void> {
    if (this.ended) throw new Error(`the reply was cut short ${place}`)
    const piece = yield
    this.ended = !piece
    if (!piece) return
    const { length } = this.bytes, end = length + piece.length
    if (end > this.buffer.length) {
      this.buffer = Buffer.allocUnsafe(2 * end)
      this.bytes.copy(this.buffer)
    }
    piece.copy(this.buffer, length)
    this.bytes = this.buffer.subarray(0, end)
    this.check_length(end)
  }

  private check_length(end: number): void {
    if (end > this.max_bytes) throw new Error(`expected a reply of at most ${this.max_bytes} bytes, got more`)
  }
}

// ───────────────────────────── the address ─────────────────────────────
// A name or an IP address, with or without a port. It takes no URL, and does not look up whether the host exists.

function address_of(host: string): { name: string, port: number | undefined } {
  const address = isIPv6(host) ? `[${host}]` : host
  const [, ipv6 = '', name = ipv6, digits] = /^(?:\[([^\]]*)\]|([\w.-]+))(?::(\d+))?$/.exec(address) ?? []
  const is_address = ipv6 ? isIPv6(ipv6) : name
  if (!is_address) throw unexpected('a name or an IP address, as in 127.0.0.1:8000 or [::1]:8000', host)
  if (!digits) return { name, port: undefined }
  const port = Number(digits)
  if (port < 1 || port > 65_535) throw unexpected('a port from 1 to 65535', host)
  return { name, port }
}

/** The address as the Host field has it (RFC 9112, 3.2). */
function authority_of(host: string, port: number): string {
  // the zone of a link-local address means nothing to another computer (RFC 4007, 11.2)
  const name = isIPv6(host) ? `[${host.replace(/%.*/, '')}]` : host
  return port === 80 ? name : `${name}:${port}`
}

// ───────────────────────────── errors ─────────────────────────────
// One sentence each: what was expected and what came, or what the system's error means and what to do.
// Codes that are not listed keep the system's own words.

const REASONS: Record<string, string> = {
  ENOTFOUND:    'no such host: check the name, or give the address',
  EAI_AGAIN:    'the name cannot be looked up: check the network, or give the address',
  EHOSTUNREACH: 'that host cannot be reached: check the address and the network',
  ENETUNREACH:  'that host cannot be reached: check the address and the network',
  ETIMEDOUT:    'that host does not answer: check the address and the network',
  ECONNRESET:   'the connection was reset before the reply was whole: try again',
  EPIPE:        'the connection was closed before the request was whole: try again',
}

function reason_of({ code = '', message }: NodeJS.ErrnoException): string {
  if (code !== 'ECONNREFUSED') return REASONS[code] ?? message
  const is_source = import.meta.url?.endsWith('/client.ts')
  const server = is_source ? 'npx tsx server.ts' : 'npx wow-server'
  return `connection refused: is the server running? ${server} starts it`
}

function unexpected(expected: string, got: string): Error {
  const text = got.replace(/\r?\n$/, ''), start = escaped(text.slice(0, 60))
  return new Error(`expected ${expected}, got "${start}${text.length > 60 ? '…' : ''}"`)
}

// ───────────────────────────── showing a reply ─────────────────────────────
// Text is printed with its control characters escaped, so that no server can write to your terminal as it likes. A body
// that is not text is only counted. It undoes no content coding, and takes all text for UTF-8.

function head_of({ bytes, body_start }: Reply): string {
  return bytes.toString('utf8', 0, body_start)
}

/** The body, a chunked one without its chunks (RFC 9112, 7.1.3), which the reading has checked. */
function body_of({ bytes, body_start, chunked }: Reply): Buffer {
  const body = bytes.subarray(body_start)
  if (!chunked) return body
  const data = Buffer.alloc(body.length)
  let length = 0
  for (let at = 0, size = -1; size !== 0; at += size + 2) {
    const line_end = body.indexOf('\n', at) + 1
    size = parseInt(body.toString('latin1', at, line_end), 16)
    at = line_end
    length += body.copy(data, length, at, at + size)
  }
  return data.subarray(0, length)
}

/** The reply as text if its body is text (RFC 9110, 8.3). */
function text_of(reply: Reply): string {
  const head = head_of(reply), body = body_of(reply), type = reply.type || 'no type'
  const is_text_type = /^text\/|\b(?:json|xml|javascript|yaml|x-www-form-urlencoded)\b/i.test(type)
  const is_text = reply.type ? is_text_type : isUtf8(body) && !body.includes(0)
  if (is_text || !body.length) return head + String(body)
  return `${head}(${body.length} bytes of ${type}: a GET with > FILE after it keeps them)`
}

function printable(text: string): string {
  return escaped(text.trimEnd().replaceAll('\r\n', '\n'), '\n')
}

/** Control characters, except the one to keep, also those for the direction of text, and the backslash as \xHH. */
function escaped(text: string, kept = ''): string {
  const hex = (character: string): string => '\\x' + character.charCodeAt(0).toString(16).padStart(2, '0')
  return text.replace(/[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\\]/g,
    character => character === kept ? kept : hex(character))
}

// ───────────────────────────── the command line ─────────────────────────────
// One request from the command line, and its reply printed. Whatever fails is one line on stderr and exit 1.

async function main(): Promise<void> {
  process.stdout.on('error', fail)
  try {
    const { host, request, help } = arguments_of(process.argv.slice(2))
    const is_copy = request?.startsWith('GET ') && !process.stdout.isTTY
    if (help) console.log(help_text())
    else await client(host, request, {}, is_copy ? copy : show)
  } catch (error) {
    fail(error instanceof Error ? error : new Error(String(error)))
  }
}

function show(label: string, reply: Reply): void {
  console.log(label, printable(text_of(reply)))
}

/** Writes the body to stdout as it is, and the head to stderr. */
function copy(_label: string, reply: Reply): void {
  if (reply.body_start) console.error(printable(head_of(reply)))
  process.stdout.write(body_of(reply))
}

/** Ends the program with one line that says what is wrong. */
function fail({ code, message }: NodeJS.ErrnoException): void {
  // a reader that has seen enough (| head) is not an error
  if (code === 'EPIPE') return
  const is_usage = code?.startsWith('ERR_PARSE_ARGS')
  const line = is_usage ? `${message.split(/\.[ \n]/, 1)[0]}; see --help` : message
  console.error(line.replace(/[\0-\x1f\x7f-\x9f]/g, ' '))
  process.exitCode = 1
}

function arguments_of(args: string[]): { host: string, request: string | undefined, help: boolean } {
  const options = { help: { type: 'boolean', default: false } } as const
  const { values: { help }, positionals } = parseArgs({ args, options, allowPositionals: true })
  const [host = '', request, ...others] = positionals
  if (!host && !help) throw new Error('expected the address of a server, as in 127.0.0.1; see --help')
  if (others.length) throw unexpected('one request (in quotes, see --help)', [request, ...others].join(' '))
  if (help || !request?.startsWith('/')) return { host, request, help }
  const { name, port = 8000 } = address_of(host)
  // what cannot stand in a request target is percent-encoded (RFC 9112, 3.2)
  const target = request.replace(/[^!"$-~]/gu, encodeURIComponent)
  const head = `GET ${target} HTTP/1.1\r\nHost: ${authority_of(name, port)}\r\nConnection: close\r\n\r\n`
  return { host, request: head, help }
}

function help_text(): string {
  // client.ts, or wow-client where it is installed
  const name = basename(process.argv[1] ?? '')
  return `Usage: ${name} HOST[:PORT] [REQUEST]

  HOST      the server's name or address; with a port, an IPv6 address stands in brackets
  PORT      8000 if not given
  REQUEST   is sent unchanged; can you hear me? if not given
            one that begins with / is short for a GET of that path
  --help    this text

The body of a GET is written to a file or pipe unchanged, without the head:
  ${name} 127.0.0.1 /test.jpg > copy.jpg`
}

/** Whether this file is the program that runs; npm's commands are links. */
function is_program(path: string): boolean {
  return existsSync(path) && pathToFileURL(realpathSync(path)).href === import.meta.url
}

// run, not imported (Node 20 has no import.meta.main)
if (import.meta.main ?? is_program(process.argv[1] ?? '')) main()
