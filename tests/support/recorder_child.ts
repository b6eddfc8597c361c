/**
 * A process that records until it is killed: arguments are the socket's path, the directory, and the options as JSON.
 * It says on stdout when it is subscribed, and after each chunk how many updates are in files.
 * May touch: the library as a user would.
 */

import { writeSync } from "node:fs";
import process from "node:process";
import { setupConsumer } from "../../mod.ts";
import { record } from "../../src/recording/mod.ts";
import { ownerKey } from "./script.ts";

const [path, directory, options] = process.argv.slice(2);
const tell = (text: string) => void writeSync(1, `${text}\n`);
const consumer = await setupConsumer(path!, { reconnect: false });
await consumer.subscribe({ owners: [0, 1, 2, 3, 4].map(ownerKey), transactions: true });
tell("subscribed");
await record(consumer, directory!, { ...JSON.parse(options!), onProgress: ({ updates }) => tell(`${updates}`) });
