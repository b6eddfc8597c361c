/**
 * Seams in a recording: where a connection was lost, where another one goes on, and where a recorder began behind another one.
 * May touch: messages of the seam channel. May not touch: files. What a file says is checked.
 *
 * @module
 */

import { ConnectionView, type Continuity, type LostEvent, type ResumedEvent } from "../stream/connection_view.ts";
import { END_REASONS } from "../stream/loss.ts";
import type { EndReason } from "../types.ts";

/** Where the stream of updates was interrupted, or goes on. */
export type Seam = LostEvent | ResumedEvent;

const CONTINUITIES: readonly Continuity[] = ["complete", "state", "unknown"];

/** Most updates that can be missing before a seam by which the stream goes on; undefined if nobody knows. */
function missingMax(seam: Seam): bigint | undefined {
  if (seam.type === "lost") return undefined;
  if (seam.continuity === "complete") return 0n;
  const { isSameSender, sequence, lastSequence } = seam;
  return isSameSender === true && sequence !== undefined && sequence >= lastSequence
    ? sequence - lastSequence
    : undefined;
}

/** As it stands in the file: JSON; counts beyond 2^53 as text. For readers in any language, hence `missingMax`. */
export function encodeSeam(seam: Seam): Uint8Array {
  const said = { ...seam, missingMax: missingMax(seam) ?? null };
  const text = JSON.stringify(said, (_, value: unknown) => typeof value === "bigint" ? String(value) : value);
  return new TextEncoder().encode(text);
}

/** @throws {RangeError} if it is none. */
export function decodeSeam(data: Uint8Array): Seam {
  let said: Record<string, unknown> = {};
  try {
    const parsed: unknown = JSON.parse(new TextDecoder().decode(data));
    if (typeof parsed === "object" && parsed !== null) said = parsed as Record<string, unknown>;
  } catch { /* said below */ }
  const { type, reason, isOverwritten, retryMs, continuity, isSameSender, downMs, attempts } = said;
  const lastSequence = countOf(said.lastSequence);
  if (type === "lost" && isOneOf(END_REASONS, reason) && typeof isOverwritten === "boolean") {
    const isRetried = retryMs === undefined || isAmount(retryMs);
    if (isRetried && lastSequence !== undefined) {
      return { type, reason: reason as EndReason, lastSequence, isOverwritten, retryMs: retryMs as number | undefined };
    }
  }
  if (type === "resumed" && isOneOf(CONTINUITIES, continuity) && isAmount(downMs) && isAmount(attempts)) {
    const sequence = said.sequence === undefined ? undefined : countOf(said.sequence);
    const isKnown = isSameSender === undefined || typeof isSameSender === "boolean";
    if (isKnown && lastSequence !== undefined && (said.sequence === undefined || sequence !== undefined)) {
      return { type, continuity: continuity as Continuity, isSameSender, lastSequence, sequence, downMs, attempts };
    }
  }
  throw new RangeError("a message of the seams is none");
}

function countOf(value: unknown): bigint | undefined {
  return typeof value === "string" && /^\d{1,20}$/.test(value) ? BigInt(value) : undefined;
}

function isAmount(value: unknown): value is number {
  return typeof value === "number" && value >= 0;
}

function isOneOf(known: readonly string[], value: unknown): boolean {
  return typeof value === "string" && known.includes(value);
}

/** A seam of a file as the recorded consumer had it. @param publishNs When it was. */
export function viewOfSeam(data: Uint8Array, publishNs: bigint): ConnectionView {
  return new ConnectionView(decodeSeam(data), () => Number(publishNs / 1000n));
}
