/**
 * What is asked for after a reconnect, against a model that remembers each key by itself.
 * May touch: WantedFilters. May not touch: the native library.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Edit } from "../../src/stream/session.ts";
import { WantedFilters } from "../../src/stream/wanted_filters.ts";
import { keyOf } from "./support/updates.ts";

type Model = Map<number, { keys: Map<string, boolean>; transactions: boolean; program: number }>;

const PROGRAM = (number: number) => new Uint8Array(8).fill(number);
const nameOf = (list: string, key: ArrayLike<number>) => `${list} ${Array.from(key).join(" ")}`;

const keys = fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 5 }).map((seeds) => seeds.map(keyOf));
const lists = { accounts: keys, owners: keys, transactions: fc.boolean(), state: fc.boolean() };
const additions = fc.record({
  op: fc.constantFrom("add" as const, "remove" as const),
  bit: fc.integer({ min: 0, max: 3 }),
  ...lists,
});
const others = fc.record({
  op: fc.constantFrom("replace" as const, "drop" as const),
  bit: fc.integer({ min: 1, max: 3 }),
  ...lists,
});
const edits = fc.array(
  fc.tuple(fc.oneof(additions, others), fc.integer({ min: 0, max: 5 })).map(([edit, program]): Edit => ({
    ...edit,
    program: PROGRAM(edit.op === "replace" ? program : 0),
    isKeyed: true,
  })),
  { maxLength: 40 },
);

function applyTo(model: Model, { op, bit, program, transactions, state, ...lists }: Edit): void {
  if (op === "drop") return void model.delete(bit);
  const named = (["accounts", "owners"] as const).flatMap((list) => lists[list].map((key) => nameOf(list, key)));
  if (op === "replace") model.delete(bit);
  let filter = model.get(bit);
  if (op === "remove") {
    for (const name of named) filter?.keys.delete(name);
    if (transactions && filter !== undefined) filter.transactions = false;
    return;
  }
  if (filter === undefined) model.set(bit, filter = { keys: new Map(), transactions: false, program: program[0]! });
  for (const name of named) filter.keys.set(name, state || filter.keys.get(name) === true);
  filter.transactions ||= transactions;
}

/** Without what is the same as no filter. */
const told = (model: Model) =>
  [...model].map(([bit, { keys, transactions, program }]) => ({
    bit,
    transactions,
    program: bit === 0 ? 0 : program,
    keys: [...keys].sort(),
  })).filter(({ bit, keys, transactions }) => bit > 0 || keys.length > 0 || transactions)
    .sort((one, other) => one.bit - other.bit);

test("WantedFilters asks for what is in force: each key, state of it if that was ever wanted, programs, transactions", () => {
  fc.assert(fc.property(edits, (edits) => {
    const [wanted, model, restored] = [new WantedFilters(), new Map() as Model, new Map() as Model];
    for (const edit of edits) {
      // An addition to a filter that nobody has set is none: users can't ask for it.
      if (edit.op === "add" && edit.bit > 0 && !model.has(edit.bit)) continue;
      wanted.apply(edit);
      applyTo(model, edit);
    }
    for (const edit of wanted.edits()) applyTo(restored, edit);
    assert.deepEqual(told(restored), told(model));
  }));
});

test("WantedFilters.isStateful: state of all accounts that are wanted, and of some", () => {
  const edit = (fields: Partial<Edit>): Edit => ({
    ...{ op: "add", bit: 0, accounts: [], owners: [], transactions: false, program: new Uint8Array(0), isKeyed: true },
    ...{ state: false, ...fields },
  });
  const slots = new Uint8Array(8);
  slots[0] = 3;
  const rows: [string, boolean, Partial<Edit>[]][] = [
    ["nothing", false, []],
    ["transactions alone", false, [{ transactions: true }]],
    ["state of keys", true, [{ accounts: [keyOf(1)], state: true }, { transactions: true }]],
    ["and a key without", false, [{ accounts: [keyOf(1)], state: true }, { owners: [keyOf(2)] }]],
    ["and slots", true, [{ accounts: [keyOf(1)], state: true }, {
      op: "replace",
      bit: 1,
      program: slots,
      isKeyed: false,
    }]],
    ["a filter without keys", true, [{ op: "replace", bit: 1, isKeyed: false, state: true }]],
    ["and without state", false, [{ op: "replace", bit: 1, isKeyed: false }, { accounts: [keyOf(1)], state: true }]],
    ["a filter that matches nothing", false, [{ op: "replace", bit: 1 }]],
  ];
  for (const [name, expected, edits] of rows) {
    const wanted = new WantedFilters();
    for (const each of edits) wanted.apply(edit(each));
    assert.equal(wanted.isStateful, expected, name);
  }
});
