/**
 * What the command prints of others' words: text, whatever they are.
 * May touch: the rooms of src/cli that make text. May not touch: processes; tests/cli has those.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { QlasterError } from "../../mod.ts";
import { sentence } from "../../src/cli/failure.ts";
import { plain } from "../../src/cli/text.ts";

test("plain(): no control, no direction, no line of another's; what people read stays", () => {
  assert.equal(plain("\u001b[2J\u009b31mred\r\u202eabc\u2028\u0007\u0000"), "�[2J�31mred��abc���");
  assert.equal(plain("Grüße, 漢字 👋🏽\nnext"), "Grüße, 漢字 👋🏽\nnext");
});

test("sentence(): a server's refusal can't write to the terminal but text", () => {
  const refusal = new QlasterError("SOURCE_REFUSED", "Cannot receive (\u001b]0;title\u0007\u001b[1A)");
  for (const error of [refusal, new Error(refusal.message), refusal.message]) {
    assert.doesNotMatch(sentence(error), /\p{Cc}/u);
  }
  assert.match(sentence(refusal), /SOURCE_REFUSED; qlaster explain SOURCE_REFUSED\)$/);
});
