/**
 * The table of errors: every status of the library has its place in it, every code its cause and cure.
 * May touch: the tables. May not touch: the native library.
 *
 * @module
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { describeStatus, errorFromStatus, ERRORS, isQlasterError, QlasterError } from "../../src/errors.ts";
import { Status, STATUS_BASE } from "../../src/native/abi.generated.ts";

/** What each status becomes where nobody has handled it before: a class of your mistake, or a code. */
const EXPECTED: Record<keyof typeof Status, string> = {
  // Normal flow, which callers handle: only a system that breaks its word brings them here.
  wouldBlock: "SYSTEM",
  full: "SYSTEM",
  endOfStream: "SYSTEM",
  tooLarge: "SYSTEM",
  peerCorrupt: "RING_PEER_CORRUPT",
  badMagic: "REGION_REFUSED",
  badVersion: "REGION_REFUSED",
  badSize: "REGION_REFUSED",
  sealMissing: "REGION_REFUSED",
  badDescriptor: "REGION_REFUSED",
  tooManyDescriptors: "LINK_PROTOCOL",
  controlTruncated: "SYSTEM",
  pathInUse: "SENDER_PATH_IN_USE",
  pathNotSocket: "SENDER_PATH_NOT_SOCKET",
  directoryUnsafe: "SENDER_DIRECTORY_UNSAFE",
  wrongUid: "REGION_REFUSED",
  handlesExhausted: "SYSTEM",
  memoryLimit: "MEMORY_LIMIT",
  consumersLimit: "SYSTEM",
  v9Version: "V9_VERSION",
  v9Tag: "V9_TAG",
  v9Malformed: "V9_MALFORMED",
  v9TooLarge: "V9_PAYLOAD_TOO_LARGE",
  v9Decode: "V9_DECODE",
  filtersLimit: "SUBSCRIBE_REFUSED",
  filterKeysLimit: "SUBSCRIBE_REFUSED",
  keysLimit: "SUBSCRIBE_REFUSED",
  setsLimit: "SUBSCRIBE_REFUSED",
  requestsLimit: "SUBSCRIBE_REFUSED",
  revoked: "SYSTEM",
  badHandle: "INVARIANT",
  badArgument: "RangeError",
  pathTooLong: "RangeError",
  unsupported: "SYSTEM",
};

test("errorFromStatus() has an error for every status, with the action and the status's name", () => {
  assert.deepEqual(Object.keys(EXPECTED).sort(), Object.keys(Status).sort());
  for (const [name, status] of Object.entries(Status)) {
    const error = errorFromStatus(status, `Cannot do "this"`);
    const expected = EXPECTED[name as keyof typeof Status];
    assert.equal(error instanceof QlasterError ? error.code : error.name, expected, name);
    assert.ok(error.message.startsWith(`Cannot do "this" (${name}): `), error.message);
  }
});

test("errorFromStatus() keeps each errno, by name where a user can meet it", () => {
  for (let errno = 1; errno < 4096; errno++) {
    const error = errorFromStatus(-errno, "Cannot do it");
    assert.ok(isQlasterError(error, "SYSTEM"));
    const text = describeStatus(-errno);
    assert.match(text, new RegExp(`^(errno ${errno}|[^()]+ \\(E[A-Z0-9]+\\))$`));
    assert.ok(error.message.startsWith(`Cannot do it (${text}): `));
  }
  assert.match(describeStatus(-13), /EACCES/);
  assert.match(describeStatus(-24), /EMFILE/);
});

test("describeStatus() and errorFromStatus() survive a number that nobody knows", () => {
  for (const status of [STATUS_BASE, STATUS_BASE - 99, STATUS_BASE - 299, -2147483648]) {
    assert.equal(describeStatus(status), `status ${status}`);
    assert.ok(isQlasterError(errorFromStatus(status, "Cannot do it"), "SYSTEM"));
  }
});

test("ERRORS has a cause and a cure for each code, as sentences without a full stop", () => {
  for (const [code, row] of Object.entries(ERRORS)) {
    assert.match(code, /^[A-Z][A-Z0-9]*(_[A-Z]+)*$/);
    assert.equal(row.length, 2, code);
    assert.match(row[0], /^[A-Z].*[^.\s]$/, code);
    assert.match(row[1], /^[a-z].*[^.\s]$/, code);
  }
  const causes = Object.values(ERRORS).map(([cause]) => cause);
  assert.equal(new Set(causes).size, causes.length, "no two codes with one cause");
});

test("QlasterError says action, cause and cure, and carries code, reason and cause", () => {
  const cause = new Error("below");
  const error = new QlasterError("CONNECTION_LOST", "Lost it", { cause, reason: "sender-gone" });
  const [why, what] = ERRORS.CONNECTION_LOST;
  assert.equal(error.message, `Lost it: ${why}; ${what}`);
  assert.deepEqual([error.name, error.code, error.reason, error.cause], [
    "QlasterError",
    "CONNECTION_LOST",
    "sender-gone",
    cause,
  ]);
  assert.ok(error instanceof Error);
  const plain = new QlasterError("SYSTEM", "x");
  assert.equal(plain.reason, undefined);
  assert.equal("cause" in plain, false);
});

test("isQlasterError() knows ours, also of another copy of the library, and of one code", () => {
  const error = new QlasterError("SYSTEM", "x");
  assert.ok(isQlasterError(error));
  assert.ok(isQlasterError(error, "SYSTEM"));
  assert.equal(isQlasterError(error, "INVARIANT"), false);
  const foreign = Object.assign(new Error("x"), { name: "QlasterError", code: "SYSTEM" });
  assert.ok(isQlasterError(foreign, "SYSTEM"));
  const others = [
    new Error("x"),
    new TypeError("x"),
    Object.assign(new Error("x"), { code: "SYSTEM" }),
    undefined,
    null,
  ];
  for (const other of [...others, "QlasterError", 1, { name: "QlasterError", code: "SYSTEM" }]) {
    assert.equal(isQlasterError(other), false);
  }
});
