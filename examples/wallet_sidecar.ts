/**
 * A wallet's balance in a browser, live: a sidecar between the feed and a page, over a WebSocket.
 *
 *   deno run --allow-ffi --allow-net examples/wallet_sidecar.ts WALLET [PATH [PORT]]
 *   bun examples/wallet_sidecar.ts WALLET [PATH [PORT]]
 *
 * Then open http://127.0.0.1:8080. Who opens the page late is told the newest balance at once.
 *
 * @module
 */

import process from "node:process";
import { bytesFromAddress, setupConsumer } from "@qlaster/core";
import { type PageSocket, servePage } from "./support/serve.ts";

const PAGE = `<!doctype html><title>Wallet</title><h1 id="balance">…</h1><script>
  const socket = new WebSocket(location.href.replace("http", "ws"));
  socket.onmessage = ({ data }) => document.getElementById("balance").textContent = data;
</script>`;
const LAMPORTS_PER_SOL = 1e9;

const [wallet = "", path = "/tmp/qlaster.sock", port = "8080"] = process.argv.slice(2);
const sockets = new Set<PageSocket>();
let text = "unknown until it changes";

const url = servePage({
  port: Number(port),
  html: PAGE,
  onOpen(socket) {
    sockets.add(socket);
    socket.send(text);
  },
  onClose: (socket) => void sockets.delete(socket),
});

await using consumer = await setupConsumer(path, { policy: "conflate" });
await consumer.setFilter("wallet", { accounts: { accounts: [bytesFromAddress(wallet)] } });
console.log(`serving ${url}`);

for await (const update of consumer) {
  if (update.kind !== "account") continue;
  text = `${Number(update.lamports) / LAMPORTS_PER_SOL} SOL in slot ${update.slot}`;
  for (const socket of sockets) socket.send(text);
}
process.exit(); // the server would keep it
