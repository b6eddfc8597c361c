/**
 * The demo's state as text: a screen of at most 80 columns and 23 rows, or one line.
 * May touch: its arguments.
 * May not touch: anything else; view.ts writes.
 * Why no table library: every cell is plain text of known width, so that padding is all it takes.
 *
 * @module
 */

import { styleText } from "node:util";
import type { ConsumerReport, SenderReport } from "./messages.ts";
import type { RecentTransfer, TokenBalance } from "./token_decoder.ts";

/** All that is shown. A report is undefined until its process has sent the first one. */
export interface DemoState {
  readonly title: string;
  readonly seconds: number;
  readonly sender: { readonly label: string; readonly report: SenderReport | undefined };
  readonly consumers: readonly { readonly label: string; readonly report: ConsumerReport | undefined }[];
}

const PROGRESS_WIDTH = 30;
const TRANSFERS_MAX = 5;
const BALANCES_MAX = 3;
const COLUMNS = ["", "updates/s", "accounts", "txs", "slots", "lag p50/p99 µs", "ring", "lost"];
const WIDTHS = [16, 10, 9, 7, 6, 16, 7, 6];

/** Everything, for a terminal. */
export function screenFromState(state: DemoState): string {
  return [
    styleText("bold", state.title),
    progress(state),
    "",
    styleText("dim", row(COLUMNS)),
    row(cells(state.sender.label, state.sender.report)),
    ...state.consumers.map(({ label, report }) => row(cells(label, report))),
    "",
    styleText("bold", "Last token transfers"),
    ...section(TRANSFERS_MAX, transferLines(state)),
    "",
    styleText("bold", "Token accounts written last"),
    ...section(BALANCES_MAX, balanceLines(state)),
  ].join("\n");
}

/** The numbers only, for a log. */
export function lineFromState({ sender, consumers }: DemoState): string {
  const { elapsedSeconds = 0, slot = "-", perSecond = 0 } = sender.report ?? {};
  const parts = [`${elapsedSeconds.toFixed(1).padStart(5)} s`, `slot ${slot}`, `${sender.label} ${perSecond}/s`];
  for (const { label, report } of consumers) {
    if (!report) continue;
    parts.push(`${label} ${report.perSecond}/s lag ${lag(report)} µs ring ${ringFill(report)} lost ${report.lost}`);
  }
  return parts.join(" | ");
}

/** The last transfers and balances, one a line, newest first. */
export function decodedLines(state: DemoState): string[] {
  return [...transferLines(state), ...balanceLines(state)];
}

/** From whichever consumer gets transactions. */
function transferLines({ consumers }: DemoState): string[] {
  return consumers.find(({ report }) => report?.transfers.length)?.report?.transfers.map(transferLine) ?? [];
}

/** From whichever consumer gets the most accounts. */
function balanceLines({ consumers }: DemoState): string[] {
  const byAccounts = consumers.toSorted((a, b) => (b.report?.accounts ?? 0) - (a.report?.accounts ?? 0));
  return byAccounts[0]?.report?.balances.map(balanceLine) ?? [];
}

function progress({ seconds, sender }: DemoState): string {
  if (!sender.report) return "waiting for the first update";
  const { elapsedSeconds, slot } = sender.report;
  const done = Math.round(PROGRESS_WIDTH * Math.min(1, elapsedSeconds / seconds));
  const bar = styleText("cyan", "█".repeat(done)) + styleText("dim", "░".repeat(PROGRESS_WIDTH - done));
  return `${bar} ${elapsedSeconds.toFixed(1)} of ${seconds} s, slot ${slot}`;
}

function cells(label: string, report: SenderReport | ConsumerReport | undefined): string[] {
  if (!report) return [label];
  const { perSecond, accounts, transactions, slots } = report;
  const counts = [perSecond, accounts, transactions, slots].map((count) => count.toLocaleString("en"));
  if (report.type === "sender") return [label, ...counts];
  return [label, ...counts, lag(report), ringFill(report), report.lost.toLocaleString("en")];
}

function row(cells: readonly string[]): string {
  return cells.map((cell, i) => (i === 0 ? cell.padEnd(WIDTHS[i]!) : cell.padStart(WIDTHS[i]!))).join("");
}

/** Always as many lines as it may have, so that nothing below it jumps. */
function section(linesMax: number, lines: readonly string[]): string[] {
  return Array.from({ length: linesMax }, (_, i) => lines[i] ?? "");
}

function lag({ lagUs }: ConsumerReport): string {
  return `${lagUs.p50} / ${lagUs.p99}`;
}

function ringFill({ ring }: ConsumerReport): string {
  return `${((100 * ring.usedBytes) / ring.capacityBytes).toFixed(1)} %`;
}

function transferLine({ slot, index, failed, source, destination, mint, amount }: RecentTransfer): string {
  const text = `  ${slot} #${String(index).padEnd(4)} ${shorten(source)} → ${shorten(destination)}`;
  return failed ? styleText("red", `${text}   failed`) : `${text} ${amount.padStart(10)} of mint ${shorten(mint)}`;
}

function balanceLine({ slot, account, mint, wallet, amount }: TokenBalance): string {
  const holding = `holds ${amount.padStart(14)} of mint ${shorten(mint)}`;
  return `  ${slot} ${shorten(account)} ${holding}, wallet ${shorten(wallet)}`;
}

function shorten(address: string): string {
  return `${address.slice(0, 4)}…${address.slice(-4)}`;
}
