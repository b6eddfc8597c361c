/**
 * Finds, opens and checks the native library, once per process.
 * May touch: import.meta.url, the adapters. May not touch: the network, the environment, the file system.
 *
 * @module
 */

import process from "node:process";
import { ABI_HASH, LAYOUT_VERSION } from "./abi.generated.ts";
import { QlasterError } from "../errors.ts";
import type { Native, Open } from "./native.ts";

/** How to load the native library. */
export interface LoadOptions {
  /** A library file of your own, instead of the one that comes with the package. */
  readonly path?: string;
}

let loaded: Promise<Native> | undefined;

/**
 * Loads the native library. Called by `setupSender` and `setupConsumer`; call it yourself only to choose the file, and
 * before them: the first call decides for the process.
 * @throws {QlasterError} `NATIVE_PERMISSION`, `NATIVE_UNSUPPORTED`, `NATIVE_NOT_FOUND`, `NATIVE_LAYOUT_MISMATCH`
 */
export function load(options: LoadOptions = {}): Promise<Native> {
  loaded ??= openAndCheck(options).catch((error: unknown) => {
    loaded = undefined; // a permission can be granted and a file built later
    throw error;
  });
  return loaded;
}

interface PermissionsLike {
  querySync(descriptor: { name: "ffi" }): { state: "granted" | "denied" | "prompt" };
}

async function openAndCheck(options: LoadOptions): Promise<Native> {
  const open = await adapter();
  const path = options.path ?? defaultPath();
  const action = `Cannot load the native library "${path}"`;
  let native: Native;
  try {
    native = open(path);
  } catch (cause) {
    const denied = cause instanceof Error && (cause.name === "NotCapable" || cause.name === "PermissionDenied");
    throw new QlasterError(denied ? "NATIVE_PERMISSION" : "NATIVE_NOT_FOUND", action, { cause });
  }
  // A grant for one path opens the library, and then fails where memory is mapped.
  const permissions = (globalThis as { Deno?: { permissions: PermissionsLike } }).Deno?.permissions;
  if (permissions !== undefined && permissions.querySync({ name: "ffi" }).state !== "granted") {
    throw new QlasterError("NATIVE_PERMISSION", action);
  }
  const version = native.layoutVersion();
  const hash = native.abiHash();
  if (version !== LAYOUT_VERSION || hash !== ABI_HASH) {
    const older = version < LAYOUT_VERSION
      ? "the library is older"
      : version > LAYOUT_VERSION
      ? "the TypeScript is older"
      : "";
    throw new QlasterError(
      "NATIVE_LAYOUT_MISMATCH",
      `${action}: it has layout ${version} (${hash.toString(16)}), the TypeScript expects ${LAYOUT_VERSION} ` +
        `(${ABI_HASH.toString(16)})${older && `: ${older}`}`,
    );
  }
  return native;
}

async function adapter(): Promise<Open> {
  const globals = globalThis as { Deno?: { dlopen?: unknown }; Bun?: unknown };
  if (typeof globals.Deno?.dlopen === "function") return (await import("./deno.ts")).open;
  if (globals.Bun !== undefined) return (await import("./bun.ts")).open;
  throw new QlasterError("NATIVE_UNSUPPORTED", "Cannot load the native library in this runtime");
}

/** Where `./dev build` puts it. */
function defaultPath(): string {
  const extension = process.platform === "darwin" ? "dylib" : process.platform === "linux" ? "so" : undefined;
  if (extension === undefined || !["x64", "arm64"].includes(process.arch)) {
    throw new QlasterError(
      "NATIVE_UNSUPPORTED",
      `Cannot load the native library on ${process.platform} ${process.arch}`,
    );
  }
  const url = new URL(`../../zig-out/lib/libqlaster.${extension}`, import.meta.url);
  return decodeURIComponent(url.pathname);
}
