/**
 * The asking part of a connection in this library's own protocol: subscribe, ping and goodbye over the link.
 * May touch: one link, the wakes of both sides. May not touch: the ring.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import { EndReason as WireReason, LinkKind } from "../native/abi.generated.ts";
import type { Native } from "../native/native.ts";
import { QlasterError } from "../errors.ts";
import type { ReadonlyUint8Array, SubscriptionAck } from "../types.ts";
import {
  decodeAck,
  decodeGoodbye,
  decodeHandover,
  decodeRefusal,
  encodeEmpty,
  encodeFilterEdit,
  encodeGoodbye,
  encodeSubscribe,
  type FilterEdit,
  filterKeysMax,
  type Handover,
  KEYS_PER_MESSAGE_MAX,
  type Message,
  protocolError,
} from "../wire/messages.ts";
import type { GrantedNative } from "./connect.ts";
import { Requests } from "./requests.ts";
import type { Edit, KeyLists, Session, SessionHost } from "./session.ts";

const NOTHING = new Uint8Array(0);
/** Descriptors that a handover brings. */
const PASSED = 2;

/** What an old sender has left. */
export interface HandedOver extends Handover {
  /** The path's lock and its socket; the caller's from here on. */
  readonly descriptors: readonly [lock: number, socket: number];
}

interface Keys {
  readonly accounts: readonly ReadonlyUint8Array[];
  readonly owners: readonly ReadonlyUint8Array[];
}

/** At least one part, each with as many keys as fit: into the first `firstMax`, into others `othersMax`. */
function splitKeys(lists: Keys, firstMax: number, othersMax: number = firstMax): Keys[] {
  const { accounts, owners } = lists;
  const parts: Keys[] = [];
  let [account, owner, room] = [0, 0, firstMax];
  do {
    const some = accounts.slice(account, account + room);
    const others = owners.slice(owner, owner + room - some.length);
    account += some.length;
    owner += others.length;
    parts.push({ accounts: some, owners: others });
    room = othersMax;
  } while (account < accounts.length || owner < owners.length);
  return parts;
}

/** @throws {QlasterError} `SUBSCRIBE_REFUSED` if one of them was refused. */
async function lastAck(answers: readonly Promise<Message>[], action: string): Promise<SubscriptionAck> {
  const messages = await Promise.all(answers);
  for (const message of messages) {
    if (message.kind !== LinkKind.refuse) continue;
    throw new QlasterError("SUBSCRIBE_REFUSED", `Cannot ${action}: ${decodeRefusal(message).text}`);
  }
  return decodeAck(messages.at(-1)!);
}

/** @see Session */
export class NativeSession implements Session {
  readonly protocol = "native";
  readonly slotToken = undefined;
  readonly #native: Native;
  readonly #granted: GrantedNative;
  readonly #requests: Requests;
  #host: SessionHost | undefined;
  /** Settled when a filter that takes several messages is done: other edits wait for that, in their order. */
  #replacing: Promise<void> | undefined;
  /** No question will be answered any longer, and why. */
  #over: { readonly error: unknown } | undefined;
  #isDrainDue = false;
  /** The sender has said nonsense, or the connection is closed: it is not listened to any longer. */
  #isDeaf = false;
  #isTakingOver = false;
  /** What a handover brought: of who asked. */
  #passed: number[] = [];

  constructor(native: Native, path: string, granted: GrantedNative, requestTimeoutMs: number) {
    this.#native = native;
    this.#granted = granted;
    this.#requests = new Requests(`"${path}"`, requestTimeoutMs);
  }

  start(host: SessionHost): void {
    const { handler, link, senderWake } = this.#granted;
    this.#host = host;
    handler.onWake = () => this.#onWake();
    link.onSentLater = () => void this.#native.wakeNotify(senderWake);
    handler.onClose = () => host.onEnd("sender-gone");
    // What came while the grant was on its way has poked a handler that is no longer there.
    queueMicrotask(() => this.#onWake());
  }

  /** Never in doubt: the kernel tells of every end. */
  doubt(): undefined {
    return undefined;
  }

  async subscribe(request: KeyLists): Promise<SubscriptionAck> {
    while (this.#replacing !== undefined) await this.#replacing;
    // A long list goes in several messages; the answer to the last one stands for all.
    const answers = splitKeys(request, KEYS_PER_MESSAGE_MAX).map((part, i, { length }) => {
      const transactions = i === length - 1 && request.transactions;
      const { state } = request;
      return this.#ask((id) => encodeSubscribe(id, { ...part, transactions, state, hasMore: state && i < length - 1 }));
    });
    return await lastAck(answers, "subscribe");
  }

  async edit(edit: Edit): Promise<SubscriptionAck> {
    while (this.#replacing !== undefined) await this.#replacing;
    if (edit.op === "replace") return await this.#replace(edit);
    const answers = splitKeys(edit, filterKeysMax(0)).map((part, i, { length }) => {
      const transactions = i === length - 1 && edit.transactions;
      const { op, bit, state } = edit;
      // Each part is in force as it comes: only what answers a wish for state has to know the last.
      const isLast = !state || i === length - 1;
      return this.#askEdit({ ...part, op, bit, state, transactions, isLast, program: NOTHING });
    });
    return await lastAck(answers, "edit the filter");
  }

  /** In force with the last message. A sender makes one filter at a time, and a refused part must not be followed. */
  async #replace(edit: Edit): Promise<SubscriptionAck> {
    const { bit, state, versions, transactions } = edit;
    const [first, ...others] = splitKeys(edit, filterKeysMax(edit.program.length), filterKeysMax(0));
    // Without any key, as one message, it would match by its conditions alone.
    if (edit.isKeyed && first!.accounts.length + first!.owners.length === 0) others.push(first!);
    const parts: FilterEdit[] = [
      {
        ...first!,
        op: "replace",
        bit,
        state,
        versions,
        transactions,
        isLast: others.length === 0,
        program: edit.program,
      },
      ...others.map((part, i): FilterEdit => {
        return {
          ...part,
          op: "add",
          bit,
          state,
          transactions: false,
          isLast: i === others.length - 1,
          program: NOTHING,
        };
      }),
    ];
    if (parts.length === 1) return await lastAck([this.#askEdit(parts[0]!)], "set the filter");
    let done!: () => void;
    this.#replacing = new Promise((resolve) => done = resolve);
    try {
      let ack!: SubscriptionAck;
      for (const part of parts) ack = await lastAck([this.#askEdit(part)], "set the filter");
      return ack;
    } finally {
      this.#replacing = undefined;
      done();
    }
  }

  #askEdit(edit: FilterEdit): Promise<Message> {
    return this.#ask((id) => encodeFilterEdit(id, edit));
  }

  async begin(): Promise<SubscriptionAck> {
    while (this.#replacing !== undefined) await this.#replacing;
    return await lastAck([this.#ask((id) => encodeEmpty(LinkKind.start, id))], "resume");
  }

  /**
   * Asks the sender for its path and its order of updates, which is the end of this connection once its ring has been read.
   * @returns What it leaves, and the path's lock and socket, which are the caller's.
   * @throws {QlasterError} `TAKEOVER_REFUSED`; `CONNECT_TIMEOUT`; what `rejectAll` was given.
   */
  async takeOver(): Promise<HandedOver> {
    this.#granted.link.descriptorsExpected = PASSED;
    this.#isTakingOver = true;
    try {
      const message = await this.#ask((id) => encodeEmpty(LinkKind.takeover, id));
      if (message.kind === LinkKind.refuse) {
        throw new QlasterError("TAKEOVER_REFUSED", `Cannot take over: ${decodeRefusal(message).text}`);
      }
      if (message.kind !== LinkKind.handover) throw protocolError(`kind ${message.kind} is no answer to a takeover`);
      return { ...decodeHandover(message), descriptors: this.#passed.splice(0) as [number, number] };
    } finally {
      this.#isTakingOver = false; // what comes from here on is nonsense, and closed with the link
      // What came under the name of another question is nobody's.
      for (const fd of this.#passed.splice(0)) this.#native.fdClose(fd);
    }
  }

  async ping(): Promise<void> {
    await this.#ask((id) => encodeEmpty(LinkKind.ping, id));
  }

  #ask(encode: (id: number) => Uint8Array): Promise<Message> {
    // It may have ended while this question waited for others.
    if (this.#over !== undefined) return Promise.reject(this.#over.error);
    return this.#requests.ask((id) => {
      this.#granted.link.send(encode(id));
      this.#native.wakeNotify(this.#granted.senderWake);
    });
  }

  rejectAll(error: unknown): void {
    // The ring may end before its sender's answer, which is the reason for that, has been read.
    if (this.#isTakingOver) this.#drain();
    this.#over = { error };
    this.#requests.rejectAll(error);
  }

  explain(): undefined {
    return undefined;
  }

  #onWake(): void {
    this.#drain();
    this.#host!.onWake();
  }

  #drain(): void {
    if (this.#isDeaf) return;
    try {
      const outcome = this.#granted.link.drain((message) => this.#onMessage(message));
      if (outcome === "end") this.#host!.onEnd("sender-gone");
      else if (outcome === "more") this.#drainLater();
    } catch {
      this.#isDeaf = true;
      this.#host!.onEnd("peer-corrupt");
    }
  }

  #onMessage(message: Message): void {
    switch (message.kind) {
      case LinkKind.ack:
        decodeAck(message); // an answer that can't be read breaks the protocol, whoever asked
        break;
      case LinkKind.pong:
        break;
      case LinkKind.handover:
        if (!this.#isTakingOver) throw protocolError("a handover that nobody asked for");
        decodeHandover(message);
        this.#passed = this.#granted.link.takeDescriptors(PASSED);
        this.#isTakingOver = false; // once
        break;
      case LinkKind.refuse:
        decodeRefusal(message);
        break;
      case LinkKind.goodbye:
        decodeGoodbye(message); // the ring says the same, behind the last frame: that is where it counts
        return;
      default:
        throw protocolError(`kind ${message.kind} is not a sender's`);
    }
    this.#requests.answer(message);
  }

  /** The rest of what the sender has to say, after the event loop has had its turn. */
  #drainLater(): void {
    if (this.#isDrainDue) return;
    this.#isDrainDue = true;
    setImmediate(() => {
      this.#isDrainDue = false;
      this.#onWake();
    });
  }

  ref(): void {
    this.#granted.watch.ref();
  }

  unref(): void {
    this.#granted.watch.unref();
  }

  goodbye(): void {
    try {
      this.#granted.link.send(encodeGoodbye(WireReason.consumerClosed));
      this.#native.wakeNotify(this.#granted.senderWake);
    } catch {
      // A link that takes nothing more: the sender sees the close.
    }
  }

  close(): void {
    this.#isDeaf = true;
    this.#granted.link.close();
    this.#granted.watch.close();
    this.#native.close(this.#granted.senderWake);
  }
}
