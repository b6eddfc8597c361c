/**
 * What a sender keeps of filters at most, and what is said to who wants more.
 * May touch: numbers. May not touch: filters, consumers.
 *
 * @module
 */

import {
  FILTER_SET_BYTES_MAX,
  FILTER_SETS_MADE_MAX,
  FILTER_SETS_MAX,
  FILTERS_MAX,
  STATE_REQUEST_BYTES_MAX,
  STATE_REQUESTS_MAX,
  Status,
} from "../native/abi.generated.ts";
import { describeStatus } from "../errors.ts";

/** Keys that one consumer may have in all of its filters together, of both kinds: some 50 bytes each. */
export const KEYS_PER_CONSUMER_MAX = 1_000_000;
/** Different keys of each kind in all filters of a sender. */
export const KEYS_MAX = 4_000_000;

/** What a sender has of keys, for who is to know why there can't be more. */
export interface KeyCounts {
  /** Different ones in all filters. */
  readonly accountKeys: number;
  readonly ownerKeys: number;
}

const MIB = 1024 * 1024;

/**
 * Why an edit of a filter was refused, for the consumer to read: which limit, its number, and what to do.
 * @param status What the engine said.
 */
export function describeRefusal(status: number, { accountKeys, ownerKeys }: KeyCounts): string {
  switch (status) {
    case Status.filterKeysLimit:
      return `all filters of one consumer together may have ${KEYS_PER_CONSUMER_MAX} keys, accounts and owners, and ` +
        "there would be more: remove what is not needed, ask for owners instead of their accounts, or divide the keys " +
        "among several consumers";
    case Status.keysLimit:
      return `all filters of the sender together may have ${KEYS_MAX} different accounts and as many owners, and there ` +
        `are ${accountKeys} and ${ownerKeys}, of other consumers too: remove what is not needed, ask for owners ` +
        "instead of their accounts, or divide the keys among several senders";
    case Status.filtersLimit:
      return `the sender keeps ${FILTERS_MAX} filters, those of other consumers and those just removed among them, the ` +
        "last ones for consumers that have none: put more keys into fewer filters, remove what is not needed, try " +
        "again in a second, or let the sender permit fewer consumers (option consumersMax)";
    case Status.setsLimit:
      return `keys may be in ${FILTER_SETS_MAX} different combinations of filters, ${FILTER_SETS_MADE_MAX} of them made ` +
        `by the filters of one consumer, of ${
          FILTER_SET_BYTES_MAX / MIB
        } MiB together, and there would be more: let filters share ` +
        "whole lists of keys rather than parts of them, or have fewer filters";
    case Status.requestsLimit:
      return `${STATE_REQUESTS_MAX} requests for state may wait for one consumer, with ` +
        `${STATE_REQUEST_BYTES_MAX / MIB} MiB of keys at the sender, and this would be one more: read until ` +
        "the snapshot-complete of those before, then ask again";
    case Status.memoryLimit:
      return "the system has no more memory for the sender: its host or container is full, not one of its options";
    case Status.badArgument:
      return "the sender can't make sense of the filter: check that both sides have the same version of the library";
    default:
      return `the sender could not do it (${describeStatus(status)})`;
  }
}
