/**
 * Senders and consumers for the tests of whoever uses this library: in one process, without sockets and timers, with time,
 * losses and ends as the test says.
 *
 * @module
 */

export { createTestHost, type ScriptedEnd, TestHost, type TestHostOptions, type UpdateCopy } from "./host.ts";
