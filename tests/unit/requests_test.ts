/**
 * Requests: each question gets its answer, or an error.
 * May touch: one Requests. May not touch: links.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { QlasterError } from "../../src/errors.ts";
import { Requests } from "../../src/stream/requests.ts";
import type { Message } from "../../src/wire/messages.ts";
import { within } from "./support/watchdog.ts";

const FOREVER_MS = 2 ** 31 - 1;
const answerTo = (requestId: number): Message => ({ kind: 4, requestId, body: new Uint8Array(0) });

test("ask() numbers questions from 1 and resolves each with its own answer, in whatever order", async () => {
  const requests = new Requests("x", FOREVER_MS);
  const ids: number[] = [];
  const answers = [1, 2, 3].map(() => requests.ask((id) => void ids.push(id)));
  assert.deepEqual(ids, [1, 2, 3]);
  for (const id of [2, 3, 1]) requests.answer(answerTo(id));
  assert.deepEqual((await within(Promise.all(answers), "the answers")).map((answer) => answer.requestId), [1, 2, 3]);
});

test("ask() takes an answer that comes while it sends", async () => {
  const requests = new Requests("x", FOREVER_MS);
  assert.equal((await within(requests.ask((id) => requests.answer(answerTo(id))), "the answer")).requestId, 1);
});

test("answer() drops an answer to no question, and a second one", async () => {
  const requests = new Requests("x", FOREVER_MS);
  requests.answer(answerTo(7));
  const asked = requests.ask(() => {});
  requests.answer(answerTo(0));
  requests.answer(answerTo(1));
  requests.answer({ ...answerTo(1), kind: 9 });
  assert.equal((await within(asked, "the answer")).kind, 4);
});

test("ask() rejects with CONNECT_TIMEOUT, names whom it asked, and drops a late answer", async () => {
  const requests = new Requests(`"/tmp/x"`, 5);
  await assert.rejects(within(requests.ask(() => {}), "the error"), {
    code: "CONNECT_TIMEOUT",
    message: /No answer from "\/tmp\/x" within 5 ms/,
  });
  requests.answer(answerTo(1));
});

test("ask() rejects with what sending throws", async () => {
  const requests = new Requests("x", FOREVER_MS);
  const failure = new QlasterError("LINK_PROTOCOL", "x");
  await assert.rejects(
    requests.ask(() => {
      throw failure;
    }),
    failure,
  );
});

test("rejectAll() rejects who waits, and nobody who asks later", async () => {
  const requests = new Requests("x", FOREVER_MS);
  const failure = new Error("gone");
  const waiting = [requests.ask(() => {}), requests.ask(() => {})];
  requests.rejectAll(failure);
  for (const each of waiting) await assert.rejects(within(each, "the error"), failure);
  const later = requests.ask(() => {});
  requests.answer(answerTo(3));
  assert.equal((await within(later, "the answer")).requestId, 3);
});
