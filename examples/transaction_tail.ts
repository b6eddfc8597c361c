/**
 * Transactions as they are executed, votes left out: all of them, or those that touch an account. Decoded by kit.
 *
 *   deno run --allow-ffi --allow-env examples/transaction_tail.ts [PATH [ACCOUNT]]
 *   bun examples/transaction_tail.ts [PATH [ACCOUNT]]
 *
 * @module
 */

import process from "node:process";
import { setupConsumer } from "@qlaster/core";
import { address, getBase58Decoder, getCompiledTransactionMessageDecoder } from "@solana/kit";

const [path = "/tmp/qlaster.sock", account] = process.argv.slice(2);
await using consumer = await setupConsumer(path, { policy: "drop-oldest" }); // a tail is about what is new
await consumer.setFilter("tail", {
  transactions: { vote: false, ...(account !== undefined && { accountInclude: [address(account)] }) },
});
console.log("tailing");

const signatures = getBase58Decoder();
const messages = getCompiledTransactionMessageDecoder();

for await (const update of consumer) {
  if (update.lost > 0) console.log(`… ${update.lost} more`);
  if (update.kind !== "transaction") continue;
  const message = messages.decode(update.message);
  const indexes = message.version === 1
    ? message.instructionHeaders.map(({ programAccountIndex }) => programAccountIndex)
    : message.instructions.map(({ programAddressIndex }) => programAddressIndex);
  const programs = new Set(indexes.map((index) => message.staticAccounts[index]));
  const outcome = update.failed ? "failed" : "ok";
  console.log(`slot ${update.slot} #${update.index} ${outcome} ${signatures.decode(update.signature)}:`, ...programs);
}
