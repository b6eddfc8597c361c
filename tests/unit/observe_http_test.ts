/**
 * Health and metrics over HTTP, with callers that mean no good: the process and its answers are none the worse.
 * May touch: the public API, sockets on this host.
 *
 * @module
 */

import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import process from "node:process";
import { test } from "node:test";
import { serveMetrics } from "../../src/observe/mod.ts";
import { Place } from "./support/place.ts";
import { until, within } from "./support/watchdog.ts";

const skip = process.platform === "linux" ? {} : { skip: "needs /proc" };

/** The health of a sender that runs: while we were stopped it stood still, and says so until its next beat. */
async function health(port: number): Promise<number> {
  while (true) {
    const response = await within(fetch(`http://127.0.0.1:${port}/health`, { keepalive: false }), "an answer");
    const said = await within(response.text(), "what it says");
    if (response.status !== 503 || !said.includes('"isStuck":true')) return response.status;
  }
}

/** A connection that says this and waits. */
function idler(port: number, words: string): Socket {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => {});
  socket.on("connect", () => void socket.write(words));
  return socket;
}

test("serveMetrics(): hundreds of connections that say nothing whole lock nobody out", skip, async () => {
  await using place = new Place();
  await place.sender();
  await using served = await serveMetrics(place.path, { port: 0 });
  const idlers = Array.from(
    { length: 200 },
    (_, i) => idler(served.port, i % 2 === 0 ? "G" : "GET /health HTTP/1.1\r\n"),
  );
  try {
    await until(() => idlers.every((one) => !one.connecting), "their connections");
    if (process.versions.bun === undefined) {
      await until(
        () => idlers.filter((one) => one.destroyed || one.readableEnded).length >= 200 - 64,
        "the end of most",
      );
    }
    assert.equal(await health(served.port), 200);
  } finally {
    for (const one of idlers) one.destroy();
  }
});

test("serveMetrics(): requests that are none are refused, or closed, and change nothing", skip, async () => {
  await using place = new Place();
  await place.sender();
  await using served = await serveMetrics(place.path, { port: 0 });
  const lines = [
    "\u0000\u0001\u0002",
    "GET // HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET http://[::1 HTTP/1.1\r\nhost: x\r\n\r\n",
    "GET /metrics?%ff HTTP/9.9\r\n\r\n",
    `GET /${"x".repeat(100_000)} HTTP/1.1\r\n\r\n`,
    "POST /health HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n",
    "GET /health HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
  ];
  for (const line of lines) {
    const socket = idler(served.port, line);
    socket.end();
    await within(new Promise<void>((resolve) => socket.on("close", () => resolve()).resume()), "its end");
  }
  assert.equal(await health(served.port), 200);
});
