/**
 * The shaq ring against the crate `shaq`: a million frames each way, small ring, so that it wraps all the time.
 * ABI 2.0 is written and read by us; 3.0 is only read, since the library makes no rings of 3.0: nobody asks for them.
 * May touch: the native library's rings, the Rust program. A hundred times as many frames: `./dev soak rust`.
 */

import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import process from "node:process";
import { load } from "../../mod.ts";
import type { Native } from "../../src/native/native.ts";
import { guarded, type Held } from "../support/guarded.ts";
import { Temporary } from "../support/temporary.ts";
import { createRing, joinRing, readStream, type Streamed, writeStream } from "./support/ring_stream.ts";
import { type Line, rustPeer, RustProcess } from "./support/rust.ts";

const FRAMES = 1_000_000;
const CAPACITY = 1024 * 1024;
const SEED = 20261126;
const peer = rustPeer();
const options = { skip: peer.missing, timeoutMs: 300_000 };

/** What both must agree on. */
function streamed(line: Line): Streamed {
  return { frames: line["frames"] as number, bytes: line["bytes"] as number, hash: line["hash"] as string };
}

async function readJoined(held: Held, native: Native, path: string): Promise<Streamed> {
  const ring = joinRing(native, path);
  held.defer(() => void native.close(ring));
  return await readStream(native, ring);
}

for (const mode of ["file", "memfd"] as const) {
  guarded(`a ring of ours (${mode}) is read by the crate shaq 3.0.0: ${FRAMES} frames`, async (held) => {
    const native = await load();
    const directory = held.use(new Temporary());
    const { ring, path } = createRing(native, mode === "file" ? directory.path : "", CAPACITY);
    held.defer(() => void native.close(ring));
    assert.match(path, mode === "file" ? new RegExp(`/${process.pid}-3-7$`) : /^\/proc\/\d+\/fd\/\d+$/);

    const reader = held.use(new RustProcess(peer, "ring-read", path));
    await reader.event("ready");
    const written = await writeStream(native, ring, FRAMES, SEED);
    assert.deepEqual(streamed(await reader.event("read")), written);
    assert.equal(written.frames, FRAMES);
    assert.ok(written.bytes / FRAMES <= 1024 && written.bytes / CAPACITY > 800);

    native.close(ring);
    assert.equal(existsSync(path), false);
    assert.deepEqual(readdirSync(directory.path), []);
  }, options);
}

for (const [abi, version, crate] of [["2.0", 2, "3.0.0"], ["3.0", 3, "4.0.0"]] as const) {
  guarded(`a ring of the crate shaq ${crate} (ABI ${abi}) is read by us: ${FRAMES} frames`, async (held) => {
    const native = await load();
    const path = held.use(new Temporary()).at("ring");
    const args = ["--frames", FRAMES, "--seed", SEED, "--create", CAPACITY, "--version", version];
    const writer = held.use(new RustProcess(peer, "ring-write", path, ...args));
    await writer.event("ready");
    const read = await readJoined(held, native, path);
    assert.deepEqual(read, streamed(await writer.event("written")));
    assert.equal(read.frames, FRAMES);
  }, options);

  guarded(`a ring of the crate shaq ${crate} (ABI ${abi}) of 64 bytes to 128 KiB is read by us`, async (held) => {
    const native = await load();
    for (let capacity = 128 * 1024; capacity >= 64; capacity /= 8) {
      const path = held.use(new Temporary()).at("ring");
      // The frames need 128 KiB at most; what is smaller can only carry the end.
      const frames = capacity > 65540 ? 1000 : 0;
      const args = ["--frames", frames, "--seed", capacity, "--create", capacity, "--version", version];
      const writer = held.use(new RustProcess(peer, "ring-write", path, ...args));
      await writer.event("ready");
      const read = await readJoined(held, native, path);
      assert.deepEqual(read, streamed(await writer.event("written")));
    }
  }, options);
}
