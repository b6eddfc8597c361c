/**
 * Records as a table that reads well in a terminal and in Markdown.
 * May touch: its arguments. May not touch: the terminal; main.ts writes.
 *
 * @module
 */

import { markdownTable } from "markdown-table";
import type { Machine } from "./machine.ts";
import type { BenchRecord } from "./record.ts";

/** One line for each record: the name and the figure, how far runs differ, the tail, the rival. */
export function tableFromRecords(records: readonly BenchRecord[]): string {
  const hasTail = records.some(({ conditions }) => conditions.p99 !== undefined);
  const hasPeer = records.some(({ peer }) => peer !== undefined);
  const head = [
    "",
    "median",
    "min … max",
    ...(hasTail ? ["p99 / p99.9 / max"] : []),
    ...(hasPeer ? ["ratio", "to"] : []),
  ];
  const rows = records.map((record) => [
    record.name,
    `${record.value} ${record.unit}`,
    `${record.conditions.min} … ${record.conditions.max}`,
    ...(hasTail ? [tail(record)] : []),
    ...(hasPeer ? [record.ratio?.toString() ?? "", record.peer ?? ""] : []),
  ]);
  return markdownTable([head, ...rows], { align: ["l", "r", "r", ...(hasTail ? ["r"] : []), "r", "l"] });
}

function tail({ conditions: { p99, p999, highest } }: BenchRecord): string {
  return highest === undefined ? "" : [p99, p999, highest].map((value) => value ?? "-").join(" / ");
}

/** The circumstances, one a line. */
export function linesFromMachine({ cpu, cores, system, deno, bun, zig, commit, date, pinning, load }: Machine): string {
  return [
    `${cpu}, ${cores} cores, ${system}; Deno ${deno}, Bun ${bun}, Zig ${zig}`,
    `${date}, commit ${commit}, load ${load.toFixed(2)} before; ${pinning}`,
  ].join("\n");
}
