/**
 * A consumer's edits of its filters, in their order, over whatever connections: an edit that no sender has answered when a
 * connection ends is asked for again on the next one.
 * May touch: the session it is given, what is wanted. May not touch: connecting.
 * Why what was not refused is wanted: whether an edit without an answer is in force nobody knows, and a filter too many
 * shows, one too few does not.
 *
 * @module
 */

import { isQlasterError, QlasterError } from "../errors.ts";
import type { ReadonlyUint8Array, SubscriptionAck } from "../types.ts";
import { ADDRESS_SIZE } from "../native/abi.generated.ts";
import type { Edit, Session } from "./session.ts";
import { WantedFilters } from "./wanted_filters.ts";

/** Bytes of keys and programs that may wait for an answer: as many as may wait in a link. */
const WAITING_BYTES_MAX = 64 * 1024 * 1024;
/** What an edit without keys counts as. */
const EDIT_BYTES = 1024;

interface Waiting {
  readonly edit: Edit;
  readonly bytes: number;
  /** The session that was asked and may still answer. */
  session: Session | undefined;
  /** How it ended; undefined while there is no answer. */
  outcome: "wanted" | "refused" | undefined;
  readonly answered: Promise<SubscriptionAck>;
  resolve(ack: SubscriptionAck): void;
  reject(error: unknown): void;
}

/** Keys that nobody else can change, one behind the other. */
function ownKeys(keys: readonly ReadonlyUint8Array[]): Uint8Array[] {
  const bytes = new Uint8Array(ADDRESS_SIZE * keys.length);
  return keys.map((key, i) => {
    const own = bytes.subarray(ADDRESS_SIZE * i, ADDRESS_SIZE * (i + 1));
    own.set(key as Uint8Array);
    return own;
  });
}

/** Sends one edit. @param isStateOptional Where there is no state it is not asked for: a cache says that it has none. */
function send(session: Session, wanted: Edit, isStateOptional: boolean): Promise<SubscriptionAck> {
  const edit = isStateOptional && wanted.state && session.protocol === "v9" ? { ...wanted, state: false } : wanted;
  return edit.op === "add" && edit.bit === 0 ? session.subscribe(edit) : session.edit(edit);
}

/** Whether the sender has said so itself, or can't even be asked. */
function isRefusal(error: unknown): boolean {
  return isQlasterError(error, "SUBSCRIBE_REFUSED") || isQlasterError(error, "V9_UNSUPPORTED");
}

/** The edits of one consumer. */
export class Edits {
  /**
   * Told of each edit that is asked for, on whose behalf ever. @param isWhole It is all that its filter is, though it adds.
   */
  onAsk: ((edit: Edit, answer: Promise<SubscriptionAck>, isWhole: boolean) => void) | undefined;

  /** Whether an edit without an answer is asked for again. */
  readonly #isRestored: boolean;
  readonly #isCached: boolean;
  /** Without it nothing is remembered. */
  readonly #wanted: WantedFilters | undefined;
  readonly #waiting: Waiting[] = [];
  #waitingBytes = 0;
  #session: Session | undefined;
  /** By bit: the last edit that asked for state, and the last one whose state has come. Generations. */
  readonly #stateAsked = new Map<number, number>();
  readonly #stateComplete = new Map<number, number>();
  /** What generations of acknowledgements are counted from: those of connections before. */
  #generationBase = 0;
  #generation = 0;
  /** No other session follows. */
  #isOver = false;

  /** @param isRestored Whether a connection is followed by another one. @param isCached There is a cache, which asks `wants`. */
  constructor(isRestored: boolean, isCached: boolean = false) {
    this.#isRestored = isRestored;
    this.#isCached = isCached;
    this.#wanted = isRestored || isCached ? new WantedFilters() : undefined;
  }

  /** What the generations of the next connection are counted from, so that they go on where the last one's ended. */
  get generationBase(): number {
    // Not before somebody wants to know: answers that had come when the last connection ended may have been under way.
    if (this.#session === undefined) this.#generationBase = this.#generation;
    return this.#generationBase;
  }

  /** Asks for an edit: now, or on the next connection. */
  ask(edit: Edit): Promise<SubscriptionAck> {
    const answer = this.#ask(edit);
    this.onAsk?.(edit, answer, false);
    return answer;
  }

  #ask(edit: Edit): Promise<SubscriptionAck> {
    const isKept = this.#wanted !== undefined;
    const keyCount = edit.accounts.length + edit.owners.length;
    const bytes = EDIT_BYTES + ADDRESS_SIZE * keyCount + edit.program.length;
    if (this.#session === undefined && this.#waitingBytes + bytes > WAITING_BYTES_MAX) {
      return Promise.reject(
        new QlasterError("CONNECTION_LOST", "Cannot edit filters: too many edits wait for the next connection"),
      );
    }
    const own = isKept ? { ...edit, accounts: ownKeys(edit.accounts), owners: ownKeys(edit.owners) } : edit;
    const { promise: answered, resolve, reject } = Promise.withResolvers<SubscriptionAck>();
    const waiting: Waiting = { edit: own, bytes, session: undefined, outcome: undefined, answered, resolve, reject };
    this.#waiting.push(waiting);
    this.#waitingBytes += bytes;
    this.#send(waiting);
    return answered;
  }

  #send(waiting: Waiting): void {
    const session = this.#session;
    if (session === undefined || waiting.session === session) return;
    const doubt = session.doubt();
    if (doubt !== undefined) return void doubt.then(() => this.#send(waiting));
    waiting.session = session;
    const base = this.#generationBase;
    send(session, waiting.edit, this.#isCached).then(
      (ack) => this.#onAck(waiting, ack, base),
      (error) => this.#onError(waiting, session, error),
    );
  }

  #onAck(waiting: Waiting, { generation, sequence }: SubscriptionAck, base: number): void {
    if (waiting.outcome !== undefined) return;
    const counted = this.#noteAck(waiting.edit, generation, base);
    this.#settle(waiting, "wanted");
    waiting.resolve({ generation: counted, sequence });
  }

  #onError(waiting: Waiting, session: Session, error: unknown): void {
    if (waiting.outcome !== undefined) return;
    // Nobody has answered: it is for the next session.
    if (this.#isRestored && !this.#isOver && this.#session !== session && !isRefusal(error)) {
      if (waiting.session === session) waiting.session = undefined;
      return;
    }
    this.#settle(waiting, isRefusal(error) ? "refused" : "wanted");
    waiting.reject(error);
  }

  /** What is wanted changes in the order of the questions, whatever that of the answers. */
  #settle(waiting: Waiting, outcome: "wanted" | "refused"): void {
    waiting.outcome = outcome;
    while (this.#waiting.length > 0 && this.#waiting[0]!.outcome !== undefined) {
      const first = this.#waiting.shift()!;
      this.#waitingBytes -= first.bytes;
      if (first.outcome === "wanted") this.#wanted?.apply(first.edit);
    }
  }

  /** @returns The generation, counted over all connections. */
  #noteAck({ bit, state }: Edit, generation: number, base: number): number {
    const counted = base + generation;
    this.#generation = Math.max(this.#generation, counted);
    if (state) this.#stateAsked.set(bit, counted);
    return counted;
  }

  /** All of the state that was asked for one filter has been handed out. */
  noteSnapshot({ filterMask, generation }: { readonly filterMask: bigint; readonly generation: number }): void {
    for (const bit of this.#stateAsked.keys()) {
      if ((filterMask >> BigInt(bit) & 1n) === 1n) this.#stateComplete.set(bit, generation);
    }
  }

  #hasState(bit: number): boolean {
    return (this.#stateComplete.get(bit) ?? 0) >= (this.#stateAsked.get(bit) ?? 0);
  }

  /** Whether state is wanted of all accounts that are wanted, and of some. */
  get isStateful(): boolean {
    return this.#wanted?.isStateful === true;
  }

  /**
   * Makes a new connection have all filters that are wanted.
   * @param options.isResumed It gets what it has missed, and so no state but what had not come yet.
   * @returns From which sequence on it has them; undefined if none are wanted.
   * @throws {QlasterError} what the sender says to one of them.
   */
  async restore(session: Session, options: { readonly isResumed: boolean }): Promise<bigint | undefined> {
    let last: SubscriptionAck | undefined;
    for (const wanted of this.#wanted?.edits() ?? []) {
      const state = wanted.state && !(options.isResumed && this.#hasState(wanted.bit));
      const edit = { ...wanted, state };
      // What a resumed connection has is what there was before: only what had not come yet is news.
      last = await this.#sendAgain(session, edit, state || !options.isResumed);
    }
    return last?.sequence;
  }

  async #sendAgain(session: Session, edit: Edit, isTold: boolean): Promise<SubscriptionAck> {
    const answer = send(session, edit, this.#isCached);
    const base = this.#generationBase;
    const counted = answer.then((ack) => ({ ...ack, generation: this.#noteAck(edit, ack.generation, base) }));
    counted.catch(() => {});
    if (isTold) this.onAsk?.(edit, counted, true);
    await counted;
    return answer;
  }

  /** Whether a key stands in a list of a filter, by what was acknowledged. */
  wants(bit: number, account: ReadonlyUint8Array, owner: ReadonlyUint8Array): boolean {
    return this.#wanted?.wants(bit, account, owner) === true;
  }

  /** Whether a filter can match nothing, by what was acknowledged. */
  isEmpty(bit: number): boolean {
    return this.#wanted?.isEmpty(bit) !== false;
  }

  /**
   * Whether an account may match a filter no longer by what is written to it: by what was acknowledged, or by owners that were
   * added without an answer. Such an edit may have been in force at a sender that has gone. (What sets the filter anew names
   * all that it matches once it is asked for again, and so leaves nothing of before.)
   */
  mayBeLeft(bit: number): boolean {
    if (this.#wanted?.mayBeLeft(bit) !== false) return true;
    return this.#waiting.some(({ edit, outcome }) =>
      outcome !== "refused" && edit.op === "add" && edit.bit === bit && edit.owners.length > 0
    );
  }

  /** Sets these filters of accounts anew, each with state of all that it matches, once nothing waits for an answer. */
  async askForAll(bits: ReadonlySet<number>): Promise<void> {
    while (this.#waiting.length > 0) await Promise.allSettled(this.#waiting.map(({ answered }) => answered));
    const wholes = (this.#wanted?.wholes() ?? []).filter(({ bit }) => bits.has(bit));
    await Promise.allSettled(wholes.map((whole) => this.ask(whole)));
  }

  /** Asks again for the state of all filters that want it. @throws as `restore` */
  async renewState(session: Session): Promise<void> {
    for (const edit of [...this.#wanted?.edits() ?? []]) {
      if (edit.state) await this.#sendAgain(session, edit, true);
    }
  }

  /** From here on `session` is asked, also for what waits. */
  attach(session: Session): void {
    this.#session = session;
    for (const waiting of [...this.#waiting]) if (waiting.outcome === undefined) this.#send(waiting);
  }

  /** The session is over. What it has not answered waits for the next one. */
  detach(): void {
    this.#session = undefined;
  }

  /**
   * No session follows. Edits that no session was asked for are rejected here, the others by their session's `rejectAll`: an
   * answer that came before the end may not have got here yet.
   */
  rejectAll(error: unknown): void {
    this.#session = undefined;
    this.#isOver = true;
    for (
      const waiting of this.#waiting.filter(({ session, outcome }) => session === undefined && outcome === undefined)
    ) {
      this.#settle(waiting, "refused");
      waiting.reject(error);
    }
  }
}
