/** Zip files (PKWARE's APPNOTE 6.3): written and read without zip64, so up to 4 GB and 65,535 entries. */

import { compress, concat, crc32, decodeText, decompress, encodeText } from "./bytes.js";
import { FormatError } from "./checks.js";

const LOCAL = 0x04034b50, CENTRAL = 0x02014b50, END = 0x06054b50;
const UTF8 = 0x800, ENCRYPTED = 1, STORED = 0, DEFLATED = 8;
const END_BYTES = 22, MAX_COMMENT_BYTES = 65_535;
const MAX_BYTES = 2 ** 32 - 1, MAX_ENTRIES = 65_534;
/** All entries together, unpacked. */
const MAX_UNPACKED_BYTES = 2 ** 31;
// 1 January 2026: the same labels make the same bytes.
const DATE = ((2026 - 1980) << 9) | (1 << 5) | 1;

/** @param {{name: string, bytes: Uint8Array}[]} entries @returns {Promise<Uint8Array>} */
export async function writeZip(entries) {
  if (entries.length > MAX_ENTRIES) throw new FormatError("tooManyFiles", entries.length);
  const parts = [], directory = [];
  let offset = 0;
  for (const { name, bytes } of entries) {
    const packed = await compress(bytes, "deflate-raw"), deflated = packed.length < bytes.length;
    const content = deflated ? packed : bytes, encoded = encodeText(name);
    const common = fields([[2, 20], [2, UTF8], [2, deflated ? DEFLATED : STORED], [2, 0], [2, DATE], [4, crc32(bytes)],
      [4, content.length], [4, bytes.length], [2, encoded.length], [2, 0]]);
    directory.push(fields([[4, CENTRAL], [2, 20]]), common, fields([[2, 0], [2, 0], [2, 0], [4, 0], [4, offset]]), encoded);
    const local = [fields([[4, LOCAL]]), common, encoded, content];
    parts.push(...local);
    offset += local.reduce((sum, part) => sum + part.length, 0);
    if (offset > MAX_BYTES) throw new FormatError("zipTooLarge");
  }
  const listed = concat(directory);
  const end = fields([[4, END], [2, 0], [2, 0], [2, entries.length], [2, entries.length], [4, listed.length], [4, offset], [2, 0]]);
  return concat([...parts, listed, end]);
}

/** Little-endian numbers. @param {[number, number][]} numbers bytes and value of each */
function fields(numbers) {
  const bytes = new Uint8Array(numbers.reduce((sum, [size]) => sum + size, 0)), view = new DataView(bytes.buffer);
  let at = 0;
  for (const [size, value] of numbers) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return bytes;
}

/** Whether bytes begin as a zip does. */
export const isZip = (bytes) => bytes.length > 3 && bytes[0] === 0x50 && bytes[1] === 0x4b && (bytes[2] === 3 || bytes[2] === 5);

/**
 * The files of a zip, in its order. Folders and what macOS adds are left out.
 * @param {Uint8Array} bytes @param {string} name of the zip, for errors
 * @returns {Promise<{name: string, bytes: Uint8Array}[]>}
 */
export async function readZip(bytes, name) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), files = [];
  const end = findEnd(view);
  if (end < 0) throw new FormatError("damaged", name);
  const count = view.getUint16(end + 10, true);
  let at = view.getUint32(end + 16, true), room = MAX_UNPACKED_BYTES;
  if (count === 0xffff || at === MAX_BYTES) throw new FormatError("zip64", name);
  for (let number = 0; number < count; number++) {
    const entry = readEntry(view, bytes, at, name);
    at = entry.next;
    if (entry.name.endsWith("/") || /(^|\/)(__MACOSX\/|\.DS_Store$|\._)/.test(entry.name)) continue;
    if (entry.flags & ENCRYPTED) throw new FormatError("encrypted", `${name}/${entry.name}`);
    const content = await unpack(view, bytes, entry, `${name}/${entry.name}`, room);
    room -= content.length;
    files.push({ name: entry.name, bytes: content });
  }
  return files;
}

function findEnd(view) {
  const first = Math.max(0, view.byteLength - END_BYTES - MAX_COMMENT_BYTES);
  for (let at = view.byteLength - END_BYTES; at >= first; at--) if (view.getUint32(at, true) === END) return at;
  return -1;
}

function readEntry(view, bytes, at, zip) {
  if (at + 46 > view.byteLength || view.getUint32(at, true) !== CENTRAL) throw new FormatError("damaged", zip);
  const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((field) => view.getUint16(at + field, true));
  return {
    flags: view.getUint16(at + 8, true),
    method: view.getUint16(at + 10, true),
    crc: view.getUint32(at + 16, true),
    packedBytes: view.getUint32(at + 20, true),
    offset: view.getUint32(at + 42, true),
    name: decodeText(bytes.subarray(at + 46, at + 46 + nameBytes), zip),
    next: at + 46 + nameBytes + extraBytes + commentBytes,
  };
}

async function unpack(view, bytes, { offset, packedBytes, method, crc }, name, room) {
  if (offset + 30 > view.byteLength || view.getUint32(offset, true) !== LOCAL) throw new FormatError("damaged", name);
  const start = offset + 30 + view.getUint16(offset + 26, true) + view.getUint16(offset + 28, true);
  const packed = bytes.subarray(start, start + packedBytes);
  if (packed.length !== packedBytes) throw new FormatError("damaged", name);
  if (method !== STORED && method !== DEFLATED) throw new FormatError("unknownCompression", name, method);
  if (method === STORED && packed.length > room) throw new FormatError("tooLarge", name, room);
  const content = method === STORED ? packed : await decompress(packed, "deflate-raw", name, room);
  if (crc32(content) !== crc) throw new FormatError("damaged", name);
  return content;
}
