/**
 * A sender's figures as Prometheus takes them, from its stat page: for an exporter beside it, or in its own process.
 * May touch: `prom-client`, as the writer of the format. May not touch: sockets; http.ts serves.
 * Names follow https://prometheus.io/docs/practices/naming/: base units, `_total` for counters.
 *
 * @module
 */

import { Registry } from "prom-client";
import type { ConsumerStat, EndCounts, SenderStat } from "../stat/figures.ts";
import type { LossCounts } from "../types.ts";
import { bucketEndNs, type Histogram } from "../stat/histogram.ts";
import { snakeCase } from "./names.ts";

type Labels = Readonly<Record<string, string>>;
interface Value {
  readonly labels: Labels;
  readonly value: number;
  readonly metricName?: string;
}
type Kind = "counter" | "gauge" | "histogram";

/** What `prom-client` asks a metric for. */
class StatMetric {
  readonly name: string;
  readonly help: string;
  readonly type: Kind;
  readonly aggregator = "sum";
  readonly values: Value[] = [];

  constructor(name: string, type: Kind, help: string) {
    this.name = name;
    this.type = type;
    this.help = help;
  }

  get(): Promise<unknown> {
    const { name, help, type, values, aggregator } = this;
    return Promise.resolve({ name, help, type, values, aggregator });
  }

  reset(): void {}
}

/** One family, with a value of each consumer. */
type Family = readonly [name: string, type: Kind, help: string, value: (consumer: ConsumerStat) => number];

const CONSUMER_FAMILIES: readonly Family[] = [
  ["frames_total", "counter", "Frames that went into the consumer's ring.", (c) => c.frames],
  ["bytes_total", "counter", "Bytes that went into the consumer's ring.", (c) => c.bytes],
  ["read_frames_total", "counter", "Frames that the consumer has taken, by its own word.", (c) => c.read],
  ["wakeups_total", "counter", "Times that the consumer was woken.", (c) => c.wakes],
  [
    "parks_total",
    "counter",
    "Times that the consumer went to sleep until the next frame, by its own word.",
    (c) => c.parks,
  ],
  [
    "spins_total",
    "counter",
    "Times that the consumer looked without pause for a while, by its own word.",
    (c) => c.spins,
  ],
  [
    "lag_seconds",
    "gauge",
    "Age of what the consumer has read last, behind what was published last.",
    (c) => c.lagMs / 1000,
  ],
  ["ring_used_bytes", "gauge", "Bytes of the ring that were not given back.", (c) => c.ring.usedBytes],
  ["ring_capacity_bytes", "gauge", "Size of the consumer's ring.", (c) => c.ring.capacityBytes],
  ["waiting_frames", "gauge", "Frames that wait at the sender for room.", (c) => c.waiting.frames],
  ["waiting_bytes", "gauge", "Bytes that wait at the sender for room.", (c) => c.waiting.bytes],
  ["pool_used_bytes", "gauge", "Bytes of the pool that unread frames hold.", (c) => c.poolBytes],
  ["filters", "gauge", "Filters of the consumer.", (c) => c.filters],
  ["filter_account_keys", "gauge", "Account keys in the consumer's filters.", (c) => c.accounts],
  ["filter_owner_keys", "gauge", "Owner keys in the consumer's filters.", (c) => c.owners],
  ["parked", "gauge", "1 while the consumer sleeps until the next frame.", (c) => c.parked ? 1 : 0],
];

const SENDER_FAMILIES: readonly (readonly [string, Kind, string, (stat: SenderStat) => number])[] = [
  ["up", "gauge", "1 if the sender's process is there.", (s) => s.isGone ? 0 : 1],
  ["event_loop_stuck", "gauge", "1 if the sender's event loop stands still.", (s) => s.isStuck ? 1 : 0],
  [
    "event_loop_last_beat_seconds",
    "gauge",
    "Time since the sender's event loop ran last.",
    (s) => s.sinceBeatMs / 1000,
  ],
  ["last_publish_seconds", "gauge", "Time since the sender published last.", (s) => (s.sincePublishMs ?? NaN) / 1000],
  ["start_time_seconds", "gauge", "When the sender was set up, since the Unix epoch.", (s) => s.startedAt / 1000],
  ["sequence", "gauge", "Sequence of the newest update.", (s) => s.sequence],
  ["newest_slot", "gauge", "The newest slot of any update.", (s) => s.newestSlot],
  ["deliveries_total", "counter", "Updates handed to rings.", (s) => s.deliveries],
  ["unchanged_total", "counter", "Updates that changed nothing, left out by onlyChanged.", (s) => s.unchanged],
  ["older_versions_total", "counter", "Older versions of accounts after newer ones.", (s) => s.olderVersions],
  ["connections_total", "counter", "Consumers granted.", (s) => s.connections],
  ["refused_total", "counter", "Connections refused.", (s) => s.refused],
  ["consumers", "gauge", "Consumers that are connected.", (s) => s.consumers.length],
  ["index_account_keys", "gauge", "Different account keys of all filters.", (s) => s.accountKeys],
  ["index_owner_keys", "gauge", "Different owner keys of all filters.", (s) => s.ownerKeys],
  ["index_bytes", "gauge", "Memory of the index of filters.", (s) => s.indexBytes],
  ["tracked_accounts", "gauge", "Accounts whose last version is remembered.", (s) => s.trackedAccounts],
  ["pool_used_bytes", "gauge", "Bytes of the pool in use.", (s) => s.pool.usedBytes],
  ["pool_capacity_bytes", "gauge", "Size of the pool.", (s) => s.pool.capacityBytes],
  ["rings_bytes", "gauge", "Bytes of all rings, without pool, state and history.", (s) => s.memoryBytes],
];

function histogramValues(histogram: Histogram, name: string, labels: Labels): Value[] {
  const values: Value[] = [];
  let cumulative = 0;
  let sum = 0;
  histogram.counts.forEach((count, i) => {
    cumulative += count;
    sum += count * bucketEndNs(i);
    // One bucket for each power of two is enough there, and 28 of them.
    if (i % 4 === 3) {
      values.push({
        labels: { ...labels, le: String(bucketEndNs(i) / 1e9) },
        value: cumulative,
        metricName: `${name}_bucket`,
      });
    }
  });
  values.push({ labels: { ...labels, le: "+Inf" }, value: cumulative, metricName: `${name}_bucket` });
  values.push({ labels, value: sum / 1e9, metricName: `${name}_sum` });
  values.push({ labels, value: cumulative, metricName: `${name}_count` });
  return values;
}

/** A value for each of them, by a label in the words that Prometheus uses: `ringFull` is `ring_full`. */
function byReason(counts: LossCounts | EndCounts, labels: Labels): Value[] {
  return Object.entries(counts).map(([name, value]) => {
    return { labels: { ...labels, reason: snakeCase(name) }, value };
  });
}

/**
 * The figures in Prometheus' text format.
 * @param stat What `openStat(path).read()` returned.
 * @returns The text; its content type is {@linkcode PROMETHEUS_CONTENT_TYPE}. Sums of histograms are upper bounds.
 */
export async function prometheusText(stat: SenderStat): Promise<string> {
  const registry = new Registry();
  const family = (name: string, type: Kind, help: string): StatMetric => {
    const metric = new StatMetric(`qlaster_${name}`, type, help);
    registry.registerMetric(metric as unknown as Parameters<Registry["registerMetric"]>[0]);
    return metric;
  };
  const path = { path: stat.path };
  for (const [name, type, help, value] of SENDER_FAMILIES) {
    family(`sender_${name}`, type, help).values.push({ labels: path, value: value(stat) });
  }
  const updates = family("sender_updates_total", "counter", "Updates published.");
  for (const kind of ["account", "transaction", "slot"] as const) {
    updates.values.push({ labels: { ...path, kind }, value: stat[`${kind}s`] });
  }
  const lost = family("sender_lost_total", "counter", "Matching updates that consumers did not get, by reason.");
  lost.values.push(...byReason(stat.losses, path));
  const ended = family("sender_disconnections_total", "counter", "Connections that have ended, by how.");
  ended.values.push(...byReason(stat.ended, path));
  const stalls = "qlaster_sender_event_loop_delay_seconds";
  family(
    "sender_event_loop_delay_seconds",
    "histogram",
    "How late the sender's event loop was, looked at once a second.",
  )
    .values.push(...histogramValues(stat.stalls, stalls, path));
  const labelsOf = (consumer: ConsumerStat) => ({
    ...path,
    id: String(consumer.id),
    name: consumer.name,
    pid: String(consumer.pid),
    policy: consumer.policy,
    protocol: consumer.protocol,
  });
  for (const [name, type, help, value] of CONSUMER_FAMILIES) {
    const metric = family(`consumer_${name}`, type, help);
    for (const consumer of stat.consumers) metric.values.push({ labels: labelsOf(consumer), value: value(consumer) });
  }
  const losses = family("consumer_lost_total", "counter", "Matching updates that the consumer did not get, by reason.");
  const latency = family(
    "consumer_latency_seconds",
    "histogram",
    "From publish to read, one record for each look that found something.",
  );
  for (const consumer of stat.consumers) {
    const labels = labelsOf(consumer);
    losses.values.push(...byReason(consumer.losses, labels));
    latency.values.push(...histogramValues(consumer.latency, "qlaster_consumer_latency_seconds", labels));
  }
  return await registry.metrics();
}

/** Of what `prometheusText` returns. */
export const PROMETHEUS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";
