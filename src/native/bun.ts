/**
 * The native library through Bun's FFI.
 * May touch: the global `Bun`, `bun:ffi`. The same shape as deno.ts.
 * Facts about the runtime: `Bun.connect({ fd })` adopts a descriptor; `new net.Socket({ fd })` stays silent there.
 *
 * @module
 */

import process from "node:process";
import { SYMBOLS } from "./abi.generated.ts";
import { accept } from "./accept.ts";
import { HOST_CLOCK } from "./clock.ts";
import { closedIfRefused, type Functions, type Native, type Runtime, type SymbolTable, type Watch } from "./native.ts";

/** The few members of Bun that are used, so that no runtime's types are needed to check this file. */
interface BunFfi {
  dlopen(path: string, symbols: Record<string, { args: readonly string[]; returns: string }>): {
    symbols: Record<string, unknown>;
  };
  toArrayBuffer(address: number, offset: number, length: number): ArrayBuffer;
}
interface BunSocket {
  readonly data: BunWatch;
  end(): void;
  ref(): void;
  unref(): void;
}
interface BunLike {
  connect(options: {
    fd: number;
    data: BunWatch;
    socket: typeof HANDLERS;
  }): Promise<BunSocket>;
}

const runtime = (globalThis as { Bun?: BunLike }).Bun!;
const ffi = (process as unknown as { getBuiltinModule(name: string): BunFfi }).getBuiltinModule("bun:ffi");

const bun: Pick<Runtime, "name" | "memory"> = {
  name: "bun",

  memory(address: number, length: number): ArrayBuffer {
    return ffi.toArrayBuffer(address, 0, length);
  },
};

/** The same for all sockets: functions of each one's own would be a kilobyte of each connection. */
const HANDLERS = {
  data(socket: BunSocket, bytes: Uint8Array): void {
    socket.data.onData(bytes);
  },
  error(): void {}, // "close" follows
  close(socket: BunSocket): void {
    socket.data.onEnd();
  },
};

class BunWatch implements Watch {
  readonly #onData: (bytes: Uint8Array) => void;
  readonly #onClose: () => void;
  #socket: BunSocket | undefined;
  #isOpen = true;

  private constructor(onData: (bytes: Uint8Array) => void, onClose: () => void) {
    this.#onData = onData;
    this.#onClose = onClose;
  }

  static async adopt(fd: number, onData: (bytes: Uint8Array) => void, onClose: () => void): Promise<Watch> {
    const watch = new BunWatch(onData, onClose);
    watch.#socket = await runtime.connect({ fd, data: watch, socket: HANDLERS });
    return watch;
  }

  onData(bytes: Uint8Array): void {
    if (this.#isOpen) this.#onData(bytes);
  }

  onEnd(): void {
    if (this.#isOpen) this.#onClose();
    this.#isOpen = false;
  }

  close(): void {
    this.#isOpen = false;
    this.#socket!.end();
  }

  ref(): void {
    this.#socket!.ref();
  }

  unref(): void {
    this.#socket!.unref();
  }
}

/** Opens a library with the functions of the table. */
export function dlopen<Table extends SymbolTable>(path: string, table: Table): Functions<Table> {
  const definitions: Parameters<BunFfi["dlopen"]>[1] = {};
  for (const [name, parameters, result] of Object.values(table)) {
    definitions[name] = { args: parameters, returns: result };
  }
  const library = ffi.dlopen(path, definitions).symbols;
  const functions: Record<string, unknown> = {};
  for (const [key, [name]] of Object.entries(table)) functions[key] = library[name];
  return functions as Functions<Table>;
}

/** Opens the native library. */
export function open(path: string): Native {
  const symbols = dlopen(path, SYMBOLS);
  const native: Native = {
    ...symbols,
    ...bun,
    clock: HOST_CLOCK,
    random: Math.random,
    accept: (listener, onLink) => accept(native, listener, onLink),
    watch: (fd, onWake, onClose) => closedIfRefused(symbols, fd, BunWatch.adopt(fd, onWake, onClose)),
    stream: (fd, onBytes, onClose) => closedIfRefused(symbols, fd, BunWatch.adopt(fd, onBytes, onClose)), // each chunk is a buffer of its own
  };
  return native;
}
