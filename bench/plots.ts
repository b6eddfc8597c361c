/**
 * Records as pictures, in SVG.
 * May touch: its arguments. May not touch: files; render.ts writes.
 *
 * @module
 */

import * as Plot from "@observablehq/plot";
import { parseHTML } from "linkedom";
import type { BenchRecord } from "./record.ts";

type Draw = (records: readonly BenchRecord[]) => string;

const WIDTH = 860;
const MARGIN_LEFT = 300;
const ROW_HEIGHT = 22;

/** Every picture, by the name of its file. */
export const PLOTS: Readonly<Record<string, Draw>> = {
  throughput: bars(/^ring 165 B (.*), end to end$/, "million updates of 165 B per second, end to end"),
  cost: bars(/^ring 165 B (.*, (?:producer|consumer))$/, "ns per update of 165 B, each side alone"),
  peers: bars(/^((?!ring).*), 165 B$/, "million messages of 165 B per second"),
  latency,
};

/** One bar for each record whose name matches, under what the pattern's group says, and a line from worst to best run. */
function bars(pattern: RegExp, label: string): Draw {
  return (records) => {
    const rows = records.flatMap(({ name, value, conditions }) => {
      const row = pattern.exec(name)?.[1];
      return row === undefined ? [] : [{ row, value, min: Number(conditions.min), max: Number(conditions.max) }];
    });
    const names = rows.map(({ row }) => row);
    return svg(names, {
      x: { label, grid: true },
      marks: [
        Plot.barX(rows, { x: "value", y: "row", fill: "#4269d0" }),
        Plot.ruleY(rows, { x1: "min", x2: "max", y: "row", stroke: "#333" }),
        Plot.ruleX([0]),
      ],
    });
  };
}

/** Median latencies: one dot for each gap. */
function latency(records: readonly BenchRecord[]): string {
  const rows = records.flatMap(({ name, value, conditions }) => {
    const match = /^latency (.*), gap ([^,]*)(, \w+ to \w+)? p50$/.exec(name);
    if (match === null) return [];
    const [, what, gap, pair = ""] = match;
    return [{ row: `${what}${pair}`, gap: `gap ${gap}`, value, gapUs: Number(conditions.gapUs) }];
  });
  const gaps = [...new Set(rows.toSorted((a, b) => a.gapUs - b.gapUs).map(({ gap }) => gap))];
  return svg([...new Set(rows.map(({ row }) => row))], {
    x: { type: "log", label: "median one-way latency, µs", grid: true, tickFormat: "~s" },
    color: { domain: gaps, range: ["#4269d0", "#efb118", "#ff725c", "#6cc5b0"] },
    marks: [
      Plot.dot(rows, { x: "value", y: "row", fill: "gap", r: 4 }),
      ...gaps.map((gap, i) =>
        Plot.text([gap], { frameAnchor: "bottom-right", dy: -14 * i, text: () => gap, fill: () => gap })
      ),
    ],
  });
}

function svg(rows: readonly string[], options: Plot.PlotOptions): string {
  const { document } = parseHTML("<html></html>") as unknown as { document: Plot.PlotOptions["document"] };
  const plot = Plot.plot({
    ...options,
    document,
    width: WIDTH,
    height: 70 + ROW_HEIGHT * rows.length,
    marginLeft: MARGIN_LEFT,
    style: { background: "#fff" },
    y: { label: null, domain: rows },
  });
  plot.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  return plot.outerHTML + "\n";
}
