/**
 * `qlaster stat` and `qlaster top`: a sender's figures as text, once or again and again.
 * May touch: a stat page, stdin and stdout. May not touch: the sender.
 *
 * @module
 */

import process from "node:process";
import { emitKeypressEvents } from "node:readline";
import { createLogUpdate } from "log-update";
import { isQlasterError } from "../errors.ts";
import type { ConsumerStat, SenderStat } from "../stat/figures.ts";
import { openStat, type StatPage } from "../stat/page.ts";
import { Histogram } from "../stat/histogram.ts";
import type { LossCounts } from "../types.ts";
import { bar, bytes, duration, fit, short, sparkline, table } from "./text.ts";

/** What `top` can sort by. */
export const SORTS = ["id", "rate", "lag", "ring", "lost"] as const;
/** One of them. */
export type Sort = typeof SORTS[number];

/** Two readings, and what lies between them. */
interface Pair {
  readonly stat: SenderStat;
  readonly before: SenderStat | undefined;
}

function perSecond({ stat, before }: Pair, of: (stat: SenderStat) => number): number {
  if (before === undefined || stat.readAt <= before.readAt) return 0;
  return Math.max(0, of(stat) - of(before)) * 1000 / (stat.readAt - before.readAt);
}

/** What of a consumer is shown. */
interface Row {
  readonly consumer: ConsumerStat;
  readonly rate: number;
  readonly latency: Histogram;
  readonly wake: string;
}

/** How it waits: what it did between two looks, or ever, if there was one. "awake": neither, as who is always busy. */
function wakeOf({ parked, parks, spins }: ConsumerStat, earlier: ConsumerStat | undefined): string {
  if (parked) return "sleeps";
  if (parks > (earlier?.parks ?? 0)) return "parks";
  return spins > (earlier?.spins ?? 0) ? "spins" : "awake";
}

function rowsOf({ stat, before }: Pair, sort: Sort): Row[] {
  const rows = stat.consumers.map((consumer): Row => {
    const earlier = before?.consumers.find(({ id }) => id === consumer.id);
    const seconds = before === undefined ? 0 : (stat.readAt - before.readAt) / 1000;
    const rate = earlier === undefined || seconds <= 0 ? 0 : Math.max(0, consumer.frames - earlier.frames) / seconds;
    const recent = earlier === undefined ? consumer.latency : consumer.latency.since(earlier.latency);
    return { consumer, rate, latency: recent.count > 0 ? recent : consumer.latency, wake: wakeOf(consumer, earlier) };
  });
  const by: Record<Sort, (row: Row) => number> = {
    id: ({ consumer }) => -consumer.id,
    rate: ({ rate }) => rate,
    lag: ({ consumer }) => consumer.lagMs,
    ring: ({ consumer }) => consumer.ring.usedBytes / Math.max(1, consumer.ring.capacityBytes),
    lost: ({ consumer }) => consumer.lost,
  };
  return rows.sort((a, b) => by[sort](b) - by[sort](a) || a.consumer.id - b.consumer.id);
}

function stateOf(stat: SenderStat): string {
  if (stat.isGone) return "GONE: its process is not there, these are its last figures";
  const since = duration(stat.sinceBeatMs * 1000);
  if (stat.isStuck) return `STUCK: its event loop has not run for ${since}`;
  return "running";
}

const REASONS: Readonly<Record<keyof LossCounts, string>> = {
  replaced: "replaced",
  skipped: "skipped",
  ringFull: "ring full",
  poolShare: "share of the pool",
  poolFull: "pool full",
  queueFull: "queue full",
  tooLarge: "too large",
  noMemory: "no memory",
  ended: "waited to the end",
};

/** What was lost by which reason, the most first; nothing where nothing was. */
function lossLines({ losses }: SenderStat): string[] {
  const shares = (Object.keys(REASONS) as (keyof LossCounts)[]).filter((reason) => losses[reason] > 0)
    .sort((a, b) => losses[b] - losses[a]).map((reason) => `${REASONS[reason]} ${short(losses[reason])}`);
  return shares.length === 0 ? [] : [`lost by: ${shares.join("  ")}`];
}

/** Whom the sender has ended last, and why. */
function dropLines({ dropped, readAt }: SenderStat): string[] {
  if (dropped === undefined) return [];
  const { id, name, pid, reason, at } = dropped;
  const ago = duration(Math.max(0, readAt - at) * 1000);
  return [`dropped last: ${id} ${name === "" ? "" : `${name} `}(pid ${pid}), ${reason}, ${ago} ago`];
}

function headOf(pair: Pair): string[] {
  const { stat } = pair;
  const dropped = stat.ended.slowConsumer + stat.ended.peerCorrupt + stat.ended.idle;
  const up = duration((stat.readAt - stat.startedAt) * 1000);
  const published = stat.sincePublishMs === undefined ? "never" : `${duration(stat.sincePublishMs * 1000)} ago`;
  const pool = stat.pool.capacityBytes === 0
    ? "none"
    : `${bytes(stat.pool.usedBytes)}/${bytes(stat.pool.capacityBytes)}`;
  return [
    `${stat.path}  pid ${stat.pid}  up ${up}  ${stateOf(stat)}`,
    `slot ${stat.newestSlot}  sequence ${stat.sequence}  published ${published}`,
    `accounts ${short(stat.accounts)}  transactions ${short(stat.transactions)}  slots ${short(stat.slots)}  ` +
    `delivered ${short(stat.deliveries)}  lost ${short(stat.lost)}`,
    `dropped ${dropped}  refused ${stat.refused}  pool ${pool}  late by ${duration(stat.stallMaxMs * 1000)}`,
    ...lossLines(stat),
    ...dropLines(stat),
  ];
}

const HEAD = ["consumer", "rate/s", "lag", "ring", "policy", "lost", "wake", "p50", "p99"];

/** Without the space: nine columns fit 80 characters. */
function narrow(us: number): string {
  return duration(us).replace(" ", "");
}

function cellsOf({ consumer, rate, latency, wake }: Row): string[] {
  const { id, name, lagMs, ring, policy, lost } = consumer;
  const fill = ring.capacityBytes === 0 ? 0 : ring.usedBytes / ring.capacityBytes;
  return [
    fit(`${id} ${name === "" ? `pid ${consumer.pid}` : name}`, 14),
    short(rate),
    narrow(lagMs * 1000),
    `${Math.round(fill * 100)}%`,
    policy,
    short(lost),
    wake,
    narrow(latency.percentileUs(0.5)),
    narrow(latency.percentileUs(0.99)),
  ];
}

/** The figures as plain text. */
export function statText(pair: Pair, sort: Sort = "id"): string {
  const rows = rowsOf(pair, sort).map(cellsOf);
  const list = rows.length === 0 ? ["no consumers"] : table(HEAD, rows);
  return [...headOf(pair), "", ...list].join("\n");
}

/** One shot: two looks, so that there are rates. */
export async function stat(path: string, options: { json?: boolean; prom?: boolean; uid?: number[] }): Promise<void> {
  using page = openStat(path, { uids: options.uid ?? [] });
  if (options.prom === true) {
    const { prometheusText } = await import("../observe/prometheus.ts");
    return void process.stdout.write(await prometheusText(page.read()));
  }
  if (options.json === true) return void process.stdout.write(`${JSON.stringify(page.read(), jsonValue)}\n`);
  const before = page.read();
  await new Promise((resolve) => setTimeout(resolve, 250));
  process.stdout.write(`${statText({ stat: page.read(), before })}\n`);
}

/** Histograms as what people ask of them. */
function jsonValue(_: string, value: unknown): unknown {
  if (!(value instanceof Histogram)) return value;
  const [p50Us, p90Us, p99Us] = [0.5, 0.9, 0.99].map((share) => value.percentileUs(share));
  return { count: value.count, p50Us, p90Us, p99Us };
}

/** Latencies of all consumers, a bar for each decade. */
function histogramLines(rows: readonly Row[], height: number): string[] {
  const all = rows.reduce((sum, { latency }) => sum.plus(latency), Histogram.empty);
  if (all.count === 0) return [];
  const decades = ["<1 µs", "<10 µs", "<100 µs", "<1 ms", "<10 ms", "more"];
  const counts = decades.map(() => 0);
  all.counts.forEach((count, i) => {
    const us = 32 * 2 ** (i / 4) * 4 / 1000; // the bucket's beginning
    counts[Math.min(decades.length - 1, Math.max(0, Math.floor(Math.log10(us)) + 1))]! += count;
  });
  return decades.map((name, i) => {
    const share = counts[i]! / all.count;
    return `${name.padStart(8)} ${bar(share, 40)} ${(share * 100).toFixed(1).padStart(5)}%`;
  }).slice(0, height);
}

/** The screen: never more than its width and height. */
export function screenText(pair: Pair, history: readonly number[], sort: Sort, columns: number, lines: number): string {
  const rows = rowsOf(pair, sort);
  const rate = perSecond(pair, ({ sequence }) => sequence);
  const spark = `updates ${short(rate).padStart(6)}/s ${sparkline(history, Math.max(10, columns - 20))}`;
  const bars = histogramLines(rows, 6);
  const histogram = bars.length === 0 ? [] : ["", "publish → read", ...bars];
  const fixed = [...headOf(pair), spark, ""];
  const room = Math.max(2, lines - fixed.length - 2);
  const withHistogram = rows.length + 1 + histogram.length <= room;
  const listRoom = withHistogram ? room - histogram.length : room;
  const list = rows.length === 0 ? ["no consumers"] : table(HEAD, rows.map(cellsOf)).slice(0, listRoom);
  const hidden = rows.length - Math.max(0, list.length - 1);
  const foot = `sort ${sort}: i r l g d   quit q${hidden > 0 && rows.length > 0 ? `   ${hidden} more` : ""}`;
  const screen = [...fixed, ...list, ...(withHistogram ? histogram : [])];
  return [...screen, foot].slice(0, lines - 1).map((line) => fit(line, columns)).join("\n");
}

const KEYS: Readonly<Record<string, Sort>> = { i: "id", r: "rate", l: "lag", g: "ring", d: "lost" };
const HISTORY_MAX = 600;
/** A timer that is to wait for longer fires at once. */
const TIMER_MS_MAX = 0x7fffffff;

/** Live figures: a screen on a terminal until the signal, else plain text once. */
export async function top(
  path: string,
  options: { every?: number; sort?: Sort; count?: number; uid?: number[] },
  signal: AbortSignal,
): Promise<void> {
  const open = () => openStat(path, { uids: options.uid ?? [] });
  const everyMs = Math.min(options.every ?? 1000, TIMER_MS_MAX);
  if (process.stdout.isTTY !== true) {
    using page = open();
    const before = page.read();
    await new Promise((resolve) => setTimeout(resolve, Math.min(everyMs, 1000)));
    return void process.stdout.write(`${statText({ stat: page.read(), before }, options.sort)}\n`);
  }
  await screen(open, everyMs, options.sort ?? "rate", options.count ?? Infinity, signal);
}

/** That of the sender that has come after one that has gone; undefined while there is none. */
function nextPage(open: () => StatPage): StatPage | undefined {
  try {
    return open();
  } catch (error) {
    if (isQlasterError(error)) return undefined;
    throw error;
  }
}

/** @param open The page of who sends now. @throws {QlasterError} if nobody does. */
async function screen(
  open: () => StatPage,
  everyMs: number,
  first: Sort,
  count: number,
  signal: AbortSignal,
): Promise<void> {
  let page = open();
  const update = createLogUpdate(process.stdout);
  const history: number[] = [];
  let sort = first;
  let isOver = false;
  let wake = () => {};
  const keys = (_: string | undefined, key: { name?: string; ctrl?: boolean }) => {
    if (key.name === "q" || (key.ctrl === true && key.name === "c")) isOver = true;
    else if (key.name !== undefined && KEYS[key.name] !== undefined) sort = KEYS[key.name]!;
    else return;
    wake();
  };
  const end = () => wake();
  signal.addEventListener("abort", end);
  const { stdin } = process;
  const hasKeys = stdin.isTTY === true;
  if (hasKeys) {
    emitKeypressEvents(stdin);
    stdin.setRawMode(true);
    stdin.on("keypress", keys);
    stdin.resume();
  }
  try {
    let before: SenderStat | undefined;
    for (let shown = 0; !isOver && !signal.aborted && shown < count; shown++) {
      let stat = page.read();
      if (stat.isGone) {
        const next = nextPage(open);
        if (next !== undefined) {
          page[Symbol.dispose]();
          page = next;
          [stat, before] = [page.read(), undefined];
        }
      }
      history.push(perSecond({ stat, before }, ({ sequence }) => sequence));
      if (history.length > HISTORY_MAX) history.shift();
      update(screenText({ stat, before }, history, sort, process.stdout.columns ?? 80, process.stdout.rows ?? 24));
      before = stat;
      if (shown + 1 >= count) break;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, everyMs);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  } finally {
    page[Symbol.dispose]();
    signal.removeEventListener("abort", end);
    update.done();
    if (hasKeys) {
      stdin.off("keypress", keys);
      stdin.setRawMode(false);
      stdin.pause();
    }
  }
}
