/**
 * The command `qlaster`: run this module. Needs the packages `commander`, `log-update`, `prom-client`, `@mcap/core`.
 *
 * @module
 */

import process from "node:process";
import { main } from "./main.ts";

export { main };

if (import.meta.main) process.exit(await main());
