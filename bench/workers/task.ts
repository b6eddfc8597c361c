/**
 * What a worker is told and how it answers: a task as its last argument, one line of JSON on its stdout.
 * May touch: its arguments, its stdout.
 *
 * @module
 */

import process from "node:process";

/** The task that this process was started with. */
export function taskFromArguments<Task>(): Task {
  const json = process.argv.at(-1);
  if (json === undefined || !json.startsWith("{")) {
    throw new Error("No task given: this program is started by bench/main.ts");
  }
  return JSON.parse(json);
}

/** Answers, and ends the process once that is written: nothing that is still open may keep it alive. */
export function answer(result: object): void {
  process.stdout.write(JSON.stringify(result) + "\n", () => process.exit(0));
}
