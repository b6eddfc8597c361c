/**
 * The native library through Deno's FFI.
 * May touch: the global `Deno`, `node:net`. The same shape as bun.ts.
 * Facts about the runtime: descriptor adoption by `net.Socket` since Deno 2.7.12; it needs no permission of its own.
 *
 * @module
 */

import { Socket } from "node:net";
import { SYMBOLS } from "./abi.generated.ts";
import { accept } from "./accept.ts";
import { HOST_CLOCK } from "./clock.ts";
import { closedIfRefused, type Functions, type Native, type Runtime, type SymbolTable, type Watch } from "./native.ts";

/** The few members of `Deno` that are used, so that no runtime's types are needed to check this file. */
interface DenoLike {
  dlopen(path: string, symbols: Record<string, { name: string; parameters: readonly string[]; result: string }>): {
    symbols: Record<string, unknown>;
  };
  UnsafePointer: { create(address: bigint): object | null };
  UnsafePointerView: { getArrayBuffer(pointer: object, length: number): ArrayBuffer };
}

const runtime = (globalThis as { Deno?: DenoLike }).Deno!;

const deno: Pick<Runtime, "name" | "memory"> = {
  name: "deno",

  memory(address: number, length: number): ArrayBuffer {
    return runtime.UnsafePointerView.getArrayBuffer(runtime.UnsafePointer.create(BigInt(address))!, length);
  },
};

// deno-lint-ignore require-await
async function adopt(fd: number, onData: (bytes: Uint8Array) => void, onClose: () => void): Promise<Watch> {
  const socket = new Socket({ fd, readable: true, writable: true });
  let open = true;
  socket.on("data", (bytes: Uint8Array) => {
    if (open) onData(bytes);
  });
  socket.on("error", () => {}); // "close" follows
  socket.on("close", () => {
    if (open) onClose();
    open = false;
  });
  return {
    close() {
      open = false;
      socket.destroy();
    },
    ref: () => void socket.ref(),
    unref: () => void socket.unref(),
  };
}

/** Opens a library with the functions of the table. */
export function dlopen<Table extends SymbolTable>(path: string, table: Table): Functions<Table> {
  const definitions: Parameters<DenoLike["dlopen"]>[1] = {};
  for (const [key, [name, parameters, result]] of Object.entries(table)) {
    definitions[key] = { name, parameters, result };
  }
  return runtime.dlopen(path, definitions).symbols as Functions<Table>;
}

/** Opens the native library. */
export function open(path: string): Native {
  const symbols = dlopen(path, SYMBOLS);
  const native: Native = {
    ...symbols,
    ...deno,
    clock: HOST_CLOCK,
    random: Math.random,
    accept: (listener, onLink) => accept(native, listener, onLink),
    watch: (fd, onWake, onClose) => closedIfRefused(symbols, fd, adopt(fd, onWake, onClose)),
    stream: (fd, onBytes, onClose) => closedIfRefused(symbols, fd, adopt(fd, onBytes, onClose)), // each chunk is a buffer of its own
  };
  return native;
}
