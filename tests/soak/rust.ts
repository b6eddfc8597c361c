/**
 * The shaq ring against the crate `shaq`: what tests/interop/ring_test.ts does, a hundred times as long, each way.
 *
 * @module
 */

import { join } from "node:path";
import { load } from "../../mod.ts";
import { createRing, joinRing, readStream, type Streamed, writeStream } from "../interop/support/ring_stream.ts";
import { type Line, rustPeer, RustProcess } from "../interop/support/rust.ts";

const FRAMES = 100_000_000;
const CAPACITY = 1024 * 1024;
const SEED = 7;

function differs(ours: Streamed, theirs: Line, seconds: number, what: string): string | undefined {
  const rate = Math.round(ours.frames / seconds);
  console.log(`${what}: ${JSON.stringify(ours)}, ${rate} frames/s; there: ${JSON.stringify(theirs)}`);
  const isSame = ours.frames === FRAMES && ours.frames === theirs["frames"] && ours.bytes === theirs["bytes"] &&
    ours.hash === theirs["hash"];
  return isSame ? undefined : `${what}: the two sides differ`;
}

export async function rust(directory: string): Promise<string | undefined> {
  const peer = rustPeer();
  if (peer.missing !== undefined) return peer.missing;
  const native = await load();

  const { ring, path } = createRing(native, directory, CAPACITY);
  await using reader = new RustProcess(peer, "ring-read", path);
  await reader.event("ready");
  let started = performance.now();
  const written = await writeStream(native, ring, FRAMES, SEED);
  const read = await reader.event("read");
  native.close(ring);
  const fault = differs(written, read, (performance.now() - started) / 1000, "ours, read by the crate");
  if (fault !== undefined) return fault;

  for (const version of [2, 3]) {
    const theirs = join(directory, `ring-${version}`);
    const args = ["--frames", FRAMES, "--seed", SEED, "--create", CAPACITY, "--version", version];
    await using writer = new RustProcess(peer, "ring-write", theirs, ...args);
    await writer.event("ready");
    started = performance.now();
    const joined = joinRing(native, theirs);
    const got = await readStream(native, joined);
    native.close(joined);
    const seconds = (performance.now() - started) / 1000;
    const other = differs(got, await writer.event("written"), seconds, `the crate's of ABI ${version}.0, read by us`);
    if (other !== undefined) return other;
  }
  return undefined;
}
