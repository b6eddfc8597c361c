/**
 * Cases over `Native`: the socket's path, and connections over it, with bytes and descriptors.
 * May touch: the native library through `load()`, libc for descriptors of other types, the temporary directory.
 *
 * @module
 */

import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import process from "node:process";
import { LINK_DESCRIPTORS_MAX, Status } from "../../../src/native/abi.generated.ts";
import { eventually, footprintOf, settlesAt } from "../../support/footprint.ts";
import { guarded } from "../../support/guarded.ts";
import * as libc from "../../support/libc.ts";
import { Temporary } from "../../support/temporary.ts";
import { connect, EBADF, ENOENT, linkPair, listen, native, utf8 } from "../support/native_cases.ts";
import { NONSENSE } from "../support/noted_library.ts";

guarded("Native.listen() binds a path; listenerFd() and listenerAccept() give its connections out", async (held) => {
  const library = await native();
  const temporary = held.use(new Temporary());
  const path = temporary.at("s.sock");
  assert.equal(library.listen(utf8(path), 0, 0), Status.badArgument);
  assert.equal(listen(library, ""), Status.badArgument);
  assert.equal(listen(library, "/tmp/a\0b"), Status.badArgument);
  assert.equal(listen(library, `/tmp/${"a".repeat(100)}`), Status.pathTooLong);
  assert.equal(listen(library, temporary.at("no/such/s.sock")), ENOENT);
  writeFileSync(temporary.at("file"), "");
  assert.equal(listen(library, temporary.at("file")), Status.pathNotSocket);

  const listener = listen(library, path);
  assert.ok(listener >= 0);
  assert.equal(listen(library, path), Status.pathInUse);
  assert.equal(library.listenerAccept(listener), Status.wouldBlock);
  const link = connect(library, path);
  assert.ok(link >= 0);
  const accepted = library.listenerAccept(listener);
  assert.ok(accepted >= 0);
  const fd = library.listenerFd(listener);
  assert.ok(fd >= 0);
  assert.equal(library.linkAdopt(fd), Status.badDescriptor, "a listening socket is no connection");
  library.fdClose(fd);
  assert.equal(library.close(listener), 0);
  assert.equal(existsSync(path), false);
  assert.equal(existsSync(`${path}.lock`), false);
  for (const handle of [link, accepted]) library.close(handle);
});

guarded("Native.listenerTake() goes on with a path that listenerPass() and listenerYield() gave up", async (held) => {
  const library = await native();
  const path = held.use(new Temporary()).at("s.sock");
  const old = listen(library, path);
  const passed = new Int32Array(2);
  assert.equal(library.listenerPass(old, passed), 0);
  assert.equal(library.listenerYield(old), 0);
  assert.equal(library.close(old), 0);
  assert.equal(listen(library, path), Status.pathInUse);
  const bytes = utf8(path);
  const taken = library.listenerTake(bytes, bytes.length, 0, passed[0]!, passed[1]!);
  assert.ok(taken >= 0, `${taken}`);
  assert.equal(library.listenerTake(bytes, bytes.length, 0, -1, -1), Status.badDescriptor);
  assert.equal(library.listenerPass(old, passed), Status.badHandle);
  assert.equal(library.listenerYield(old), Status.badHandle);
  const link = connect(library, path);
  assert.ok(link >= 0);
  const accepted = library.listenerAccept(taken);
  assert.ok(accepted >= 0);
  assert.equal(library.close(taken), 0);
  assert.equal(existsSync(path), false);
  assert.equal(existsSync(`${path}.lock`), false);
  for (const handle of [link, accepted]) library.close(handle);
});

guarded("Native.linkConnect() says why it can't", async (held) => {
  const library = await native();
  const temporary = held.use(new Temporary());
  assert.equal(connect(library, temporary.at("nothing")), ENOENT);
  assert.equal(connect(library, "x".repeat(128)), Status.pathTooLong);
  assert.ok(connect(library, "x".repeat(120)) < 0);
  writeFileSync(temporary.at("file"), "");
  assert.equal(connect(library, temporary.at("file")), -111); // ECONNREFUSED
  assert.equal(connect(library, `${temporary.at("file")}/s.sock`), -20); // ENOTDIR
});

guarded("Native.linkConnect() never blocks when the listener's queue is full", async (held) => {
  const library = await native();
  const temporary = held.use(new Temporary());
  const listener = listen(library, temporary.at("s.sock"));
  held.defer(() => void library.close(listener));
  const links: number[] = [];
  held.defer(() => links.forEach((link) => library.close(link)));
  let status = 0;
  while (links.length < 3000) { // its queue has 1,024, and the handles 4,096
    status = connect(library, temporary.at("s.sock"));
    if (status < 0) break;
    links.push(status);
  }
  assert.equal(status, -11); // EAGAIN
});

guarded("Native.linkPeer() names the process on the other side", async (held) => {
  const library = await native();
  const [one, other] = linkPair(held, library);
  for (const link of [one, other]) {
    const peer = new Int32Array(3);
    assert.equal(library.linkPeer(link, peer), 0);
    assert.deepEqual([...peer], [process.pid, process.geteuid!(), process.getegid!()]);
  }
});

guarded(
  "Native.linkSend() and linkReceive() carry bytes, in parts if need be, up to the end of the stream",
  async (held) => {
    const library = await native();
    const [one, other] = linkPair(held, library);
    const none = new Int32Array(1);
    const brought = new Uint32Array(1 + LINK_DESCRIPTORS_MAX);
    const buffer = new Uint8Array(3);
    assert.equal(library.linkReceive(other, buffer, 3, brought, 0), Status.wouldBlock);
    assert.equal(library.linkSend(one, utf8("hello"), 5, none, 0), 5);
    assert.equal(library.linkReceive(other, buffer, 3, brought, 0), 3);
    assert.deepEqual([...buffer], [...utf8("hel")]);
    assert.equal(brought[0], 0);
    assert.equal(library.linkReceive(other, buffer, 3, brought, 0), 2);
    assert.equal(library.linkSend(one, buffer, 0, none, 0), Status.badArgument);
    assert.equal(library.linkReceive(other, buffer, 0, brought, 0), Status.badArgument);

    const chunk = new Uint8Array(65536);
    let sent = 0;
    let status = 0;
    while ((status = library.linkSend(one, chunk, chunk.length, none, 0)) > 0) sent += status;
    assert.equal(status, Status.wouldBlock);
    library.close(one);
    let received = 0;
    while ((status = library.linkReceive(other, chunk, chunk.length, brought, 0)) > 0) received += status;
    assert.equal(status, Status.endOfStream);
    assert.equal(received, sent);
    assert.equal(library.linkSend(other, chunk, 1, none, 0), Status.endOfStream); // and no SIGPIPE
  },
);

guarded(
  "Native.linkSend() passes up to 4 descriptors; linkReceive() takes no more than were asked for",
  async (held) => {
    const library = await native();
    const [one, other] = linkPair(held, library);
    const before = footprintOf("self");
    const fd = libc.eventfd();
    const bytes = utf8("x");
    const brought = new Uint32Array(1 + LINK_DESCRIPTORS_MAX);
    const list = (count: number) => new Int32Array(count).fill(fd);
    const receive = (count: number) => library.linkReceive(other, new Uint8Array(8), 8, brought, count);

    for (let count = 1; count <= LINK_DESCRIPTORS_MAX; count++) {
      assert.equal(library.linkSend(one, bytes, 1, list(count), count), 1);
      assert.equal(receive(4), 1);
      assert.equal(brought[0], count);
      for (const got of brought.subarray(1, 1 + count)) assert.equal(library.fdClose(got), 0);
    }
    assert.equal(library.linkSend(one, bytes, 1, list(5), 5), Status.tooManyDescriptors);
    assert.equal(receive(5), Status.tooManyDescriptors);
    assert.equal(library.linkSend(one, bytes, 1, Int32Array.of(-1), 1), EBADF);
    for (const [count, wanted] of [[1, 0], [3, 2], [4, 1]] as const) {
      assert.equal(library.linkSend(one, bytes, 1, list(count), count), 1);
      assert.equal(receive(wanted), Status.tooManyDescriptors);
      assert.equal(brought[0], 0);
    }
    assert.equal(receive(4), Status.wouldBlock);
    libc.close(fd);
    await settlesAt("self", before); // those that were refused are closed
  },
);

guarded(
  "Native.linkAdopt() keeps a duplicate of a connected Unix stream socket, and refuses all else",
  async (held) => {
    const library = await native();
    const temporary = held.use(new Temporary());
    for (const fd of [libc.eventfd(), libc.datagramSocket(), libc.memfd(4096), libc.openFile(temporary.at("file"))]) {
      assert.equal(library.linkAdopt(fd), Status.badDescriptor);
      assert.equal(library.fdClose(fd), 0, "it is still the caller's");
    }
    assert.equal(library.linkAdopt(-1), Status.badDescriptor);
    const pair = new Int32Array(2);
    library.wakeCreate(pair);
    const links = [library.linkAdopt(pair[0]!), library.linkAdopt(pair[1]!)];
    for (const fd of pair) assert.equal(library.fdClose(fd), 0);
    assert.equal(library.linkSend(links[0]!, utf8("ab"), 2, new Int32Array(1), 0), 2);
    assert.equal(library.linkReceive(links[1]!, new Uint8Array(8), 8, new Uint32Array(1), 0), 2);
    for (const link of links) library.close(link);
  },
);

guarded(
  "Native.stream() hands over what a duplicate of a link brings, in memory that stays, then the close; and stops when told to",
  async (held) => {
    const library = await native();
    const [one, other] = linkPair(held, library);
    const before = footprintOf("self");
    const chunks: Uint8Array[] = [];
    let closes = 0;
    let countAtClose = -1;
    const count = () => chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    for (const handle of NONSENSE) assert.equal(library.linkFd(handle), Status.badHandle);
    const fd = library.linkFd(other);
    assert.ok(fd >= 0);
    const watch = await library.stream(fd, (bytes) => chunks.push(bytes), () => {
      closes++;
      countAtClose = count();
    });
    watch.unref();
    watch.ref();
    const eventFd = libc.eventfd();
    let sent = 0;
    for (let i = 0; i < 200; i++) {
      const bytes = new Uint8Array(1000).fill(i);
      let at = 0;
      await eventually("room", () => {
        const rest = bytes.subarray(at);
        // A runtime's read drops descriptors.
        const status = library.linkSend(one, rest, rest.length, Int32Array.of(eventFd), i % 50 === 0 ? 1 : 0);
        if (status > 0) at += status;
        return at === bytes.length;
      });
      sent += at;
    }
    libc.close(eventFd);
    await eventually("all bytes", () => count() === sent);
    const whole = chunks.flatMap((chunk) => [...chunk]);
    assert.ok(whole.every((byte, i) => byte === Math.floor(i / 1000)), "no chunk's memory was written again");
    // The duplicate and the link are one socket: what one reads, the other does not.
    assert.equal(library.linkReceive(other, new Uint8Array(8), 8, new Uint32Array(1), 0), Status.wouldBlock);
    assert.equal(closes, 0);
    library.linkSend(one, utf8("end"), 3, new Int32Array(1), 0);
    library.close(one);
    await eventually("the close", () => closes === 1);
    assert.equal(countAtClose, sent + 3);
    watch.close();

    const [third, fourth] = linkPair(held, library);
    const second = await library.stream(library.linkFd(fourth), () => assert.fail("it was stopped"), () => closes++);
    second.close();
    library.linkSend(third, utf8("x"), 1, new Int32Array(1), 0);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(closes, 1, "no close for one's own close");
    for (const link of [third, fourth]) library.close(link);
    await settlesAt("self", before);
  },
);

guarded("Native.close() of a link is the end for the other side, although a duplicate stays open", async (held) => {
  const library = await native();
  const [one, other] = linkPair(held, library);
  const duplicate = library.linkFd(other); // as in the hands of a runtime, which closes it some turns later
  library.linkSend(other, utf8("end"), 3, new Int32Array(1), 0);
  library.close(other);
  const receive = () => library.linkReceive(one, new Uint8Array(8), 8, new Uint32Array(1), 0);
  assert.equal(receive(), 3);
  assert.equal(receive(), Status.endOfStream);
  library.fdClose(duplicate);
});
