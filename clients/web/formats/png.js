/** PNG (W3C, third edition) as label maps have it: grey of 16 bits is written; grey and palettes are read. */

import { compress, concat, crc32, decompress, encodeText } from "./bytes.js";
import { asSize, FormatError } from "./checks.js";

const SIGNATURE = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);
const GREY = 0, PALETTE = 3;
const MAX_PIXELS = 2 ** 29;

export const isPng = (bytes) => SIGNATURE.every((byte, i) => bytes[i] === byte);

/** @param {Uint16Array} values row by row @returns {Promise<Uint8Array>} */
export async function writePng(values, width, height) {
  const rows = new Uint8Array(height * (1 + 2 * width));
  for (let y = 0, at = 0; y < height; y++) {
    rows[at++] = 0; // no filter
    for (let x = 0; x < width; x++) {
      const value = values[y * width + x];
      rows[at++] = value >> 8;
      rows[at++] = value & 255;
    }
  }
  const header = new Uint8Array(13), view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([16, GREY, 0, 0, 0], 8);
  return concat([SIGNATURE, chunk("IHDR", header), chunk("IDAT", await compress(rows, "deflate")), chunk("IEND", new Uint8Array(0))]);
}

function chunk(type, data) {
  const name = encodeText(type), bytes = new Uint8Array(12 + data.length), view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(name, 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(name, data));
  return bytes;
}

/**
 * The values of a grey PNG, or the indices of one with a palette.
 * @param {string} name for errors
 * @returns {Promise<{width: number, height: number, values: Uint8Array | Uint16Array}>}
 */
export async function readPng(bytes, name) {
  const { header, data } = readChunks(bytes, name);
  if (!header || header.length < 13) throw new FormatError("damaged", name);
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  const width = asSize(view.getUint32(0), `${name}: width`), height = asSize(view.getUint32(4), `${name}: height`);
  const [depth, colour, , , interlaced] = header.subarray(8);
  if (colour !== GREY && colour !== PALETTE) throw new FormatError("colourLabels", name);
  if (interlaced) throw new FormatError("interlaced", name);
  if (![1, 2, 4, 8, 16].includes(depth) || (colour === PALETTE && depth > 8)) throw new FormatError("damaged", name);
  if (width * height > MAX_PIXELS) throw new FormatError("tooManyPixels", name, MAX_PIXELS);
  const rowBytes = Math.ceil((width * depth) / 8), needed = height * (rowBytes + 1);
  const rows = await decompress(concat(data), "deflate", name, needed);
  if (rows.length !== needed) throw new FormatError("damaged", name);
  unfilter(rows, height, rowBytes, Math.max(1, depth / 8), name);
  return { width, height, values: unpackSamples(rows, width, height, rowBytes, depth) };
}

function readChunks(bytes, name) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), data = [];
  let header = null;
  for (let at = SIGNATURE.length; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at), type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (at + 12 + length > bytes.length) throw new FormatError("damaged", name);
    const content = bytes.subarray(at + 8, at + 8 + length);
    if (type === "IHDR") header = content;
    if (type === "IDAT") data.push(content);
    if (type === "IEND") return { header, data };
    at += 12 + length;
  }
  throw new FormatError("damaged", name);
}

/** Undo the filters of the rows, in place: each row is a filter's number and its bytes. */
function unfilter(rows, height, rowBytes, pixelBytes, name) {
  for (let y = 0; y < height; y++) {
    const start = y * (rowBytes + 1) + 1, above = start - rowBytes - 1, filter = rows[start - 1];
    if (filter > 4) throw new FormatError("damaged", name);
    if (filter === 0) continue;
    for (let i = 0; i < rowBytes; i++) {
      const left = i >= pixelBytes ? rows[start + i - pixelBytes] : 0, up = y ? rows[above + i] : 0;
      const corner = y && i >= pixelBytes ? rows[above + i - pixelBytes] : 0;
      rows[start + i] += [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter];
    }
  }
}

function paeth(left, up, corner) {
  const guess = left + up - corner, [a, b, c] = [left, up, corner].map((value) => Math.abs(guess - value));
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

function unpackSamples(rows, width, height, rowBytes, depth) {
  const values = new (depth === 16 ? Uint16Array : Uint8Array)(width * height);
  for (let y = 0; y < height; y++) {
    const start = y * (rowBytes + 1) + 1;
    for (let x = 0; x < width; x++) {
      if (depth === 16) values[y * width + x] = (rows[start + 2 * x] << 8) | rows[start + 2 * x + 1];
      else {
        const bit = x * depth, shift = 8 - depth - (bit & 7);
        values[y * width + x] = (rows[start + (bit >> 3)] >> shift) & ((1 << depth) - 1);
      }
    }
  }
  return values;
}
