/**
 * The little of an ELF file that a test wants to know: segments, the dynamic section, the dynamic symbols.
 * May touch: the bytes it is given. May not touch: files.
 * Source of the format: System V ABI, 64 bits, little-endian.
 *
 * @module
 */

const SHT_DYNSYM = 11;
const PT_DYNAMIC = 2;
const SECTION_UNDEFINED = 0;
const BINDING_LOCAL = 0;

export interface Segment {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly fileSize: number;
}

export interface DynamicSymbol {
  readonly name: string;
  readonly isDefined: boolean;
  readonly isGlobal: boolean;
}

export class ElfFile {
  readonly machine: number;
  readonly segments: readonly Segment[];
  readonly dynamic: readonly { readonly tag: number; readonly value: number }[];
  readonly symbols: readonly DynamicSymbol[];
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  /** Throws for a file that is none. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const start = [...bytes.subarray(0, 6)].join(" ");
    if (start !== "127 69 76 70 2 1") throw new Error(`no ELF file of 64 bits, little-endian: it starts with ${start}`);
    this.machine = this.#u16(18);
    this.segments = this.#table(this.#u64(32), this.#u16(54), this.#u16(56), (at) => ({
      type: this.#u32(at),
      flags: this.#u32(at + 4),
      offset: this.#u64(at + 8),
      fileSize: this.#u64(at + 32),
    }));
    const dynamic = this.segments.find((segment) => segment.type === PT_DYNAMIC);
    this.dynamic = dynamic === undefined ? [] : this.#table(
      dynamic.offset,
      16,
      dynamic.fileSize / 16,
      (at) => ({ tag: this.#u64(at), value: this.#u64(at + 8) }),
    );
    this.symbols = this.#dynamicSymbols();
  }

  #dynamicSymbols(): DynamicSymbol[] {
    const sections = this.#table(this.#u64(40), this.#u16(58), this.#u16(60), (at) => ({
      type: this.#u32(at + 4),
      offset: this.#u64(at + 24),
      size: this.#u64(at + 32),
      link: this.#u32(at + 40),
    }));
    const table = sections.find((section) => section.type === SHT_DYNSYM);
    if (table === undefined) throw new Error("no dynamic symbols");
    const names = sections[table.link]!.offset;
    const symbols = this.#table(table.offset, 24, table.size / 24, (at) => ({
      name: this.#text(names + this.#u32(at)),
      isDefined: this.#u16(at + 6) !== SECTION_UNDEFINED,
      isGlobal: this.#bytes[at + 4]! >> 4 !== BINDING_LOCAL,
    }));
    return symbols.slice(1); // the first is always empty
  }

  #table<T>(offset: number, size: number, count: number, read: (at: number) => T): T[] {
    return Array.from({ length: count }, (_, i) => read(offset + i * size));
  }
  #u16(at: number): number {
    return this.#view.getUint16(at, true);
  }
  #u32(at: number): number {
    return this.#view.getUint32(at, true);
  }
  #u64(at: number): number {
    return Number(this.#view.getBigUint64(at, true));
  }
  #text(at: number): string {
    return new TextDecoder().decode(this.#bytes.subarray(at, this.#bytes.indexOf(0, at)));
  }
}
