/** The keys of the account that the ring's benches publish. */

/** The account's address: what consumers subscribe to. */
export const PUBKEY: Uint8Array = new Uint8Array(32).fill(7);
/** The program that owns it. */
export const OWNER: Uint8Array = new Uint8Array(32).fill(9);
