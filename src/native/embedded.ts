/**
 * The native library that travels inside the package, one TypeScript module per platform: what every cache, bundler and
 * compiler carries along without being told (design D22).
 * May touch: the generated modules under embedded/ (`zig build embed`).
 *
 * @module
 */

import process from "node:process";
import { QlasterError } from "../errors.ts";

/** A library in a module. */
export interface EmbeddedLibrary {
  /** The name under which the system's loader knows it once it is loaded; empty where there is no such name. */
  readonly soname: string;
  /** Of the library's bytes, in hexadecimal. */
  readonly sha256: string;
  readonly base64: string;
}

/**
 * The library for this machine. Rejects when the module is not there, as in a checkout before the first build.
 * The specifiers are literals, because that is how Deno, JSR and bundlers find them.
 * @throws {QlasterError} `NATIVE_UNSUPPORTED`
 */
export async function embeddedLibrary(): Promise<EmbeddedLibrary> {
  switch (`${process.platform}-${process.arch}`) {
    case "linux-x64":
      return (await import("./embedded/linux-x64.ts")).library;
    case "linux-arm64":
      return (await import("./embedded/linux-arm64.ts")).library;
    case "darwin-x64":
      return (await import("./embedded/darwin-x64.ts")).library;
    case "darwin-arm64":
      return (await import("./embedded/darwin-arm64.ts")).library;
    default:
      throw new QlasterError(
        "NATIVE_UNSUPPORTED",
        `Cannot load the native library on ${process.platform} ${process.arch}`,
      );
  }
}
