/**
 * A signal that knows how many listen: a listener that is left behind is a leak.
 * May touch: nothing. May not touch: the library.
 *
 * @module
 */

/** A signal that counts who listens. */
export class CountedSignal extends EventTarget {
  listeners = 0;
  added = 0;
  aborted = false;

  override addEventListener(...args: Parameters<EventTarget["addEventListener"]>): void {
    this.listeners++;
    this.added++;
    super.addEventListener(...args);
  }
  override removeEventListener(...args: Parameters<EventTarget["removeEventListener"]>): void {
    this.listeners--;
    super.removeEventListener(...args);
  }
  abort(): void {
    this.aborted = true;
    this.dispatchEvent(new Event("abort"));
  }
  throwIfAborted(): void {
    if (this.aborted) throw new Error("aborted");
  }
  get signal(): AbortSignal {
    return this as unknown as AbortSignal;
  }
}
