/**
 * What a consumer refuses on its link once it is granted: messages that nobody asked for, and senders that never read. It ends
 * with a reason; it never hangs, crashes, or keeps anything.
 * May touch: the library in this process, a raw sender beside it, regions forged through libc, /proc.
 *
 * @module
 */

import assert from "node:assert/strict";
import { isQlasterError } from "../../mod.ts";
import { LinkKind } from "../../src/native/abi.generated.ts";
import { guarded } from "../support/guarded.ts";
import { message, RawWake } from "../support/raw_peer.ts";
import { goodSlot, grant, withPrey } from "./support/hostile_sender.ts";

interface Chatter {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly withDescriptor?: boolean;
}

const CHATTER: readonly Chatter[] = [
  { name: "random bytes", bytes: new Uint8Array(100).fill(9) },
  { name: "a second grant", bytes: grant() },
  { name: "an unknown kind", bytes: message(77) },
  { name: "a subscribe", bytes: message(LinkKind.subscribe, new Uint8Array(16)) },
  { name: "an ack that is too short", bytes: message(LinkKind.ack, new Uint8Array(3)) },
  { name: "a refusal shorter than its text", bytes: message(LinkKind.refuse, Uint8Array.of(0, 0, 0, 0, 200, 0, 0, 0)) },
  { name: "a goodbye of one byte", bytes: message(LinkKind.goodbye, new Uint8Array(1)) },
  { name: "a descriptor that nobody asked for", bytes: message(LinkKind.pong), withDescriptor: true },
];

for (const { name, bytes, withDescriptor } of CHATTER) {
  guarded(
    `Consumer ends with peer-corrupt on ${name} in its link, even while it waits for an answer`,
    (held) =>
      withPrey(held, "park", async ({ native, consumer, link, wake }) => {
        const waiting = Promise.allSettled([
          consumer.next(),
          consumer.ping(),
          consumer.subscribe({ transactions: true }),
        ]);
        using other = new RawWake(native);
        link.send(bytes, withDescriptor === true ? [other.passed] : []);
        native.wakeNotify(wake);
        for (const outcome of await waiting) {
          assert.equal(outcome.status, "rejected");
          assert.ok(isQlasterError(outcome.reason, "CONNECTION_LOST"));
          assert.equal(outcome.reason.reason, "peer-corrupt");
        }
      }),
  );
}

guarded(
  "Consumer drops answers to questions that it did not ask, and takes a wrong one for what it is",
  (held) =>
    withPrey(held, "park", async ({ native, consumer, link, wake }) => {
      link.send(message(LinkKind.pong, undefined, { requestId: 4711 }));
      link.send(message(LinkKind.ack, new Uint8Array(16), { requestId: 4711 }));
      native.wakeNotify(wake);
      const subscribing = consumer.subscribe({ transactions: true });
      link.send(message(LinkKind.pong, undefined, { requestId: 1 })); // no ack
      native.wakeNotify(wake);
      await assert.rejects(subscribing, { code: "LINK_PROTOCOL" });
      assert.equal(consumer.ended, undefined);
    }),
);

guarded(
  "Consumer delivers what is in the ring, then ends with sender-gone, when a sender's sockets close",
  (held) =>
    withPrey(held, "park", async ({ native, consumer, regions, link, wake }) => {
      regions.producerCursor = BigInt(goodSlot(regions, goodSlot(regions, 0)));
      link.close();
      native.close(wake);
      assert.equal((await consumer.next())?.kind, "slot");
      assert.equal((await consumer.next())?.kind, "slot");
      await assert.rejects(consumer.next(), { code: "CONNECTION_LOST", reason: "sender-gone" });
    }),
);

guarded(
  "Consumer.close() ends a subscribe that waits for a sender which never reads its link",
  (held) =>
    withPrey(held, "park", async ({ consumer }) => {
      const keys = Array.from({ length: 50_000 }, (_, i) => new Uint8Array(32).fill(i)); // far more than the socket holds
      const asking = consumer.subscribe({ accounts: keys });
      asking.catch(() => {});
      await consumer.close();
      await assert.rejects(asking, { code: "CONSUMER_CLOSED" });
    }),
);
