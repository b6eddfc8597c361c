/**
 * The asking part of a connection in wire version 9: requests in strict order, pings that nobody answers, and the end,
 * which the sender does not announce.
 * May touch: one link, one ring's path, timers. May not touch: frames.
 * Why timers: a sender evicts by a sentinel in the ring (if four bytes are free), by unlinking the ring, and by a signal
 * that may come before the unlink. Its socket stays open. So the path is looked at after each wake that found nothing, once
 * more soon after, and every second.
 *
 * @module
 */

import { clearInterval, clearTimeout, setInterval, setTimeout } from "node:timers";
import { V9_LIST_KEYS_MAX, V9_READY_SHM_BYTES_MAX } from "../native/abi.generated.ts";
import type { Native } from "../native/native.ts";
import { QlasterError } from "../errors.ts";
import { Requests } from "../stream/requests.ts";
import type { Edit, KeyLists, Session, SessionHost } from "../stream/session.ts";
import { onceHeard } from "../stream/turns.ts";
import type { EndReason, SubscriptionAck } from "../types.ts";
import type { GrantedV9 } from "./bootstrap.ts";
import { decodeServer, encodePing, encodeSubscribe, FrameCutter, type SlotToken } from "./messages.ts";
import type { V9Reader } from "./reader.ts";

/** How often the ring's path is looked at while nothing happens. */
const LOOK_MS = 1000;
/** How long after a wake that found nothing: a sender signals shortly before it unlinks. */
const LOOK_AGAIN_MS = 20;
/** How long a sender's socket may take to close after its ring has ended: then it has gone, and has not evicted. */
const VERDICT_MS = 100;
/** A silence that was too long is remembered for that long after it was broken. */
const SILENCE_KEPT_MS = 5 * LOOK_MS;

type Timer = ReturnType<typeof setTimeout>;

interface Answer {
  readonly requestId: number;
  readonly ack: SubscriptionAck;
}

/** A question on its way. Answers bear no number: they come in the order of the questions. */
interface Asked {
  readonly id: number;
  /** It was a subscription, not a mere ping. */
  readonly isEdit: boolean;
}

/** When a session speaks of its own accord, and when it takes a silence for the cause of its end. */
export interface SessionTimes {
  readonly requestTimeoutMs: number;
  readonly pingMs: number;
  /** How long the sender allows for saying nothing. */
  readonly idleMs: number;
}

/** @see Session */
export class V9Session implements Session {
  readonly protocol = "v9";
  readonly #native: Native;
  readonly #path: string;
  readonly #granted: GrantedV9;
  readonly #reader: V9Reader;
  readonly #times: SessionTimes;
  readonly #requests: Requests<Answer>;
  readonly #asked: Asked[] = [];
  readonly #cutter = new FrameCutter(V9_READY_SHM_BYTES_MAX);
  #host: SessionHost | undefined;
  #token: SlotToken;
  #generation = 0;

  /** By the wall clock, as the sender's. */
  #lastSaidAt = Date.now();
  /** The last silence that was longer than allowed. */
  #silence: { readonly ms: number; readonly endedAt: number } | undefined;

  #pinging: Timer | undefined;
  #looking: Timer | undefined;
  #lookingAgain: Timer | undefined;
  #isLookDue = false;
  /** What the end is taken for, unless the socket says otherwise; resolved when that is known. */
  #verdict: { readonly reason: EndReason; readonly known: Promise<void>; resolve(): void } | undefined;
  #isOver = false;

  constructor(native: Native, path: string, granted: GrantedV9, reader: V9Reader, times: SessionTimes) {
    this.#native = native;
    this.#path = path;
    this.#granted = granted;
    this.#reader = reader;
    this.#times = times;
    this.#token = granted.token;
    this.#requests = new Requests(`"${path}"`, times.requestTimeoutMs);
  }

  get slotToken(): SlotToken {
    return this.#token;
  }

  start(host: SessionHost): void {
    const { handler } = this.#granted;
    this.#host = host;
    this.#reader.watcher = { onEmpty: () => this.#onEmpty(), onSentinel: () => this.#onVanished() };
    handler.onWake = () => {
      this.#isLookDue = true;
      host.onWake();
    };
    handler.onBytes = (bytes) => this.#onBytes(bytes);
    handler.onClose = () => this.#onSocketEnd();
    queueMicrotask(() => this.#granted.replay());
    // Timers never keep the process alive: the watch does, as long as the consumer wants it.
    this.#pinging = setInterval(() => this.#sayPing(), this.#times.pingMs).unref();
    this.#looking = setInterval(() => this.#onTick(), LOOK_MS).unref();
  }

  // Asking

  /** Never with an old token: a sender would give it a new slot, and nobody the old one back. */
  doubt(): Promise<void> | undefined {
    this.#lookAtPath();
    return this.#isOver ? undefined : this.#verdict?.known;
  }

  async subscribe(request: KeyLists): Promise<SubscriptionAck> {
    const { accounts, owners, state } = request;
    if (state) throw new QlasterError("V9_UNSUPPORTED", `Cannot ask for state at "${this.#path}"`);
    const count = Math.max(1, Math.ceil(Math.max(accounts.length, owners.length) / V9_LIST_KEYS_MAX));
    // Long lists go in several messages; the answer to the last one stands for all.
    const answers = Array.from({ length: count }, (_, i) => {
      const [from, to] = [i * V9_LIST_KEYS_MAX, (i + 1) * V9_LIST_KEYS_MAX];
      const isLast = i === count - 1;
      return this.#ask(true, {
        accounts: accounts.slice(from, to),
        owners: owners.slice(from, to),
        transactions: isLast && request.transactions,
        state,
      });
    });
    return (await Promise.all(answers)).at(-1)!.ack;
  }

  /** The original adds, and does nothing else. */
  edit(edit: Edit): Promise<SubscriptionAck> {
    const what = edit.bit === 0 ? "take subscriptions back" : "edit filters";
    return Promise.reject(new QlasterError("V9_UNSUPPORTED", `Cannot ${what} at "${this.#path}"`));
  }

  /** Nothing was resumed. */
  begin(): Promise<SubscriptionAck> {
    return this.subscribe({ accounts: [], owners: [], transactions: false, state: false });
  }

  /** The protocol's own ping has no answer; a subscription to nothing has. */
  async ping(): Promise<void> {
    await this.#ask(false, { accounts: [], owners: [], transactions: false, state: false });
  }

  #ask(isEdit: boolean, lists: KeyLists): Promise<Answer> {
    return this.#requests.ask((id) => {
      this.#say(encodeSubscribe({ token: this.#token, ...lists }));
      this.#asked.push({ id, isEdit });
    });
  }

  #say(bytes: Uint8Array): void {
    this.#noteSilence();
    this.#granted.link.send(bytes);
    this.#lastSaidAt = Date.now();
  }

  #sayPing(): void {
    this.#lookAtPath();
    // A request that still waits for room says as much.
    if (this.#isOver || this.#verdict !== undefined || !this.#granted.link.isSent) return;
    this.#say(encodePing(this.#token));
  }

  rejectAll(error: unknown): void {
    this.#requests.rejectAll(error);
  }

  // Hearing

  #onBytes(bytes: Uint8Array): void {
    if (this.#isOver) return;
    try {
      // Nothing more comes out of the cutter only when it says so.
      for (let bodies = this.#cutter.push(bytes); bodies.length > 0; bodies = this.#cutter.push(new Uint8Array(0))) {
        for (const body of bodies) this.#onMessage(body);
      }
    } catch {
      this.#end("peer-corrupt");
    }
  }

  #onMessage(body: Uint8Array): void {
    if (this.#isOver) return;
    const message = decodeServer(body);
    const asked = this.#asked.shift();
    if (asked === undefined) throw new Error("nobody asked");
    if (message.kind === "ready-shm") {
      // It knows our token no longer, and has given us another slot, whose descriptor the runtime's read has closed. Going
      // is all that frees it.
      this.#closeSocket();
      this.#end(this.#evictionReason());
      return;
    }
    this.#token = message.token; // the same one, from everybody known; the original takes another one, too
    if (asked.isEdit) this.#generation++;
    const sequence = BigInt(this.#reader.publishedBytes);
    this.#requests.answer({ requestId: asked.id, ack: { generation: this.#generation, sequence } });
  }

  // The end

  #onTick(): void {
    this.#lookAtPath();
    // Signals can be lost with a sender that is less careful than the original.
    if (this.#reader.usedBytes > 0) this.#host!.onWake();
  }

  /** A wake may have been the signal of an eviction. */
  #onEmpty(): void {
    if (!this.#isLookDue) return;
    this.#isLookDue = false;
    this.#lookAtPath();
    if (this.#isOver || this.#verdict !== undefined) return;
    clearTimeout(this.#lookingAgain);
    this.#lookingAgain = setTimeout(() => this.#lookAtPath(), LOOK_AGAIN_MS).unref();
  }

  #lookAtPath(): void {
    if (this.#isOver || this.#verdict !== undefined) return;
    if (this.#native.v9RingPresent(this.#granted.ring) === 0) this.#onVanished();
  }

  /** Sentinel or path: the sender has let go of the ring. Of us alone, or has it gone altogether? The socket tells. */
  #onVanished(): void {
    if (this.#isOver || this.#verdict !== undefined) return;
    let resolve!: () => void;
    const known = new Promise<void>((done) => resolve = done);
    this.#verdict = { reason: this.#evictionReason(), known, resolve };
    // Not unref'd: a process that does nothing but wait for this has to learn of it. A close that is due is heard first, even
    // if our own loop stood still.
    setTimeout(() => onceHeard(() => this.#end(this.#verdict!.reason)), VERDICT_MS);
  }

  /**
   * The sender has gone. Who evicts leaves the socket open, and who is killed writes no sentinel: with both, and nothing that
   * speaks for an eviction shortly before, it went in order. Whether there is a sentinel shows once everything is read.
   */
  #onSocketEnd(): void {
    const isOrderly = (this.#verdict?.reason ?? this.#evictionReason()) === "evicted";
    if (isOrderly && this.#reader.isOver) return this.#end("sender-closed");
    if (isOrderly) this.#reader.sentinelMeans = "sender-closed";
    this.#end("sender-gone");
  }

  #evictionReason(): EndReason {
    if (this.#reader.wasBehind) return "slow-consumer";
    this.#noteSilence();
    const { endedAt = 0 } = this.#silence ?? {};
    return Date.now() - endedAt <= SILENCE_KEPT_MS ? "idle" : "evicted";
  }

  #noteSilence(): void {
    const now = Date.now();
    const ms = now - this.#lastSaidAt;
    if (ms > this.#times.idleMs) this.#silence = { ms, endedAt: now };
  }

  #end(reason: EndReason): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#stopTimers();
    this.#host!.onEnd(reason);
    this.#verdict?.resolve();
  }

  explain(reason: EndReason): string | undefined {
    if (reason !== "idle" || this.#silence === undefined) return undefined;
    const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;
    return `the sender evicts who has said nothing for ${
      seconds(this.#times.idleMs)
    }, and this process stood still for ` +
      `${
        seconds(this.#silence.ms)
      }, so that its pings did not go out; keep its event loop free, or read in another process`;
  }

  // Life

  ref(): void {
    this.#granted.watch.ref();
    this.#granted.stream.ref();
  }

  unref(): void {
    this.#granted.watch.unref();
    this.#granted.stream.unref();
  }

  /** Version 9 has no word for it: the sender sees the close. */
  goodbye(): void {}

  #stopTimers(): void {
    clearInterval(this.#pinging);
    clearInterval(this.#looking);
    clearTimeout(this.#lookingAgain);
  }

  #closeSocket(): void {
    this.#granted.stream.close();
    this.#granted.link.close();
  }

  close(): void {
    this.#isOver = true;
    this.#stopTimers();
    this.#verdict?.resolve();
    this.#closeSocket();
    this.#granted.watch.close();
  }
}
