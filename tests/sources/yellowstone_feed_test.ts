/**
 * From a Geyser server through a sender's rings to a consumer: filters follow, pressure goes all the way up.
 * May touch: the library as a user would. The oracle is the server's log.
 *
 * @module
 */

import assert from "node:assert/strict";
import { type Address, setupConsumer, setupSender, type Update } from "../../mod.ts";
import { yellowstone } from "../../src/sources/yellowstone.ts";
import { GeyserServer } from "../support/geyser_server.ts";
import { addressOf } from "../support/geyser/world.ts";
import { guarded } from "../support/guarded.ts";
import { Temporary } from "../support/temporary.ts";
import { until, within } from "../unit/support/watchdog.ts";
import { assertSame, lineOf, lineOfSent } from "./support/received.ts";

guarded("sender.feed(yellowstone()) delivers what was sent, each byte of it", async (held) => {
  const temporary = held.use(new Temporary());
  const server = held.use(await GeyserServer.start());
  const sender = held.use(await setupSender({ path: temporary.at("s.sock") }));
  const consumer = held.use(await setupConsumer(temporary.at("s.sock"), { idle: "park" }));
  const accounts = [3, 8, 11].map((number) => addressOf(number) as Address);
  await consumer.subscribe({ accounts, transactions: true });
  const source = held.use(yellowstone({ endpoint: server.endpoint, demand: sender.demand }));
  const fed = sender.feed(source);
  fed.catch(() => {}); // looked at below, unless something else failed before
  while ((await server.requests()).at(-1)?.transactions === undefined) {
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await server.tell("advance", { slots: 30, writes: 60, dataBytes: 6000 });
  const sent = server.sent().map(lineOfSent);
  const lines: string[] = [];
  while (lines.length < sent.length) lines.push(lineOf((await within(consumer.next(), "an update"))!.copy() as Update));
  assertSame(lines, sent);
  source.close();
  await within(fed, "the end of the feed");
});

guarded(
  "a consumer that blocks stops the server by flow control; nothing is lost, and memory is bounded",
  async (held) => {
    const temporary = held.use(new Temporary());
    const server = held.use(await GeyserServer.start());
    const sender = held.use(
      await setupSender({
        path: temporary.at("s.sock"),
        policies: ["block"],
        ringCapacityBytes: 1 << 20,
        poolBytes: 0,
        blockTimeoutMs: 600_000,
      }),
    );
    const consumer = held.use(await setupConsumer(temporary.at("s.sock"), { idle: "park", policy: "block" }));
    const accounts = Array.from({ length: 64 }, (_, number) => addressOf(number) as Address);
    await consumer.subscribe({ accounts });
    const windowBytes = 1 << 18;
    const source = held.use(yellowstone({ endpoint: server.endpoint, demand: { allAccounts: true }, windowBytes }));
    const fed = sender.feed(source);
    fed.catch(() => {}); // looked at below, unless something else failed before
    while ((await server.requests()).length === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    for (let waiting = 0; waiting < 1 << 20 || source.metrics.pauses === 0;) {
      await server.tell("advance", { slots: 2, writes: 60, dataBytes: 10_000 });
      waiting = (await server.status()).subscribers[0]!.waitingBytes;
    }
    await until(() => sender.congested, "congestion");
    assert.ok(source.metrics.pauses > 0);
    assert.ok(source.metrics.bytes < (1 << 20) + 6 * windowBytes + (1 << 20), "what came has a bound");
    const sent = server.sent().map(lineOfSent);
    const lines: string[] = [];
    while (lines.length < sent.length) {
      const update = await within(consumer.next(), "an update");
      assert.equal(update!.lost, 0);
      lines.push(lineOf(update!.copy() as Update));
    }
    assertSame(lines, sent);
    source.close();
    await within(fed, "the end of the feed");
  },
);
