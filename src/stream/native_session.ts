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
import type { SubscriptionAck } from "../types.ts";
import {
  decodeAck,
  decodeGoodbye,
  decodeRefusal,
  encodeEmpty,
  encodeGoodbye,
  encodeSubscribe,
  KEYS_PER_MESSAGE_MAX,
  type Message,
  protocolError,
} from "../wire/messages.ts";
import type { GrantedNative } from "./connect.ts";
import { Requests } from "./requests.ts";
import type { KeyLists, Session, SessionHost } from "./session.ts";

/** @see Session */
export class NativeSession implements Session {
  readonly protocol = "native";
  readonly slotToken = undefined;
  readonly #native: Native;
  readonly #granted: GrantedNative;
  readonly #requests: Requests;
  #host: SessionHost | undefined;
  #isDrainDue = false;
  /** The sender has said nonsense, or the connection is closed: it is not listened to any longer. */
  #isDeaf = false;

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
    const accounts = [...request.accounts];
    const owners = [...request.owners];
    let last: Promise<Message>;
    const answers: Promise<Message>[] = [];
    do {
      // A long list goes in several messages; the answer to the last one stands for all.
      const some = accounts.splice(0, KEYS_PER_MESSAGE_MAX);
      const others = owners.splice(0, KEYS_PER_MESSAGE_MAX - some.length);
      const isLast = accounts.length + owners.length === 0;
      const part = { accounts: some, owners: others, transactions: isLast && request.transactions };
      last = this.#ask((id) => encodeSubscribe(id, part));
      answers.push(last);
    } while (accounts.length + owners.length > 0);
    for (const answer of await Promise.all(answers)) {
      if (answer.kind === LinkKind.refuse) {
        throw new QlasterError("SUBSCRIBE_REFUSED", `Cannot subscribe: ${decodeRefusal(answer).text}`);
      }
    }
    return decodeAck(await last);
  }

  async ping(): Promise<void> {
    await this.#ask((id) => encodeEmpty(LinkKind.ping, id));
  }

  #ask(encode: (id: number) => Uint8Array): Promise<Message> {
    return this.#requests.ask((id) => {
      this.#granted.link.send(encode(id));
      this.#native.wakeNotify(this.#granted.senderWake);
    });
  }

  rejectAll(error: unknown): void {
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
