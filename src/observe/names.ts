/**
 * Names as metrics have them.
 * May touch: nothing.
 *
 * @module
 */

/** `ringFull` as `ring_full`. */
export function snakeCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
