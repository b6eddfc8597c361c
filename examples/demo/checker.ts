/**
 * The oracle: did a consumer get exactly what its filter selects from the sender's log, in order, byte for byte?
 * May touch: the two logs and the filter. May not touch: anything of the library, or of the rest of the demo, so that
 * an error there can't excuse itself here. Run: checker.ts SENDER_LOG FILTER CONSUMER_LOG; exit code 1 if the answer is no.
 * @module
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import process from "node:process";

type Row = Record<string, unknown>;
type Filter = { accounts: string[]; owners: string[]; transactions: boolean };

const COMMON = "kind slot bankId lossy sourceNs";
const FIELDS: Record<string, string[]> = {
  account: `${COMMON} pubkey owner lamports rentEpoch writeVersion executable startup signature data`.split(" "),
  transaction: `${COMMON} index vote failed signature message meta`.split(" "),
  slot: `${COMMON} parent status accountsPublished transactionsPublished accountsLost transactionsLost`.split(" "),
};

/** The rows that the filter selects, each slot with the counts that a consumer without losses has to see. */
export function expectedRows(sent: Row[], { accounts, owners, transactions }: Filter): Row[] {
  const [keys, programs, published] = [new Set<unknown>(accounts), new Set<unknown>(owners), new Map<string, number>()];
  return sent.flatMap((row): Row[] => {
    const count = (kind: unknown) => published.get(`${kind} ${row.slot}`) ?? 0;
    published.set(`${row.kind} ${row.slot}`, count(row.kind) + 1);
    const [accountsPublished, transactionsPublished] = [count("account"), count("transaction")];
    const counts = { accountsPublished, transactionsPublished, accountsLost: 0, transactionsLost: 0 };
    if (row.kind === "slot") return [{ ...row, ...counts }];
    return (row.kind === "account" ? keys.has(row.pubkey) || programs.has(row.owner) : transactions) ? [row] : [];
  });
}

/** What is wrong first, in words; undefined if the consumer got precisely what was expected. */
export function firstFault(expected: Row[], received: Row[]): string | undefined {
  if (!expected.some((row) => row.kind === "account")) return "no account was expected: the filter or the log is wrong";
  const sequence = (row?: Row) => BigInt((row?.sequence ?? 0) as string);
  for (let i = 0; i < Math.max(expected.length, received.length); i++) {
    const [want, got, at] = [expected[i], received[i], `update ${i + 1} of ${expected.length}:`];
    if (!want || !got) return `${at} ${want ? "missing" : "surplus"}`;
    const field = FIELDS[want.kind as string]!.find((name) => want[name] === undefined || want[name] !== got[name]);
    if (field) return `${at} ${field} is ${got[field]}, expected ${want[field]}`;
    if (got.lost !== 0 || got.conflated !== 0) return `${at} ${got.lost} lost, ${got.conflated} conflated`;
    if (sequence(got) <= sequence(received[i - 1])) return `${at} sequence ${got.sequence} does not increase`;
  }
}

if (import.meta.main) {
  const [sent, filter, received] = process.argv.slice(2).map((path) => readFileSync(path, "utf8"));
  const rows = (log: string) => log.split("\n").filter(Boolean).map((line): Row => JSON.parse(line));
  const fields = (row: Row) => JSON.stringify(FIELDS[row.kind as string]?.map((field) => row[field]));
  const sha256 = (list: Row[]) => createHash("sha256").update(list.map(fields).join("\n")).digest("hex");
  const [expected, actual] = [expectedRows(rows(sent!), JSON.parse(filter!)), rows(received!)];
  const [want, got] = [sha256(expected), sha256(actual)];
  const fault = firstFault(expected, actual) ?? (want === got ? undefined : `sha256 is ${got}, expected ${want}`);
  console.log(fault ?? `${expected.length} updates in order, sha256 ${want.slice(0, 16)}`);
  process.exitCode = fault ? 1 : 0;
}
