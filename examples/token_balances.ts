/**
 * A wallet's token balances, each when it changes, with kit's types:
 *
 *   deno run --allow-ffi --allow-env examples/token_balances.ts WALLET [PATH]      bun examples/token_balances.ts WALLET [PATH]
 *
 * @module
 */

import process from "node:process";
import { setupConsumer } from "@qlaster/core";
import { AddressTable, decodeToken } from "@qlaster/core/kit";
import { address } from "@solana/kit";
import { TOKEN_PROGRAM_ADDRESS } from "@solana-program/token";

/** Where a token account says whose it is. */
const OWNER_AT = 32;

const [text = "", path = "/tmp/qlaster.sock"] = process.argv.slice(2);
const wallet = address(text);
const known = new AddressTable([wallet, TOKEN_PROGRAM_ADDRESS]); // no base58 for these
await using consumer = await setupConsumer(path);
await consumer.setFilter("balances", {
  accounts: { owners: [TOKEN_PROGRAM_ADDRESS], dataSize: 165, memcmp: [{ offset: OWNER_AT, bytes: wallet }] },
});
console.log("watching", wallet);

for await (const update of consumer) {
  if (update.kind === "account") {
    const { mint, amount } = decodeToken(update, known).data;
    console.log(`slot ${update.slot}: ${mint} ${amount}`);
  } else if (update.kind === "left") {
    console.log(`slot ${update.slot}: ${update.address} is closed, or somebody else's`);
  }
}
