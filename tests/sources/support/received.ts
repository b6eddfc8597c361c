/**
 * What a source yielded, in the words of the test server's log, and a reader that takes it as a feed does.
 * May touch: updates. May not touch: how they were decoded.
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import type { Update } from "../../../mod.ts";
import type { Sent } from "../../support/geyser_server.ts";
import { signedMessageOf } from "../../support/geyser/world.ts";
import { until } from "../../unit/support/watchdog.ts";

const STATUSES = ["processed", "confirmed", "finalized", "firstShredReceived", "completed", "createdBank", "dead"];
const hex = (bytes: unknown) => Buffer.from(bytes as Uint8Array).toString("hex");

/** Every field of an update that a server can tell, as text. */
export function lineOf(update: Update): string {
  const common = { kind: update.kind, slot: update.slot.toString(), sourceNs: update.sourceNs?.toString() };
  switch (update.kind) {
    case "account":
      return JSON.stringify({
        ...common,
        pubkey: hex(update.pubkey),
        owner: hex(update.owner),
        lamports: update.lamports.toString(),
        data: hex(update.data),
        writeVersion: update.writeVersion?.toString(),
        rentEpoch: update.rentEpoch?.toString(),
        executable: update.executable,
        signature: update.signature === undefined ? null : hex(update.signature),
        startup: update.startup,
      });
    case "transaction": {
      const { index, vote, failed, signature, message } = update;
      const loaded = (update as { loadedAddresses?: { writable: Uint8Array[] } }).loadedAddresses;
      return JSON.stringify({
        ...common,
        index,
        vote,
        failed,
        signature: hex(signature),
        message: hex(message),
        loaded: loaded?.writable.map(hex) ?? [],
      });
    }
    case "slot":
      return JSON.stringify({ ...common, parent: update.parent.toString(), status: update.status });
  }
}

/** The same of what the server's log says. */
export function lineOfSent(sent: Sent): string {
  const common = { kind: sent.kind, slot: sent.slot, sourceNs: sent.createdNs };
  switch (sent.kind) {
    case "account": {
      const { pubkey, owner, lamports, data, writeVersion, rentEpoch, executable, signature, startup } = sent;
      return JSON.stringify({
        ...common,
        pubkey,
        owner,
        lamports,
        data,
        writeVersion,
        rentEpoch,
        executable,
        signature,
        startup,
      });
    }
    case "transaction": {
      const { index, vote, failed, signature, keys } = sent;
      const message = signedMessageOf(sent).toString("hex");
      return JSON.stringify({ ...common, index, vote, failed, signature, message, loaded: keys.slice(2) });
    }
    case "slot":
      return JSON.stringify({ ...common, parent: sent.parent, status: STATUSES[sent.status] });
  }
}

/** Reads a source in the background; each update is written down when it is handed over. */
export class Reader {
  readonly updates: Update[] = [];
  readonly lines: string[] = [];
  batches = 0;
  error: unknown;
  readonly ended: Promise<void>;
  #gate: PromiseWithResolvers<void> | undefined;

  constructor(source: AsyncIterable<readonly Update[]>) {
    this.ended = this.#read(source).catch((error) => {
      this.error = error;
    });
  }

  /** Takes nothing more, until `go`. */
  stop(): void {
    this.#gate ??= Promise.withResolvers();
  }

  go(): void {
    this.#gate?.resolve();
    this.#gate = undefined;
  }

  /** Waits until it has what the server has sent, all of it or of the given connection, as long as more of it comes. */
  async has(count: number): Promise<void> {
    while (this.lines.length < count && this.error === undefined) {
      const { length } = this.lines;
      await until(() => this.lines.length > length || this.error !== undefined, `update ${length + 1} of ${count}`);
    }
    if (this.error !== undefined) throw this.error;
  }

  async #read(source: AsyncIterable<readonly Update[]>): Promise<void> {
    for await (const batch of source) {
      this.batches++;
      assert.ok(batch.length > 0);
      for (const update of batch) {
        this.updates.push(update);
        this.lines.push(lineOf(update));
      }
      await this.#gate?.promise;
    }
  }
}

/** What was sent, each thing once: what replays repeat is left out. */
export function onceEach(lines: readonly string[]): string[] {
  return [...new Set(lines)];
}

/** The two are the same; if not, what differs first. */
export function assertSame(actual: readonly string[], expected: readonly string[], what = "the updates"): void {
  const at = actual.findIndex((line, i) => line !== expected[i]);
  if (at < 0 && actual.length === expected.length) return;
  const i = at < 0 ? actual.length : at;
  const cut = (line: string | undefined) => line?.slice(0, 300) ?? "nothing";
  assert.fail(
    `${what} differ at ${i} of ${actual.length}, ${expected.length} expected:\n  is       ${
      cut(actual[i])
    }\n  expected ${cut(expected[i])}\n  before   ${cut(expected[i - 1])}`,
  );
}
