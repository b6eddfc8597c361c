/**
 * One subscription over one HTTP/2 connection of its own, and how it ends.
 * May touch: its socket, timers. May not touch: updates, filters; it moves messages.
 * Two habits keep Deno's `node:http2` alive (denoland/deno#36788): a connection carries one stream, so that no GOAWAY meets
 * closed ones, and it is destroyed in a turn of its own, never inside a callback of its stream.
 *
 * @module
 */

import * as http2 from "node:http2";
import { setImmediate } from "node:timers";
import { type Compression, frameOf, FrameReader } from "./frames.ts";

/** Status codes of gRPC that mean something here. */
export const GrpcStatus = {
  ok: 0,
  invalidArgument: 3,
  permissionDenied: 7,
  failedPrecondition: 9,
  outOfRange: 11,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  unauthenticated: 16,
} as const;

/** Why a stream ended. */
export interface StreamEnd {
  /** `status`: the server said so. `protocol`: it sent nonsense. `lost`: anything else. */
  readonly kind: "status" | "protocol" | "lost" | "closed";
  /** gRPC's, if the server sent one. */
  readonly status: number | undefined;
  readonly text: string;
  readonly cause?: unknown;
}

/** Where to and how. */
export interface StreamOptions {
  /** `http://` or `https://`. */
  readonly endpoint: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Certificates to trust in place of the runtime's own list, PEM. */
  readonly ca: string | readonly string[] | undefined;
  readonly compression: readonly Compression[];
  /** Bytes that may be on their way to us. */
  readonly windowBytes: number;
  readonly messageBytesMax: number;
  /** Longest wait for the connection, and for the server's first word. */
  readonly connectTimeoutMs: number;
  /** Longest silence: the server pings, so its absence says that nobody is there. */
  readonly silenceMs: number;
}

/** Who gets what comes. */
export interface StreamHandlers {
  /** A message, where it stands; its bytes are never written again. What it throws ends the stream as `protocol`. */
  readonly onMessage: (bytes: Uint8Array, start: number, end: number) => void;
  /**
   * All messages of a chunk have been handed out.
   * @param bytes Length of the chunk. @param memoryBytes The same, with what its compressed messages have become.
   */
  readonly onChunkEnd: (bytes: number, memoryBytes: number) => void;
  /** Called once. Not for `close()`. */
  readonly onEnd: (end: StreamEnd) => void;
}

const SUBSCRIBE_PATH = "/geyser.Geyser/Subscribe";
/** How often the silence is measured, within its limit. */
const LOOKS_PER_SILENCE = 4;
const FRAME_BYTES = 256 * 1024;

type Headers = Readonly<Record<string, string | readonly string[] | number | undefined>>;

/** A running subscription. The first request has to be written by its maker. */
export class GeyserStream {
  readonly #options: StreamOptions;
  readonly #handlers: StreamHandlers;
  readonly #frames: FrameReader;
  readonly #session: http2.ClientHttp2Session;
  readonly #stream: http2.ClientHttp2Stream;
  readonly #connectTimer: ReturnType<typeof setTimeout>;
  readonly #silenceTimer: ReturnType<typeof setInterval>;
  #heardAt = performance.now();
  #lookedAt = performance.now();
  #isPaused = false;
  #isOver = false;
  /** Bytes of requests that the socket has not taken. */
  #unsent = 0;

  /** Connects. What goes wrong is told by `onEnd`, later. @throws {TypeError} for an endpoint that is no URL. */
  constructor(options: StreamOptions, handlers: StreamHandlers) {
    this.#options = options;
    this.#handlers = handlers;
    this.#frames = new FrameReader(options.messageBytesMax, handlers.onMessage);
    const session = http2.connect(options.endpoint, {
      settings: { enablePush: false, initialWindowSize: options.windowBytes, maxFrameSize: FRAME_BYTES },
      ...options.ca === undefined ? {} : { ca: options.ca as string | string[] },
    });
    this.#session = session;
    session.on("error", (error) => this.#lost("the connection failed", error));
    session.on("connect", () => {
      // The window of the connection, beside that of the stream: 64 KiB unless said otherwise.
      if (!this.#isOver) session.setLocalWindowSize?.(options.windowBytes);
    });
    // Bun tells of the socket's end by the session alone.
    session.on("close", () => this.#lost("the connection was closed"));
    const stream = session.request({
      ":method": "POST",
      ":path": SUBSCRIBE_PATH,
      "content-type": "application/grpc",
      te: "trailers",
      "grpc-accept-encoding": [...options.compression, "identity"].join(","),
      "user-agent": "qlaster",
      ...options.headers,
    });
    this.#stream = stream;
    stream.on("response", (headers) => this.#onResponse(headers as Headers));
    stream.on("trailers", (headers) => this.#onStatus(headers as Headers));
    stream.on("error", (error) => this.#lost("the stream failed", error));
    stream.on("close", () => this.#lost("the stream was closed without a status"));
    stream.on("end", () => setImmediate(() => this.#lost("the stream ended without a status"))); // trailers come first
    stream.on("data", (chunk: Uint8Array) => this.#onData(chunk));
    this.#connectTimer = setTimeout(
      () => this.#lost(`no answer within ${options.connectTimeoutMs} ms`),
      options.connectTimeoutMs,
    );
    this.#silenceTimer = setInterval(() => this.#onLook(), options.silenceMs / LOOKS_PER_SILENCE);
  }

  /** Messages so far that came compressed. */
  get compressedCount(): number {
    return this.#frames.compressedCount;
  }

  /** Whether all requests so far have left: a peer that reads none must not make us keep many. */
  get isSent(): boolean {
    return this.#unsent === 0;
  }

  /** Sends a request. @param onSent It has left. */
  write(message: Uint8Array, onSent?: () => void): void {
    if (this.#isOver) return;
    const frame = frameOf(message);
    this.#unsent += frame.length;
    this.#stream.write(frame, () => {
      this.#unsent -= frame.length;
      if (!this.#isOver) onSent?.();
    });
  }

  /** Reads no more: HTTP/2's windows fill up, and the server stops. */
  pause(): void {
    if (this.#isPaused || this.#isOver) return;
    this.#isPaused = true;
    this.#stream.pause();
  }

  /** Reads on. */
  resume(): void {
    if (!this.#isPaused || this.#isOver) return;
    this.#isPaused = false;
    this.#heardAt = performance.now(); // what was said meanwhile is still unread
    this.#stream.resume();
  }

  /** Ends it without a word to `onEnd`. */
  close(): void {
    this.#finish();
  }

  /** Ends it, and says so. */
  fail(end: StreamEnd): void {
    if (this.#finish()) this.#handlers.onEnd(end);
  }

  #onResponse(headers: Headers): void {
    clearTimeout(this.#connectTimer);
    this.#heardAt = performance.now();
    if (headers[":status"] !== 200) {
      const status = headers[":status"] === 401 ? GrpcStatus.unauthenticated : undefined;
      return this.fail({ kind: "status", status, text: `the server answers with HTTP status ${headers[":status"]}` });
    }
    this.#frames.encoding = String(headers["grpc-encoding"] ?? "identity");
    this.#onStatus(headers); // a refusal may come without a body
  }

  #onStatus(headers: Headers): void {
    const code = headers["grpc-status"];
    if (code === undefined) return;
    const status = Number(code);
    const message = textOf(headers["grpc-message"]);
    const text = `the server ended the stream with gRPC status ${status}${message === "" ? "" : `: ${message}`}`;
    this.fail({ kind: "status", status, text });
  }

  #onData(chunk: Uint8Array): void {
    if (this.#isOver) return;
    this.#heardAt = performance.now();
    try {
      this.#frames.push(chunk);
    } catch (cause) {
      const text = cause instanceof Error ? cause.message : String(cause);
      // What was read before is good, and handed on by onChunkEnd.
      this.#onChunkEnd(chunk);
      return this.fail({ kind: "protocol", status: undefined, text, cause });
    }
    this.#onChunkEnd(chunk);
  }

  #onChunkEnd({ length }: Uint8Array): void {
    this.#handlers.onChunkEnd(length, length + this.#frames.plainBytes);
  }

  #onLook(): void {
    const now = performance.now();
    const { silenceMs } = this.#options;
    // Time in which our own loop stood still says nothing about the server.
    const stoodStill = now - this.#lookedAt > (2 * silenceMs) / LOOKS_PER_SILENCE;
    this.#lookedAt = now;
    if (stoodStill || this.#isPaused) this.#heardAt = Math.max(this.#heardAt, now - silenceMs / 2);
    else if (now - this.#heardAt > silenceMs) this.#lost(`nothing came for ${Math.round(now - this.#heardAt)} ms`);
  }

  #lost(text: string, cause?: unknown): void {
    if (this.#isOver) return;
    const detail = cause instanceof Error ? `${text}: ${cause.message}` : text;
    this.fail({ kind: "lost", status: undefined, text: detail, cause });
  }

  /** @returns Whether this call ended it. */
  #finish(): boolean {
    if (this.#isOver) return false;
    this.#isOver = true;
    clearTimeout(this.#connectTimer);
    clearInterval(this.#silenceTimer);
    // In a turn of its own: nghttp2 is not told to close a stream while it is busy with it.
    setImmediate(() => {
      if (!this.#stream.destroyed) this.#stream.close(http2.constants.NGHTTP2_CANCEL);
      setImmediate(() => this.#session.destroy());
    });
    return true;
  }
}

/** `grpc-message` is percent-encoded; who does that wrongly is quoted as it is. */
function textOf(value: unknown): string {
  const text = String(value ?? "").slice(0, 1000);
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
