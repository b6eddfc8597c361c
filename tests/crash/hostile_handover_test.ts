/**
 * What a new sender refuses that is to take over from one that lies: it fails with a reason, takes nothing that it was not
 * given, keeps nothing, and whatever lives at the path goes on.
 * May touch: the library in this process, a raw sender beside it, regions forged through libc, /proc.
 */

import assert from "node:assert/strict";
import { isQlasterError, load, setupConsumer, setupSender } from "../../mod.ts";
import {
  CAPACITY_BYTES_MIN,
  EndReason,
  FrameHeader,
  FrameKind,
  GRANT_HAS_TAKEOVER,
  GrantBody,
  HandoverBody,
  LinkKind,
  SlotBody,
} from "../../src/native/abi.generated.ts";
import { footprintOf, settlesAt } from "../support/footprint.ts";
import { guarded } from "../support/guarded.ts";
import { ForgedRegions, grantBody, message, RawSender, RawWake } from "../support/raw_peer.ts";
import { Temporary } from "../support/temporary.ts";

function grantOfTakeover(): Uint8Array {
  const body = grantBody();
  new DataView(body.buffer).setUint32(GrantBody.features, GRANT_HAS_TAKEOVER, true);
  return message(LinkKind.grant, body);
}

const handover = (requestId: number, size: number = HandoverBody.size) =>
  message(LinkKind.handover, new Uint8Array(size), { requestId });

/** A slot with that place in the order. */
function writeSlot(regions: ForgedRegions, sequence: bigint): void {
  const { view } = regions.ring;
  view.setUint32(FrameHeader.length, FrameHeader.size + SlotBody.size, true);
  view.setUint16(FrameHeader.kind, FrameKind.slot, true);
  view.setUint32(FrameHeader.bodyLength, SlotBody.size, true);
  view.setBigUint64(FrameHeader.sequence, sequence, true);
  regions.producerCursor = BigInt(FrameHeader.size + SlotBody.size);
}

interface Lie {
  readonly name: string;
  /** In answer to the question for the path; also with two descriptors. */
  readonly answers?: (requestId: number) => readonly (readonly [bytes: Uint8Array, withDescriptors: boolean])[];
  /** Of a slot that stands in the ring. */
  readonly sequence?: bigint;
}

const LIES: readonly Lie[] = [
  { name: "a slot whose place is the last of 64 bits", sequence: (1n << 64n) - 1n },
  { name: "a slot whose place no number of JavaScript holds", sequence: (1n << 53n) + 1n },
  {
    name: "an acknowledgement for an answer",
    answers: (id) => [[message(LinkKind.ack, new Uint8Array(16), { requestId: id }), false]],
  },
  { name: "a pong for an answer", answers: (id) => [[message(LinkKind.pong, undefined, { requestId: id }), false]] },
  { name: "a handover without descriptors", answers: (id) => [[handover(id), false]] },
  { name: "a handover that is too short", answers: (id) => [[handover(id, 8), true]] },
  {
    name: "an acknowledgement with descriptors",
    answers: (id) => [[message(LinkKind.ack, new Uint8Array(16), { requestId: id }), true]],
  },
  { name: "descriptors that are no lock and no socket", answers: (id) => [[handover(id), true]] },
  { name: "the answer to another question", answers: (id) => [[handover(id + 7), true]] },
  {
    name: "the answer to another question, and then one that is none",
    answers: (
      id,
    ) => [[handover(id + 7), true], [message(LinkKind.ack, new Uint8Array(16), { requestId: id }), false]],
  },
  { name: "two handovers", answers: (id) => [[handover(id), true], [handover(id), true]] },
];

for (const { name, answers, sequence } of LIES) {
  guarded(`setupSender({ takeover }) fails on ${name}, and keeps nothing`, async (held) => {
    const native = await load();
    const temporary = held.use(new Temporary());
    const path = temporary.at("s.sock");
    // Once around with honest ones: what the runtime opens at the first use is no leak.
    const honest = await setupSender({ path, ringCapacityBytes: CAPACITY_BYTES_MIN });
    await (await setupConsumer(path, { reconnect: false })).close();
    await honest.close();
    using sender = new RawSender(native, path);
    const before = footprintOf("self");
    {
      using regions = new ForgedRegions();
      using wake = new RawWake(native);
      using some = new RawWake(native);
      if (sequence !== undefined) writeSlot(regions, sequence);
      const taking = setupSender({
        path,
        ringCapacityBytes: CAPACITY_BYTES_MIN,
        takeover: true,
        takeoverTimeoutMs: 40_000, // what ends it is what it is told
      });
      taking.catch(() => {});
      const { link, wake: theirs } = await sender.acceptHello();
      link.send(grantOfTakeover(), [regions.ringFd, regions.pageFd, wake.passed]);
      wake.closePassed();
      native.wakeNotify(theirs);
      if (answers !== undefined) {
        const question = await link.message();
        assert.equal(question.kind, LinkKind.takeover);
        for (const [bytes, withDescriptors] of answers(question.requestId)) {
          link.send(bytes, withDescriptors ? [some.passed, some.passed] : []);
        }
        regions.closing = EndReason.handedOver;
        native.wakeNotify(theirs);
      }
      await assert.rejects(taking, (error) => {
        assert.ok(isQlasterError(error), String(error));
        assert.match(error.code, /^(TAKEOVER_FAILED|REGION_REFUSED)$/, error.message);
        return true;
      });
      link.close();
      native.close(theirs);
    }
    await settlesAt("self", before);
  });
}
