/**
 * What a runtime opens by itself sooner or later, opened before anybody counts what a process holds.
 * May touch: signal listeners, for a moment. Imported for that alone.
 * Deno starts a thread with a socket pair for signals: at the first listener, else half a second after its start, which is
 * in the middle of some test.
 *
 * @module
 */

import process from "node:process";

const ignore = () => {};
process.on("SIGUSR2", ignore);
process.off("SIGUSR2", ignore);
