/**
 * Accepts connections at a sender's path: through the runtime's event loop, and by itself what a runtime leaves behind.
 * May touch: one native listener. May not touch: what links say.
 *
 * @module
 */

import type { Native, Watch } from "../native/native.ts";
import { describeStatus, errorFromStatus, QlasterError } from "../errors.ts";

/** Connections taken in one sweep: the rest waits for the next. */
const LEFT_OVERS_MAX = 256;

/** Holds the path until it is closed. */
export class Acceptor {
  readonly #native: Native;
  /** The native handle. */
  readonly listener: number;
  readonly #onLink: (link: number) => void;
  #server: Watch | undefined;
  #isRef = true;
  #isClosed = false;
  /** Sweeps in a row that found connections which the runtime had not accepted. */
  #leftOverSweeps = 0;

  private constructor(native: Native, listener: number, onLink: (link: number) => void) {
    this.#native = native;
    this.listener = listener;
    this.#onLink = onLink;
  }

  /**
   * Locks and binds the path.
   * @param isForAll Users other than our own may connect, as far as the directory lets them.
   * @param onLink Gets the native handle of each connection.
   * @throws {QlasterError} `SENDER_PATH_IN_USE`, `SENDER_PATH_NOT_SOCKET`, `SENDER_DIRECTORY_UNSAFE`, `SYSTEM`
   */
  static async listen(
    native: Native,
    path: string,
    isForAll: boolean,
    onLink: (link: number) => void,
  ): Promise<Acceptor> {
    const bytes = new TextEncoder().encode(path);
    const listener = native.listen(bytes, bytes.length, isForAll ? 1 : 0);
    if (listener < 0) throw errorFromStatus(listener, `Cannot listen at "${path}"`);
    const acceptor = new Acceptor(native, listener, onLink);
    acceptor.#server = await native.accept(listener, onLink);
    return acceptor;
  }

  /**
   * Goes on with a path that another process has handed over: nobody could take it in between, and who connected since waits
   * in the socket's queue.
   * @param descriptors Of its lock and its socket: the acceptor's, whatever the outcome.
   * @throws {QlasterError} `SYSTEM`… if they are not what they must be.
   */
  static async take(
    native: Native,
    path: string,
    isForAll: boolean,
    onLink: (link: number) => void,
    [lock, socket]: readonly [lock: number, socket: number],
  ): Promise<Acceptor> {
    const bytes = new TextEncoder().encode(path);
    const listener = native.listenerTake(bytes, bytes.length, isForAll ? 1 : 0, lock, socket);
    if (listener < 0) throw errorFromStatus(listener, `Cannot take "${path}" over`);
    const acceptor = new Acceptor(native, listener, onLink);
    acceptor.#server = await native.accept(listener, onLink);
    return acceptor;
  }

  /**
   * Takes connections that the runtime left in the queue. Deno 2.9 stops accepting, without a word, once descriptors ran
   * out: so when it left some twice in a row, it gets a new duplicate of the listening socket.
   */
  async sweep(): Promise<void> {
    let found = 0;
    while (!this.#isClosed && found < LEFT_OVERS_MAX) {
      const link = this.#native.listenerAccept(this.listener);
      if (link < 0) break;
      found++;
      this.#onLink(link);
    }
    this.#leftOverSweeps = found === 0 ? 0 : this.#leftOverSweeps + 1;
    if (this.#leftOverSweeps < 2) return;
    this.#leftOverSweeps = 0;
    const server = await this.#native.accept(this.listener, this.#onLink);
    this.#server?.close();
    this.#server = server;
    if (!this.#isRef) server.unref();
    if (this.#isClosed) server.close();
  }

  ref(): void {
    this.#isRef = true;
    this.#server?.ref();
  }

  unref(): void {
    this.#isRef = false;
    this.#server?.unref();
  }

  /** Descriptors of the path's lock and of its socket, for another process; the caller's. Undefined if there are none to be had. */
  pass(): [lock: number, socket: number] | undefined {
    const passed = new Int32Array(2);
    return this.#native.listenerPass(this.listener, passed) < 0 ? undefined : [passed[0]!, passed[1]!];
  }

  /** Another process has the path from here on: nothing of it is removed. */
  yield(): void {
    this.#native.listenerYield(this.listener);
    this.close();
  }

  /** Removes the socket and lets the path go. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const status = this.#native.close(this.listener); // first: nobody new finds the path
    this.#server?.close();
    if (status < 0) throw new QlasterError("INVARIANT", `Cannot close the listener (${describeStatus(status)})`);
  }
}
