#!/usr/bin/env node
/**
 * The web server of Vamei's article "Python 网络 01 原始 Python 服务器", on nothing but the socket.
 * Part 1 is the article, in its order; part 2 is what TCP and HTTP ask besides.
 *
 *     npx tsx server.ts                            run it, then open http://127.0.0.1:8000/
 *     import { serve, http } from 'wow-server'     or use it as a module
 *
 * @module
 */
import { closeSync, existsSync, openSync, readFileSync, realpathSync } from 'node:fs'
import { createServer, isIPv6, type AddressInfo, type Server, type Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { inspect, parseArgs, styleText } from 'node:util'

// ───────────────────────────── Part 1: the article ─────────────────────────────

// Address
/** The address to listen on; '' is every address of this computer. */
export const HOST = ''
/** The port to listen on. */
export const PORT = 8000

/** The answer to a message that is not HTTP (the article's section 2). */
export const reply = 'Yes'

// Prepare HTTP response
/** The article's page. */
export const text_content = http`HTTP/1.1 200 OK
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
const f = openSync(new URL('test.jpg', import.meta.url), 'r')
/** The article's picture. */
export const pic_content = http`HTTP/1.1 200 OK
Content-Type: image/jpeg

${readFileSync(f)}`
closeSync(f)

/**
 * Starts the server of the article's section 3. Each connection is served on its own, so none waits for another.
 * @returns the `net.Server`, about to listen: 'listening' and 'error' (port in use …) are its events
 * @throws TypeError or RangeError for a limit or a port that is none
 */
export function serve({ host = HOST, port = PORT, answer, log, signal, limits }: Options = {}): Server {
  // Configure socket
  const s = createServer({ allowHalfOpen: true, noDelay: true })
  const connections = new Connections(s, limits, signal)
  // 511: maximum number of connections waiting
  s.listen({ host: host || undefined, port, backlog: 511 })

  // infinite loop, server forever
  s.on('connection', async socket => {
    const conn = connections.accept(socket), addr = conn.addr
    await conn.recv(async request => {
      const method = request.method
      const src    = request.src
      let content: Content | string | undefined = answer && method ? await ask(answer, request, conn) : undefined

      // not HTTP
      if (!method) content = reply
      // deal with GET method
      else if (!content && (method === 'GET' || method === 'HEAD')) {
        // URL
        if (src === '/test.jpg') content = pic_content
        else content = text_content
      }

      log?.('Connected by', addr)
      log?.('Request is:', printable(request.text))
      await conn.sendall(content || other_method(method))
    })
    // close connection
    conn.close()
  })
  return s
}

// ──────────────────── Part 2: what TCP and HTTP ask besides ────────────────────

/** The user's own contents, asked before the article's two; undefined leaves the request to those. It may be async. */
export type Answer = (request: Request) => Content | undefined | Promise<Content | undefined>

/** What `serve` takes; each has a default. */
export type Options = {
  /** the address to listen on; '' (the default) is every one */
  host?: string
  /** 8000 by default; 0 is any free one */
  port?: number
  answer?: Answer
  /** called twice a message, as console.log is: what happened, and the address or the text made safe to print; silent by default */
  log?: ((what: string, value: unknown) => void) | undefined
  /** stops the server: takes no more, finishes what is in hand, closes what is idle */
  signal?: AbortSignal
  limits?: Partial<typeof LIMITS>
}

/** The limits that hold unless `serve` is given others. */
export const LIMITS = {
  /** a whole head, or the extensions and trailers of a chunked body; browsers send under 2 KiB, and cookies add up */
  head_bytes: 16_384,
  /** the request-target; RFC 9112, 3 recommends 8,000 at least */
  target_bytes: 8_000,
  /** a body, for it is held in memory until it is whole */
  body_bytes: 1_048_576,
  /** from connecting to the first byte */
  silent_ms: 10_000,
  /** from a head's first byte to its last */
  head_ms: 10_000,
  /** from a head's end to the last byte of its body */
  body_ms: 30_000,
  /** from an answer to the next request */
  idle_ms: 5_000,
  /** without any progress of an answer on its way */
  write_ms: 30_000,
  /** of going on reading after the last answer, so that no reset eats it (RFC 9112, 9.6) */
  linger_ms: 2_000,
  /** from the signal to stop until what is left is cut off; a service manager waits longer */
  stop_ms: 4_000,
}

/** How often the deadlines are looked at (ms): one timer for all connections, none for a request. */
const TICK = 250
/** How long text that does not begin as HTTP does is waited for when no line end came with it (ms): TCP may have cut it. */
const PAUSE = 200
/** How long a connection just used is still open when the server stops (ms): its next request may be on the way. */
const GRACE = 500
/** What is written at a time, so that progress can be seen (bytes). */
const SLICE = 65_536

/** A response, made by `http`; never changes. */
export type Content = {
  readonly status: number
  /** the status line and the field lines, without Date and the empty line */
  readonly head: string
  /** bytes; a small body is latin1 text with a character for each byte */
  readonly body: string | Uint8Array
  /** the connection is closed after it */
  readonly close: boolean
}

/**
 * Puts a response, written as the text that it is on the wire, into HTTP format (RFC 9112, 2.1): line ends
 * of the head become CRLF, Content-Length is counted. Date, and Connection where it is due, are added as it is sent;
 * of what is written for these and for Transfer-Encoding only `Connection: close` counts.
 * @param values in the head text or a number, or name–value pairs (such as fetch's Headers) on a line of their own; in the body text, a number or bytes
 * @throws TypeError for a head that is not HTTP, a control character set into it, a body where there is none
 */
export function http(strings: TemplateStringsArray, ...values: (string | number | Uint8Array | Iterable<[string, string]>)[]): Content {
  let head = '', in_head = true
  const body: Uint8Array[] = []
  strings.forEach((text, i) => {
    const end = in_head ? /\r?\n\r?\n/.exec(text) : null
    if (in_head) head += end ? text.slice(0, end.index) : text
    if (end) text = text.slice(end.index + end[0].length)
    if (end) in_head = false
    if (!in_head) body.push(Buffer.from(text))
    if (i === values.length) return
    const value = values[i]
    if (in_head) head += head_value(value)
    else if (value instanceof Uint8Array) body.push(value)
    else if (typeof value === 'string' || typeof value === 'number') body.push(Buffer.from(String(value)))
    else throw new TypeError(`a value in the body is text, a number or bytes, not ${inspect(value)}`)
  })

  const [start = '', ...lines] = head.split(/\r?\n/)
  const status = Number(/^HTTP\/1\.1 ([1-5]\d\d) [\t\x20-\x7e\x80-\xff]*$/.exec(start)?.[1])
  if (!status) throw new TypeError(`not a status line: ${inspect(start)}`)
  let close = false
  head = start + '\r\n'
  for (const line of lines) {
    // a value may have left its line empty
    if (line === '') continue
    const [, name = ''] = /^([!#$%&'*+\-.^_`|~\w]+):[\t\x20-\x7e\x80-\xff]*$/.exec(line) ?? []
    if (!name) throw new TypeError(`not a field line: ${inspect(line)}`)
    if (/^connection:.*\bclose\b/i.test(line)) close = true
    if (!/^(?:content-length|transfer-encoding|connection|date)$/i.test(name)) head += line + '\r\n'
  }

  const bytes = Buffer.concat(body)
  // a body up to 8 KiB is kept as text, to be one short write with its head
  const small = bytes.length <= 8192
  // RFC 9110, 6.4.1
  const bodiless = status < 200 || status === 204 || status === 304
  if (bodiless && bytes.length) throw new TypeError(`${status} has no body`)
  if (!bodiless) head += `Content-Length: ${bytes.length}\r\n`
  return Object.freeze({ __proto__: http.prototype, status, head, body: small ? bytes.toString('latin1') : bytes, close })
}

/** A value set into a head, checked so that no input can add a field or a second response. */
function head_value(value: unknown): string {
  if (typeof value === 'object' && value !== null && !(value instanceof Uint8Array) && Symbol.iterator in value)
    return Array.from(value as Iterable<[string, string]>, ([name, text]) => `${head_value(name)}: ${head_value(text)}`).join('\n')
  if (typeof value !== 'string' && typeof value !== 'number') throw new TypeError(`a value in the head is text or a number, not ${inspect(value)}`)
  if (/[^\x20-\x7e\x80-\xff]/.test(String(value))) throw new TypeError(`a value in the head is one line of latin1 text, not ${inspect(value)}`)
  return String(value)
}

/** A request, whole, or a text that is not HTTP. */
export class Request {
  /** the head as it came, to its empty line; of a message that is not HTTP, all of it (latin1: a character for each byte) */
  readonly text: string
  /** as it came: methods are case-sensitive; '' if the message is not HTTP */
  readonly method: string
  /** the path and query, whichever form the request-target had; '*' for OPTIONS * */
  readonly src: string
  /** the client's address and port */
  readonly addr: readonly [address: string, port: number]
  #body: string
  #headers?: Headers

  constructor(text: string, method: string, src: string, addr: readonly [string, number], body: string) {
    this.text = text
    this.method = method
    this.src = src
    this.addr = addr
    this.#body = body
  }

  /** the body, a chunked one put together */
  get body(): Uint8Array {
    return Buffer.from(this.#body, 'latin1')
  }

  /** the field lines, as the fetch standard's Headers */
  get headers(): Headers {
    this.#headers ??= new Headers(Array.from(this.text.matchAll(/\n([^:\n]+):([^\r\n]*)/g), ([, name = '', value = '']): [string, string] => [name, value.trim()]))
    return this.#headers
  }
}

/** A Content that ends the connection: why a message is not taken. */
function refuse(status: string, why: string): Content {
  return http`HTTP/1.1 ${status}
Content-Type: text/plain
Connection: close

${status}: ${why}
`
}

// the grammar, in the words of RFC 9110 and RFC 9112
const token         = "[!#$%&'*+\\-.^_`|~\\w]+"
const field_value   = '[\\t\\x20-\\x7e\\x80-\\xff]*'
const field_line    = `${token}:${field_value}\\r\\n`
const request_line  = `(${token}) ([!"$-~]+) HTTP/(\\d)\\.(\\d)\\r\\n`
const quoted_string = '"(?:[\\t\\x20!#-\\[\\]-~\\x80-\\xff]|\\\\[\\t\\x20-~\\x80-\\xff])*"'
const parameter     = `[\\t ]*;[\\t ]*${token}[\\t ]*=[\\t ]*(?:${token}|${quoted_string})`
const coding        = `${token}(?:${parameter})*`
const chunk_ext     = `[\\t ]*;[\\t ]*${token}(?:[\\t ]*=[\\t ]*(?:${token}|${quoted_string}))?`
const host_name     = "(?:[\\w\\-.~!$&'()*+;=]|%[\\da-fA-F]{2})+"
const REQUEST_HEAD  = new RegExp(`^(?:\\r\\n)?${request_line}(?:${field_line})*\\r\\n$`)
const REQUEST_LINE  = new RegExp(`^${request_line}$`)
const FIELD_LINE    = new RegExp(`^${field_line}$`)
const FRAMING_FIELD = /\r\n(host|connection|content-length|transfer-encoding|expect|content-type):[\t ]*([^\r]*)/gi
const CHUNK_LINE    = new RegExp(`^([\\da-fA-F]+)((?:${chunk_ext})*)\\r\\n$`)
const CODINGS       = new RegExp(`^${coding}(?:[\\t ]*,[\\t ]*${coding})*$`)
const URI_HOST      = new RegExp(`^(?:${host_name}|\\[(?:([\\da-fA-F:.]+)|v[\\da-fA-F]+\\.[\\w\\-.~!$&'()*+,;=:]+)\\])(?::(\\d*))?$`)
const ABSOLUTE_FORM = /^https?:\/\/([^/?]*)(.*)$/i
/** What begins as a request line does, or names HTTP in its first line, is meant as HTTP. */
const MEANT_AS_HTTP = /^[\r\n]*(?:[A-Z]+ |[^\n]* HTTP\/)/
/** The beginning of what may yet begin as a request line does. */
const MAY_BE_METHOD = /^[\r\n]*[A-Z]{0,32}$/

/** All connections of one server: their deadlines, and its end. */
class Connections extends Set<Connection> {
  readonly limits: typeof LIMITS
  readonly listener: Server

  constructor(listener: Server, limits: Partial<typeof LIMITS> = {}, signal?: AbortSignal) {
    super()
    this.listener = listener
    this.limits = check_limits(limits)
    const timer = setInterval(() => this.look_at_deadlines(), TICK).unref()
    listener.on('close', () => clearInterval(timer))
    // an accept that fails (no file descriptor is free …) must not end the server; only nobody's listening error may
    listener.on('error', (error: NodeJS.ErrnoException) => {
      if (error.syscall !== 'accept' && listener.listenerCount('error') === 1) throw error
    })
    if (signal?.aborted) process.nextTick(() => this.stop())
    else signal?.addEventListener('abort', () => this.stop(), { once: true })
  }

  accept(socket: Socket): Connection {
    const conn = new Connection(socket, this)
    this.add(conn)
    return conn
  }

  private look_at_deadlines(): void {
    const now = performance.now()
    for (const conn of this) if (now > conn.deadline) conn.late()
  }

  private stop(): void {
    this.listener.close()
    for (const conn of this) conn.hurry()
    this.look_at_deadlines()
    setTimeout(() => { for (const conn of this) conn.destroy() }, this.limits.stop_ms).unref()
  }
}

function check_limits(limits: Partial<typeof LIMITS>): typeof LIMITS {
  for (const [name, value] of Object.entries(limits)) {
    if (!Object.hasOwn(LIMITS, name)) throw new TypeError(`limits.${name} is no limit; these are: ${Object.keys(LIMITS).join(', ')}`)
    if (typeof value !== 'number') throw new TypeError(`limits.${name} is a number, not ${inspect(value)}`)
    if (!Number.isSafeInteger(value) || value < 1) throw new RangeError(`limits.${name} is a whole number from 1, not ${value}`)
  }
  return { ...LIMITS, ...limits }
}

/** The article's conn: recv, sendall and close, around Node's socket. */
class Connection {
  readonly addr: readonly [address: string, port: number]
  /** when `late` is called, in performance.now()'s ms */
  deadline = Infinity
  private readonly socket: Socket
  private readonly all: Connections
  /** what has arrived and is not taken yet */
  private text = ''
  /** what is answered and not written yet */
  private out = ''
  /** the request in hand is the last one: its answer says so */
  private last = false
  /** the request in hand is a HEAD */
  private head_only = false
  /** the client will send no more */
  private ended = false
  /** since when the next request is waited for, in performance.now()'s ms */
  private idle_since = Infinity
  /** goes on where `more` waits */
  private wake: ((piece: string) => void) | undefined
  /** goes on where `sent` waits */
  private drained: (() => void) | undefined

  constructor(socket: Socket, all: Connections) {
    this.socket = socket
    this.all = all
    // a dual-stack listener reports IPv4 peers as IPv6 (RFC 4291, 2.5.5.2)
    this.addr = [socket.remoteAddress?.replace(/^::ffff:/, '') ?? '', socket.remotePort ?? 0]
    socket.on('data', (data: Buffer) => this.arrived(data.toString('latin1')))
    socket.on('drain', () => this.drained?.())
    socket.on('end', () => this.finish())
    // 'close' follows
    socket.on('error', () => {})
    socket.on('close', () => {
      all.delete(this)
      this.finish()
      this.drained?.()
    })
  }

  /** Calls `respond` with each request, one after the other, until there will be no other; holds none while it waits for the next. */
  async recv(respond: (request: Request) => Promise<void>): Promise<void> {
    const { silent_ms, idle_ms } = this.all.limits
    for (let limit = silent_ms; await this.transaction(respond, limit); ) limit = idle_ms
  }

  /** Sends an answer, together with those that are ready with it. */
  sendall(content: Content | string): void | Promise<void> {
    if (typeof content === 'string') {
      this.out += content
      return
    }
    // the last one too if the server stops and nothing more has arrived
    if (content.close || !this.all.listener.listening && !this.text) this.last = true
    this.out += content.head + date_line() + (this.last ? 'Connection: close\r\n\r\n' : '\r\n')
    if (this.head_only) return
    if (typeof content.body !== 'string') return this.send_bytes(content.body)
    this.out += content.body
  }

  /** Ends the connection and goes on reading for a while, for closing with something unread would reset it (RFC 9112, 9.6). */
  close(): void {
    const { write_ms, linger_ms } = this.all.limits
    this.deadline = performance.now() + write_ms
    this.socket.end(this.out, 'latin1', () => { this.deadline = performance.now() + linger_ms })
    this.socket.resume()
    this.text = this.out = ''
  }

  destroy(): void {
    this.socket.destroy()
  }

  /** Writes what is ready. */
  flush(): void {
    if (this.out) this.socket.write(this.out, 'latin1')
    this.out = ''
  }

  /** Called when the deadline is over: what waits for the client goes on without, what writes to it or lingers is cut off. */
  late(): void {
    if (this.wake) this.arrived('')
    else this.destroy()
  }

  /** The server stops: a connection that is idle has little time left. */
  hurry(): void {
    this.deadline = Math.min(this.deadline, this.idle_since + GRACE)
  }

  private arrived(piece: string): void {
    const { wake } = this
    this.deadline = Infinity
    this.wake = undefined
    if (wake) wake(piece)
    // after close, what comes is dropped
    else if (!this.socket.writableEnded) {
      this.text += piece
      this.socket.pause()
    }
  }

  private finish(): void {
    this.ended = true
    if (this.wake) this.arrived('')
  }

  /** Waits for the next piece of text; '' if none comes in time, or none will come. */
  private more(deadline: number): Promise<string> {
    this.flush()
    if (this.ended) return Promise.resolve('')
    this.deadline = deadline
    if (this.socket.isPaused()) this.socket.resume()
    return new Promise(resolve => { this.wake = resolve })
  }

  /** Waits until a client that reads slowly has taken what is written. */
  private async sent(): Promise<void> {
    while (this.socket.writableNeedDrain && this.socket.writableLength > 0) {
      this.deadline = performance.now() + this.all.limits.write_ms
      await new Promise<void>(resolve => { this.drained = resolve })
      this.deadline = Infinity
    }
  }

  private async send_bytes(body: Uint8Array): Promise<void> {
    for (let at = 0; at < body.length && this.socket.writable; at += SLICE) {
      this.socket.cork()
      this.flush()
      this.socket.write(body.subarray(at, at + SLICE))
      this.socket.uncork()
      await this.sent()
    }
  }

  /** One request and its response; false when there will be no other. */
  private async transaction(respond: (request: Request) => Promise<void>, idle_ms: number): Promise<boolean> {
    if (this.last) return false
    if (!this.text || this.out.length > SLICE) {
      this.flush()
      if (this.socket.writableNeedDrain) await this.sent()
    }
    this.head_only = false
    let request
    try {
      request = await this.request(this.text || await this.idle(idle_ms))
    } catch (refusal) {
      if (!is_content(refusal)) throw refusal
      this.sendall(refusal)
    }
    if (!request) return false
    await respond(request)
    return true
  }

  private idle(idle_ms: number): Promise<string> {
    this.idle_since = performance.now()
    return this.more(this.idle_since + idle_ms)
  }

  /** Reads a request, whole, of which `text` has arrived; throws the Content that refuses it. */
  private async request(text: string): Promise<Request | undefined> {
    if (!text) return undefined
    const { head_bytes, target_bytes, body_bytes, body_ms } = this.all.limits
    this.idle_since = Infinity
    const end = text.indexOf('\r\n\r\n') + 4
    let match = REQUEST_HEAD.exec(text.slice(0, end))
    if (match && end <= head_bytes && (match[2] ?? '').length <= target_bytes) this.text = text.slice(end)
    else {
      this.text = text
      text = await this.head_by_line()
      match = REQUEST_HEAD.exec(text)
      if (!match) {
        this.last = true
        return new Request(text, '', '', this.addr, '')
      }
    }
    const [head, method = '', target = '', minor = ''] = match
    this.head_only = method === 'HEAD'
    const src = path_of(method, target), framing = framing_of(head, minor)
    this.last = framing.close || method === 'CONNECT'
    if (framing.length > body_bytes) throw refuse('413 Content Too Large', `a body has ${body_bytes} bytes at most`)
    let body = ''
    if (framing.length > 0 || framing.chunked) {
      const deadline = performance.now() + body_ms
      if (framing.awaits_100 && !this.text) this.out += 'HTTP/1.1 100 Continue\r\n\r\n'
      body = framing.chunked ? await this.chunks(deadline) : await this.take(framing.length, deadline)
    }
    return new Request(head, method, src, this.addr, body)
  }

  /** Reads a head as it comes, line by line, to say what is wrong with it as soon as it is seen; or all of a text that is not HTTP. */
  private async head_by_line(): Promise<string> {
    const { head_bytes, head_ms, target_bytes } = this.all.limits, deadline = performance.now() + head_ms
    let line = await this.line(deadline, head_bytes, true)
    // RFC 9112, 2.2
    if (line === '\r\n') line = await this.line(deadline, head_bytes, true)
    if (!MEANT_AS_HTTP.test(line) && /[^\r\n]/.test(line) && (this.ended || !MAY_BE_METHOD.test(line))) return line + this.text

    if (!line.endsWith('\r\n')) throw this.cut_short(line, head_bytes, '414 URI Too Long')
    const [, , target = '', major = ''] = REQUEST_LINE.exec(line) ?? []
    if (!target) throw refuse('400 Bad Request', 'a request line is a method, a target and HTTP/1.1, with one space between (RFC 9112, 3)')
    if (major !== '1') throw refuse('505 HTTP Version Not Supported', 'this server speaks HTTP/1.1')
    if (target.length > target_bytes) throw refuse('414 URI Too Long', `a request-target has ${target_bytes} bytes at most`)
    let head = line
    while (line !== '\r\n') {
      line = await this.line(deadline, head_bytes - head.length)
      if (!line.endsWith('\r\n')) throw this.cut_short(line, head_bytes - head.length, '431 Request Header Fields Too Large')
      if (line !== '\r\n' && !FIELD_LINE.test(line)) throw refuse('400 Bad Request', 'a field line is a token, a colon and a value without control characters (RFC 9112, 5)')
      head += line
    }
    return head
  }

  /**
   * Waits for a line, looking once at each byte, however it was cut.
   * @returns the line with its CRLF; without, if something else ended it, it is over the limit (by a byte), late or cut off
   */
  private async line(deadline: number, limit: number, may_be_text = false): Promise<string> {
    let fresh = this.text, end
    while ((end = fresh.search(/\n|\r[^\n]/)) < 0 && this.text.length <= limit) {
      may_be_text &&= !MEANT_AS_HTTP.test(this.text)
      const pause = may_be_text && !MAY_BE_METHOD.test(this.text) ? setTimeout(() => this.late(), PAUSE) : undefined
      const piece = await this.more(deadline)
      clearTimeout(pause)
      if (!piece) break
      // a CR may have come without its LF
      fresh = (fresh.endsWith('\r') ? '\r' : '') + piece
      this.text += piece
    }
    const length = end < 0 ? this.text.length : this.text.length - fresh.length + end + 1
    return this.take(Math.min(length, limit + 1), deadline)
  }

  /** Why a line has no CRLF. */
  private cut_short(line: string, limit: number, too_long: string): Content {
    if (line.length > limit) return refuse(too_long, `there is room for ${limit} bytes here`)
    if (/[\r\n]$/.test(line)) return refuse('400 Bad Request', 'a line ends with CR and LF, and neither stands alone (RFC 9112, 2.2)')
    if (this.ended) return refuse('400 Bad Request', 'the request was cut short')
    return refuse('408 Request Timeout', 'the request did not arrive in time')
  }

  /** Takes that much text, waiting for it. */
  private async take(length: number, deadline: number): Promise<string> {
    const pieces = [this.text]
    let missing = length - this.text.length
    while (missing > 0) {
      const piece = await this.more(deadline)
      if (!piece) throw this.cut_short('', length, '')
      pieces.push(piece)
      missing -= piece.length
    }
    const text = pieces.join('')
    this.text = text.slice(length)
    return text.slice(0, length)
  }

  /** Takes a chunked body (RFC 9112, 7.1). */
  private async chunks(deadline: number): Promise<string> {
    const { head_bytes, body_bytes } = this.all.limits, pieces: string[] = []
    let room = body_bytes, spare = head_bytes, line
    for (;;) {
      line = await this.line(deadline, spare)
      if (!line.endsWith('\r\n')) throw this.cut_short(line, spare, '431 Request Header Fields Too Large')
      const [, size = '', extensions = ''] = CHUNK_LINE.exec(line) ?? []
      const length = parseInt(size, 16)
      if (!Number.isSafeInteger(length)) throw refuse('400 Bad Request', 'a chunk begins with its size in hexadecimal digits (RFC 9112, 7.1)')
      if (length > room) throw refuse('413 Content Too Large', `a body has ${body_bytes} bytes at most`)
      if (length === 0) break
      const chunk = await this.take(length + 2, deadline)
      if (!chunk.endsWith('\r\n')) throw refuse('400 Bad Request', 'a chunk ends with CR and LF (RFC 9112, 7.1)')
      pieces.push(chunk.slice(0, -2))
      room -= length
      spare -= extensions.length
    }
    while (line !== '\r\n') {
      spare -= line.length
      line = await this.line(deadline, spare)
      if (!line.endsWith('\r\n')) throw this.cut_short(line, spare, '431 Request Header Fields Too Large')
      if (line !== '\r\n' && !FIELD_LINE.test(line)) throw refuse('400 Bad Request', 'a trailer is a field line (RFC 9112, 7.1.2)')
    }
    return pieces.join('')
  }
}

/** The path and query of a request-target in the form that its method may have (RFC 9112, 3.2); throws the Content that refuses it. */
function path_of(method: string, target: string): string {
  if (method === 'CONNECT') {
    if (/:\d+$/.test(target) && is_uri_host(target)) return target
  } else {
    if (target.startsWith('/')) return target
    if (target === '*' && method === 'OPTIONS') return target
    const [, host = '', path = ''] = ABSOLUTE_FORM.exec(target) ?? []
    if (is_uri_host(host)) return path.startsWith('/') ? path : '/' + path
  }
  throw refuse('400 Bad Request', 'a request-target is a path, an http address, or what OPTIONS and CONNECT have (RFC 9112, 3.2)')
}

function is_uri_host(text: string): boolean {
  const match = URI_HOST.exec(text)
  return match !== null && (match[1] === undefined || isIPv6(match[1]))
}

/** What a head says of its body and of the connection (RFC 9112, 6.3 and 9.3); throws the Content that refuses it. */
function framing_of(head: string, minor: string): { length: number, chunked: boolean, awaits_100: boolean, close: boolean } {
  let host, length, coding, type, awaits_100 = false, unmet = false, close = minor === '0'
  FRAMING_FIELD.lastIndex = 0
  for (let field; (field = FRAMING_FIELD.exec(head)); ) {
    const [, name = '', value = ''] = field
    switch (name.toLowerCase()) {
      case 'host': host = once(host, name, value); break
      case 'content-length': length = once(length, name, value); break
      case 'transfer-encoding': coding = once(coding, name, value); break
      case 'content-type': type = once(type, name, value); break
      case 'connection': close ||= /(?:^|,)[\t ]*close[\t ]*(?:,|$)/i.test(value); break
      case 'expect':
        awaits_100 = minor !== '0'
        unmet ||= !/^100-continue[\t ]*$/i.test(value)
    }
  }
  if (host === undefined ? minor !== '0' : !is_uri_host(host)) throw refuse('400 Bad Request', 'HTTP/1.1 wants one Host, a name or address with or without a port (RFC 9112, 3.2)')
  if (length !== undefined && !(/^\d+[\t ]*$/.test(length) && Number.isSafeInteger(Number(length)))) throw refuse('400 Bad Request', 'Content-Length is one number (RFC 9110, 8.6)')
  if (coding !== undefined) {
    // one that reads the length and one that reads the chunks would see two different requests
    if (length !== undefined || minor === '0') throw refuse('400 Bad Request', 'Transfer-Encoding goes with neither Content-Length nor HTTP/1.0 (RFC 9112, 6.1)')
    const names = coding.toLowerCase().split(',').map(name => name.split(';', 1)[0]?.trim())
    if (!CODINGS.test(coding) || names.indexOf('chunked') !== names.length - 1 || !/chunked[\t ]*$/i.test(coding)) throw refuse('400 Bad Request', 'the last transfer coding is chunked, and no other is (RFC 9112, 6.1)')
    if (names.length > 1) throw refuse('501 Not Implemented', 'this server undoes no transfer coding but chunked')
  }
  if (unmet) throw refuse('417 Expectation Failed', 'the one expectation is 100-continue')
  return { length: Number(length ?? 0), chunked: coding !== undefined, awaits_100, close }
}

/** The value of a field that stands in a head once at most. */
function once(before: string | undefined, name: string, value: string): string {
  if (before !== undefined) throw refuse('400 Bad Request', `${name} stands there twice`)
  return value
}

function is_content(value: unknown): value is Content {
  return value instanceof http
}

/** What `answer` gives; 500 if that is none, and the server lives. */
async function ask(answer: Answer, request: Request, conn: Connection): Promise<Content | undefined> {
  try {
    const given = answer(request)
    // the answers before this one do not wait for it
    if (given instanceof Promise) conn.flush()
    const content = await given
    if (content !== undefined && !(is_content(content) && content.status >= 200)) throw new TypeError(`answer gave no Content but ${inspect(content)}`)
    return content
  } catch (error) {
    console.error(printable(`${request.method} ${request.src} failed: ${inspect(error)}`.split('\n', 2).join('')))
    return http`HTTP/1.1 500 Internal Server Error
Content-Type: text/plain

500 Internal Server Error
`
  }
}

/** The answer to what neither `answer` nor the article has one for (RFC 9110, 9.1 and 15.5.6). */
function other_method(method: string): Content {
  if (method === 'OPTIONS') return http`HTTP/1.1 204 No Content
Allow: GET, HEAD, OPTIONS`
  if (/^(?:POST|PUT|DELETE|CONNECT|TRACE|PATCH)$/.test(method)) return http`HTTP/1.1 405 Method Not Allowed
Allow: GET, HEAD
Content-Type: text/plain

405 Method Not Allowed
`
  return http`HTTP/1.1 501 Not Implemented
Content-Type: text/plain

501 Not Implemented
`
}

let date_second = 0, date_field = ''

/** RFC 9110, 6.6.1; made once a second. */
function date_line(): string {
  const second = Math.floor(Date.now() / 1000)
  if (second !== date_second) date_field = `Date: ${new Date(second * 1000).toUTCString()}\r\n`
  date_second = second
  return date_field
}

/** Text from the other side made safe for a terminal: control characters and the backslash as \xHH, lines after the first indented. */
function printable(text: string): string {
  const escape = (character: string): string => '\\x' + character.charCodeAt(0).toString(16).padStart(2, '0')
  return text.trimEnd().replaceAll('\r\n', '\n').replace(/[\0-\t\v-\x1f\x7f-\x9f\\]/g, escape).replaceAll('\n', '\n  ')
}

const HELP = `Usage: server.ts [port] [--host address] [--quiet]

  port      the port to listen on; ${PORT} if not given, 0 for any that is free
  --host    the address to listen on; every address of this computer if not given
  --quiet   no lines for the requests
  --help    this text`

/** Ends the program with one line that says what is wrong. */
function fail(why: string): never {
  console.error(printable(why))
  process.exit(1)
}

/** What went wrong with listening, and what to do. */
function why_not(error: NodeJS.ErrnoException, port: number, host: string): string {
  if (error.code === 'EADDRINUSE') return `port ${port} is in use: end the program that has it, or give another port (server.ts ${port + 1})`
  if (error.code === 'EACCES') return `port ${port} is not for every user: give one from 1024 on`
  if (error.code === 'ENOTFOUND' || error.code === 'EADDRNOTAVAIL') return `${host} is no address of this computer: leave --host out for every one it has`
  return error.message
}

function arguments_of(args: string[]): { port: number, host: string, quiet: boolean, help: boolean } {
  try {
    const { values: { host, quiet, help }, positionals: [port, ...others] } = parseArgs({
      args,
      allowPositionals: true,
      options: { host: { type: 'string', default: HOST }, quiet: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
    })
    if (port !== undefined && !(/^\d{1,5}$/.test(port) && Number(port) < 65_536)) fail(`${port} is no port: give a number from 0 to 65535`)
    if (others.length) fail(`one port is enough: what is ${others.join(' ')}? see --help`)
    return { port: Number(port ?? PORT), host, quiet, help }
  } catch (error) {
    return fail(`${error instanceof Error ? error.message : error}; see --help`)
  }
}

function main(): void {
  const { port, host, quiet, help } = arguments_of(process.argv.slice(2))
  if (help) return console.log(HELP)
  const colours = process.stdout.isTTY && process.stdout.hasColors()
  const paint = (colour: 'cyan' | 'green', text: string): string => colours ? styleText(colour, text) : text
  const stop = new AbortController()
  const s = serve({ host, port, signal: stop.signal, log: quiet ? undefined : (what, value) => console.log(paint('cyan', what), value) })
  s.on('listening', () => {
    const { address, family, port } = s.address() as AddressInfo
    const name = host === '' ? '127.0.0.1' : family === 'IPv6' ? `[${address}]` : address
    console.log('Open', paint('green', `http://${name}:${port}/`))
  })
  s.on('error', error => s.listening ? console.error(error.message) : fail(why_not(error, port, host)))
  // a log that nobody reads any more is no reason to stop
  process.stdout.on('error', () => {})
  // the second signal finds no handler, and ends the program at once
  const stopping = (): void => {
    process.off('SIGINT', stopping).off('SIGTERM', stopping)
    stop.abort()
  }
  process.on('SIGINT', stopping).on('SIGTERM', stopping)
}

// run, not imported (Node 20 has no import.meta.main, and npm's commands are links)
const program = process.argv[1] ?? ''
if (import.meta.main ?? (existsSync(program) && realpathSync(program) === fileURLToPath(import.meta.url))) main()
