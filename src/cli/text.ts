/**
 * Numbers and tables for people: short, and of a known width.
 * May touch: nothing.
 *
 * @module
 */

/** Text that others wrote, such as a server's refusal: for a terminal it must be no more than text. */
export function plain(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (one) => one === "\n" ? one : "�");
}

/** 1234567 as "1.23M". At most six characters. */
export function short(value: number): string {
  if (!Number.isFinite(value)) return "-";
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]] as const) {
    if (value >= size * 0.9995) return `${digits(value / size)}${unit}`;
  }
  return digits(value);
}

function digits(value: number): string {
  if (Number.isInteger(value) && value < 1000) return String(value);
  return value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2);
}

/** Bytes, in powers of 1024: "1.2 MiB". */
export function bytes(value: number): string {
  for (const [size, unit] of [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]] as const) {
    if (value >= size) return `${digits(value / size)} ${unit}`;
  }
  return `${value} B`;
}

/** A duration: "3.1 µs", "12 ms", "2.0 s". */
export function duration(us: number): string {
  if (us === 0) return "0";
  if (us < 1) return `${digits(us * 1000)} ns`;
  if (us < 1000) return `${digits(us)} µs`;
  if (us < 1e6) return `${digits(us / 1000)} ms`;
  return `${digits(us / 1e6)} s`;
}

const BARS = "▁▂▃▄▅▆▇█";

/** A line of bars for the last values. */
export function sparkline(values: readonly number[], width: number): string {
  const shown = values.slice(-width);
  const most = Math.max(...shown, 1e-9);
  return shown.map((value) => BARS[Math.min(BARS.length - 1, Math.floor((value / most) * BARS.length))]).join("");
}

/** A horizontal bar of that share of `width`. */
export function bar(share: number, width: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, share)) * width);
  return "█".repeat(filled) + "░".repeat(width - filled);
}

/** Text cut to a width. */
export function fit(text: string, width: number): string {
  const characters = [...text];
  return characters.length <= width ? text : `${characters.slice(0, Math.max(0, width - 1)).join("")}…`;
}

/** Rows under a head; all columns but the first to the right. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => [...row[i]!].length)));
  const line = (cells: readonly string[]) =>
    cells.map((cell, i) => {
      const space = " ".repeat(widths[i]! - [...cell].length);
      return i === 0 ? cell + space : space + cell;
    }).join("  ").trimEnd();
  return [head, ...rows].map(line);
}
