/**
 * As much of protobuf as a Geyser subscription needs: a reader that checks every length, a writer of small messages.
 * May touch: the bytes that it is given. May not touch: what they mean.
 * What comes from a socket is input: everything that does not fit is a {@linkcode ProtobufError}.
 *
 * @module
 */

/** Bytes that are no protobuf message, or are cut off. */
export class ProtobufError extends Error {
  /** Tells it apart. */
  override readonly name = "ProtobufError";
}

/** A varint of that many bytes is below 2^49, which a JavaScript number holds exactly. */
const EXACT_BYTES = 7;
const VARINT_BYTES_MAX = 10;

/** Kinds of fields. */
export const Wire = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

/** Reads one field after the other; its user moves `end` to go into a message and back. */
export class ProtobufReader {
  /** What is read. */
  bytes: Uint8Array = new Uint8Array(0);
  /** The next byte. */
  at = 0;
  /** Behind the last byte. */
  end = 0;

  /** Starts anew. */
  reset(bytes: Uint8Array, start: number, end: number): void {
    this.bytes = bytes;
    this.at = start;
    this.end = end;
  }

  /** A number that is exact below 2^53 and near the truth above. */
  varint(): number {
    const { bytes, end } = this;
    let at = this.at;
    if (at >= end) throw new ProtobufError("a number is cut off");
    let byte = bytes[at++]!;
    let value = byte & 127;
    let factor = 128;
    const stop = this.at + VARINT_BYTES_MAX;
    while (byte > 127) {
      if (at >= end || at >= stop) throw new ProtobufError("a number is cut off, or longer than 64 bits");
      byte = bytes[at++]!;
      value += (byte & 127) * factor;
      factor *= 128;
    }
    this.at = at;
    return value;
  }

  /** A number of 64 bits. */
  u64(): bigint {
    const start = this.at;
    const value = this.varint();
    if (this.at - start <= EXACT_BYTES) return BigInt(value);
    let exact = 0n;
    for (let at = this.at - 1; at >= start; at--) exact = (exact << 7n) | BigInt(this.bytes[at]! & 127);
    return BigInt.asUintN(64, exact);
  }

  /** The end of a field of bytes that starts at `at` after this. */
  length(): number {
    const length = this.varint();
    const end = this.at + length;
    if (end > this.end) throw new ProtobufError("a field is longer than what it is in");
    return end;
  }

  /** A field of bytes, as a view. */
  view(): Uint8Array {
    const end = this.length();
    const view = new Uint8Array(this.bytes.buffer, this.bytes.byteOffset + this.at, end - this.at);
    this.at = end;
    return view;
  }

  /** A field of bytes that has to have that many, as a view. */
  viewOf(size: number, name: string): Uint8Array {
    const view = this.view();
    if (view.length !== size) throw new ProtobufError(`${name} has ${view.length} bytes, not ${size}`);
    return view;
  }

  /** Goes on behind a field whose tag has been read. */
  skip(tag: number): void {
    switch (tag & 7) {
      case Wire.varint:
        this.varint();
        return;
      case Wire.bytes:
        this.at = this.length();
        return;
      case Wire.fixed64:
        this.at += 8;
        break;
      case Wire.fixed32:
        this.at += 4;
        break;
      default:
        throw new ProtobufError(`a field has the unknown kind ${tag & 7}`);
    }
    if (this.at > this.end) throw new ProtobufError("a field is cut off");
  }
}

const encoder = new TextEncoder();

/** Writes a message, field by field. */
export class ProtobufWriter {
  #bytes = new Uint8Array(256);
  #length = 0;

  /** A field that is a truth, a number from 0 to 2^31 - 1, or one of 64 bits; written also if it is 0. */
  number(field: number, value: number | bigint | boolean): this {
    this.#varint(field << 3 | Wire.varint);
    if (typeof value === "bigint") this.#longVarint(value);
    else this.#varint(Number(value));
    return this;
  }

  /** A field of bytes. */
  bytes(field: number, value: Uint8Array): this {
    this.#varint(field << 3 | Wire.bytes);
    this.#varint(value.length);
    this.#reserve(value.length);
    this.#bytes.set(value, this.#length);
    this.#length += value.length;
    return this;
  }

  /** A field of text. */
  text(field: number, value: string): this {
    return this.bytes(field, encoder.encode(value));
  }

  /** A field that is a message. */
  message(field: number, write: (writer: ProtobufWriter) => void): this {
    const inner = new ProtobufWriter();
    write(inner);
    return this.bytes(field, inner.finish());
  }

  /** What was written: a view, valid until more is written. */
  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  /** @param value 0 to 2^31 - 1. */
  #varint(value: number): void {
    this.#reserve(VARINT_BYTES_MAX);
    for (; value > 127; value >>>= 7) this.#bytes[this.#length++] = (value & 127) | 128;
    this.#bytes[this.#length++] = value;
  }

  #longVarint(value: bigint): void {
    this.#reserve(VARINT_BYTES_MAX);
    let rest = BigInt.asUintN(64, value);
    while (rest > 127n) {
      this.#bytes[this.#length++] = Number(rest & 127n) | 128;
      rest >>= 7n;
    }
    this.#bytes[this.#length++] = Number(rest);
  }

  #reserve(more: number): void {
    if (this.#length + more <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(2 * this.#bytes.length, this.#length + more));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
  }
}
