/**
 * One connection of a consumer: who asks, who reads, and how it ends. A consumer has one after another (connections.ts).
 * May touch: the native library through its parts (connect, session, reader). May not touch: waiting, filters.
 *
 * @module
 */

import type { Clock } from "../native/clock.ts";
import type { Native } from "../native/native.ts";
import type { EndReason } from "../types.ts";
import type { GrantedV9 } from "../v9/bootstrap.ts";
import { V9Reader } from "../v9/reader.ts";
import { V9Session } from "../v9/session.ts";
import { encodeHello, type Grant, protocolError, type ResumePoint } from "../wire/messages.ts";
import { connect, type GrantedNative } from "./connect.ts";
import type { OverflowPolicies, ResolvedConsumerOptions } from "./consumer_options.ts";
import type { FilterNames } from "./filter_names.ts";
import { NativeSession } from "./native_session.ts";
import { RingReader } from "./reader.ts";
import type { Session } from "./session.ts";

/** What a connection needs beside the options: what its consumer has had before. */
export interface ConnectionOptions {
  readonly path: string;
  /** What the bits of masks stand for. */
  readonly names: FilterNames;
  /** What generations of filters are counted from. */
  readonly generationBase: number;
  /** From where it wants to go on. */
  readonly resume?: ResumePoint | undefined;
  readonly signal: AbortSignal | undefined;
  /** Whether the process waits for the attempt. */
  readonly isRef: boolean;
}

/** Who hears of a connection. */
export interface ConnectionHost {
  /** There may be something in the ring. */
  onWake(): void;
  /** Nothing more comes than what is in the ring, and no question will be answered. */
  onOver(): void;
}

/** What differs by protocol. */
interface Parts {
  readonly session: Session;
  readonly reader: RingReader;
  readonly capacityBytes: number;
  readonly policy: OverflowPolicies;
  readonly senderId: string | undefined;
  readonly grant?: Grant;
}

/** The original's only one. */
const V9_POLICY: OverflowPolicies = Object.freeze({ accounts: "disconnect", transactions: "disconnect" });

function openParts(
  native: Native,
  { path, names, generationBase }: ConnectionOptions,
  granted: GrantedNative | GrantedV9,
  options: ResolvedConsumerOptions,
): Parts {
  const { ring } = granted;
  if (granted.protocol === "native") {
    const { capacityBytes, poolBytes, policy, transactionPolicy, senderId } = granted.grant;
    const session = new NativeSession(native, path, granted, options.requestTimeoutMs);
    const reader = new RingReader(native, ring, capacityBytes, {
      memoryBytes: 2 * capacityBytes + poolBytes,
      filters: names,
      generationBase,
      hasMarks: options.marks,
    });
    const policies = Object.freeze({ accounts: policy, transactions: transactionPolicy });
    return { session, reader, capacityBytes, policy: policies, senderId: senderId.toHex(), grant: granted.grant };
  }
  const reader = new V9Reader(native, ring);
  const session = new V9Session(native, path, granted, reader, {
    requestTimeoutMs: options.requestTimeoutMs,
    pingMs: options.v9PingMs,
    idleMs: options.v9IdleMs,
  });
  return { session, reader, capacityBytes: reader.capacityBytes, policy: V9_POLICY, senderId: undefined };
}

/** A connection that was granted. */
export class ConsumerConnection {
  readonly session: Session;
  readonly reader: RingReader;
  /** Handle of the consumer's end of the ring. */
  readonly ring: number;
  readonly capacityBytes: number;
  readonly policy: OverflowPolicies;
  /** 32 hexadecimal digits; undefined in wire version 9. */
  readonly senderId: string | undefined;
  /** Wire version 9: undefined. */
  readonly grant: Grant | undefined;
  /** When it was granted: by the wall clock, and by the one that waits are measured by. */
  readonly connectedAt: number = Date.now();
  readonly #clock: Clock;
  readonly #openedAt: number;
  #host: ConnectionHost | undefined;
  #pendingEnd: EndReason | undefined;
  #isClosed = false;

  private constructor(ring: number, parts: Parts, clock: Clock) {
    this.#clock = clock;
    this.#openedAt = clock.now();
    this.ring = ring;
    this.session = parts.session;
    this.reader = parts.reader;
    this.capacityBytes = parts.capacityBytes;
    this.policy = parts.policy;
    this.grant = parts.grant;
    this.senderId = parts.senderId;
  }

  /** One that another thread has made, and lends. */
  static of(native: Native, ring: number, parts: Omit<Parts, "grant">): ConsumerConnection {
    return new ConsumerConnection(ring, parts, native.clock);
  }

  /**
   * Connects and joins, one attempt.
   * @throws {QlasterError} `CONNECT_…`, `REGION_REFUSED`, `LINK_PROTOCOL`, `SYSTEM`; the signal's reason when it was aborted.
   */
  static async open(
    native: Native,
    connection: ConnectionOptions,
    options: ResolvedConsumerOptions,
  ): Promise<ConsumerConnection> {
    const { path, signal, isRef, resume } = connection;
    const { protocol, connectTimeoutMs: timeoutMs, uids } = options;
    const granted = await connect(native, helloOf(options, resume), { path, protocol, timeoutMs, uids, signal, isRef });
    try {
      if (granted.protocol === "native" && granted.grant.isResumed && resume === undefined) {
        throw protocolError("a grant that resumes what was not asked for");
      }
      return new ConsumerConnection(granted.ring, openParts(native, connection, granted, options), native.clock);
    } catch (error) {
      granted.link.close();
      granted.watch.close();
      if (granted.protocol === "v9") granted.stream.close();
      else native.close(granted.senderWake);
      native.close(granted.ring);
      throw error;
    }
  }

  /** From here on events go to `host`; those that came before come soon. */
  start(host: ConnectionHost): void {
    this.session.start({
      onWake: () => host.onWake(),
      onEnd: (reason) => this.#onEnd(reason, host),
    });
    this.#host = host;
  }

  #onEnd(reason: EndReason, host: ConnectionHost): void {
    if (this.#pendingEnd !== undefined || this.#isClosed) return;
    this.#pendingEnd = reason;
    this.reader.freeze();
    host.onOver();
  }

  /** Nothing more is wanted of this sender: what has come is read, and that is the end. */
  abandon(reason: EndReason): void {
    this.session.goodbye();
    if (this.#host !== undefined) this.#onEnd(reason, this.#host);
  }

  /** Whether the sender holds everything back until `begin`, and then sends what was missed. */
  get isResumed(): boolean {
    return this.grant?.isResumed === true;
  }

  /**
   * From where the next connection may go on, once this one is closed. Before the first update: from where this one did.
   * Undefined: the sender has no order.
   */
  resumePoint(before: ResumePoint | undefined): ResumePoint | undefined {
    if (this.grant === undefined) return undefined;
    const { senderId, sequence, isResumed } = this.grant;
    const { lastSequence, goodbyeSequence, end } = this.reader;
    // Another sender goes on behind that: filters may have left out what came last.
    if (end === "handed-over" && goodbyeSequence > 0) return { senderId, after: BigInt(goodbyeSequence) };
    if (lastSequence > 0) return { senderId, after: BigInt(lastSequence) };
    return isResumed && before !== undefined ? before : { senderId, after: sequence };
  }

  /** How long it has lasted, in milliseconds. */
  get ageMs(): number {
    return this.#clock.now() - this.#openedAt;
  }

  /** Why it will end once what is in the ring has been read. */
  get pendingEnd(): EndReason | undefined {
    return this.#pendingEnd;
  }

  /** Why it will end, or has ended, as far as anybody has said. */
  get knownEnd(): EndReason | undefined {
    return this.reader.announcedEnd ?? this.#pendingEnd;
  }

  /** Asked when the ring was found empty: why that is all there will ever be. Undefined: more may come. */
  findEnd(): EndReason | undefined {
    const { reader } = this;
    const reason = reader.end;
    if (reason !== undefined) return reason;
    // Judged after a look that found nothing, and the flag was set before the look: nothing can have come since.
    if (this.#pendingEnd === undefined || reader.isCut) return undefined;
    if (reader.refill() || reader.isCut) return undefined;
    return reader.end ?? this.#pendingEnd;
  }

  /** Lets everything go: views are void. May be called twice. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.session.close();
    this.reader.close();
  }
}

/** What a consumer says first. */
function helloOf(
  { name, policy, queueBytes }: ResolvedConsumerOptions,
  resume: ResumePoint | undefined,
): Uint8Array {
  return encodeHello(name, {
    resume,
    policy: policy.accounts,
    transactionPolicy: policy.transactions,
    backlogBytes: queueBytes,
  });
}
