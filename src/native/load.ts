/**
 * Finds, opens and checks the native library, once per thread; the threads of a process share one instance where the
 * system's loader lets them (docs/packaging.md).
 * May touch: import.meta.url, the adapters, the environment where reading it is already granted.
 * May not touch: the network; files other than the library.
 *
 * The order (design D22): the path given to `load`; QLASTER_NATIVE; in a checkout, what `./dev build` has built; the copy
 * inside the package. What is there and does not fit is an error, never a reason to take the next one: whoever names or
 * builds a library wants to run that one.
 *
 * @module
 */

import process from "node:process";
import { ABI_HASH, LAYOUT_VERSION, SYMBOLS } from "./abi.generated.ts";
import { embeddedLibrary } from "./embedded.ts";
import { openFromFile, openFromMemory } from "./extract.ts";
import { QlasterError } from "../errors.ts";
import type { Adapter, Native } from "./native.ts";

/** How to load the native library. */
export interface LoadOptions {
  /** A library file of your own, instead of the one that comes with the package. */
  readonly path?: string;
}

let loaded: Promise<Native> | undefined;
let loadedPath: string | undefined;

/**
 * Loads the native library. Called by `setupSender` and `setupConsumer`; call it yourself only to choose the file, and
 * before them: the first call decides.
 * @throws {QlasterError} `NATIVE_PERMISSION`, `NATIVE_UNSUPPORTED`, `NATIVE_NOT_FOUND`, `NATIVE_LAYOUT_MISMATCH`
 * @throws {TypeError} When `path` is empty, or differs from that of the library which is already loaded.
 */
export function load(options: LoadOptions = {}): Promise<Native> {
  const { path } = options;
  if (path !== undefined && (typeof path !== "string" || path === "")) {
    return Promise.reject(new TypeError("path must be a non-empty string"));
  }
  if (loaded !== undefined && path !== undefined && path !== loadedPath) {
    const taken = loadedPath === undefined ? "the default library" : `"${loadedPath}"`;
    return Promise.reject(
      new TypeError(`Cannot load "${path}": ${taken} is already loaded; call load({ path }) first`),
    );
  }
  if (loaded === undefined) {
    loadedPath = path;
    loaded = find(path).catch((error: unknown) => {
      loaded = undefined; // a permission can be granted and a file built later
      throw error;
    });
  }
  return loaded;
}

async function find(path: string | undefined): Promise<Native> {
  const adapter = await loadAdapter();
  assertPermitted();
  if (path !== undefined) return openFile(adapter, path, "load({ path })");

  const fromEnvironment = readEnvironment();
  if (fromEnvironment !== undefined) return openFile(adapter, fromEnvironment, "QLASTER_NATIVE");

  const built = buildOutput();
  if (built !== undefined) {
    try {
      return openFile(adapter, built, "./dev build");
    } catch (error) {
      if (!(error instanceof QlasterError && error.code === "NATIVE_NOT_FOUND")) throw error;
    }
  }
  return openEmbedded(adapter);
}

async function loadAdapter(): Promise<Adapter> {
  const globals = globalThis as { Deno?: { dlopen?: unknown }; Bun?: unknown };
  if (typeof globals.Deno?.dlopen === "function") return await import("./deno.ts");
  if (globals.Bun !== undefined) return await import("./bun.ts");
  throw new QlasterError("NATIVE_UNSUPPORTED", "Cannot load the native library in this runtime");
}

interface PermissionsLike {
  querySync(descriptor: { name: "env"; variable: string }): { state: string };
  requestSync(descriptor: { name: "ffi" }): { state: string };
}

function denoPermissions(): PermissionsLike | undefined {
  return (globalThis as { Deno?: { permissions: PermissionsLike } }).Deno?.permissions;
}

/**
 * Asks for all of FFI at once, as Deno asks: at a terminal, unless told not to. A grant for one path would open the
 * library and fail later, where memory is mapped.
 */
function assertPermitted(): void {
  const state = denoPermissions()?.requestSync({ name: "ffi" }).state ?? "granted";
  if (state !== "granted") throw new QlasterError("NATIVE_PERMISSION", "Cannot load the native library");
}

/** Never asks for a permission: the variable is for those who run with one. */
function readEnvironment(): string | undefined {
  const query = { name: "env", variable: "QLASTER_NATIVE" } as const;
  const state = denoPermissions()?.querySync(query).state ?? "granted";
  return state === "granted" ? process.env.QLASTER_NATIVE || undefined : undefined;
}

/**
 * Where `./dev build` puts the library; nothing when this is no checkout. A bundle must not look there: seen from it,
 * the folder is whatever stands beside the application.
 */
function buildOutput(): string | undefined {
  const here = new URL(import.meta.url);
  if (here.protocol !== "file:" || !here.pathname.endsWith("/src/native/load.ts")) return undefined;
  const extension = process.platform === "darwin" ? "dylib" : "so";
  return decodeURIComponent(new URL(`../../zig-out/lib/libqlaster.${extension}`, here).pathname);
}

function openFile(adapter: Adapter, path: string, origin: string): Native {
  const action = `Cannot load the native library "${path}" (${origin})`;
  let identity: Identity;
  try {
    identity = adapter.dlopen(path, IDENTITY);
  } catch (cause) {
    throw new QlasterError("NATIVE_NOT_FOUND", `${action}: ${textOf(cause)}`, { cause });
  }
  assertFits(identity, action);
  return adapter.open(path);
}

async function openEmbedded(adapter: Adapter): Promise<Native> {
  const action = "Cannot load the native library inside the package";
  try {
    const { base64, soname } = await embeddedLibrary();
    return openByName(adapter, soname) ?? openBytes(adapter, Uint8Array.fromBase64(base64), (path) => {
      assertFits(adapter.dlopen(path, IDENTITY), action);
      // By its name: where two threads have come this far together, both get the copy that was first.
      return openByName(adapter, soname) ?? adapter.open(path);
    });
  } catch (cause) {
    if (cause instanceof QlasterError) throw cause;
    throw new QlasterError("NATIVE_NOT_FOUND", `${action}: ${textOf(cause)}`, { cause });
  }
}

function openBytes(adapter: Adapter, bytes: Uint8Array, open: (path: string) => Native): Native {
  if (process.platform !== "linux") return openFromFile(adapter, bytes, open);
  try {
    return openFromMemory(adapter, bytes, open);
  } catch (error) {
    if (error instanceof QlasterError) throw error; // it was loaded, and does not fit
    return openFromFile(adapter, bytes, open);
  }
}

/**
 * The instance that another thread of this process has loaded. glibc knows it by its SONAME, which carries the hash of
 * its bytes, so that no other file can be meant; musl does not, and then each thread has an instance of its own.
 */
function openByName(adapter: Adapter, soname: string): Native | undefined {
  if (soname === "") return undefined;
  try {
    return adapter.open(soname);
  } catch {
    return undefined;
  }
}

/** Looked at before the rest, which a library of another version need not have. */
const IDENTITY = { abiHash: SYMBOLS.abiHash, layoutVersion: SYMBOLS.layoutVersion } as const;
type Identity = Pick<Native, keyof typeof IDENTITY>;

function assertFits(identity: Identity, action: string): void {
  const version = identity.layoutVersion();
  const hash = identity.abiHash();
  if (version === LAYOUT_VERSION && hash === ABI_HASH) return;
  const verdict = version < LAYOUT_VERSION
    ? "the library is the older one: upgrade it"
    : version > LAYOUT_VERSION
    ? "the TypeScript is the older one: upgrade @qlaster/core"
    : "they come from different builds of one version";
  throw new QlasterError(
    "NATIVE_LAYOUT_MISMATCH",
    `${action}: its layout version is ${version} (hash ${hash.toString(16)}), the TypeScript expects ` +
      `${LAYOUT_VERSION} (hash ${ABI_HASH.toString(16)}); ${verdict}`,
  );
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
