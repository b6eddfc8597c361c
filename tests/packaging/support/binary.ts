/**
 * What an ELF or a Mach-O library asks of its loader and offers to it, read from its bytes: the platforms that no test
 * can run on can be looked at on any.
 * May touch: nothing. Only what Zig writes for our targets: 64 bits, little-endian.
 */

export interface BinaryLibrary {
  readonly format: "elf" | "mach-o";
  readonly machine: "x64" | "arm64";
  /** The name by which the loader knows it. */
  readonly name: string;
  /** Libraries that have to be there. */
  readonly needed: readonly string[];
  readonly exported: readonly string[];
  /** Symbols that others have to provide. */
  readonly undefined: readonly string[];
  readonly hasThreadLocals: boolean;
  /** arm64 macOS loads nothing without one. */
  readonly isSigned: boolean;
  readonly hasDebugInfo: boolean;
}

export function readBinary(bytes: Uint8Array): BinaryLibrary {
  const reader = new Reader(bytes);
  if (reader.u32(0) === 0x464c457f) return readElf(reader);
  if (reader.u32(0) === 0xfeedfacf) return readMachO(reader);
  throw new Error("neither ELF nor 64-bit Mach-O");
}

class Reader {
  readonly #view: DataView;
  constructor(readonly bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  u8(at: number): number {
    return this.#view.getUint8(at);
  }
  u16(at: number): number {
    return this.#view.getUint16(at, true);
  }
  u32(at: number): number {
    return this.#view.getUint32(at, true);
  }
  u64(at: number): number {
    return Number(this.#view.getBigUint64(at, true));
  }
  /** A number of 7 bits a byte, and where it ends. */
  uleb(at: number): [value: number, end: number] {
    let value = 0;
    for (let shift = 0;; shift += 7) {
      const byte = this.u8(at++);
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return [value, at];
    }
  }
  text(at: number, sizeMax = this.bytes.length - at): string {
    const end = this.bytes.subarray(at, at + sizeMax).indexOf(0);
    return new TextDecoder().decode(this.bytes.subarray(at, at + (end < 0 ? sizeMax : end)));
  }
}

// ELF: sections, because the count of dynamic symbols stands nowhere else.
const SECTION = { dynamic: 6, dynamicSymbols: 11 };
const TAG = { needed: 1, soname: 14 };
const SEGMENT_TLS = 7;

function readElf(file: Reader): BinaryLibrary {
  const segments = Array.from({ length: file.u16(56) }, (_, i) => file.u32(file.u64(32) + i * file.u16(54)));
  const sections = Array.from({ length: file.u16(60) }, (_, i) => {
    const at = file.u64(40) + i * file.u16(58);
    return {
      name: file.u32(at),
      type: file.u32(at + 4),
      offset: file.u64(at + 24),
      size: file.u64(at + 32),
      link: file.u32(at + 40),
    };
  });
  const names = sections[file.u16(62)]!;

  const strings = (tag: number): string[] =>
    entries(SECTION.dynamic, 16).filter(({ at }) => file.u64(at) === tag).map(({ at, text }) => text(file.u64(at + 8)));
  const entries = (type: number, size: number) =>
    sections.filter((section) => section.type === type).flatMap((section) =>
      Array.from({ length: section.size / size }, (_, i) => ({
        at: section.offset + i * size,
        text: (offset: number) => file.text(sections[section.link]!.offset + offset),
      }))
    );

  const symbols = entries(SECTION.dynamicSymbols, 24).slice(1).map(({ at, text }) => ({
    name: text(file.u32(at)),
    isDefined: file.u16(at + 6) !== 0,
  }));
  return {
    format: "elf",
    machine: file.u16(18) === 0x3e ? "x64" : "arm64",
    name: strings(TAG.soname)[0] ?? "",
    needed: strings(TAG.needed),
    exported: symbols.filter(({ isDefined }) => isDefined).map(({ name }) => name),
    undefined: symbols.filter(({ isDefined }) => !isDefined).map(({ name }) => name),
    hasThreadLocals: segments.includes(SEGMENT_TLS),
    isSigned: false,
    hasDebugInfo: sections.some(({ name }) => file.text(names.offset + name).startsWith(".debug")),
  };
}

// Mach-O: a list of load commands; names of symbols begin with an underscore.
const COMMAND = {
  symbols: 0x2,
  loadLibrary: 0xc,
  ownName: 0xd,
  segment: 0x19,
  signature: 0x1d,
  loaderInfo: 0x80000022,
  exports: 0x80000033,
};
const SECTION_THREAD_LOCALS = [0x11, 0x12, 0x13];

function readMachO(file: Reader): BinaryLibrary {
  const needed: string[] = [];
  const exported: string[] = [];
  const wanted: string[] = [];
  let name = "", isSigned = false, hasThreadLocals = false, hasDebugInfo = false;
  for (let i = 0, at = 32; i < file.u32(16); i++, at += file.u32(at + 4)) {
    const command = file.u32(at);
    if (command === COMMAND.loadLibrary) needed.push(file.text(at + file.u32(at + 8)));
    if (command === COMMAND.ownName) name = file.text(at + file.u32(at + 8));
    if (command === COMMAND.loaderInfo && file.u32(at + 44) > 0) exported.push(...readTrie(file, file.u32(at + 40)));
    if (command === COMMAND.exports) exported.push(...readTrie(file, file.u32(at + 8)));
    if (command === COMMAND.signature) isSigned = file.u32(at + 12) > 0;
    if (command === COMMAND.segment) {
      hasDebugInfo ||= file.text(at + 8, 16) === "__DWARF";
      for (let s = 0; s < file.u32(at + 64); s++) {
        const type = file.u8(at + 72 + s * 80 + 64);
        hasThreadLocals ||= SECTION_THREAD_LOCALS.includes(type);
      }
    }
    if (command === COMMAND.symbols) {
      const table = file.u32(at + 8), count = file.u32(at + 12), strings = file.u32(at + 16);
      for (let s = 0; s < count; s++) {
        const entry = table + s * 16, type = file.u8(entry + 4);
        if ((type & 0xe0) !== 0) hasDebugInfo = true;
        else if ((type & 0x0f) === 0x01) wanted.push(file.text(strings + file.u32(entry))); // external, defined nowhere
      }
    }
  }
  return {
    format: "mach-o",
    machine: file.u32(4) === 0x0100000c ? "arm64" : "x64",
    name,
    needed,
    exported: exported.map(withoutUnderscore),
    undefined: wanted.map(withoutUnderscore),
    hasThreadLocals,
    isSigned,
    hasDebugInfo,
  };
}

function withoutUnderscore(name: string): string {
  return name.replace(/^_/, "");
}

/** The names in an export trie, which is where dlsym looks: a node says what ends there, and which letters lead on. */
function readTrie(file: Reader, start: number): string[] {
  const names: string[] = [];
  const walk = (at: number, prefix: string): void => {
    const [size, afterSize] = file.uleb(at);
    if (size > 0) names.push(prefix);
    const childrenAt = afterSize + size;
    let child = childrenAt + 1;
    for (let i = 0; i < file.u8(childrenAt); i++) {
      const letters = file.text(child);
      const [offset, next] = file.uleb(child + letters.length + 1);
      walk(start + offset, prefix + letters);
      child = next;
    }
  };
  walk(start, "");
  return names;
}
