/**
 * A cache against a model of what its sender knows: random writes, forks, finality, restarts, edits of filters, readers that
 * stop to read. After each schedule, once all is read, the cache must be what the model says; and in between no account
 * may step back, but by a rollback or another sender.
 * May touch: the public API, for the consumer; the sender through its port, which may be in another process.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { AccountView, Consumer, UpdateView } from "../../../mod.ts";
import { keyOf } from "../../unit/support/updates.ts";
import { turn } from "../../unit/support/watchdog.ts";

/** What a sender is told, as numbers: they go to other processes. */
export type Act =
  | {
    readonly act: "write";
    readonly key: number;
    readonly owner: number;
    readonly slot: number;
    readonly version: number;
    readonly size: number;
  }
  | {
    readonly act: "slot";
    readonly slot: number;
    readonly parent: number;
    readonly status: "processed" | "finalized" | "dead";
  }
  /** Accounts that nobody asks for, from the key on: more than a small store keeps, so that it forgets others. */
  | { readonly act: "fill"; readonly key: number; readonly count: number };

/** The sender of the schedules. */
export interface SenderPort {
  /** Whether `fill` makes it forget. */
  readonly isSmall: boolean;
  /** Of a hundred steps that many are restarts, and that many hand-overs. */
  readonly restarts: number;
  readonly handOvers: number;
  publish(acts: readonly Act[]): Promise<void>;
  /** Another sender takes its place, that knows nothing. */
  restart(): Promise<void>;
  /** Another sender takes the path over, that knows all that this one did, and loses nothing. */
  handOver(): Promise<void>;
}

/** More than 4 MiB of them. */
const FILL = 300;

const KEYS = 12;
const OWNERS = [100, 101, 102] as const;
/** A bound on hanging, no statement about speed. */
const QUIET_MS = 60_000;

/** Mulberry32: a schedule is its seed. */
export function randomOf(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = state + 0x6d2b79f5 | 0;
    let mixed = Math.imul(state ^ state >>> 15, 1 | state);
    mixed = mixed + Math.imul(mixed ^ mixed >>> 7, 61 | mixed) ^ mixed;
    return Math.floor(((mixed ^ mixed >>> 14) >>> 0) / 4294967296 * below);
  };
}

interface Version {
  readonly owner: number;
  readonly slot: number;
  readonly version: number;
}

function compare(a: Version, b: Version): number {
  return a.slot - b.slot || a.version - b.version;
}

/** What a sender knows: of each account its versions, but those of dead banks. */
class World {
  readonly accounts = new Map<number, Version[]>();
  readonly dead = new Set<number>();
  /** It may have forgotten accounts. */
  hasForgotten = false;
  /** Accounts of which a sender that has forgotten them takes a late write for the newest (ADR 0012). */
  readonly late = new Set<number>();
  /** Those of which it does not know what was before a dead bank; or that the bank has written them. That it says. */
  readonly orphaned = new Set<number>();

  apply(act: Act): void {
    if (act.act === "fill") {
      this.hasForgotten = true;
    } else if (act.act === "write") {
      if (this.dead.has(act.slot)) return;
      const newest = this.newest(act.key);
      if (this.hasForgotten && newest !== undefined && compare(act, newest) < 0) this.late.add(act.key);
      this.accounts.set(act.key, [...this.accounts.get(act.key) ?? [], act]);
    } else if (act.status === "dead") {
      this.dead.add(act.slot);
      for (const [key, versions] of this.accounts) {
        const rest = versions.filter(({ slot }) => slot !== act.slot);
        if (this.hasForgotten && rest.length < versions.length) this.orphaned.add(key);
        this.accounts.set(key, rest);
      }
    }
  }

  newest(key: number): Version | undefined {
    return [...this.accounts.get(key) ?? []].sort(compare).at(-1);
  }
}

interface Filter {
  keys: Set<number>;
  owners: Set<number>;
}

/** How often each thing happened. */
export type Tally = Record<string, number>;

/** Schedules one after the other, with one consumer. */
export class CacheSchedules {
  readonly tally: Tally;
  readonly #consumer: Consumer;
  readonly #port: SenderPort;
  readonly #random: (below: number) => number;
  readonly #filters = new Map<string, Filter>();
  #world = new World();
  #slot = 10;
  #parent = 9;
  #version = 0;
  /** The newest version of each account that the cache had, as long as it may not step back. */
  readonly #seen = new Map<number, Version>();
  readonly #log: string[] = [];
  #barrier = -1;
  #filled = 0;

  constructor(consumer: Consumer, port: SenderPort, seed: number, tally: Tally) {
    this.#consumer = consumer;
    this.#port = port;
    this.#random = randomOf(seed);
    this.tally = tally;
  }

  #saw(what: string): void {
    this.tally[what] = (this.tally[what] ?? 0) + 1;
  }

  /** One schedule, and then quiet. */
  async play(steps: number): Promise<void> {
    this.#log.length = 0;
    try {
      for (let i = 0; i < steps; i++) await this.#step();
      await this.#quiesce();
    } catch (error) {
      throw new Error(`${(error as Error).stack}\nafter:\n${this.#log.slice(-80).join("\n")}`);
    }
  }

  async #step(): Promise<void> {
    const random = this.#random;
    const choice = random(100);
    const { restarts, handOvers } = this.#port;
    const end = random(100);
    if (end < restarts) return await this.#restart();
    if (end < restarts + handOvers) return await this.#handOver();
    if (choice < 45) return await this.#write(1 + random(6), 165);
    if (choice < 60) return await this.#nextSlot();
    if (choice < 64) return await this.#die();
    if (choice < 86) return await this.#edit();
    if (choice < 95) return this.#read(1 + random(20));
    if (choice < 97) return await this.#burst();
    if (choice < 98) return await this.#fill();
    await turn();
  }

  async #publish(acts: readonly Act[]): Promise<void> {
    for (const act of acts) this.#world.apply(act);
    this.#log.push(JSON.stringify(acts.length > 10 ? [acts.length, acts.at(-1)] : acts));
    await this.#port.publish(acts);
  }

  async #write(count: number, size: number): Promise<void> {
    this.#saw("writes");
    await this.#publish(Array.from({ length: count }, () => ({
      act: "write",
      key: this.#random(KEYS),
      owner: OWNERS[this.#random(OWNERS.length)]!,
      // Now and then one that is late: older than what was published.
      slot: this.#random(12) === 0 ? this.#parent : this.#slot,
      version: ++this.#version,
      size,
    })));
  }

  async #nextSlot(): Promise<void> {
    const slots: Act[] = [{ act: "slot", slot: this.#slot, parent: this.#parent, status: "processed" }];
    if (this.#random(3) === 0) {
      this.#saw("finalized");
      slots.push({ act: "slot", slot: this.#parent, parent: this.#parent - 1, status: "finalized" });
    }
    await this.#publish(slots);
    this.#parent = this.#slot;
    this.#slot++;
  }

  /** The bank of this moment is dead: the next one builds on what was before it. */
  async #die(): Promise<void> {
    this.#saw("dead banks");
    await this.#publish([{ act: "slot", slot: this.#slot, parent: this.#parent, status: "dead" }]);
    this.#slot++;
  }

  /** More than a ring takes, without anybody reading. */
  async #burst(): Promise<void> {
    this.#saw("bursts");
    for (let i = 0; i < 8; i++) await this.#write(40, 400);
  }

  async #restart(): Promise<void> {
    this.#saw("restarts");
    this.#log.push("restart");
    await this.#port.restart();
    const before = this.#world;
    this.#world = new World();
    const known: Act[] = [];
    for (let key = 0; key < KEYS; key++) {
      const newest = before.newest(key);
      if (newest === undefined || this.#random(2) === 0) continue;
      // Of some it knows an older version.
      known.push({ act: "write", key, ...newest, version: Math.max(0, newest.version - this.#random(2)), size: 50 });
    }
    await this.#publish(known);
  }

  /** More than the sender's store takes: it forgets. */
  async #fill(): Promise<void> {
    if (!this.#port.isSmall) return;
    this.#saw("evictions");
    this.#log.push("fill");
    const fill: Act = { act: "fill", key: this.#filled, count: FILL };
    this.#filled += FILL;
    this.#world.apply(fill);
    await this.#port.publish([fill]);
  }

  /** Another sender knows all that this one did: the world is the same. */
  async #handOver(): Promise<void> {
    this.#saw("hand-overs");
    this.#log.push("hand-over");
    await this.#port.handOver();
  }

  #keys(): number[] {
    return Array.from({ length: KEYS }, (_, key) => key).filter(() => this.#random(4) === 0);
  }

  #ownersOf(): number[] {
    return OWNERS.filter(() => this.#random(3) === 0);
  }

  async #edit(): Promise<void> {
    this.#saw("edits");
    const random = this.#random;
    const consumer = this.#consumer;
    const name = ["", "a", "b"][random(3)]!;
    const [keys, owners] = [this.#keys(), this.#ownersOf()];
    const filter = this.#filters.get(name);
    let answer: Promise<unknown>;
    if (name === "") {
      const isAdded = random(2) === 0;
      const lists = { accounts: keys.map(keyOf), owners: owners.map(keyOf) };
      this.#log.push(`${isAdded ? "subscribe" : "unsubscribe"} ${keys} / ${owners}`);
      answer = isAdded ? consumer.subscribe(lists) : consumer.unsubscribe(lists);
      const own = filter ?? { keys: new Set(), owners: new Set() };
      this.#filters.set("", own);
      for (const key of keys) own.keys[isAdded ? "add" : "delete"](key);
      for (const owner of owners) own.owners[isAdded ? "add" : "delete"](owner);
    } else if (filter === undefined || random(3) === 0) {
      const isByKey = random(2) === 0;
      this.#log.push(`set ${name} ${isByKey ? keys : owners}`);
      this.#filters.set(name, { keys: new Set(isByKey ? keys : []), owners: new Set(isByKey ? [] : owners) });
      answer = consumer.setFilter(name, {
        accounts: isByKey ? { accounts: keys.map(keyOf) } : { owners: owners.map(keyOf) },
      });
    } else if (random(4) === 0) {
      this.#log.push(`remove ${name}`);
      this.#filters.delete(name);
      answer = consumer.removeFilter(name);
    } else {
      const isByKey = filter.keys.size > 0;
      if (!isByKey && filter.owners.size === 0) return; // by what list it is, nobody knows here
      const set = isByKey ? filter.keys : filter.owners;
      const all = isByKey ? keys : owners;
      const added = all.filter((_, i) => i % 2 === 0);
      const removed = all.filter((_, i) => i % 2 === 1);
      if (removed.length >= set.size && added.length === 0) return;
      this.#log.push(`edit ${name} + ${added} - ${removed}`);
      for (const one of removed) set.delete(one);
      for (const one of added) set.add(one);
      answer = consumer.editFilter(name, { add: added.map(keyOf), remove: removed.map(keyOf) });
    }
    this.#unanswered++;
    void answer.catch((error) => this.#failure ??= error).finally(() => this.#unanswered--);
    // Sometimes several are under way at once.
    if (random(3) === 0) await this.#answers();
  }

  #failure: unknown;
  #unanswered = 0;

  async #answers(): Promise<void> {
    while (this.#unanswered > 0) {
      this.#read(20);
      await turn();
    }
  }

  // Reading

  #read(limit: number): void {
    this.#consumer.poll((update) => this.#onUpdate(update), limit);
  }

  /** After an update has been applied: that no account has stepped back. */
  #onUpdate(update: UpdateView): void {
    switch (update.kind) {
      case "connection":
        this.#saw(
          update.event.type === "lost" ? `lost: ${update.event.reason}` : `resumed: ${update.event.continuity}`,
        );
        this.#seen.clear();
        return;
      case "rollback":
        this.#saw("rollbacks");
        return this.#seen.clear();
      case "slot":
        if (update.lost > update.conflated) this.#seen.clear();
        this.#barrier = Math.max(this.#barrier, update.slotNumber);
        return;
      case "left":
      case "withdrawn":
      case "gap":
        if (update.lost > update.conflated) this.#seen.clear();
        return this.#saw(update.kind);
      case "account":
        return this.#onAccount(update);
    }
  }

  #onAccount(update: AccountView): void {
    if (update.isState) this.#saw("state");
    if (update.lost > update.conflated) {
      this.#saw("losses");
      this.#seen.clear(); // a rollback may have been lost
    }
    const key = update.pubkey[0]!;
    const cached = this.#consumer.accounts.peek(update.pubkey);
    assert.ok(cached !== undefined, "an update that matches is in the cache");
    // A sender that has forgotten an account publishes a late write, and behind a loss the cache takes it.
    const { late, orphaned } = this.#world;
    const number = keyNumber(update.pubkey)!;
    if (late.has(number) || orphaned.has(number)) return void this.#seen.delete(key);
    const version = { owner: 0, slot: cached.slotNumber, version: Number(cached.writeVersion) };
    const before = this.#seen.get(key);
    if (before !== undefined) assert.ok(compare(before, version) <= 0, `account ${key} stepped back`);
    this.#seen.set(key, version);
  }

  /** Everything is read, and the cache says that it is complete: then it is what the sender knows. */
  async #quiesce(): Promise<void> {
    const deadline = performance.now() + QUIET_MS;
    const { accounts } = this.#consumer;
    await this.#answers();
    while (true) {
      // Behind this slot there is nothing more, unless there was a loss, or a connection, in between.
      const slot = this.#slot;
      await this.#nextSlot();
      const published = performance.now();
      while (this.#barrier < slot && performance.now() - published < 200) {
        this.#read(1000);
        await turn();
      }
      if (this.#failure !== undefined) throw this.#failure;
      const reasons = accounts.trust.reasons.map(({ reason }) => reason);
      const passes = this.#world.hasForgotten ? ["nothing-asked", "evicted"] : ["nothing-asked"];
      const isQuiet = reasons.every((reason) => passes.includes(reason));
      if (this.#barrier >= slot && isQuiet && this.#consumer.isConnected) break;
      assert.ok(performance.now() < deadline, `it never became complete: ${JSON.stringify(accounts.trust)}`);
      for (let i = 0; i < 5; i++) {
        this.#read(1000);
        await turn();
      }
    }
    const isCut = accounts.trust.reasons.some(({ reason }) => reason === "evicted");
    const { late, orphaned } = this.#world;
    const isKnown = (key: number) => !late.has(key) && !(isCut && orphaned.has(key));
    const expected = this.#expected(isKnown);
    const actual = [...this.#actual(isKnown)].sort();
    if (isCut) {
      this.#saw("quiescences that are said to be incomplete");
      if (expected.length > actual.length) this.#saw("incomplete ones");
      assert.deepEqual(actual, expected.filter((line) => actual.includes(line)), "what is there is what holds");
    } else {
      assert.deepEqual(actual, expected);
    }
    if (!isCut && orphaned.size > 0) this.#saw("orphans that are said to be known");
    this.#saw("quiescences");
    this.#saw(expected.length === 0 ? "empty" : "not empty");
  }

  /** @param isKnown Whether the sender knows what holds. */
  #expected(isKnown: (key: number) => boolean): string[] {
    const all: string[] = [];
    for (let key = 0; key < KEYS; key++) {
      const newest = this.#world.newest(key);
      if (newest === undefined || !isKnown(key)) continue;
      const isWanted = [...this.#filters.values()].some(({ keys, owners }) =>
        keys.has(key) || owners.has(newest.owner)
      );
      if (isWanted) all.push(`${key}: ${newest.owner} ${newest.slot}.${newest.version}`);
    }
    return all.sort();
  }

  *#actual(isKnown: (key: number) => boolean): Generator<string> {
    for (const account of this.#consumer.accounts) {
      const key = keyNumber(account.pubkey);
      if (key !== undefined && !isKnown(key)) continue;
      yield `${key}: ${ownerNumber(account.owner)} ${account.slot}.${account.writeVersion}`;
    }
  }
}

const keyNumbers = new Map(Array.from({ length: KEYS }, (_, key) => [String(keyOf(key)), key]));
const ownerNumbers = new Map(OWNERS.map((owner) => [String(keyOf(owner)), owner]));

function keyNumber(bytes: AccountView["pubkey"]): number | undefined {
  return keyNumbers.get(String(bytes));
}

function ownerNumber(bytes: AccountView["owner"]): number | undefined {
  return ownerNumbers.get(String(bytes));
}
