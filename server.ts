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
import { isUtf8 } from 'node:buffer'
import { closeSync, existsSync, openSync, readFileSync, realpathSync } from 'node:fs'
import { createServer, isIPv6, type AddressInfo, type Server, type Socket } from 'node:net'
import { basename } from 'node:path'
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
 * @throws TypeError or RangeError for a limit or port that is not valid
 */
export function serve(options: Options = {}): Server {
  const { host = HOST, port = PORT, log } = options
  // Configure socket
  const s = createServer({ allowHalfOpen: true })
  const connections = new Connections(s, options)
  // 511: maximum number of connections waiting
  s.listen({ host: host || undefined, port, backlog: 511 })

  // infinite loop, server forever
  s.on('connection', socket => {
    const conn = connections.accept(socket), addr = conn.addr
    // receive message: called for each request, for one connection brings many; content is the user's own, if any
    conn.recv((request, content) => {
      const method = request.method
      const src    = request.src

      // not HTTP
      if (!method) content = reply
      // deal with GET method (HEAD is a GET whose answer has no body)
      else if (!content && (method === 'GET' || method === 'HEAD')) {
        // URL
        if (src === '/test.jpg') content = pic_content
        else content = text_content
      }

      log?.('Connected by', addr)
      log?.('Request is:', printable(request.text))
      // send message
      conn.sendall(content ?? other_method(method))
    }, () => {
      // close connection
      conn.close()
    })
  })
  return s
}

// ──────────────────── Part 2: what TCP and HTTP ask besides ────────────────────

/** The user's own contents, asked before the article's two; undefined leaves the request to those. */
export type Answer = (request: Request) => Content | undefined | Promise<Content | undefined>

/** What `serve` takes. */
export type Options = {
  /** the address to listen on; '' (the default) is every one */
  host?: string | undefined
  /** 8000 by default; 0 is any that is free */
  port?: number | undefined
  answer?: Answer | undefined
  /** called twice a request, as console.log is, with text that is safe to print; silent by default */
  log?: ((what: string, value: unknown) => void) | undefined
  /** stops the server: takes no more, finishes what is in hand, closes what is idle */
  signal?: AbortSignal | undefined
  /** those that are to differ from LIMITS */
  limits?: Partial<typeof LIMITS> | undefined
}

/** The limits of one connection, in bytes and milliseconds. */
export const LIMITS = {
  /** a whole head, or the extensions and trailers of a chunked body; browsers send under 2 KiB, but cookies add up */
  head_bytes: 16_384,
  /** the request-target; 8,000 is the least that RFC 9112, 3 recommends */
  target_bytes: 8_000,
  /** a body, for it is held in memory until it is whole */
  body_bytes: 1_048_576,
  /** from connecting to the first byte: browsers connect ahead */
  silent_ms: 10_000,
  /** from the first byte of a head to its last */
  head_ms: 10_000,
  /** from the end of a head to the last byte of its body */
  body_ms: 30_000,
  /** from an answer to the next request: a page asks for its pictures within this */
  idle_ms: 5_000,
  /** for a client to take the next 64 KiB of its answer */
  write_ms: 30_000,
  /** of reading on after the last answer (RFC 9112, 9.6): longer than a round trip */
  linger_ms: 2_000,
  /** from the signal to the cutting off of what is left: service managers wait longer */
  stop_ms: 4_000,
}

/** The most that a limit may be: V8's strings are not much longer (bytes), nor its timers (ms, six days). */
const MOST = 500_000_000
/** How often deadlines are looked at, in ms: one timer serves all connections, and no request needs its own. */
const TICK = 250
/** How long text without a line end is waited on, in ms, if it does not begin as a request: TCP may have cut it. */
const PAUSE = 200
/** How long a connection just used stays when the server stops, in ms: its next request may be on the way. */
const GRACE = 500
/** How much is written at a time, in bytes, so that progress can be seen. */
const SLICE = 65_536

/** A response as it goes out; made by `http` only, and never changed. */
export type Content = {
  readonly status: number
  /** status line and field lines, without Date, Connection and the empty line */
  readonly head: string
  /** a body up to 8 KiB is latin1 text, a character for each byte, to be one short write with its head */
  readonly body: string | Uint8Array
  /** it says `Connection: close` */
  readonly close: boolean
}

/** What may be set into a response: text, numbers and bytes; into its head also fields, on a line of their own. */
type Value = string | number | Uint8Array | Iterable<[name: string, value: string]>

/**
 * Puts a response, written as the text that it is on the wire, into HTTP format (RFC 9112, 2.1): the head's line ends
 * become CRLF, Content-Length is counted, Date and Connection are the server's (only `Connection: close` may be asked for).
 * @throws TypeError for a head that is not HTTP's, a value that would add a line to it, a body with a status that has none
 */
export function http(strings: TemplateStringsArray, ...values: Value[]): Content {
  let written = '', in_head = true
  const body: (string | Uint8Array)[] = []
  strings.forEach((text, i) => {
    const empty_line = in_head ? /\n\r?\n/.exec(text) : null
    if (in_head) written += empty_line ? text.slice(0, empty_line.index) : text
    if (empty_line) in_head = false
    if (!in_head) body.push(empty_line ? text.slice(empty_line.index + empty_line[0].length) : text)
    if (i < values.length && in_head) written += head_value(values[i])
    else if (i < values.length) body.push(body_value(values[i]))
  })

  // a value may have left its line empty
  const lines = `${written}\n`.replace(/(?:\r?\n)+/g, '\r\n')
  const status = Number(/^HTTP\/1\.1 ([1-5]\d\d) [\t\x20-\x7e\x80-\xff]*\r\n(?:[!#$%&'*+\-.^_`|~\w]+:[\t\x20-\x7e\x80-\xff]*\r\n)*$/.exec(lines)?.[1])
  if (!status) throw new TypeError(`not a status line and field lines: ${inspect(lines)}`)
  const bytes = body.every(part => typeof part === 'string') ? Buffer.from(body.join('')) : Buffer.concat(body.map(part => Buffer.from(part)))
  // RFC 9110, 6.4.1
  const bodiless = status < 200 || status === 204 || status === 304
  if ((bodiless || status === 205) && bytes.length) throw new TypeError(`${status} has no body`)

  const head = lines.replace(/\n(?:content-length|transfer-encoding|connection|date):.*\r/gi, '')
  return Object.freeze({
    // the mark that is_content knows it by; no class exists yet when http first runs
    __proto__: http.prototype,
    status,
    head: bodiless ? head : `${head}Content-Length: ${bytes.length}\r\n`,
    body: bytes.length <= 8192 ? bytes.toString('latin1') : bytes,
    close: /\nconnection:(?:.*,)?[\t ]*close[\t ]*[,\r]/i.test(lines),
  })
}

function body_value(value: unknown): string | Uint8Array {
  if (value instanceof Uint8Array) return value
  if (typeof value === 'string' || typeof value === 'number') return String(value)
  throw new TypeError(`no text, number or bytes: ${inspect(value)}`)
}

function head_value(value: unknown): string {
  if (typeof value === 'object' && value !== null && Symbol.iterator in value && !(value instanceof Uint8Array))
    return Array.from(value as Iterable<[string, string]>, ([name, text]) => `${field_name(name)}: ${head_value(text)}`).join('\n')
  // latin1 without control characters
  if ((typeof value === 'string' || typeof value === 'number') && /^[\x20-\x7e\x80-\xff]*$/.test(String(value))) return String(value)
  throw new TypeError(`no text for a head: ${inspect(value)}`)
}

function field_name(value: string): string {
  if (!/^[^: ]+$/.test(value)) throw new TypeError(`no field name: ${inspect(value)}`)
  return head_value(value)
}

function is_content(value: unknown): value is Content {
  return value instanceof http
}

/** A request, whole; or a text that is not HTTP, whose method and src are ''. */
class Request {
  /** the head as it came, with its empty line, a character for each byte (latin1) */
  readonly text: string
  /** as it came, for methods are case-sensitive */
  readonly method: string
  /** path and query, whichever form the request-target had (`*` for OPTIONS, `host:port` for CONNECT) */
  readonly src: string
  /** the client's */
  readonly addr: readonly [address: string, port: number]
  /** a chunked one put together */
  readonly body: Uint8Array<ArrayBuffer>
  #headers: Headers | undefined

  constructor(text: string, method: string, src: string, addr: readonly [string, number], body: Uint8Array<ArrayBuffer>) {
    this.text = text
    this.method = method
    this.src = src
    this.addr = addr
    this.body = body
  }

  /** the fetch standard's, made when first asked for */
  get headers(): Headers {
    if (this.#headers) return this.#headers
    this.#headers = new Headers(Array.from(this.text.matchAll(/\n([^: \n]+):([^\r\n]*)/g), ([, name = '', value = '']): [string, string] => [name, value]))
    // an absolute-form's host is the one that counts (RFC 9112, 3.2.2)
    const [, host] = /^\s*\S+ https?:\/\/([^/?\s]+)/i.exec(this.text) ?? []
    if (host) this.#headers.set('host', host)
    return this.#headers
  }
}

export type { Request }

// the grammar, in the names of RFC 9110 and RFC 9112
const token         = "[!#$%&'*+\\-.^_`|~\\w]+"
const quoted_string = '"(?:[\\t\\x20!#-\\[\\]-~\\x80-\\xff]|\\\\[\\t\\x20-~\\x80-\\xff])*"'
const OWS           = '[\\t ]*'
const uri_host      = "(?:(?:[\\w\\-.~!$&'()*+;=]|%[\\da-fA-F]{2})+|\\[([\\da-fA-F:.]+)\\]|\\[v[\\da-fA-F]+\\.[\\w\\-.~!$&'()*+,;=:]+\\])"
const host_value    = `${uri_host}(?::\\d*)?`
const request_line  = `(${token}) ([!"$-~]+) HTTP/(\\d)\\.(\\d)\\r\\n`
const field_line    = `${token}:[\\t\\x20-\\x7e\\x80-\\xff]*\\r\\n`
const transfer_parameter = `${OWS};${OWS}${token}${OWS}=${OWS}(?:${token}|${quoted_string})`
const transfer_coding = `${token}(?:${transfer_parameter})*`
const chunk_ext     = `${OWS};${OWS}${token}(?:${OWS}=${OWS}(?:${token}|${quoted_string}))?`
const REQUEST_HEAD  = new RegExp(`^(?:\\r\\n)?${request_line}(?:${field_line})*\\r\\n$`)
const plain_field   = `(?:[Cc]onnection: keep-alive\\r\\n|(?!${in_any_case('(?:host|connection|expect|content-length|content-type|transfer-encoding)')}:)${field_line})`
/** What most requests are: a path, one Host that is a name, nothing else that FRAMING_FIELD names; told in one look. */
const PLAIN_REQUEST = new RegExp(`^(?!CONNECT )(${token}) (/[!"$-~]*) HTTP/1\\.1\\r\\n${plain_field}*${in_any_case('host')}: ?[\\w\\-.]+(?::\\d*)?\\r\\n${plain_field}*\\r\\n`)
const REQUEST_LINE  = new RegExp(`^${request_line}$`)
const FIELD_LINE    = new RegExp(`^${field_line}$`)
const CHUNK_LINE    = new RegExp(`^([\\da-fA-F]+)(?:${chunk_ext})*\\r\\n$`)
const CODINGS       = new RegExp(`^${transfer_coding}(?:${OWS},${OWS}${transfer_coding})*${OWS}$`)
const HOST_VALUE    = new RegExp(`^${host_value}${OWS}$`)
const ABSOLUTE_FORM = /^https?:\/\/([^/?]*)(.*)$/i
/** The fields that decide where a message ends and what becomes of the connection. */
const FRAMING_FIELD = /\r\n(host|connection|content-length|transfer-encoding|expect|content-type):[\t ]*([^\r]*)/gi
/** A first line that is meant as HTTP: it begins as a request line does, or names the protocol. */
const MEANT_AS_HTTP = /^(?:[A-Z]+ |[^\n]*[\t ]HTTP\/)/
/** A text that may still become one. */
const METHOD_SO_FAR = /^\r?[A-Z]{0,32}$/

const NOTHING = Buffer.alloc(0)
const NOWHERE = ['', 0] as const
const ignore = (): void => {}

/** All connections of one server: what is due for them, and their end. */
class Connections extends Map<Socket, Connection> {
  readonly limits: typeof LIMITS
  readonly server: Server
  readonly answer: Answer | undefined
  /** made once and not for each socket: memory counts where thousands are idle */
  private readonly listeners = listeners_of(this)
  /** somebody sees the clients' addresses */
  readonly shows_addr: boolean

  constructor(server: Server, { answer, log, signal, limits }: Options) {
    super()
    this.server = server
    this.answer = answer
    this.shows_addr = answer !== undefined || log !== undefined
    this.limits = { ...LIMITS, ...limits }
    for (const [name, value] of Object.entries(this.limits)) {
      if (!Object.hasOwn(LIMITS, name)) throw new TypeError(`there is no limit ${name}, but ${Object.keys(LIMITS).join(', ')}`)
      if (typeof value !== 'number') throw new TypeError(`limits.${name} is a number, not ${inspect(value)}`)
      if (!Number.isInteger(value) || value < 1 || value > MOST) throw new RangeError(`limits.${name} is a whole number from 1 to ${MOST}, not ${value}`)
    }
    server.on('listening', () => {
      const timer = setInterval(() => this.look_at_deadlines(), TICK).unref()
      const stop = (): void => this.stop()
      server.once('close', () => {
        clearInterval(timer)
        signal?.removeEventListener('abort', stop)
      })
      if (signal?.aborted) stop()
      signal?.addEventListener('abort', stop)
    })
    // one accept that fails (no file descriptor is free) does not end the server; not to listen at all is for the user to hear
    server.on('error', (error: NodeJS.ErrnoException) => {
      if (error.syscall !== 'accept' && server.listenerCount('error') === 1) throw error
    })
  }

  accept(socket: Socket): Connection {
    const conn = new Connection(socket, this)
    this.set(socket, conn)
    // 'close' follows an error
    socket.on('data', this.listeners.data).on('end', this.listeners.end).on('error', this.listeners.error).on('close', this.listeners.close)
    return conn
  }

  private look_at_deadlines(): void {
    const now = performance.now()
    for (const conn of this.values()) if (now > conn.deadline) conn.late()
  }

  private stop(): void {
    this.server.close()
    for (const conn of this.values()) conn.deadline = Math.min(conn.deadline, conn.idle_since + GRACE)
    this.look_at_deadlines()
    setTimeout(() => { for (const socket of this.keys()) socket.destroy() }, this.limits.stop_ms).unref()
  }
}

/** What the events of any socket do to its connection. */
function listeners_of(connections: Connections) {
  return {
    data(this: Socket, data: Buffer): void { connections.get(this)?.arrived(data) },
    end(this: Socket): void { connections.get(this)?.no_more() },
    // 'close' follows
    error: ignore,
    close(this: Socket): void {
      connections.get(this)?.gone()
      connections.delete(this)
    },
  }
}

/** What is done with a request, and with the content that the user has for it. */
type Respond = (request: Request, content: Content | string | undefined) => void

/** The article's conn: recv, sendall and close, around Node's socket. */
class Connection {
  readonly addr: readonly [address: string, port: number]
  /** when `late` is called, on performance.now()'s clock */
  deadline = Infinity
  /** when waiting for a request began */
  idle_since = Infinity
  readonly socket: Socket
  private readonly connections: Connections
  /** arrived and not taken yet */
  private text = ''
  /** answered and not written yet */
  private unsent = ''
  /** a large body that belongs behind it */
  private large_body: Uint8Array | undefined
  /** no request follows the one in hand, and its answer says so */
  private last = false
  /** the one in hand is a HEAD */
  private head_only = false
  /** the client sends no more */
  private ended = false
  /** what recv calls with each request */
  private respond: Respond = ignore
  /** what it calls after the last */
  private done: () => void = ignore
  /** ends the waiting in `more` */
  private wake: ((piece: Buffer) => void) | undefined
  /** ends the waiting in `sent` */
  private drained: (() => void) | undefined

  constructor(socket: Socket, connections: Connections) {
    this.socket = socket
    this.connections = connections
    // a listener for IPv6 and IPv4 shows an IPv4 address as ::ffff:127.0.0.1
    this.addr = connections.shows_addr ? [(socket.remoteAddress ?? '').replace(/^::ffff:/, ''), socket.remotePort ?? 0] : NOWHERE
  }

  /**
   * Waits for requests; holds none of them between, and costs a waiting connection little.
   * @param respond is called with each, whole, one after the other
   * @param done is called when there will be no other
   */
  recv(respond: Respond, done: () => void): void {
    this.respond = respond
    this.done = done
    this.idle(this.connections.limits.silent_ms)
  }

  /** Sends an answer; those that are ready together are written together. */
  sendall(content: Content | string): void {
    if (typeof content === 'string') {
      this.unsent += content
      return
    }
    // the last one too if the client has ended or the server stops, and no more has arrived
    this.last ||= content.close || !this.text && (this.ended || !this.connections.server.listening)
    this.unsent += content.head + date_line() + (this.last ? 'Connection: close\r\n\r\n' : '\r\n')
    if (this.head_only) return
    if (typeof content.body === 'string') this.unsent += content.body
    else this.large_body = content.body
  }

  /** Sends the end, and reads on for a while: closing with something unread is a reset, which can destroy the answer (RFC 9112, 9.6). */
  close(): void {
    const { write_ms, linger_ms } = this.connections.limits
    this.idle_since = Infinity
    this.deadline = performance.now() + write_ms
    this.socket.end(this.unsent, 'latin1', () => { this.deadline = performance.now() + linger_ms })
    this.socket.resume()
    this.text = this.unsent = ''
  }

  /** Writes the answers that are ready. */
  flush(): void {
    if (this.unsent) this.socket.write(this.unsent, 'latin1')
    this.unsent = ''
  }

  /** The deadline is over: goes on without what is waited for; cuts off a client that takes no answer or does not close. */
  late(): void {
    if (this.wake) this.arrived(NOTHING)
    else if (this.is_idle) this.done()
    else this.socket.destroy()
  }

  /** The client has sent a piece: whoever waits for it goes on. */
  arrived(piece: Buffer): void {
    const { wake } = this
    this.wake = undefined
    if (wake) {
      // who is woken takes this piece before the next one comes
      this.socket.pause()
      wake(piece)
    } else if (this.socket.writableEnded) return
    else if (this.is_idle) {
      this.text = piece.toString('latin1')
      this.idle_since = this.deadline = Infinity
      // a log that throws is its owner's to hear, but holds no connection
      this.serve().catch(error => {
        this.socket.destroy()
        throw error
      })
    } else {
      // what nobody waits for is left to TCP
      this.text += piece.toString('latin1')
      this.socket.pause()
    }
  }

  /** The client has sent all. */
  no_more(): void {
    this.ended = true
    if (this.wake) this.arrived(NOTHING)
    else if (this.is_idle) this.done()
  }

  /** The connection is closed. */
  gone(): void {
    this.no_more()
    this.drained?.()
  }

  private get is_idle(): boolean {
    return this.idle_since < Infinity
  }

  /** Waits for the next request. */
  private idle(patience: number): void {
    if (this.socket.isPaused()) this.socket.resume()
    this.idle_since = performance.now()
    this.deadline = this.idle_since + patience
  }

  /** Waits for more; nothing if none comes, or none in time. */
  private more(deadline: number): Promise<Buffer> {
    this.flush()
    if (this.ended) return Promise.resolve(NOTHING)
    if (this.socket.isPaused()) this.socket.resume()
    this.deadline = deadline
    return new Promise(resolve => { this.wake = resolve })
  }

  /** Waits until a client that reads slowly has taken what is written. */
  private async sent(): Promise<void> {
    while (this.socket.writableNeedDrain && this.socket.writableLength > 0) {
      this.deadline = performance.now() + this.connections.limits.write_ms
      await new Promise<void>(resolve => {
        this.drained = resolve
        this.socket.once('drain', resolve)
      })
      this.deadline = Infinity
    }
  }

  private async send_bytes(body: Uint8Array): Promise<void> {
    this.large_body = undefined
    // the end of one slice is not to wait until the one before is acknowledged (RFC 1122, 4.2.3.4)
    this.socket.setNoDelay(true)
    for (let at = 0; at < body.length && this.socket.writable; at += SLICE) {
      this.socket.cork()
      this.flush()
      this.socket.write(body.subarray(at, at + SLICE))
      this.socket.uncork()
      await this.sent()
    }
  }

  /** Serves what has arrived, request by request. */
  private async serve(): Promise<void> {
    while (!this.last) {
      if (!this.text || this.unsent.length > SLICE) this.flush()
      if (this.socket.writableNeedDrain) await this.sent()
      if (!this.text) break
      try {
        const request = this.plain_request() ?? await this.request()
        if (!request) break
        this.deadline = Infinity
        const content = this.connections.answer && request.method ? ask(this.connections.answer, request) : undefined
        // the answers before this one do not wait for it
        if (content instanceof Promise) this.flush()
        this.respond(request, content instanceof Promise ? await content : content)
        if (this.large_body) await this.send_bytes(this.large_body)
      } catch (refusal) {
        if (!is_content(refusal)) throw refusal
        this.sendall(refusal)
      }
    }
    if (this.last || this.ended) return this.done()
    // the next answer is not to wait until this one is acknowledged (RFC 1122, 4.2.3.4)
    this.socket.setNoDelay(true)
    this.idle(this.connections.limits.idle_ms)
  }

  /** The next request, if it is a plain one. */
  private plain_request(): Request | undefined {
    const [head, method = '', target = ''] = PLAIN_REQUEST.exec(this.text) ?? []
    if (!head || head.length > this.connections.limits.head_bytes || target.length > this.connections.limits.target_bytes) return undefined
    this.text = this.text.slice(head.length)
    this.head_only = method === 'HEAD'
    return new Request(head, method, target, this.addr, NOTHING)
  }

  /** Reads a request to its end, or throws the Content that refuses it; undefined if there is none after all. */
  private async request(): Promise<Request | undefined> {
    const { head_bytes, target_bytes, body_bytes, body_ms } = this.connections.limits
    let text = this.text
    this.head_only = false
    const end = text.indexOf('\r\n\r\n') + 4
    let match = REQUEST_HEAD.exec(text.slice(0, end))
    if (match?.[2] && match[3] === '1' && match[2].length <= target_bytes && end <= head_bytes) this.text = text.slice(end)
    else {
      text = await this.head_by_line()
      match = REQUEST_HEAD.exec(text)
    }
    this.last = !match
    if (!match) {
      // after a request, text is what is left of one
      if (text && (this.unsent || this.socket.bytesWritten)) throw bad_request('what follows a request is another one')
      return text ? new Request(text, '', '', this.addr, NOTHING) : undefined
    }

    const [head, method = '', target = '', , minor = ''] = match
    this.head_only = method === 'HEAD'
    const src = src_of(method, target), framing = framing_of(head, minor === '0')
    this.last = framing.close || method === 'CONNECT'
    if (framing.length > body_bytes) throw refuse('413 Content Too Large', `a body has ${body_bytes} bytes at most`)
    let body = NOTHING
    if (framing.length > 0 || framing.chunked) {
      const deadline = performance.now() + body_ms
      if (framing.expects_100 && !this.text) this.unsent += 'HTTP/1.1 100 Continue\r\n\r\n'
      body = framing.chunked ? await this.chunks(deadline) : await this.take_bytes(framing.length, deadline)
    }
    return new Request(head, method, src, this.addr, body)
  }

  /** Reads a head line by line, to say what is wrong with it as soon as it can be seen; or a text that is not HTTP. */
  private async head_by_line(): Promise<string> {
    const { head_bytes, head_ms, target_bytes } = this.connections.limits, deadline = performance.now() + head_ms
    let line = await this.line(deadline, head_bytes, true)
    // one empty line is ignored (RFC 9112, 2.2)
    if (line === '\r\n') line = await this.line(deadline, head_bytes, true)
    const late = METHOD_SO_FAR.test(line) && !this.ended
    if (!MEANT_AS_HTTP.test(line) && !/^[\r\n]+$/.test(line) && !late) return line + this.text

    this.head_only = line.startsWith('HEAD ')
    this.check_end(line, head_bytes, '414 URI Too Long')
    const [, , target = '', major] = REQUEST_LINE.exec(line) ?? []
    if (!target) throw bad_request('a request line is a method, a request-target and HTTP/1.1, one space between each (RFC 9112, 3)')
    if (major !== '1') throw refuse('505 HTTP Version Not Supported', 'this server speaks HTTP/1.1')
    if (target.length > target_bytes) throw refuse('414 URI Too Long', `a request-target has ${target_bytes} bytes at most`)
    return line + await this.fields(deadline, head_bytes - line.length)
  }

  /** Takes the field lines of a head or a trailer section, with the empty line that ends them. */
  private async fields(deadline: number, room: number): Promise<string> {
    let text = ''
    for (let line = ''; line !== '\r\n'; text += line) {
      line = await this.line(deadline, room - text.length)
      this.check_end(line, room - text.length, '431 Request Header Fields Too Large')
      if (line !== '\r\n' && !FIELD_LINE.test(line)) throw bad_request('a field line is a token, a colon and a value without control characters (RFC 9112, 5)')
    }
    return text
  }

  /**
   * Takes a line, waiting for it; looks at each byte once, however they were cut.
   * @returns the line with its CRLF; without, if something else ends it, it is a byte over its room, late or cut off
   */
  private async line(deadline: number, room: number, may_be_text = false): Promise<string> {
    let fresh = this.text, end
    while ((end = fresh.search(/\n|\r[^\n]/)) < 0 && this.text.length <= room) {
      const pause = may_be_text ? setTimeout(() => this.wake && this.is_text() && this.late(), PAUSE) : undefined
      const piece = (await this.more(deadline)).toString('latin1')
      clearTimeout(pause)
      if (!piece) break
      // a CR may have come without its LF
      fresh = (fresh.endsWith('\r') ? '\r' : '') + piece
      this.text += piece
    }
    const length = end < 0 ? this.text.length : this.text.length - fresh.length + end + 1
    return this.take(Math.min(length, room + 1))
  }

  /** What has arrived of a first line is not HTTP, nor the beginning of it. */
  private is_text(): boolean {
    return !MEANT_AS_HTTP.test(this.text) && !METHOD_SO_FAR.test(this.text)
  }

  private check_end(line: string, room: number, too_long: string): void {
    if (line.length > room) throw refuse(too_long, `there is room for ${room} bytes`)
    if (line.endsWith('\r\n')) return
    if (/[\r\n]$/.test(line)) throw bad_request('a line ends with CR LF, and neither stands alone (RFC 9112, 2.2)')
    throw this.cut_off()
  }

  private cut_off(): Content {
    return this.ended ? bad_request('the request was cut off') : refuse('408 Request Timeout', 'the request did not arrive in time')
  }

  private take(length: number): string {
    const text = this.text.slice(0, length)
    this.text = this.text.slice(length)
    return text
  }

  /** Takes that many bytes, waiting for them. */
  private async take_bytes(length: number, deadline: number): Promise<Buffer<ArrayBuffer>> {
    const arrived = Buffer.from(this.take(length), 'latin1')
    if (arrived.length === length) return arrived
    const pieces: Buffer[] = [arrived]
    for (let missing = length - arrived.length; missing > 0; ) {
      const piece = await this.more(deadline)
      if (!piece.length) throw this.cut_off()
      pieces.push(piece.subarray(0, missing))
      this.text = piece.toString('latin1', missing)
      missing -= piece.length
    }
    return Buffer.concat(pieces)
  }

  /** Takes a chunked body (RFC 9112, 7.1). */
  private async chunks(deadline: number): Promise<Buffer<ArrayBuffer>> {
    const { head_bytes, body_bytes } = this.connections.limits, pieces: string[] = []
    let room = body_bytes, room_for_extensions = head_bytes
    for (;;) {
      const line = await this.line(deadline, room_for_extensions)
      this.check_end(line, room_for_extensions, '431 Request Header Fields Too Large')
      const [, size = ''] = CHUNK_LINE.exec(line) ?? []
      const length = parseInt(size, 16)
      if (!Number.isSafeInteger(length)) throw bad_request('a chunk begins with its size in hexadecimal digits (RFC 9112, 7.1)')
      if (length > room) throw refuse('413 Content Too Large', `a body has ${body_bytes} bytes at most`)
      // its extensions, and zeros that it does not need
      room_for_extensions -= line.length - 2 - length.toString(16).length
      if (length === 0) break
      while (this.text.length < length + 2) {
        const piece = await this.more(deadline)
        if (!piece.length) throw this.cut_off()
        this.text += piece.toString('latin1')
      }
      const chunk = this.take(length + 2)
      if (!chunk.endsWith('\r\n')) throw bad_request('a chunk ends with CR LF (RFC 9112, 7.1)')
      // as text: a Buffer for each would be many times the size of a small chunk
      pieces.push(chunk.slice(0, -2))
      room -= length
    }
    // trailer fields are read and dropped (RFC 9110, 6.5.1)
    await this.fields(deadline, room_for_extensions)
    return Buffer.from(pieces.join(''), 'latin1')
  }
}

/** The `src` of a request-target in one of the forms of RFC 9112, 3.2, or throws the Content that refuses it. */
function src_of(method: string, target: string): string {
  if (method === 'CONNECT') {
    if (is_host(target) && /:\d+$/.test(target)) return target
  } else {
    if (target.startsWith('/') || target === '*' && method === 'OPTIONS') return target
    const [, host = '', path = ''] = ABSOLUTE_FORM.exec(target) ?? []
    if (is_host(host)) return path.startsWith('/') ? path : '/' + path
  }
  throw bad_request('a request-target is a path or an http address, `*` for OPTIONS, host:port for CONNECT (RFC 9112, 3.2)')
}

/** A pattern for names whose case does not count. */
function in_any_case(text: string): string {
  return text.replace(/[a-z]/g, letter => `[${letter}${letter.toUpperCase()}]`)
}

/** RFC 9110, 7.2, without the comma, which would be a list. */
function is_host(text: string): boolean {
  const match = HOST_VALUE.exec(text)
  return match !== null && (match[1] === undefined || isIPv6(match[1]))
}

/** What a head says of the body (RFC 9112, 6.3) and of the connection (9.3), or throws the Content that refuses it. */
function framing_of(head: string, is_1_0: boolean): { length: number, chunked: boolean, expects_100: boolean, close: boolean } {
  let host, length, codings, type, expects_100 = false, unmet = false, close = is_1_0
  FRAMING_FIELD.lastIndex = 0
  for (let field; (field = FRAMING_FIELD.exec(head)); ) {
    const [, name = '', value = ''] = field
    switch (name.toLowerCase()) {
      case 'host': host = once(host, name, value); break
      case 'content-length': length = once(length, name, value); break
      case 'transfer-encoding': codings = once(codings, name, value); break
      case 'content-type': type = once(type, name, value); break
      case 'connection': close ||= /(?:^|,)[\t ]*close[\t ]*(?:,|$)/i.test(value); break
      case 'expect':
        if (/^100-continue[\t ]*$/i.test(value)) expects_100 = !is_1_0
        else unmet ||= /[^\t ]/.test(value)
    }
  }
  if (host === undefined ? !is_1_0 : !is_host(host)) throw bad_request('HTTP/1.1 wants a Host: a name or an address, with or without a port (RFC 9112, 3.2)')
  if (length !== undefined && !(/^\d+[\t ]*$/.test(length) && Number.isSafeInteger(Number(length)))) throw bad_request('Content-Length is a number (RFC 9110, 8.6)')
  if (codings !== undefined) {
    // who reads the one and who reads the other would see different requests
    if (length !== undefined || is_1_0) throw bad_request('Transfer-Encoding goes with neither Content-Length nor HTTP/1.0 (RFC 9112, 6.1)')
    const names = codings.toLowerCase().split(',').map(name => name.split(';', 1)[0]?.trim())
    if (!CODINGS.test(codings) || names.indexOf('chunked') !== names.length - 1 || !/(?:^|,)[\t ]*chunked[\t ]*$/i.test(codings)) throw bad_request('the last transfer coding is chunked, and no other is (RFC 9112, 6.1)')
    if (names.length > 1) throw refuse('501 Not Implemented', 'chunked is the one transfer coding that this server undoes')
  }
  if (unmet) throw refuse('417 Expectation Failed', '100-continue is the one expectation')
  return { length: Number(length ?? 0), chunked: codings !== undefined, expects_100, close }
}

/** The value of a field that must not stand there twice. */
function once(before: string | undefined, name: string, value: string): string {
  if (before !== undefined) throw bad_request(`${name} stands there twice`)
  return value
}

function bad_request(why: string): Content {
  return refuse('400 Bad Request', why)
}

/** The last answer of a connection whose client is not understood. */
function refuse(status: string, why: string): Content {
  return short_answer(status, [['Connection', 'close']], `${status}: ${why}`)
}

function short_answer(status: string, fields: [string, string][] = [], text = status): Content {
  return http`HTTP/1.1 ${status}
${fields}
Content-Type: text/plain

${text}
`
}

/** What `answer` gives; 500 if it fails. */
function ask(answer: Answer, request: Request): Content | undefined | Promise<Content | undefined> {
  const failed = (error: unknown): Content => {
    console.error(escaped(`${request.method} ${request.src} failed: ${one_line(error)}`))
    return short_answer('500 Internal Server Error')
  }
  const checked = (content: Content | undefined): Content | undefined => {
    if (content === undefined || is_content(content) && content.status >= 200) return content
    return failed(new TypeError(`answer gave no Content but ${inspect(content)}`))
  }
  try {
    const content = answer(request)
    return content instanceof Promise ? content.then(checked).catch(failed) : checked(content)
  } catch (error) {
    return failed(error)
  }
}

/** An error for the log, with where it was thrown. */
function one_line(error: unknown): string {
  try {
    return inspect(error).split('\n', 2).join('')
  } catch {
    return 'an error that cannot be shown'
  }
}

/** The answer to a method that nothing here takes (RFC 9110, 9.1). */
function other_method(method: string): Content {
  if (method === 'OPTIONS') return http`HTTP/1.1 204 No Content
Allow: GET, HEAD, OPTIONS`
  if (/^(?:POST|PUT|PATCH|DELETE|CONNECT|TRACE)$/.test(method)) return short_answer('405 Method Not Allowed', [['Allow', 'GET, HEAD']])
  return short_answer('501 Not Implemented')
}

let date_second = 0, date_field = ''

/** Date (RFC 9110, 6.6.1), made once a second. */
function date_line(): string {
  const second = Math.floor(Date.now() / 1000)
  if (second !== date_second) date_field = `Date: ${new Date(second * 1000).toUTCString()}\r\n`
  date_second = second
  return date_field
}

/** A message made safe for a terminal; UTF-8 if it is, or else latin1. */
function printable(text: string): string {
  const bytes = Buffer.from(text, 'latin1')
  return escaped(isUtf8(bytes) ? bytes.toString() : text)
}

/** Text with its control characters and backslashes as \xHH, and its lines after the first indented. */
function escaped(text: string): string {
  const escape = (character: string): string => '\\x' + character.charCodeAt(0).toString(16).padStart(2, '0')
  return text.trimEnd().replaceAll('\r\n', '\n').replace(/[\0-\t\v-\x1f\x7f-\x9f\\]/g, escape).replaceAll('\n', '\n  ')
}

/** The program that runs, under the name that its user knows: server.ts, or wow-server where it is installed. */
const program = process.argv[1] ?? ''

const HELP = `Usage: ${basename(program)} [port] [--host address] [--quiet]

  port      the port to listen on; ${PORT} if not given, 0 for any that is free
  --host    the address to listen on; every address of this computer if not given
  --quiet   no lines for the requests
  --help    this text`

/** Ends the program with one line that says what is wrong. */
function fail(why: string): never {
  console.error(escaped(why))
  process.exit(1)
}

/** What went wrong with listening, and what to do. */
function why_not(error: NodeJS.ErrnoException, port: number, host: string): string {
  if (error.code === 'EADDRINUSE') return `port ${port} is in use: end the program that has it, or give another port (${basename(program)} ${port + 1})`
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
    return fail(`${error instanceof Error ? error.message.split('. ', 1)[0] : error}; see --help`)
  }
}

function main(): void {
  const { port, host, quiet, help } = arguments_of(process.argv.slice(2))
  if (help) return console.log(HELP)
  // under Deno, to ask for colours is to ask the user for leave to read the environment
  const colours = !('Deno' in globalThis) && process.stdout.isTTY && process.stdout.hasColors()
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
if (import.meta.main ?? (existsSync(program) && realpathSync(program) === fileURLToPath(import.meta.url))) main()
