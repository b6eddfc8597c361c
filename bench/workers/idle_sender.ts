/**
 * The sender of idle consumers in fanout_load.ts: says how much memory it has before and after all are there.
 * May touch: a sender, /proc/self/smaps_rollup.
 *
 * @module
 */

import { setupSender } from "../../mod.ts";
import { OWNER } from "./keys.ts";
import { type IdleResult, type IdleTask, keyOf, residentBytes, SETTLE_MS } from "./load_task.ts";
import { answer, taskFromArguments } from "./task.ts";

const task = taskFromArguments<IdleTask>();
const sender = await setupSender({
  path: task.path,
  consumersMax: 1024,
  memoryMaxBytes: 2 ** 37,
  handshakeTimeoutMs: 60_000,
});
const before = residentBytes();
let subscribed = 0;
const all = Promise.withResolvers<void>();
const none = Promise.withResolvers<void>();
sender.onSubscription(() => void (++subscribed === task.consumers && all.resolve()));
let gone = 0;
sender.onConsumer(({ type }) => void (type === "disconnected" && ++gone === task.consumers && none.resolve()));
await all.promise;
await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
const after = residentBytes();
// One frame to each: nobody who waits has failed.
const reached = sender.publishAccount({
  pubkey: keyOf(0),
  owner: OWNER,
  lamports: 1n,
  slot: 1n,
  data: new Uint8Array(165),
});
if (reached !== task.consumers) throw new Error(`${reached} of ${task.consumers} were reached`);
await none.promise;
answer({ before, after } satisfies IdleResult);
