/**
 * What observers get: Prometheus' text as other parsers read it, losses by reason, OpenTelemetry's callbacks, the log.
 * May touch: the public API, a temporary directory, python3 if it has `prometheus_client`.
 *
 * @module
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import process from "node:process";
import { test } from "node:test";
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from "@opentelemetry/sdk-metrics";
import {
  type LogRecord,
  logSender,
  type MeterLike,
  type ObservableLike,
  observeBy,
  prometheusText,
  type ResultLike,
} from "../../src/observe/mod.ts";
import { openStat, type SenderStat } from "../../src/stat/mod.ts";
import { Place } from "./support/place.ts";
import { accountUpdate, keyOf, slotUpdate } from "./support/updates.ts";
import { until } from "./support/watchdog.ts";

/** Not by `import`: it has no types. */
const parseText = createRequire(import.meta.url)("parse-prometheus-text-format") as (
  text: string,
) => readonly unknown[];
const skip = process.platform === "linux" ? {} : { skip: "needs /proc" };

async function scene(place: Place): Promise<SenderStat> {
  const { sender, consumer } = await place.pair({ consumer: { name: 'a "name"\\\n', policy: "drop-newest" } });
  await consumer.subscribe({ owners: [keyOf(2)] });
  for (let i = 0; i < 500; i++) sender.publishAccount(accountUpdate({ lamports: BigInt(i) }));
  sender.publishSlot(slotUpdate());
  while (consumer.poll(() => {}) > 0);
  using page = openStat(place.path);
  let stat = page.read();
  // What was read is shown by a beat; if we were stopped since, the sender looks stuck until the next one.
  await until(() => {
    stat = page.read();
    return stat.consumers[0]!.latency.count > 0 && !stat.isStuck;
  }, "a beat");
  return stat;
}

/** A sample's value by its name and its labels but the path, as some other implementation has read it. */
type Samples = ReadonlyMap<string, { readonly type: string; readonly value: number }>;

function keyOfSample(name: string, labels: Readonly<Record<string, string>> = {}): string {
  const { path: _, ...others } = labels;
  return name + JSON.stringify(Object.fromEntries(Object.entries(others).sort(([a], [b]) => a < b ? -1 : 1)));
}

interface ParsedFamily {
  readonly name: string;
  readonly type: string;
  readonly metrics: readonly { readonly value: string; readonly labels?: Record<string, string> }[];
}

/** By a parser of npm: it merges the histograms of a family, so their samples are read as those of families without a type. */
function readByNpm(text: string): Samples {
  const samples = new Map<string, { type: string; value: number }>();
  const families = parseText(text.replaceAll(/^# TYPE \w+ histogram\n/gm, "")) as readonly ParsedFamily[];
  for (const { name, type, metrics } of families) {
    for (const { value, labels } of metrics) {
      samples.set(keyOfSample(name, labels), { type: type.toLowerCase(), value: Number(value) });
    }
  }
  return samples;
}

const PYTHON = `
import json, sys
from prometheus_client.parser import text_string_to_metric_families
print(json.dumps([
    [sample.name, sample.labels, family.type, str(sample.value)]
    for family in text_string_to_metric_families(sys.stdin.read())
    for sample in family.samples
]))
`;

/** By Prometheus' own parser for Python; undefined where it is not there. */
function readByPython(text: string): Samples | undefined {
  const parsed = spawnSync("python3", ["-c", PYTHON], { input: text, encoding: "utf8" });
  if (/No module named/.test(parsed.stderr) || parsed.status === null) return undefined;
  assert.equal(parsed.status, 0, parsed.stderr);
  const list = JSON.parse(parsed.stdout) as [string, Record<string, string>, string, string][];
  return new Map(
    list.map(([name, labels, type, value]) => [keyOfSample(name, labels), { type, value: Number(value) }]),
  );
}

test("prometheusText(): another implementation reads the same figures", skip, async () => {
  await using place = new Place();
  const stat = await scene(place);
  const text = await prometheusText(stat);
  // The names of this text and no others are what the dashboard asks for.
  const types = new Map([...text.matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(([, name, type]) => [name!, type!]));
  const asked = readFileSync(new URL("../../docs/grafana.json", import.meta.url), "utf8");
  for (const [name] of asked.matchAll(/qlaster_\w+/g)) {
    assert.ok(types.has(name.replace(/_(bucket|sum|count)$/, "")), `${name} of the dashboard`);
  }
  const { panels } = JSON.parse(asked) as { panels: { id: number; targets: { expr: string }[] }[] };
  assert.ok(panels.every(({ targets }) => targets.every(({ expr }) => expr.includes("qlaster_"))));
  assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  for (const [name, type] of types) {
    assert.match(name, /^qlaster_(sender|consumer)_[a-z_]+$/);
    assert.equal(name.endsWith("_total"), type === "counter", name);
  }
  const histograms = parseText(text) as readonly { name: string; type: string; metrics: { buckets: unknown }[] }[];
  assert.deepEqual(histograms.map(({ name, type }) => [name, type.toLowerCase()]), [...types]);
  const [consumer] = stat.consumers;
  const labels = {
    ...{ id: "1", name: consumer!.name, pid: String(process.pid), policy: "drop-newest", protocol: "native" },
  };
  for (const samples of [readByNpm(text), readByPython(text)]) {
    if (samples === undefined) continue;
    // Each line, and no two by the same name and labels.
    assert.equal(samples.size, text.split("\n").filter((line) => line !== "" && !line.startsWith("#")).length);
    for (const [key, { value }] of samples) assert.ok(Number.isFinite(value), key);
    const at = (name: string, labels?: Record<string, string>) => samples.get(keyOfSample(`qlaster_${name}`, labels));
    assert.deepEqual(at("sender_updates_total", { kind: "account" }), { type: "counter", value: 500 });
    assert.deepEqual(at("sender_up"), { type: "gauge", value: 1 });
    assert.equal(at("sender_last_publish_seconds")!.value, stat.sincePublishMs! / 1000);
    const of = (name: string) => at(name, labels)?.value;
    assert.deepEqual(of("consumer_frames_total"), consumer!.frames);
    assert.deepEqual(of("consumer_ring_used_bytes"), consumer!.ring.usedBytes);
    assert.equal(at("consumer_lost_total", { ...labels, reason: "ring_full" })!.value, consumer!.losses.ringFull);
    assert.ok(consumer!.losses.ringFull > 0);
    assert.equal(of("consumer_latency_seconds_count"), consumer!.latency.count);
    const last = at("consumer_latency_seconds_bucket", { ...labels, le: "+Inf" });
    assert.equal(last!.value, consumer!.latency.count);
    const all = [...samples].filter(([key]) => key.startsWith("qlaster_sender_lost_total"));
    assert.equal(all.reduce((sum, [, { value }]) => sum + value, 0), stat.lost);
    assert.equal(all.length, Object.keys(stat.losses).length);
  }
});

/** Reasons with a count above zero, as the text has them. */
async function reasonsIn(stat: SenderStat, family: string, of = ""): Promise<Record<string, number>> {
  const lines = (await prometheusText(stat)).matchAll(
    new RegExp(`^qlaster_${family}\\{[^}]*${of}[^}]*reason="(\\w+)"\\} (\\d+)$`, "gm"),
  );
  return Object.fromEntries(
    [...lines].map(([, reason, value]) => [reason!, Number(value)] as const).filter(([, value]) => value > 0),
  );
}

test("losses have reasons, each consumer's its own, and the sender the sum, also of who has gone", skip, async () => {
  await using place = new Place();
  const sender = await place.sender({
    ...{ poolBytes: 1 << 20, poolThresholdBytes: 4096, queueMaxBytes: 64 * 1024 },
    stallTimeoutMs: 3_600_000, // most of them never read
  });
  const [full, share, queue, newest, large] = [
    await place.consumer({ name: "full", policy: "drop-newest" }),
    await place.consumer({ name: "share", policy: "drop-newest" }),
    await place.consumer({ name: "queue", policy: "drop-oldest", queueBytes: 64 * 1024 }),
    await place.consumer({ name: "newest", policy: "conflate" }),
    await place.consumer({ name: "large", policy: "disconnect" }),
  ];
  const publish = (owner: number, bytes: number, count: number, key = 1) => {
    for (let i = 0; i < count; i++) {
      sender.publishAccount(accountUpdate({ owner: keyOf(owner), pubkey: keyOf(key), data: new Uint8Array(bytes) }));
    }
  };
  for (const [i, consumer] of [full, share, queue, newest, large].entries()) {
    await consumer!.subscribe({ owners: [keyOf(10 + i)] });
  }
  publish(10, 1000, 200);
  publish(11, 100_000, 5);
  publish(12, 1000, 400);
  while (queue!.poll(() => {}) > 0);
  publish(13, 1000, 400);
  publish(14, 2 << 20, 1); // larger than ring and pool
  using page = openStat(place.path);
  const seen = (name: string) => page.read().consumers.find((consumer) => consumer.name === name)!;
  await until(() => page.read().losses.tooLarge === 1 && seen("large").lost === 1, "a beat that shows it all");
  await until(() => seen("queue").losses.skipped > 0, "what the reader says that it skipped");
  const stat = page.read();
  const reasons = (name: string) => reasonsIn(stat, "consumer_lost_total", `name="${name}"`);
  assert.deepEqual(Object.keys(await reasons("full")), ["ring_full"]);
  assert.deepEqual(Object.keys(await reasons("share")), ["pool_share"]);
  assert.deepEqual(Object.keys(await reasons("queue")), ["skipped", "queue_full"]);
  assert.deepEqual(Object.keys(await reasons("newest")), ["replaced"]);
  assert.deepEqual(await reasons("large"), { too_large: 1 });
  const { metrics } = sender;
  assert.deepEqual(stat.losses, metrics.losses);
  assert.equal(Object.values(metrics.losses).reduce((sum, count) => sum + count, 0), metrics.lost);
  assert.equal(metrics.losses.replaced, metrics.conflated);
  assert.equal(stat.lost, metrics.lost);
  for (const info of sender.consumers()) {
    assert.deepEqual(seen(info.name).losses, info.losses, info.name);
    assert.equal(Object.values(info.losses).reduce((sum, count) => sum + count, 0), info.lost, info.name);
  }
  assert.deepEqual(await reasonsIn(stat, "sender_lost_total"), {
    ring_full: metrics.losses.ringFull,
    skipped: metrics.losses.skipped,
    queue_full: metrics.losses.queueFull,
    replaced: metrics.losses.replaced,
    pool_share: metrics.losses.poolShare,
    too_large: 1,
  });
  await full!.close();
  await until(() => page.read().consumers.length === 4, "one less");
  assert.equal(page.read().losses.ringFull, stat.losses.ringFull);
});

test("the stat page says how connections ended, and whom the sender dropped last, and why", skip, async () => {
  await using place = new Place();
  const sender = await place.sender({ poolBytes: 0 });
  await place.consumer({ name: "slow\u001b[2J" }).then((consumer) => consumer.subscribe({ owners: [keyOf(2)] }));
  const polite = await place.consumer({ name: "polite" });
  using page = openStat(place.path);
  assert.equal(page.read().dropped, undefined);
  await polite.close();
  await until(() => sender.metrics.consumers === 1, "one less");
  const before = Date.now();
  while (sender.metrics.ringFull === 0) {
    for (let i = 0; i < 100; i++) sender.publishAccount(accountUpdate({ data: new Uint8Array(1000) }));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await until(() => page.read().dropped !== undefined, "a beat");
  const stat = page.read();
  const { at, ...dropped } = stat.dropped!;
  assert.deepEqual(dropped, { id: 1, name: "slow�[2J", pid: process.pid, reason: "slow-consumer" });
  assert.ok(at >= before && at <= Date.now());
  const none = { consumerGone: 0, peerCorrupt: 0, idle: 0 };
  assert.deepEqual(stat.ended, { consumerClosed: 1, slowConsumer: 1, ...none });
  assert.deepEqual(await reasonsIn(stat, "sender_disconnections_total"), { consumer_closed: 1, slow_consumer: 1 });
  assert.equal(stat.losses.ringFull, 1); // the one that did not fit
});

test("observeBy(): an OpenTelemetry meter gets each figure when it asks, until it is ended", skip, async () => {
  await using place = new Place();
  const stat = await scene(place);
  const callbacks = new Map<string, (result: ResultLike) => void>();
  const create = (name: string): ObservableLike => ({
    addCallback: (callback) => void callbacks.set(name, callback),
    removeCallback: () => void callbacks.delete(name),
  });
  const meter: MeterLike = { createObservableCounter: create, createObservableGauge: create };
  const end = observeBy(meter, () => stat);
  const seen: [string, number, unknown][] = [];
  for (const [name, callback] of callbacks) {
    callback({ observe: (value, attributes) => void seen.push([name, value, attributes]) });
  }
  assert.ok(
    seen.some(([name, value, attributes]) =>
      name === "qlaster.sender.updates" && value === 500 && (attributes as { kind: string }).kind === "account"
    ),
  );
  assert.ok(seen.some(([name, value]) => name === "qlaster.consumer.lost" && value === stat.consumers[0]!.lost));
  end();
  assert.equal(callbacks.size, 0);
});

test(
  "observeBy(): the SDK of OpenTelemetry exports the same figures; after the end none is asked for",
  skip,
  async () => {
    await using place = new Place();
    const stat = await scene(place);
    const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
    const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
    const provider = new MeterProvider({ readers: [reader] });
    let reads = 0;
    const end = observeBy(provider.getMeter("qlaster"), () => {
      reads++;
      return stat;
    });
    const exported = async () => {
      exporter.reset();
      await reader.forceFlush();
      const points = new Map<string, { value: unknown; attributes: unknown; unit: string }[]>();
      for (const { scopeMetrics } of exporter.getMetrics()) {
        for (const { descriptor, dataPoints } of scopeMetrics.flatMap(({ metrics }) => metrics)) {
          points.set(
            descriptor.name,
            dataPoints.map(({ value, attributes }) => ({ value, attributes, unit: descriptor.unit })),
          );
        }
      }
      return points;
    };
    try {
      const points = await exported();
      const consumer = stat.consumers[0]!;
      const attributes = { "consumer.id": consumer.id, "consumer.name": consumer.name };
      assert.deepEqual(points.get("qlaster.sender.updates"), [
        { value: 500, attributes: { kind: "account" }, unit: "{update}" },
        { value: 0, attributes: { kind: "transaction" }, unit: "{update}" },
        { value: 1, attributes: { kind: "slot" }, unit: "{update}" },
      ]);
      assert.deepEqual(points.get("qlaster.sender.stuck"), [{ value: 0, attributes: {}, unit: "" }]);
      assert.deepEqual(points.get("qlaster.consumer.frames"), [{
        value: consumer.frames,
        attributes,
        unit: "{frame}",
      }]);
      assert.deepEqual(points.get("qlaster.consumer.bytes"), [{ value: consumer.bytes, attributes, unit: "By" }]);
      const lost = points.get("qlaster.consumer.lost")!;
      assert.deepEqual(lost.filter(({ value }) => value !== 0), [
        { value: consumer.losses.ringFull, attributes: { ...attributes, reason: "ring_full" }, unit: "{update}" },
      ]);
      assert.equal(lost.length, Object.keys(consumer.losses).length);
      end();
      const before = reads;
      await exported(); // cumulative: the SDK repeats what it had
      assert.equal(reads, before);
    } finally {
      await provider.shutdown();
    }
  },
);

test("logSender(): who comes, goes and is refused, as records; nothing without it", async () => {
  await using place = new Place();
  const sender = await place.sender({ consumersMax: 1 });
  const records: LogRecord[] = [];
  const end = logSender(sender, (record) => void records.push(record));
  const consumer = await place.consumer({ name: "first" });
  await assert.rejects(place.consumer({ name: "second" }), { code: "CONNECT_REFUSED" });
  await consumer.close();
  await until(() => records.length === 3, "three records");
  end();
  assert.deepEqual(records.map(({ level, event, name }) => [level, event, name]), [
    ["info", "consumer_connected", "first"],
    ["warn", "consumer_refused", undefined],
    ["info", "consumer_disconnected", "first"],
  ]);
  assert.equal(records[2]!.reason, "consumer-closed");
});
