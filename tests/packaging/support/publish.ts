/**
 * Puts the published files and the application that imports them into the directory that is named (tools/arm64.sh).
 * May touch: that directory.
 */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { copyPublished } from "./packages.ts";
import { application } from "./program.ts";

const directory = process.argv[2]!;
await copyPublished(directory);
writeFileSync(join(directory, "app.ts"), application("./mod.ts"));
