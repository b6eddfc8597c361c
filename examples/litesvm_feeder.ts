/**
 * A feed without a network: LiteSVM executes a transfer each slot, and whoever connects is told as by a validator. For trying
 * the other examples, and the base of a bot's own integration tests.
 *
 *   deno run -A examples/litesvm_feeder.ts [PATH [SLOT_MS]]      bun examples/litesvm_feeder.ts [PATH [SLOT_MS]]
 *
 * @module
 */

import process from "node:process";
import { setTimeout } from "node:timers/promises";
import { setupSender } from "@qlaster/core";
import { litesvm } from "@qlaster/core/sources/litesvm";
import {
  appendTransactionMessageInstruction,
  createTransactionMessage,
  generateKeyPairSigner,
  lamports,
  pipe,
  setTransactionMessageFeePayerSigner,
  setTransactionMessageLifetimeUsingBlockhash,
  signTransactionMessageWithSigners,
} from "@solana/kit";
import { getTransferSolInstruction } from "@solana-program/system";
import { LiteSVM } from "litesvm";

const [path = "/tmp/qlaster.sock", slotMs = "400"] = process.argv.slice(2);
await using sender = await setupSender({ path, state: { maxBytes: 1 << 24, keep: "all" } });
const source = litesvm(new LiteSVM());
void sender.feed(source);

const [payer, receiver] = [await generateKeyPairSigner(), await generateKeyPairSigner()];
source.svm.airdrop(payer.address, lamports(1_000_000_000_000n));
console.log("feeding", receiver.address);

for (let amount = 1_000_000n;; amount++) {
  const blockhash = { blockhash: source.svm.latestBlockhash(), lastValidBlockHeight: 1_000_000n };
  const message = pipe(
    createTransactionMessage({ version: 0 }),
    (m) => setTransactionMessageFeePayerSigner(payer, m),
    (m) => setTransactionMessageLifetimeUsingBlockhash(blockhash, m),
    (m) =>
      appendTransactionMessageInstruction(
        getTransferSolInstruction({ source: payer, destination: receiver.address, amount }),
        m,
      ),
  );
  source.svm.sendTransaction(await signTransactionMessageWithSigners(message));
  source.nextSlot();
  await setTimeout(Number(slotMs));
}
