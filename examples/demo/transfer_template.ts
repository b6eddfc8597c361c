/**
 * A `TransferChecked` between two token accounts, compiled once and then patched byte by byte.
 * May touch: kit and the SPL clients.
 * May not touch: the bank's state, the console, files, `src/`.
 * Why patch: kit needs about 0.3 ms to compile a message (base58 of every key), patching two fields takes microseconds.
 *
 * @module
 */

import {
  type Address,
  appendTransactionMessageInstructions,
  type Blockhash,
  compileTransaction,
  createTransactionMessage,
  getAccountMetasFromCompiledTransactionMessage,
  getCompiledTransactionMessageDecoder,
  isWritableRole,
  type KeyPairSigner,
  pipe,
  type ReadonlyUint8Array,
  setTransactionMessageFeePayerSigner,
  setTransactionMessageLifetimeUsingBlockhash,
} from "@solana/kit";
import { getTransferCheckedInstruction, TRANSFER_CHECKED_DISCRIMINATOR } from "@solana-program/token";
import { DECIMALS, type TokenAccount } from "./token_bank.ts";

// A v0 message: version (1 byte), header (3), count of keys (compact-u16: 1 byte below 128), keys, blockhash, …
const KEY_COUNT_AT = 4;
const KEYS_AT = 5;
const KEY_SIZE = 32;
// … and at its end, the data of its only instruction, amount (8) and decimals (1), then the count of lookup tables (1).
const AMOUNT_FROM_END = 8 + 1 + 1;

/** All zero: every message gets its real blockhash when it is made. */
const NO_BLOCKHASH = { blockhash: "1".repeat(32) as Blockhash, lastValidBlockHeight: 0n };

/** The transfer from one token account to another, paid and signed by the wallet of the first. */
export class TransferTemplate {
  readonly signer: KeyPairSigner;
  /** The accounts that the transaction may write, in the message's order: an upper bound of what it changes. */
  readonly writable: readonly Address[];
  readonly #bytes: Uint8Array;
  readonly #amountAt: number;
  readonly #blockhashAt: number;

  constructor(source: TokenAccount, destination: TokenAccount) {
    this.signer = source.wallet;
    const transfer = getTransferCheckedInstruction({
      source: source.address,
      mint: source.mint,
      destination: destination.address,
      authority: source.wallet,
      amount: 0n,
      decimals: DECIMALS,
    });
    const message = pipe(
      createTransactionMessage({ version: 0 }),
      (m) => setTransactionMessageFeePayerSigner(source.wallet, m),
      (m) => setTransactionMessageLifetimeUsingBlockhash(NO_BLOCKHASH, m),
      (m) => appendTransactionMessageInstructions([transfer], m),
    );
    this.#bytes = new Uint8Array(compileTransaction(message).messageBytes);
    this.#amountAt = this.#bytes.length - AMOUNT_FROM_END;
    this.#blockhashAt = KEYS_AT + KEY_SIZE * this.#bytes[KEY_COUNT_AT]!;
    if (this.#bytes[this.#amountAt - 1] !== TRANSFER_CHECKED_DISCRIMINATOR) {
      throw new Error("Cannot patch the message: its last instruction is not a TransferChecked");
    }

    // There are no lookup tables here; with them, their loaded addresses would have to be given as well.
    const compiled = getCompiledTransactionMessageDecoder().decode(this.#bytes);
    this.writable = getAccountMetasFromCompiledTransactionMessage(compiled)
      .filter((meta) => isWritableRole(meta.role))
      .map((meta) => meta.address);
  }

  /** The message for this amount and 32-byte blockhash, in memory of its own. */
  message(amount: bigint, blockhash: ReadonlyUint8Array): Uint8Array {
    const bytes = this.#bytes.slice();
    new DataView(bytes.buffer).setBigUint64(this.#amountAt, amount, true);
    bytes.set(blockhash, this.#blockhashAt);
    return bytes;
  }
}
