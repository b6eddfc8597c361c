/**
 * A web stream of copies over a consumer.
 * May touch: what a consumer gives it. May not touch: rings, views.
 *
 * @module
 */

import type { UpdateView } from "./view.ts";

/** The copy of whatever a consumer reads: tell them apart by `kind`. */
export type ViewCopy = ReturnType<UpdateView["copy"]>;

/** How a stream of copies is made. */
export interface ReadableOptions {
  /** Copies that may wait in the stream for whoever reads it. Default 64. More of them wait in the ring, and count as unread. */
  readonly highWaterMark?: number;
}

/** Where copies come from. */
export interface CopySource {
  /**
   * Waits until there is something, and copies it, up to `limit`. Undefined at a quiet end, and once `isStopped`.
   * @throws {QlasterError} `CONNECTION_LOST`, `CONSUMER_BUSY`
   */
  copies(limit: number, isStopped: () => boolean): Promise<ViewCopy[] | undefined>;
  /** Whoever waits looks again whether he is to stop. */
  wakeUp(): void;
}

const HIGH_WATER_MARK = 64;

/** @throws {RangeError} for a mark that is no whole number from 1 to 65536. */
export function readableOf(source: CopySource, options: ReadableOptions = {}): ReadableStream<ViewCopy> {
  const { highWaterMark = HIGH_WATER_MARK } = options;
  if (!Number.isInteger(highWaterMark) || highWaterMark < 1 || highWaterMark > 65536) {
    throw new RangeError(`highWaterMark must be a whole number from 1 to 65536, not ${highWaterMark}`);
  }
  let isCancelled = false;
  let failure: { readonly error: unknown } | undefined;
  return new ReadableStream<ViewCopy>({
    async pull(controller) {
      if (failure === undefined) {
        try {
          const copies = await source.copies(Math.max(1, controller.desiredSize ?? 1), () => isCancelled);
          if (isCancelled) return;
          if (copies === undefined) return controller.close();
          for (const copy of copies) controller.enqueue(copy);
          return;
        } catch (error) {
          failure = { error };
        }
      }
      // An error throws away what waits in the stream: not before that has been taken, which is when this is called again.
      if (controller.desiredSize === highWaterMark) controller.error(failure.error);
    },
    cancel() {
      isCancelled = true;
      source.wakeUp();
    },
  }, { highWaterMark });
}
