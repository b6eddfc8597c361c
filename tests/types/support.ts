/**
 * Questions to the type checker. What they say is true where the file type-checks; nothing here runs.
 * May touch: types.
 *
 * @module
 */

/** Whether two types are the same, not merely assignable to each other. */
export type Equal<One, Other> = (<T>() => T extends One ? 1 : 2) extends (<T>() => T extends Other ? 1 : 2) ? true
  : false;

/** Whether a type is `any`, which is assignable to everything. */
export type IsAny<T> = 0 extends (1 & T) ? true : false;

/** Does not compile unless it is true. */
export type Expect<T extends true> = T;

/** Of a function: whether a parameter, or what it returns or resolves to, is `any`. */
type HasAnyCall<F> = F extends (...args: infer Args) => infer Result ? IsAny<Args> extends true ? true
  : IsAny<Args[number]> extends true ? true
  : IsAny<Result> extends true ? true
  : IsAny<Awaited<Result>>
  : false;

/** The names of members that are `any`, or calls that take or give some. */
export type AnyMembers<T> = {
  [Name in keyof T]-?: IsAny<T[Name]> extends true ? Name : HasAnyCall<T[Name]> extends true ? Name : never;
}[keyof T];
