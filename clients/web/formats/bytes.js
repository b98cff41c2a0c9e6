/** Bytes: joined, compressed, and unpacked up to a limit. */

import { FormatError } from "./checks.js";

/** An entry of a zip or a picture may not be larger when it is unpacked. */
export const MAX_UNPACKED_BYTES = 2 ** 30;

/** @param {Uint8Array[]} parts @returns {Uint8Array} */
export function concat(parts) {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** @param {"deflate" | "deflate-raw" | "gzip"} format */
export async function compress(bytes, format) {
  return concat(await readAll(new Blob([bytes]).stream().pipeThrough(new CompressionStream(format))));
}

/** @param {"deflate" | "deflate-raw" | "gzip"} format @param {string} name of what is unpacked, for errors */
export async function decompress(bytes, format, name, limit = MAX_UNPACKED_BYTES) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream(format));
  try {
    return concat(await readAll(stream, name, limit));
  } catch (error) {
    if (error instanceof FormatError) throw error;
    throw new FormatError("damaged", name);
  }
}

async function readAll(stream, name = "", limit = Infinity) {
  const parts = [], reader = stream.getReader();
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return parts;
    size += value.length;
    if (size > limit) {
      await reader.cancel().catch(() => {});
      throw new FormatError("tooLarge", name, limit);
    }
    parts.push(value);
  }
}

const encoder = new TextEncoder();

export const encodeText = (text) => encoder.encode(text);

/** @param {string} name of the file, for errors */
export function decodeText(bytes, name) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new FormatError("notUtf8", name);
  }
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

/** The CRC-32 that zip and PNG have. */
export function crc32(...parts) {
  let crc = ~0;
  for (const part of parts) for (const byte of part) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}
