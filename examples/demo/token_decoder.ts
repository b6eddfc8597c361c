/**
 * Shows what went by in words: the last token transfers and balances, decoded by `@solana-program/token`.
 * May touch: copies of what it was given.
 * May not touch: the ring. It keeps no view, because a view is only valid until the next update is read.
 * Why it decodes late: a token account costs 20 µs to decode, and five times a second only the last few are looked at.
 *
 * @module
 */

import {
  type Address,
  getAccountMetasFromCompiledTransactionMessage,
  getAddressDecoder,
  getCompiledTransactionMessageDecoder,
  type ReadonlyUint8Array,
} from "@solana/kit";
import {
  getMintDecoder,
  getMintSize,
  getTokenDecoder,
  getTokenSize,
  identifyTokenInstruction,
  parseTransferCheckedInstruction,
  TOKEN_PROGRAM_ADDRESS,
  TokenInstruction,
} from "@solana-program/token";

/** A `TransferChecked` of one transaction. Amounts are in tokens, as text. */
export interface RecentTransfer {
  readonly slot: string;
  readonly index: number;
  readonly failed: boolean;
  readonly source: Address;
  readonly destination: Address;
  readonly mint: Address;
  readonly amount: string;
}

/** What a token account holds. */
export interface TokenBalance {
  readonly slot: string;
  readonly account: Address;
  readonly mint: Address;
  readonly wallet: Address;
  readonly amount: string;
}

interface RawTransaction {
  readonly slot: bigint;
  readonly index: number;
  readonly failed: boolean;
  readonly message: ReadonlyUint8Array;
}

interface RawAccount {
  readonly slot: bigint;
  readonly pubkey: ReadonlyUint8Array;
  readonly data: ReadonlyUint8Array;
}

/** Keeps the last few transactions, and decodes those that transfer tokens when asked. */
export class RecentTransfers {
  readonly #transactions: RawTransaction[] = [];
  readonly #count: number;

  constructor(count: number) {
    this.#count = count;
  }

  add({ slot, index, failed, message }: RawTransaction): void {
    this.#transactions.push({ slot, index, failed, message: message.slice() });
    if (this.#transactions.length > this.#count) this.#transactions.shift();
  }

  /** Newest first. */
  decode(): RecentTransfer[] {
    return this.#transactions.toReversed().flatMap(transfersInTransaction);
  }
}

/** Keeps the last few token accounts that were written, and decodes them when asked. */
export class RecentBalances {
  readonly #accounts: RawAccount[] = [];
  /** A token account does not know its decimals, its mint does: they are learnt as mints come by. */
  readonly #decimals = new Map<Address, number>();
  readonly #count: number;

  constructor(count: number) {
    this.#count = count;
  }

  add({ slot, pubkey, data }: RawAccount): void {
    if (data.length === getMintSize()) {
      this.#decimals.set(getAddressDecoder().decode(pubkey), getMintDecoder().decode(data).decimals);
    }
    if (data.length !== getTokenSize()) return;
    this.#accounts.push({ slot, pubkey: pubkey.slice(), data: data.slice() });
    if (this.#accounts.length > this.#count) this.#accounts.shift();
  }

  /** Newest first. */
  decode(): TokenBalance[] {
    return this.#accounts.toReversed().map(({ slot, pubkey, data }) => {
      const { mint, owner, amount } = getTokenDecoder().decode(data);
      return {
        slot: slot.toString(),
        account: getAddressDecoder().decode(pubkey),
        mint,
        wallet: owner,
        amount: formatUnits(amount, this.#decimals.get(mint) ?? 0),
      };
    });
  }
}

function transfersInTransaction({ slot, index, failed, message }: RawTransaction): RecentTransfer[] {
  const compiled = getCompiledTransactionMessageDecoder().decode(message);
  if (!("instructions" in compiled)) return []; // a v1 message, which splits them in two: LiteSVM's are v0
  const metas = getAccountMetasFromCompiledTransactionMessage(compiled);
  return compiled.instructions.flatMap(({ programAddressIndex, accountIndices = [], data }) => {
    const programAddress = metas[programAddressIndex]?.address;
    if (programAddress !== TOKEN_PROGRAM_ADDRESS || !data) return [];
    if (identifyTokenInstruction({ data }) !== TokenInstruction.TransferChecked) return [];
    const accounts = accountIndices.map((accountIndex) => metas[accountIndex]!);
    const transfer = parseTransferCheckedInstruction({ programAddress, accounts, data });
    return [{
      slot: slot.toString(),
      index,
      failed,
      source: transfer.accounts.source.address,
      destination: transfer.accounts.destination.address,
      mint: transfer.accounts.mint.address,
      amount: formatUnits(transfer.data.amount, transfer.data.decimals),
    }];
  });
}

/** 1234567n units with 6 decimals are "1.234567". */
function formatUnits(units: bigint, decimals: number): string {
  const digits = units.toString().padStart(decimals + 1, "0");
  return decimals === 0 ? digits : `${digits.slice(0, -decimals)}.${digits.slice(-decimals)}`;
}
