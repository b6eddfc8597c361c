/**
 * Replays a recording: into a sender by `sender.feed(replay(…))`, or into an application by the same views as live ones.
 * May touch: files of the directory, read only; timers, unless as fast as possible.
 * Why two replays are the same: the order is that of the files, and time comes from them, by {@linkcode ReplayClock}.
 *
 * @module
 */

import { QlasterError } from "../errors.ts";
import { pause } from "../pause.ts";
import type { AccountCopy, SlotCopy, TransactionCopy, UpdateView } from "../stream/view.ts";
import { ReplayClock } from "./clock.ts";
import { listSegments, type Segment } from "./directory.ts";
import { FILTER_NAMES_CHANNEL, SEAM_CHANNEL, SLOT_INDEX_CHANNEL } from "./format.ts";
import { FrameReader } from "./frames.ts";
import { MaskNamesReader } from "./mask_names.ts";
import { viewOfSeam } from "./seams.ts";
import { IndexedSegment, readSegment } from "./segment_reader.ts";
import type { SegmentMessage } from "./segment_writer.ts";

/** How a recording is replayed. */
export interface ReplayOptions {
  /** 1: as fast as it was published; n: n times that; "max" (the default): as fast as it is taken. */
  readonly speed?: number | "max";
  /** Only updates of this slot and later ones. Found by the files' index. */
  readonly fromSlot?: bigint;
  /** Only updates of this slot and earlier ones. */
  readonly toSlot?: bigint;
  /** Only updates for which this is true. Gets the view, which is valid until it returns. */
  readonly filter?: (update: UpdateView) => boolean;
  /**
   * Moves with the replay. If given, updates that were published at different times come in different batches, so that the
   * clock is right for each.
   */
  readonly clock?: ReplayClock;
  /** Ends it, without an error. */
  readonly signal?: AbortSignal;
}

/** What it was, and when: a sender takes it as it is. */
export type ReplayedUpdate =
  & (AccountCopy | TransactionCopy | SlotCopy)
  & {
    /** When the recorder got it: nanoseconds since the Unix epoch. Only grows. */
    readonly receivedNs: bigint;
  };

/** What was replayed so far. */
export interface ReplayProgress {
  /** Updates handed out, marks included. */
  readonly updates: number;
  /** Which file is being read: the first is 1. */
  readonly segment: number;
  /** Of how many. */
  readonly segments: number;
  /** Bytes of all files. */
  readonly fileBytes: number;
  /** The slot of the newest update; undefined before the first. */
  readonly slot: bigint | undefined;
  /** When it was published: nanoseconds since the Unix epoch; 0n before the first. */
  readonly publishNs: bigint;
}

const BATCH_MAX = 256;
/** Longest sleep of a timer. */
const SLEEP_MAX_MS = 1000;

/**
 * Replays what a recorder wrote, complete segments and the one that is being written or was left by a kill.
 * @param directory The recorder's.
 * @returns Iterate it, for batches of updates that a sender's `feed` takes; or its `views()`. Once.
 * @throws {RangeError} for an option out of range. Iterating throws {@linkcode QlasterError} `RECORDING_NOT_FOUND`,
 * `RECORDING_CORRUPT`, `RECORDING_VERSION`, what came before being handed out.
 */
export function replay(directory: string, options: ReplayOptions = {}): Replay {
  const { speed = "max" } = options;
  if (speed !== "max" && !(Number.isFinite(speed) && speed > 0)) {
    throw new RangeError(`speed must be "max" or a number above 0, not ${speed}`);
  }
  return new Replay(directory, options);
}

interface Item {
  readonly message: SegmentMessage;
  readonly view: UpdateView;
}

/** One pass over a recording. Create one with {@linkcode replay}. */
export class Replay implements AsyncIterable<readonly ReplayedUpdate[]> {
  /** The recording's time. */
  readonly clock: ReplayClock;
  readonly #directory: string;
  readonly #options: ReplayOptions;
  readonly #frames: FrameReader;
  readonly #names = new MaskNamesReader();
  readonly #leaving = new AbortController();
  #isStarted = false;
  #updates = 0;
  #segment = 0;
  #segments = 0;
  #fileBytes = 0;
  #slot: bigint | undefined;
  #publishNs = 0n;
  /** Real time and the recording's at the first update. */
  #origin: { readonly atMs: number; readonly ns: bigint } | undefined;

  /** @internal */
  constructor(directory: string, options: ReplayOptions) {
    this.#directory = directory;
    this.#options = options;
    this.clock = options.clock ?? new ReplayClock();
    this.#frames = new FrameReader(() => Number(this.#publishNs) / 1000, this.#names);
  }

  /** What was replayed so far. */
  get progress(): ReplayProgress {
    return {
      updates: this.#updates,
      segment: this.#segment,
      segments: this.#segments,
      fileBytes: this.#fileBytes,
      slot: this.#slot,
      publishNs: this.#publishNs,
    };
  }

  /**
   * Batches of copies, for `sender.feed` and for applications that keep what they get. Marks (gap, left, filter) and seams are left out: `views()` has them.
   * `sourceNs` is the source's own time where it was known, and else the time at which the recorded sender had published: so
   * that after a second publishing both times are there. `sequence` and `publishNs` are the recorded ones.
   */
  [Symbol.asyncIterator](): AsyncIterator<readonly ReplayedUpdate[], void, undefined> {
    const batches = this.#batches();
    return {
      next: () => batches.next(),
      // A generator is told that nobody wants more when its own wait is over, which may be that between two recordings.
      return: () => {
        this.#leaving.abort();
        return batches.return();
      },
    };
  }

  async *#batches(): AsyncGenerator<readonly ReplayedUpdate[], void, undefined> {
    let batch: ReplayedUpdate[] = [];
    let timeNs = 0n;
    const isSplit = this.#options.clock !== undefined;
    for await (const { message, view } of this.#items(() => batch.length > 0)) {
      if (view === undefined) { // a pause: what is due goes out
        await this.clock.advanceTo(timeNs);
        if (batch.length > 0) yield batch;
        batch = [];
        continue;
      }
      if (view.kind !== "account" && view.kind !== "transaction" && view.kind !== "slot") continue;
      const ns = publishTime(message);
      if (batch.length >= BATCH_MAX || (isSplit && batch.length > 0 && ns > timeNs)) {
        await this.clock.advanceTo(timeNs);
        yield batch;
        batch = [];
      }
      if (ns > timeNs) timeNs = ns;
      const copy = view.copy();
      const sourceNs = copy.sourceNs === 0n ? copy.publishNs : copy.sourceNs;
      batch.push({ ...copy, sourceNs, receivedNs: message.logTime });
      this.#count(view, ns);
    }
    await this.clock.advanceTo(timeNs);
    if (batch.length > 0) yield batch;
    await this.clock.end();
  }

  /**
   * The same views as live ones, marks included, each valid until the next is asked for. `filters` has the names that the
   * recorded consumer's filters had. `ageUs` is 0. Updates of the kind `connection` say where the recorded consumer lost its
   * connection and got another one; and where a recorder began behind another one's files: as "resumed", of an "unknown"
   * continuity, by no attempt.
   */
  async *views(): AsyncGenerator<UpdateView, void, undefined> {
    for await (const { message, view } of this.#items(() => false)) {
      if (view === undefined) continue;
      const ns = publishTime(message);
      await this.clock.advanceTo(ns);
      this.#count(view, ns);
      yield view;
    }
    await this.clock.end();
  }

  #count(view: UpdateView, ns: bigint): void {
    this.#updates++;
    if ("slot" in view) this.#slot = view.slot;
    this.#publishNs = ns;
  }

  /** What is wanted, in order, each when it is due. Without a view: the reader should go on with what it has. */
  async *#items(hasWork: () => boolean): AsyncGenerator<Item | { message: SegmentMessage; view: undefined }> {
    if (this.#isStarted) throw new TypeError("A replay can be iterated once: call replay() again");
    this.#isStarted = true;
    const { filter, speed = "max" } = this.#options;
    const signals = this.#options.signal === undefined ? [] : [this.#options.signal];
    const signal = AbortSignal.any([this.#leaving.signal, ...signals]);
    const isAborted = () => signal.aborted;
    for await (const message of this.#messages()) {
      if (isAborted()) return;
      if (message.channelId === SLOT_INDEX_CHANNEL) continue;
      const view = this.#read(message);
      if (view === undefined || !this.#isInRange(view) || filter?.(view) === false) continue;
      if (speed !== "max") {
        for (let waitMs = this.#dueInMs(message, speed); waitMs > 0; waitMs = this.#dueInMs(message, speed)) {
          if (hasWork()) yield { message, view: undefined };
          await pause(Math.min(waitMs, SLEEP_MAX_MS), signal);
          if (isAborted()) return;
        }
      }
      yield { message, view };
    }
  }

  #read(message: SegmentMessage): UpdateView | undefined {
    try {
      if (message.channelId === FILTER_NAMES_CHANNEL) return void this.#names.take(message.data);
      if (message.channelId === SEAM_CHANNEL) return viewOfSeam(message.data, publishTime(message));
      return this.#frames.read(message.data);
    } catch (cause) {
      const text = cause instanceof Error ? cause.message : String(cause);
      throw new QlasterError("RECORDING_CORRUPT", `Cannot replay "${this.#directory}" (${text})`, { cause });
    }
  }

  #isInRange(view: UpdateView): boolean {
    const { fromSlot, toSlot } = this.#options;
    if (!("slot" in view)) return true;
    const { slot } = view;
    return (fromSlot === undefined || slot >= fromSlot) && (toSlot === undefined || slot <= toSlot);
  }

  #dueInMs(message: SegmentMessage, speed: number): number {
    const ns = publishTime(message);
    this.#origin ??= { atMs: performance.now(), ns };
    const elapsedMs = Number(ns - this.#origin.ns) / 1e6;
    return this.#origin.atMs + elapsedMs / speed - performance.now();
  }

  async *#messages(): AsyncGenerator<SegmentMessage, void, undefined> {
    const segments = listSegments(this.#directory);
    if (segments.length === 0) {
      throw new QlasterError("RECORDING_NOT_FOUND", `Cannot replay "${this.#directory}": it has no segments`);
    }
    this.#segments = segments.length;
    this.#fileBytes = segments.reduce((sum, { size }) => sum + size, 0);
    let isFound = this.#options.fromSlot === undefined;
    for (const segment of segments) {
      this.#segment++;
      this.#names.clear();
      if (segment.isPart) {
        yield* readSegment(segment.path, true);
        continue;
      }
      const start = await this.#startIn(segment, isFound);
      if (start === "skip") continue;
      isFound = true;
      if (start === "all") yield* readSegment(segment.path, false);
      else {
        await using indexed = await IndexedSegment.open(segment.path);
        await indexed.filterNamesUntil(start, (data) => this.#names.take(data));
        yield* indexed.messagesFrom(start);
      }
    }
  }

  /** Where reading a complete segment begins. */
  async #startIn({ path }: Segment, isFound: boolean): Promise<"skip" | "all" | bigint> {
    const { fromSlot, toSlot } = this.#options;
    if (fromSlot === undefined && toSlot === undefined) return "all";
    await using indexed = await IndexedSegment.open(path);
    const { firstSlot, lastSlot } = await indexed.summary();
    if (firstSlot === undefined || lastSlot === undefined) return "skip";
    if (toSlot !== undefined && firstSlot > toSlot) return "skip";
    if (fromSlot === undefined || isFound) return fromSlot !== undefined && lastSlot < fromSlot ? "skip" : "all";
    if (lastSlot < fromSlot) return "skip";
    return await indexed.timeOfSlot(fromSlot) ?? "skip";
  }
}

/** When an update was published; of version 9 and marks that don't say, when it was received. */
function publishTime({ publishTime, logTime }: SegmentMessage): bigint {
  return publishTime === 0n ? logTime : publishTime;
}
