/**
 * The native library through Bun's FFI.
 * May touch: the global `Bun`, `bun:ffi`. The same shape as deno.ts.
 * Facts about the runtime: `Bun.connect({ fd })` adopts a descriptor; `new net.Socket({ fd })` stays silent there.
 *
 * @module
 */

import process from "node:process";
import { SYMBOLS } from "./abi.generated.ts";
import { closedIfRefused, type Functions, type Native, type Runtime, type SymbolTable, type Watch } from "./native.ts";

/** The few members of Bun that are used, so that no runtime's types are needed to check this file. */
interface BunFfi {
  dlopen(path: string, symbols: Record<string, { args: readonly string[]; returns: string }>): {
    symbols: Record<string, unknown>;
  };
  toArrayBuffer(address: number, offset: number, length: number): ArrayBuffer;
}
interface BunSocket {
  end(): void;
  ref(): void;
  unref(): void;
}
interface BunLike {
  connect(options: {
    fd: number;
    socket: { data(socket: BunSocket, bytes: Uint8Array): void; close(): void; error(): void };
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

async function adopt(fd: number, onData: (bytes: Uint8Array) => void, onClose: () => void): Promise<Watch> {
  let open = true;
  const socket = await runtime.connect({
    fd,
    socket: {
      data(_socket, bytes) {
        if (open) onData(bytes);
      },
      error() {}, // "close" follows
      close() {
        if (open) onClose();
        open = false;
      },
    },
  });
  return {
    close() {
      open = false;
      socket.end();
    },
    ref: () => socket.ref(),
    unref: () => socket.unref(),
  };
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
  return {
    ...symbols,
    ...bun,
    watch: (fd, onWake, onClose) => closedIfRefused(symbols, fd, adopt(fd, onWake, onClose)),
    stream: (fd, onBytes, onClose) => closedIfRefused(symbols, fd, adopt(fd, onBytes, onClose)), // each chunk is a buffer of its own
  };
}
