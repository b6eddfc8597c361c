/**
 * A view lies in memory that is mapped read-only: a write into it ends the process instead of harming others.
 * The types forbid it; this shows what the README says of a write all the same.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { guarded } from "../support/guarded.ts";
import { executable, RUNTIMES } from "../support/runtime.ts";
import { Temporary } from "../support/temporary.ts";

const PROGRAM = `
import { setupConsumer, setupSender } from ${JSON.stringify(new URL("../../mod.ts", import.meta.url).href)};
const sender = await setupSender({ path: process.argv[2], ringCapacityBytes: 65536 });
const consumer = await setupConsumer(process.argv[2]);
const owner = new Uint8Array(32);
await consumer.subscribe({ owners: [owner] });
sender.publishAccount({ pubkey: owner, owner, lamports: 1n, data: new Uint8Array(8), slot: 1n });
const update = await consumer.next();
console.log("before");
update.data[0] = 1;
console.log("after");
`;

for (const runtime of RUNTIMES) {
  guarded(`AccountView.data in ${runtime}: a write into it ends the process`, async (held) => {
    const directory = held.use(new Temporary());
    const program = directory.at("write.ts");
    writeFileSync(program, `import process from "node:process";${PROGRAM}`);
    const args = runtime === "deno" ? ["run", "-A", "--no-check", program] : ["run", program];
    const child = spawn(executable(runtime), [...args, directory.at("s.sock")], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => output += text);
    const [code, signal] = await new Promise<[number | null, string | null]>((resolve) =>
      child.on("close", (...outcome) => resolve(outcome))
    );
    assert.equal(output, "before\n");
    // Bun's crash handler turns the signal into an exit code of its own.
    assert.ok(signal !== null || code !== 0, `it ended with code ${code}, signal ${signal}`);
  });
}
