/**
 * Records to RESULTS.md: fills in its tables and draws its pictures.
 * May touch: the file that it is given, `bench/RESULTS.md` between its markers, `bench/plots/`.
 * Usage: ./dev deno run -A bench/render.ts FILE, after ./dev bench --json >FILE; then ./dev deno fmt bench
 *
 * @module
 */

import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import type { Machine } from "./machine.ts";
import { TABLES } from "./pivots.ts";
import { PLOTS } from "./plots.ts";
import type { BenchRecord } from "./record.ts";
import { linesFromMachine } from "./report.ts";

const RESULTS = new URL("RESULTS.md", import.meta.url);

const file = process.argv[2];
if (file === undefined) throw new Error("Cannot render: no file given; ./dev bench --json >FILE makes one");
const records: BenchRecord[] = readFileSync(file, "utf8").trim().split("\n").map((line) => JSON.parse(line));

let text = readFileSync(RESULTS, "utf8");
fill("machine", linesFromMachine(records[0]!.conditions as unknown as Machine).replaceAll("\n", "\\\n"));
for (const [name, table] of Object.entries(TABLES)) fill(name, table(records));
writeFileSync(RESULTS, text);
for (const [name, plot] of Object.entries(PLOTS)) {
  writeFileSync(new URL(`plots/${name}.svg`, import.meta.url), plot(records));
}

/** Replaces what stands between `<!-- name -->` and `<!-- /name -->`. */
function fill(name: string, content: string): void {
  const start = text.indexOf(`<!-- ${name} -->`);
  const end = text.indexOf(`<!-- /${name} -->`);
  if (start < 0 || end < start) throw new Error(`RESULTS.md has no place for ${name}`);
  text = `${text.slice(0, start)}<!-- ${name} -->\n\n${content}\n\n${text.slice(end)}`;
}
