/**
 * Our brands are kit's, at both ends of the range that we support: assignable both ways, without a cast.
 * May touch: types. Checked by `./dev check`; nothing here runs.
 *
 * @module
 */

import type { Address as Address8, ReadonlyUint8Array as ReadonlyUint8Array8 } from "@solana/kit";
import type { Address as Address7, ReadonlyUint8Array as ReadonlyUint8Array7 } from "kit-7";
import type { AccountView, Address, AddressLike, ReadonlyUint8Array } from "../../mod.ts";
import type { Equal, Expect } from "./support.ts";

type Assignable<From, To> = [From] extends [To] ? true : false;
type BothWays<One, Other> = Assignable<One, Other> extends true ? Assignable<Other, One> : false;

export type Brands = [
  Expect<BothWays<Address, Address8>>,
  Expect<BothWays<Address, Address7>>,
  Expect<BothWays<Address<"11111111111111111111111111111111">, Address8<"11111111111111111111111111111111">>>,
  Expect<BothWays<ReadonlyUint8Array, ReadonlyUint8Array8>>,
  Expect<BothWays<ReadonlyUint8Array, ReadonlyUint8Array7>>,
  Expect<Assignable<Address8 | Address7, AddressLike>>,
  Expect<Equal<AccountView["address"], Address>>,
  // Any text is no address, and no bytes are.
  Expect<Equal<Assignable<string, Address>, false>>,
  Expect<Equal<Assignable<Uint8Array, Address>, false>>,
];
