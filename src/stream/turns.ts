/**
 * Some turns of the event loop, so that what stands in a socket already is heard before somebody judges that nothing came.
 * May touch: timers. May not touch: sockets.
 *
 * @module
 */

import { setTimeout } from "node:timers";

/** Deno looks at sockets when nothing else is to be done, so immediates would not do: the turns take a millisecond each. */
const TURNS = 4;

/** Calls `judge` when all has been heard that had come by now, even if our own loop stood still until now. */
export function onceHeard(judge: () => void, turns: number = TURNS): void {
  if (turns === 0) judge();
  else setTimeout(() => onceHeard(judge, turns - 1), 1);
}
