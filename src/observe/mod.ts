/**
 * For who watches a sender: Prometheus (needs `prom-client`), a port for it, OpenTelemetry, a structured log.
 *
 * @module
 */

export { PROMETHEUS_CONTENT_TYPE, prometheusText } from "./prometheus.ts";
export { type Served, serveMetrics, type ServeOptions } from "./http.ts";
export { type LogRecord, logSender, type MeterLike, type ObservableLike, observeBy, type ResultLike } from "./hooks.ts";
