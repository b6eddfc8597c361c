/**
 * A raw sender that breaks the protocol, and a consumer of ours that falls for it: used by all of hostile_sender_*_test.ts. At
 * the end it is looked whether anything was kept.
 * May touch: the library in this process, a raw sender beside it, regions forged through libc, /proc.
 *
 * @module
 */

import { type Consumer, load, setupConsumer, setupSender } from "../../../mod.ts";
import {
  CAPACITY_BYTES_MIN,
  FrameHeader,
  FrameKind,
  LinkKind,
  POOL_BYTES_MIN,
  SlotBody,
} from "../../../src/native/abi.generated.ts";
import type { Native } from "../../../src/native/native.ts";
import { type Footprint, footprintOf, settlesAt } from "../../support/footprint.ts";
import type { Held } from "../../support/guarded.ts";
import { ForgedRegions, grantBody, message, type RawLink, RawSender, RawWake } from "../../support/raw_peer.ts";
import { Temporary } from "../../support/temporary.ts";

export interface Stage {
  readonly native: Native;
  readonly path: string;
  readonly sender: RawSender;
  readonly before: Footprint;
}

export async function openStage(held: Held): Promise<Stage> {
  const native = await load();
  const temporary = held.use(new Temporary());
  // Once around with an honest sender: what the runtime opens at the first use is no leak.
  const path = temporary.at("s.sock");
  const honest = await setupSender({ path, ringCapacityBytes: CAPACITY_BYTES_MIN });
  await (await setupConsumer(path, { reconnect: false })).close();
  await honest.close();
  // Two descriptors of the honest sender's connection may still be on their way out: settlesAt takes fewer, not more.
  const sender = held.use(new RawSender(native, path));
  return { native, path, sender, before: footprintOf("self") };
}

export const grant = (options: Parameters<typeof grantBody>[0] = {}) => message(LinkKind.grant, grantBody(options));
export const pooled = (poolBytes: number = POOL_BYTES_MIN) => () => grant({ poolBytes });

/** A granted consumer whose ring we can write as we like. */
export interface Prey {
  readonly native: Native;
  readonly consumer: Consumer;
  readonly regions: ForgedRegions;
  readonly link: RawLink;
  readonly wake: number;
}

export type Idle = "park" | "spin" | "yield" | "adaptive";

/** It has a pool. */
export async function withPrey(held: Held, idle: Idle, body: (prey: Prey) => Promise<void>): Promise<void> {
  const { native, path, sender, before } = await openStage(held);
  {
    using regions = new ForgedRegions();
    using wake = new RawWake(native);
    const connecting = setupConsumer(path, {
      reconnect: false,
      connectTimeoutMs: 20_000,
      idle,
      requestTimeoutMs: 20_000,
    });
    connecting.catch(() => {});
    const hello = await sender.acceptHello();
    hello.link.send(pooled()(), [regions.ringFd, regions.pageFd, wake.passed, regions.poolFd]);
    wake.closePassed();
    native.wakeNotify(hello.wake);
    await using consumer = await connecting;
    await body({ native, consumer, regions, link: hello.link, wake: hello.wake });
    hello.link.close();
    native.close(hello.wake);
  }
  await settlesAt("self", before);
}

/** Writes a frame at `at`; what `lie` changes of it last. Returns its end. */
export function writeFrame(
  regions: ForgedRegions,
  at: number,
  kind: number,
  bodyLength: number,
  lie: (view: DataView, at: number) => void = () => {},
): number {
  const { view } = regions.ring;
  view.setUint32(at + FrameHeader.length, FrameHeader.size + bodyLength, true);
  view.setUint16(at + FrameHeader.kind, kind, true);
  view.setUint32(at + FrameHeader.bodyLength, bodyLength, true);
  lie(view, at);
  return at + ((FrameHeader.size + bodyLength + 7) & ~7);
}

export const goodSlot = (regions: ForgedRegions, at: number) => writeFrame(regions, at, FrameKind.slot, SlotBody.size);
