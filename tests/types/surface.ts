/**
 * No `any` in what users see: not in a member, a parameter or a result. Types inside of types are the linter's.
 * May touch: types. Checked by `./dev check`; nothing here runs.
 *
 * @module
 */

import type * as qlaster from "../../mod.ts";
import type * as recording from "../../src/recording/mod.ts";
import type * as v9 from "../../src/v9/mod.ts";
import type { AnyMembers, Equal, Expect, IsAny } from "./support.ts";

type None<T> = Equal<AnyMembers<T>, never>;

export type Surface = [
  Expect<None<typeof qlaster>>,
  Expect<None<typeof recording>>,
  Expect<None<typeof v9>>,
  Expect<None<qlaster.Consumer>>,
  Expect<None<qlaster.ConsumerOptions>>,
  Expect<None<qlaster.ConsumerMetrics>>,
  Expect<None<qlaster.Sender>>,
  Expect<None<qlaster.SenderOptions>>,
  Expect<None<qlaster.SenderMetrics>>,
  Expect<None<qlaster.Publisher>>,
  Expect<None<qlaster.QlasterError>>,
  Expect<None<qlaster.AccountView>>,
  Expect<None<qlaster.TransactionView>>,
  Expect<None<qlaster.SlotView>>,
  Expect<None<qlaster.ConnectionView>>,
  Expect<None<qlaster.NamedFilter>>,
  Expect<None<qlaster.Update>>,
  // The question itself can tell.
  Expect<IsAny<ReturnType<typeof JSON.parse>>>,
  Expect<
    Equal<
      AnyMembers<{ a: string; b: ReturnType<typeof JSON.parse>; c(value: ReturnType<typeof JSON.parse>): void }>,
      "b" | "c"
    >
  >,
];
