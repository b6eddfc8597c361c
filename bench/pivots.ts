/**
 * Records as small tables for RESULTS.md: what is compared stands side by side.
 * May touch: its arguments. What a record is about is read from its name: all names are made by the benches.
 *
 * @module
 */

import { markdownTable } from "markdown-table";
import { rowsFromGoals } from "./goals.ts";
import type { BenchRecord } from "./record.ts";
import { tableFromRecords } from "./report.ts";

/** Where a record stands in a table. */
interface Place {
  readonly row: string;
  readonly column: string;
}

/** Every table, by the name of its marker in RESULTS.md. */
export const TABLES: Readonly<Record<string, (records: readonly BenchRecord[]) => string>> = {
  goals: (records) =>
    markdownTable([["goal", "record", "bound", "figure", ""], ...rowsFromGoals(records)], {
      align: ["l", "l", "r", "r", "l"],
    }),
  producer: (records) => pivot(records, /^(ring .*), (\w+) to \2, producer$/, rowThenColumn, value),
  consumer: (records) => pivot(records, /^(ring .*), (\w+) to \2, consumer$/, rowThenColumn, value),
  "end-to-end": (records) => pivot(records, /^(ring .*), (\w+ to \w+), end to end$/, rowThenColumn, withSpread),
  latency: (records) => pivot(records, /^latency (.*), gap ([^,]+)(, \w+ to \w+)? p50$/, latencyPlace, withTail),
  "latency-frame": (records) =>
    pivot(records, /^latency (.*), gap ([^,]+)(, \w+ to \w+), from the frame's time p50$/, latencyPlace, withTail),
  handshake: (records) => tableFromRecords(records.filter(({ name }) => name.startsWith("handshake"))),
  ffi: (records) => pivot(records, /^ffi (\w+): (.*)$/, ([, column, row]) => ({ row: row!, column: column! }), value),
  peers: (records) => pivot(records, /^(our ring|Unix|pipe|Worker|zeromq|Rust)(.*), ([^,]+)$/, peerPlace, value),
  "fanout-sender": (records) =>
    tableFromRecords(records.filter(({ name }) => /^fanout (10 consumers, 165 B|peer )/.test(name))),
  "fanout-consumers": (records) =>
    pivot(
      records,
      /^fanout (165 B in rings of .*|.* only copied into .*|.* in the pool), (.*) consumers$/,
      rowThenColumn,
      value,
    ),
  "fanout-threshold": (records) =>
    pivot(
      records,
      /^fanout threshold (\d+ B), (\d+ consumers), rings of (.*), in the (ring|pool), (.*)$/,
      thresholdPlace,
      value,
    ),
  "fanout-index": (records) =>
    tableFromRecords(records.filter(({ name }) => /^fanout (an update that|a line at random)/.test(name))),
  "fanout-load": (records) => tableFromRecords(records.filter(({ name }) => name.startsWith("load "))),
  yellowstone: (records) => tableFromRecords(records.filter(({ name }) => name.startsWith("yellowstone "))),
  costs: (records) => pivot(records, /^costs (\w+): (.*)$/, costsPlace, withLeast),
  "v9-push": (records) => pivot(records, /^v9 ([^,]*), (\w+) to \2, push$/, v9Place, withRatio),
  "v9-pop": (records) => pivot(records, /^v9 ([^,]*), (\w+) to \2, pop$/, v9Place, withRatio),
  "v9-pairs": (records) => pivot(records, /^v9 ([^,]*), (\w+ to \w+), end to end$/, v9Place, withRatio),
};

function rowThenColumn([, row, column]: readonly string[]): Place {
  return { row: row!, column: column! };
}

function latencyPlace([, what, gap, pair]: readonly (string | undefined)[]): Place {
  return { row: `${what}${pair ?? ""}`, column: `gap ${gap}` };
}

function costsPlace([, column, row]: readonly string[]): Place {
  return { row: row!, column: column! };
}

function peerPlace([, start, rest, column]: readonly string[]): Place {
  return { row: `${start}${rest}`, column: column! };
}

/** `lean` is the crate with buffers that are kept, both in its column for one side and in that for the pair. */
function v9Place([, row, column]: readonly string[]): Place {
  return { row: row!, column: column!.startsWith("lean") ? "rust, kept buffers" : column! };
}

function thresholdPlace([, bytes, consumers, ring, where, side]: readonly string[]): Place {
  return { row: `${side}, rings of ${ring}, ${consumers}, in the ${where}`, column: bytes! };
}

function pivot(
  records: readonly BenchRecord[],
  pattern: RegExp,
  placeOf: (match: RegExpExecArray) => Place,
  cell: (record: BenchRecord) => string,
): string {
  const rows = new Map<string, Map<string, string>>();
  const columns = new Set<string>();
  for (const record of records) {
    const match = pattern.exec(record.name);
    if (match === null) continue;
    const { row, column } = placeOf(match);
    columns.add(column);
    if (!rows.has(row)) rows.set(row, new Map());
    rows.get(row)!.set(column, cell(record));
  }
  const lines = [...rows].map(([row, cells]) => [row, ...[...columns].map((column) => cells.get(column) ?? "")]);
  return markdownTable([["", ...columns], ...lines], { align: ["l", ...[...columns].map(() => "r")] });
}

function value({ value, unit }: BenchRecord): string {
  return `${value} ${unit}`;
}

function withRatio({ value, unit, ratio }: BenchRecord): string {
  return ratio === undefined ? `${value} ${unit}` : `${value} ${unit} (${ratio})`;
}

function withSpread({ value, unit, conditions: { min, max } }: BenchRecord): string {
  return `${value} ${unit} (${min} … ${max})`;
}

function withLeast({ value, unit, conditions: { min } }: BenchRecord): string {
  return `${value} ${unit} (${min})`;
}

function withTail({ value, unit, conditions: { p99 } }: BenchRecord): string {
  return p99 === undefined ? `${value} ${unit}` : `${value} / ${p99} ${unit}`;
}
