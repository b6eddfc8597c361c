/**
 * Plays schedules with real processes, and compares what each consumer got with the reference.
 * May touch: processes through agents, /proc, a private temporary directory.
 * The processes stay from schedule to schedule (a start costs more than a schedule); senders and consumers do not.
 * What can be checked although real time orders the steps: see `checkConsumer`.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Agent } from "../../support/agent_process.ts";
import { eventually, type Footprint, footprintOf, settlesAt } from "../../support/footprint.ts";
import { type Runtime, RUNTIMES } from "../../support/runtime.ts";
import { Temporary } from "../../support/temporary.ts";
import type { Acked, EditSpec, Finished } from "./process_peer.ts";
import {
  type ConsumerPlan,
  CONSUMERS_MAX,
  type Expected,
  expectedOf,
  POOL_THRESHOLD,
  type Schedule,
  type TakenEdits,
} from "./process_schedule.ts";

const RING_BYTES = 65_536;
/** One consumer's share, a quarter, is less than what a schedule publishes into it. */
const POOL_BYTES = 1024 * 1024;
/** A bound on hanging, no statement about speed. */
const SCHEDULE_MS = 40_000;

interface News {
  readonly type: string;
  readonly name: string;
  readonly reason?: string;
}

/** A consumer of the schedule at hand. */
interface Peer {
  readonly plan: ConsumerPlan;
  readonly agent: Agent;
  readonly name: string;
  readonly taken: { edit: EditSpec; acked: Acked }[];
  isKilled: boolean;
}

/** The figures of the sender before it was closed, of one consumer. */
interface Figures {
  readonly name: string;
  readonly frames: number;
  readonly lost: number;
}

/** A sender's process and those of its consumers, and what was seen so far. */
export class Stage implements AsyncDisposable {
  /** How often what has happened: to be sure that schedules do not avoid what they are there for. */
  readonly tally: Record<string, number> = {};
  readonly #temporary = new Temporary();
  readonly #sending: Agent;
  readonly #readers: Agent[] = Array.from({ length: CONSUMERS_MAX }, (_, i) => new Agent(runtimeOf(i)));
  /** What a process held after its first schedule: what its runtime opens once is no leak. */
  readonly #footprints = new Map<Agent, Footprint>();
  #count = 0;

  constructor(senderRuntime: Runtime) {
    this.#sending = new Agent(senderRuntime);
  }

  /** Plays one, and throws for what must not be. */
  async play(schedule: Schedule): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`The schedule hung for ${SCHEDULE_MS} ms`)), SCHEDULE_MS);
    });
    try {
      await Promise.race([this.#play(schedule), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #play(schedule: Schedule): Promise<void> {
    const number = this.#count++;
    const sending = this.#sending;
    const path = this.#temporary.at(`${number}.sock`);
    await openSender(sending, path);
    // Every other schedule begins with the other runtime.
    const rotated = [...this.#readers.keys()].map((i) => (i + number) % this.#readers.length);
    const peers = await Promise.all(schedule.consumers.map(async (plan, i): Promise<Peer> => {
      const agent = this.#readers[rotated[i]!]!;
      const name = `${number} ${i}`;
      await openConsumer(agent, path, name, plan);
      return { plan, agent, name, taken: [], isKilled: false };
    }));
    let published = 0;
    for (const [i, round] of schedule.rounds.entries()) {
      const kill = schedule.kill?.round === i ? schedule.kill : undefined;
      await this.#playRound(sending, peers, round, published, kill);
      published += round.chunks.reduce((sum, { updates }) => sum + updates.length, 0);
    }

    const figures = await this.#settle(sending, peers, schedule);
    await sending.run(({ sender }) => sender.close());
    const living = peers.filter(({ isKilled }) => !isKilled);
    const finished = await Promise.all(living.map(({ agent }) => agent.run(({ kept }) => kept.peer.finish())));
    this.#check(schedule, peers, new Map(living.map((peer, i) => [peer, finished[i] as Finished])), figures);
    for (const agent of [sending, ...living.map(({ agent }) => agent)]) await this.#checkFootprint(agent);
    sending.takeEvents(() => true);
  }

  async #playRound(
    sending: Agent,
    peers: readonly Peer[],
    { chunks, edits, isPaused }: Schedule["rounds"][number],
    first: number,
    kill: Schedule["kill"],
  ): Promise<void> {
    const living = () => peers.filter(({ isKilled }) => !isKilled);
    await Promise.all(
      living().map(({ agent, name }) =>
        agent.run(({ kept }, isPaused) => {
          if (isPaused) kept.peer.pause();
          else kept.peer.resume();
        }, isPaused[peers.findIndex((peer) => peer.name === name)]!)
      ),
    );
    const publishing = sending.run(
      ({ sender, peer, emit }, { chunks, first }) =>
        peer.publish(sender, chunks, first, (chunk) => emit({ type: "chunk", name: `${first} ${chunk}` })),
      { chunks, first },
    );
    const killing = kill === undefined ? undefined : this.#kill(sending, peers[kill.who]!, `${first} ${kill.chunk}`);
    // Both are awaited below, unless something else fails first.
    publishing.catch(() => {});
    killing?.catch(() => {});
    const editing = peers.map(async (peer, i) => {
      if (peer.isKilled) return;
      const { edits: asked, isAtOnce } = edits[i]!;
      for (const edit of asked) peer.taken.push({ edit, acked: null });
      const places = peer.taken.slice(peer.taken.length - asked.length);
      try {
        const answers = await peer.agent.run(
          ({ kept }, { asked, isAtOnce }) => kept.peer.edit(asked, isAtOnce) as Promise<Acked[]>,
          { asked, isAtOnce },
        );
        answers.forEach((acked, j) => places[j]!.acked = acked);
      } catch (error) {
        if (kill?.who !== i) throw error; // killed while it asked
      }
    });
    await Promise.all(editing);
    // Who is waited for reads again, or the sender would come no further.
    await Promise.all(
      living().filter(({ plan }) => plan.policy.accounts === "block").map(async (peer) => {
        try {
          await peer.agent.run(({ kept }) => kept.peer.resume());
        } catch (error) {
          if (peer !== peers[kill?.who ?? -1]) throw error; // killed before it could answer
        }
      }),
    );
    await killing;
    this.#note("waits of the sender", await publishing);
    if (kill !== undefined) await this.#replace(sending, peers[kill.who]!);
  }

  /** SIGKILL when the sender comes to the chunk. */
  async #kill(sending: Agent, peer: Peer, chunk: string): Promise<void> {
    await sending.event((news: News) => news.type === "chunk" && news.name === chunk);
    peer.isKilled = true;
    peer.agent.signal("SIGKILL");
    this.#note("kills");
    await peer.agent.ended;
  }

  /** The sender hears of the death; what remains in the pool is held by the living. Another process takes its place. */
  async #replace(sending: Agent, { agent, name }: Peer): Promise<void> {
    this.#readers[this.#readers.indexOf(agent)] = new Agent(agent.runtime);
    const { reason } = await sending.event((news: News) => news.type === "disconnected" && news.name === name);
    assert.ok(reason === "consumer-gone" || reason === "slow-consumer", `the killed consumer ended as ${reason}`);
    const look = () =>
      sending.run(({ sender }) => ({
        used: sender.metrics.pool.usedBytes,
        held: sender.consumers().map(({ poolBytes }) => poolBytes),
      }));
    let last = await look();
    await eventually(
      () => `the killed consumer's blocks are free: ${JSON.stringify(last)}`,
      async () => {
        last = await look();
        return last.used <= last.held.reduce((sum, bytes) => sum + bytes, 0);
      },
    );
  }

  /** Everybody reads everything; then nothing is in the pool. Returns what the sender counted. */
  async #settle(sending: Agent, peers: readonly Peer[], schedule: Schedule): Promise<Figures[]> {
    await Promise.all(
      peers.filter(({ isKilled }) => !isKilled).map(({ agent }) => agent.run(({ kept }) => kept.peer.resume())),
    );
    await sending.run(({ sender, peer }) => peer.whenRead(sender));
    let pool = -1;
    // The sender looks by itself once a second.
    await eventually(() => `the pool is empty when everything was read: ${pool} bytes`, async () => {
      pool = await sending.run(({ sender }) => sender.metrics.pool.usedBytes);
      return pool === 0;
    });
    const count = schedule.rounds.flatMap(({ chunks }) => chunks).reduce((sum, { updates }) => sum + updates.length, 0);
    const { sequence, figures } = await sending.run(({ sender }) => ({
      sequence: Number(sender.metrics.sequence),
      figures: sender.consumers().map(({ name, frames, lost }) => ({ name, frames, lost })),
    }));
    assert.equal(sequence, count, "every update has its place in the order");
    this.#note("updates", count);
    return figures;
  }

  async #checkFootprint(agent: Agent): Promise<void> {
    const before = this.#footprints.get(agent);
    if (before !== undefined) return await settlesAt(agent.pid, before);
    await eventually("the first schedule leaves no mapping", () => footprintOf(agent.pid).mappings.length === 0);
    this.#footprints.set(agent, footprintOf(agent.pid));
  }

  #check(
    schedule: Schedule,
    peers: readonly Peer[],
    finished: ReadonlyMap<Peer, Finished>,
    figures: readonly Figures[],
  ): void {
    const updates = schedule.rounds.flatMap(({ chunks }) => chunks.flatMap(({ updates }) => updates));
    const taken = peers.map((peer): TakenEdits => {
      // A connection that ends swallows answers. What is in force all the same, its marks say: no frame comes without.
      const marks = finished.get(peer)?.seen.filter(({ kind }) => kind === "filter") ?? [];
      return peer.taken.map(({ edit, acked }, i) => {
        const mark = marks.find(({ generation }) => generation === i + 1);
        return { edit, acked: acked ?? (mark === undefined ? null : { sequence: mark.sequence, generation: i + 1 }) };
      });
    });
    const expected = expectedOf(updates, taken);
    if (expected === undefined) return this.#note("uncertain");
    peers.forEach((peer, i) => {
      const result = finished.get(peer);
      if (result === undefined) return;
      const { plan, agent, name } = peer;
      const sent = figures.find((one) => one.name === name);
      try {
        checkConsumer(plan, taken[i]!, expected[i]!, result, sent, (what, count) => this.#note(what, count));
      } catch (error) {
        const { accounts, transactions } = plan.policy;
        (error as Error).message = `consumer ${i} (${agent.runtime}, ${accounts}/${transactions}, ${plan.mode}, ` +
          `${result.reason}): ${(error as Error).message}`;
        throw error;
      }
    });
  }

  #note(what: string, count = 1): void {
    this.tally[what] = (this.tally[what] ?? 0) + count;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#sending, ...this.#readers].map((agent) => agent[Symbol.asyncDispose]()));
    this.#temporary[Symbol.dispose]();
  }
}

function runtimeOf(index: number): Runtime {
  return RUNTIMES[index % RUNTIMES.length]!;
}

async function openSender(agent: Agent, path: string): Promise<void> {
  await agent.run(async (scope, options) => {
    scope.sender = await scope.qlaster.setupSender({
      ...options,
      policies: ["disconnect", "drop-newest", "drop-oldest", "conflate", "block"],
    });
    scope.sender.onConsumer((event) => {
      if (event.type !== "disconnected") return;
      scope.emit({ type: event.type, reason: event.reason, name: event.consumer.name });
    });
  }, { path, ringCapacityBytes: RING_BYTES, poolBytes: POOL_BYTES, poolThresholdBytes: POOL_THRESHOLD });
}

async function openConsumer(agent: Agent, path: string, name: string, plan: ConsumerPlan): Promise<void> {
  await agent.run(async ({ qlaster, peer, kept }, { path, name, plan }) => {
    const { policy, queueBytes, idle, mode } = plan;
    const consumer = await qlaster.setupConsumer(path, {
      reconnect: false,
      name,
      policy,
      queueBytes,
      idle,
      marks: true,
    });
    kept.peer = new peer.ReadingPeer(consumer, mode);
  }, { path, name, plan });
}

/**
 * What holds for every order of steps that real time may have chosen.
 *
 * - What came is a part of what the filters wanted, in its order, byte for byte, under the names that were in force by the
 *   sequences of the acknowledgements: so nothing came that was not asked for.
 * - What came and what was announced as lost is, together, all that they wanted: nothing acknowledged was missed. Where
 *   nothing waits at the sender ("disconnect", "drop-newest", "block") that is so at every single frame. Where updates
 *   wait, a newer one may be lost before an older one is handed over; then a frame announces its holes at least, and the
 *   sums agree at the end.
 * - Of a slot: its frame says exactly what of it stands before that frame and did not come, be it lost at the sender or
 *   skipped in the ring, whatever was lost behind it while it waited.
 */
function checkConsumer(
  { policy, queueBytes }: ConsumerPlan,
  taken: TakenEdits,
  expected: readonly Expected[],
  { seen, error, reason, frames, lost, conflated }: Finished,
  sent: Figures | undefined,
  note: (what: string, count?: number) => void,
): void {
  const isSkipping = policy.accounts === "drop-oldest" && policy.transactions === "drop-oldest";
  const isWaiting = [policy.accounts, policy.transactions].some((name) =>
    name === "drop-oldest" || name === "conflate"
  );
  const isRevoked = error.includes("overwritten");
  if (reason === "slow-consumer") {
    assert.equal(policy.accounts, "disconnect", "only who asks for it is disconnected");
    note("disconnected");
  } else {
    assert.deepEqual({ reason, error }, { reason: "sender-closed", error: "" });
  }

  // Edits
  taken.forEach(({ acked }, i) => {
    if (acked !== null) {
      assert.equal(acked.generation, i + 1, "edits are in force in the order in which they were asked");
    }
  });
  const acks = taken.flatMap(({ acked }) => acked === null ? [] : [acked.sequence]);
  note("edits", acks.length);
  if (reason === "sender-closed") assert.equal(acks.length, taken.length, "every edit was acknowledged");

  // Frames
  const arrived: Expected[] = [];
  let at = 0;
  let announced = 0;
  let isWhole = true;
  for (const frame of seen) {
    const { kind, sequence } = frame;
    announced += frame.lost;
    const place = () => `${kind} ${sequence}, frame ${arrived.length}, of ${expected.length} that match`;
    if (kind === "filter" || kind === "gap") {
      if (kind === "filter") {
        // Where there was no room it comes later.
        assert.ok(sequence >= acks[frame.generation - 1]!, `${place()}: the mark of an edit`);
      } else {
        note("gaps");
        assert.equal(frame.lostTotal, announced, `${place()}: all that was lost`);
      }
      const before = expected.findLastIndex((one) => one.sequence <= sequence) + 1;
      assertLost(announced, before - arrived.length, isWaiting, place);
      continue;
    }
    const next = expected.findIndex((one, i) => i >= at && one.sequence === sequence && one.kind === kind);
    if (next < 0) {
      const wanted = expected.slice(at, at + 3).map((one) => `${one.kind} ${one.sequence}`).join(", ");
      assert.fail(`${place()}: it is not wanted, or not in order; wanted: ${wanted}; acknowledged: ${acks.join(" ")}`);
    }
    const one = expected[next]!;
    // A pool's block that is looked at while the sender gives its reader up may be written again: CONNECTION_LOST says so.
    if (!isRevoked || !one.isLarge) assert.equal(frame.content, one.content, place());
    assert.deepEqual(frame.filters, one.filters, `${place()}: names of filters`);
    const inForce = acks.filter((acked) => acked < sequence).length;
    // Without waiting and skipping there is room for every mark: what the consumer says is so. Else it may not know yet.
    if (isWaiting) {
      assert.ok(frame.generation <= inForce, `${place()}: filterGeneration ${frame.generation}, ${inForce}`);
    } else assert.equal(frame.generation, inForce, `${place()}: filterGeneration`);
    assertLost(announced, next - arrived.length, isWaiting, place);
    if (kind === "slot") {
      const missing = (what: "account" | "transaction", end: number) =>
        expected.slice(0, end).filter((each) => each.kind === what && each.slot === one.slot).length -
        arrived.filter((each) => each.kind === what && each.slot === one.slot).length;
      assert.equal(frame.accountsLost, missing("account", next), `${place()}: accounts of the slot`);
      assert.equal(frame.transactionsLost, missing("transaction", next), `${place()}: its transactions`);
      if (frame.accountsLost! > 0) note("slots with losses");
    }
    if (kind === "left") note("left");
    arrived.push(one);
    at = next + 1;
    isWhole &&= at === arrived.length;
  }
  note("frames", arrived.length);
  assert.equal(frames, seen.length, "metrics.frames");

  // The whole
  if (reason === "slow-consumer") {
    assert.ok(isWhole, "a prefix without holes, then the end");
    assert.ok(arrived.length < expected.length, "it ended for something that did not come");
    return;
  }
  const missing = expected.length - arrived.length;
  assert.equal(lost, missing, `what came (${arrived.length}) and what was lost is what was wanted`);
  assert.ok(announced <= lost && conflated <= lost, "the sums");
  if (missing > 0) note(`lost by ${policy.accounts}/${policy.transactions}`, missing);
  assert.equal(sent?.lost, missing, "what the sender says was lost");
  // What was skipped it had handed over.
  if (!isSkipping) assert.equal(sent?.frames, arrived.length, "what the sender says it handed over");
  if (policy.accounts === "disconnect" || (policy.accounts === "block" && queueBytes === 0)) {
    const ofAccounts = (list: readonly Expected[]) => list.filter(({ kind }) => kind !== "transaction").length;
    assert.equal(ofAccounts(arrived), ofAccounts(expected), "no account is lost");
  }
  if (!isWaiting && policy.accounts !== "drop-newest") assert.equal(missing, 0, "nothing is lost");
  if (queueBytes > 0 || expected.length === 0) return;
  if (isSkipping) assert.equal(arrived.at(-1), expected.at(-1), "the newest always comes");
  if (policy.accounts === "conflate") {
    // What is missing of the accounts had a newer value behind it, which came.
    const last = new Map(expected.filter(({ key }) => key !== undefined).map((one) => [one.key, one]));
    for (const one of last.values()) assert.ok(arrived.includes(one), `account ${one.sequence}: the last value`);
    if (policy.transactions === "conflate") assert.equal(conflated, lost, "only older values are missing");
  }
}

/** @param isAtLeast More may have been lost already, of what comes later. */
function assertLost(said: number, missing: number, isAtLeast: boolean, place: () => string): void {
  if (isAtLeast) assert.ok(said >= missing, `${place()}: ${said} are announced as lost, ${missing} are missing`);
  else assert.equal(said, missing, `${place()}: lost`);
}
