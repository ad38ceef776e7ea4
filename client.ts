#!/usr/bin/env node
/**
 * The client of Vamei's article "Python 网络 01 原始 Python 服务器", on nothing but the socket.
 * Part 1 is the article, in its order; part 2 is what TCP and HTTP ask besides.
 *
 *     npx tsx client.ts 127.0.0.1                  run it, with the server's address
 *     import { send } from 'wow-server/client'     or use it as a module
 *
 * @module
 */
import { isUtf8 } from 'node:buffer'
import { once } from 'node:events'
import { existsSync, realpathSync } from 'node:fs'
import { connect, isIPv6, type Socket } from 'node:net'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

// ───────────────────────────── Part 1: the article ─────────────────────────────

/**
 * Sends a request and receives the whole reply. It ends where its Content-Length says, or else where the server
 * closes the connection: a request in HTTP does well to ask for `Connection: close`.
 * @param host 'name', 'name:port', '::1' or '[::1]:port'; the port is 8000 if none is given
 * @param request is sent as it stands, text as UTF-8
 * @param options `signal` ends the waiting, and so do `silent_ms` without a byte (30 s by default)
 * @returns the reply as it came, head and body
 * @throws Error that says why there is no whole reply; its `cause` is the system's error, if there is one
 */
export async function send(host: string, request: string | Uint8Array, options: { signal?: AbortSignal, silent_ms?: number } = {}): Promise<Uint8Array> {
  // Address
  const { HOST, PORT, authority } = address_of(host)
  const { signal, silent_ms = 30_000 } = options

  // configure socket
  const s = connect({ host: HOST, port: PORT, signal, timeout: silent_ms })
  s.on('timeout', () => s.destroy(new Error(`nothing came for ${silent_ms / 1000} s: is the address right, and the request whole (a head in HTTP ends with an empty line)?`)))
  try {
    await once(s, 'connect')

    // send message
    const message = Buffer.from(request)
    s.write(message)
    // receive message
    const reply = await recv(s, message.toString('latin1', 0, 5) === 'HEAD ')
    return reply
  } catch (error) {
    throw signal?.aborted ? new Error(`${authority}: aborted`, { cause: signal.reason }) : explained(error, authority)
  } finally {
    // close connection
    s.destroy()
  }
}

/** The article's program; the address and the request are the command line's. */
async function main(): Promise<void> {
  process.stdout.on('error', fail)
  try {
    const { host, request, help } = arguments_of(process.argv.slice(2))
    if (help) return console.log(HELP)
    const reply = Buffer.from(await send(host, request))
    if (request.startsWith('GET ') && !process.stdout.isTTY) keep(reply)
    else console.log('reply is:', printable(text_of(reply)))
  } catch (error) {
    fail(error)
  }
}

// ──────────────────── Part 2: what TCP and HTTP ask besides ────────────────────

/** Takes an address apart; `authority` is what the Host field wants of it (RFC 9112, 3.2). */
function address_of(host: string): { HOST: string, PORT: number, authority: string } {
  const [, ipv6 = '', HOST = ipv6, port = '8000'] = /^(?:\[(.*)\]|([\w.-]+))(?::(\d+))?$/.exec(isIPv6(host) ? `[${host}]` : host) ?? []
  const PORT = Number(port)
  if (!HOST || ipv6 && !isIPv6(ipv6)) throw new Error(`${host} is no address: give a name or an IP address, with or without a port, as in 127.0.0.1:8000 or [::1]:8000`)
  if (PORT < 1 || PORT > 65_535) throw new Error(`${port} is no port: give a number from 1 to 65535`)
  // the zone of a link-local address means nothing to the other computer (RFC 4007, 11.2)
  const name = ipv6 ? `[${ipv6.replace(/%.*/, '')}]` : HOST
  return { HOST, PORT, authority: PORT === 80 ? name : `${name}:${PORT}` }
}

/** What the system's errors mean, and what to do. */
const WHY: Record<string, string> = {
  ENOTFOUND:    'no such host: check the name, or give the address',
  EAI_AGAIN:    'the name cannot be looked up: check the network, or give the address',
  EHOSTUNREACH: 'no way to that host: check the address and the network',
  ENETUNREACH:  'no way to that host: check the address and the network',
  ETIMEDOUT:    'no answer from that host: check the address and the network',
  ECONNREFUSED: 'connection refused: is the server running? npx tsx server.ts starts it',
  ECONNRESET:   'the connection was reset before the reply was whole: try again',
  EPIPE:        'the connection was closed before the request was whole: try again',
}

function explained(error: unknown, authority: string): Error {
  const { code = '', message } = error as NodeJS.ErrnoException
  return new Error(`${authority}: ${WHY[code] ?? message}`, code ? { cause: error } : {})
}

/** How far into a reply its head is looked for (bytes); without an end, a long text would be searched again and again. */
const HEAD_BYTES = 65_536

/** Receives until the reply is whole (RFC 9112, 6.3). */
async function recv(s: Socket, head_only: boolean): Promise<Buffer> {
  const pieces: Buffer[] = []
  let received = 0, start = Buffer.alloc(0), head = head_of(start)
  for await (const piece of s as AsyncIterable<Buffer>) {
    pieces.push(piece)
    received += piece.length
    if (!head.end && start.length < HEAD_BYTES) {
      start = Buffer.concat([start, piece])
      head = head_of(start, head_only)
    }
    if (received >= head.end + head.length) return Buffer.concat(pieces, head.end + head.length)
  }
  // the server has closed
  const reply = Buffer.concat(pieces)
  if (!received) throw new Error('closed without a reply: is the request one that this server answers?')
  if (!head.end && start.toString('latin1', 0, 5) === 'HTTP/') throw new Error('the reply was cut short, its head has no end: try again')
  if (head.length < Infinity) throw new Error(`the reply was cut short after ${received - head.end} of ${head.length} bytes: try again`)
  if (head.chunked && !unchunked(reply.subarray(head.end))) throw new Error('the reply was cut short, its last chunk is missing: try again')
  return reply
}

/** What a reply's head says; `end`, where the body begins, is 0 while the head is not whole, or if there is none (bare text). */
function head_of(reply: Buffer, head_only = false): { end: number, length: number, chunked: boolean, type: string } {
  const text = reply.toString('latin1', 0, HEAD_BYTES), heads = /HTTP\/[^]*?\n\r?\n/y
  let head = ''
  // interim ones (1xx) come before the one that counts (RFC 9110, 15.2)
  do head = heads.exec(text)?.[0] ?? ''
  while (/^\S+ +1/.test(head))
  const field = (name: string): string => new RegExp(`^${name}:[\\t ]*(.*?)[\\t ]*$`, 'im').exec(head)?.[1] ?? ''
  const coding = field('transfer-encoding'), digits = field('content-length')
  const bodiless = head && (head_only || /^\S+ +[23]04/.test(head))
  const length = bodiless ? 0 : coding || !/^\d+$/.test(digits) ? Infinity : Number(digits)
  return { end: heads.lastIndex, length, chunked: /\bchunked$/i.test(coding), type: field('content-type') }
}

/** Puts a chunked body together (RFC 9112, 7.1); undefined if it was cut short. */
function unchunked(body: Buffer): Buffer | undefined {
  const chunks: Buffer[] = []
  for (let at = 0; ; ) {
    const end = body.indexOf('\r\n', at), size = parseInt(body.toString('latin1', at, end), 16)
    if (end < 0 || !(size >= 0 && size < body.length)) return undefined
    if (size === 0) return body.includes('\r\n\r\n', end) ? Buffer.concat(chunks) : undefined
    at = end + 2 + size + 2
    chunks.push(body.subarray(end + 2, at - 2))
  }
}

/** The head as text, and the body, a chunked one put together. */
function parts_of(reply: Buffer): { head: string, body: Buffer, type: string } {
  const { end, chunked, type } = head_of(reply), body = reply.subarray(end)
  return { head: reply.toString('utf8', 0, end), body: chunked && unchunked(body) || body, type }
}

/** Writes the body to stdout as it is, and the head to stderr. */
function keep(reply: Buffer): void {
  const { head, body } = parts_of(reply)
  if (head) console.error(printable(head))
  process.stdout.write(body)
}

/** The reply as text, if its body is text (RFC 9110, 8.3). */
function text_of(reply: Buffer): string {
  const { head, body, type } = parts_of(reply)
  const is_text = type ? /^text\/|\b(?:json|xml|javascript|yaml|x-www-form-urlencoded)\b/i.test(type) : isUtf8(body) && !body.includes(0)
  if (is_text || !body.length) return head + String(body)
  return `${head}(${body.length} bytes of ${type || 'no type'}: a GET with > FILE after it keeps them)`
}

/** Text from the other side made safe for a terminal: control characters and the backslash as \xHH. */
function printable(text: string): string {
  const escape = (character: string): string => '\\x' + character.charCodeAt(0).toString(16).padStart(2, '0')
  return text.trimEnd().replaceAll('\r\n', '\n').replace(/[\0-\t\v-\x1f\x7f-\x9f\\]/g, escape)
}

/** Ends the program with one line that says what is wrong. */
function fail(error: unknown): void {
  const { code, message } = error as NodeJS.ErrnoException
  // that nobody reads on (| head) is nothing wrong
  if (code === 'EPIPE') return
  console.error(printable(message) + (code?.startsWith('ERR_PARSE_ARGS') ? '; see --help' : ''))
  process.exitCode = 1
}

/** The program that runs, under the name that its user knows: client.ts, or wow-client where it is installed. */
const program = process.argv[1] ?? ''

const HELP = `Usage: ${basename(program)} HOST[:PORT] [REQUEST]

  HOST      the server's name or address; with a port, an IPv6 address stands in brackets
  PORT      8000 if not given
  REQUEST   is sent as it stands; can you hear me? if not given
            one that begins with / is short for a GET of that path
  --help    this text

What a GET gets is written to a file or pipe as it is, without its head:
  ${basename(program)} 127.0.0.1 /test.jpg > copy.jpg`

function arguments_of(args: string[]): { host: string, request: string, help: boolean } {
  const options = { help: { type: 'boolean', default: false } } as const
  const { values: { help }, positionals: [host = '', request = 'can you hear me?', ...others] } = parseArgs({ args, options, allowPositionals: true })
  if (!host && !help) throw new Error('which server? give its address, as in 127.0.0.1; see --help')
  if (others.length) throw new Error(`one request is enough, in quotes if it has spaces: what is ${others.join(' ')}? see --help`)
  if (help || !request.startsWith('/')) return { host, request, help }
  // what cannot stand in a request-target is percent-encoded (RFC 9112, 3.2)
  const path = request.replace(/[^!"$-~]/gu, encodeURIComponent)
  return { host, request: `GET ${path} HTTP/1.1\r\nHost: ${address_of(host).authority}\r\nConnection: close\r\n\r\n`, help }
}

// run, not imported (Node 20 has no import.meta.main, and npm's commands are links)
if (import.meta.main ?? (existsSync(program) && realpathSync(program) === fileURLToPath(import.meta.url))) main()
