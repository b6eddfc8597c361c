/**
 * A LiteSVM bank in which wallets hold accounts of SPL tokens, all made by real, signed transactions.
 * May touch: LiteSVM, kit and the SPL clients.
 * May not touch: the console, files, `src/`.
 * Why the keys come from a hash of their names: every run has the same addresses, so that what one run showed can be
 * looked up in the next one.
 *
 * @module
 */

import { createHash } from "node:crypto";
import {
  type Address,
  appendTransactionMessageInstructions,
  createKeyPairSignerFromPrivateKeyBytes,
  createTransactionMessage,
  type Instruction,
  type KeyPairSigner,
  lamports,
  pipe,
  setTransactionMessageFeePayerSigner,
  signTransactionMessageWithSigners,
} from "@solana/kit";
import { getCreateAccountInstruction } from "@solana-program/system";
import {
  getInitializeAccount3Instruction,
  getInitializeMint2Instruction,
  getMintSize,
  getMintToInstruction,
  getTokenSize,
  TOKEN_PROGRAM_ADDRESS,
} from "@solana-program/token";
import { FailedTransactionMetadata, LiteSVM } from "litesvm";

/** Decimals of every mint here: one token is 10^6 units, as with USDC. */
export const DECIMALS = 6;

const LAMPORTS_PER_WALLET = 1_000_000_000_000n;
const UNITS_PER_ACCOUNT = 1_000_000_000_000n; // one million tokens

/** An account of one token, and the wallet that may spend from it and pays for its transactions. */
export interface TokenAccount {
  readonly address: Address;
  readonly mint: Address;
  readonly wallet: KeyPairSigner;
}

/** What {@linkcode createTokenBank} made. */
export interface TokenBank {
  readonly svm: LiteSVM;
  readonly mints: readonly Address[];
  readonly wallets: readonly KeyPairSigner[];
  /** Account `i` holds mint `i % mints` and belongs to wallet `i % wallets`. */
  readonly tokenAccounts: readonly TokenAccount[];
}

/** How many of each to make. */
export interface TokenBankOptions {
  readonly mints: number;
  readonly wallets: number;
  readonly tokenAccounts: number;
}

/** Makes the bank: mints, wallets with SOL, token accounts with a balance. Takes about 2 ms an account. */
export async function createTokenBank(options: TokenBankOptions): Promise<TokenBank> {
  const svm = new LiteSVM();
  const authority = await createFundedWallet(svm, "authority");
  const mints: Address[] = [];
  for (let i = 0; i < options.mints; i++) mints.push(await createMint(svm, authority, `mint ${i}`));

  const wallets: KeyPairSigner[] = [];
  for (let i = 0; i < options.wallets; i++) wallets.push(await createFundedWallet(svm, `wallet ${i}`));

  const tokenAccounts: TokenAccount[] = [];
  for (let i = 0; i < options.tokenAccounts; i++) {
    const mint = mints[i % mints.length]!;
    const wallet = wallets[i % wallets.length]!;
    const address = await createTokenAccount(svm, authority, `token account ${i}`, mint, wallet.address);
    tokenAccounts.push({ address, mint, wallet });
  }
  return { svm, mints, wallets, tokenAccounts };
}

function createSigner(name: string): Promise<KeyPairSigner> {
  return createKeyPairSignerFromPrivateKeyBytes(createHash("sha256").update(`qlaster demo: ${name}`).digest());
}

async function createFundedWallet(svm: LiteSVM, name: string): Promise<KeyPairSigner> {
  const wallet = await createSigner(name);
  const result = svm.airdrop(wallet.address, lamports(LAMPORTS_PER_WALLET));
  if (result instanceof FailedTransactionMetadata) throw new Error(`Cannot fund ${name}: ${result.toString()}`);
  return wallet;
}

async function createMint(svm: LiteSVM, authority: KeyPairSigner, name: string): Promise<Address> {
  const mint = await createSigner(name);
  await send(svm, authority, [
    createAccount(svm, authority, mint, getMintSize()),
    getInitializeMint2Instruction({ mint: mint.address, decimals: DECIMALS, mintAuthority: authority.address }),
  ]);
  return mint.address;
}

async function createTokenAccount(
  svm: LiteSVM,
  authority: KeyPairSigner,
  name: string,
  mint: Address,
  owner: Address,
): Promise<Address> {
  const account = await createSigner(name);
  await send(svm, authority, [
    createAccount(svm, authority, account, getTokenSize()),
    getInitializeAccount3Instruction({ account: account.address, mint, owner }),
    getMintToInstruction({ mint, token: account.address, mintAuthority: authority, amount: UNITS_PER_ACCOUNT }),
  ]);
  return account.address;
}

function createAccount(svm: LiteSVM, payer: KeyPairSigner, newAccount: KeyPairSigner, size: number): Instruction {
  const space = BigInt(size);
  return getCreateAccountInstruction({
    payer,
    newAccount,
    lamports: svm.minimumBalanceForRentExemption(space),
    space,
    programAddress: TOKEN_PROGRAM_ADDRESS,
  });
}

async function send(svm: LiteSVM, feePayer: KeyPairSigner, instructions: Instruction[]): Promise<void> {
  const message = pipe(
    createTransactionMessage({ version: 0 }),
    (m) => setTransactionMessageFeePayerSigner(feePayer, m),
    (m) => svm.setTransactionMessageLifetimeUsingLatestBlockhash(m),
    (m) => appendTransactionMessageInstructions(instructions, m),
  );
  const result = svm.sendTransaction(await signTransactionMessageWithSigners(message));
  if (result instanceof FailedTransactionMetadata) throw new Error(`Cannot set up the bank: ${result.toString()}`);
}
