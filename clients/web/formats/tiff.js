/** TIFF 6.0 as label maps have it: one grey number a pixel, one page or more. */

import { compress, concat, decompress } from "./bytes.js";
import { asSize, FormatError } from "./checks.js";

const TAG = {
  width: 256, height: 257, bits: 258, compression: 259, photometric: 262, offsets: 273, samples: 277, rows: 278, counts: 279,
  planar: 284, predictor: 317, tileWidth: 322, tileHeight: 323, tileOffsets: 324, tileCounts: 325, sampleFormat: 339,
};
const NONE = 1, LZW = 5, DEFLATE = 8, OLD_DEFLATE = 32946, PACK_BITS = 32773;
const MAX_PIXELS = 2 ** 29, MAX_PAGES = 100_000;
const FIELD_BYTES = { 1: 1, 2: 1, 3: 2, 4: 4, 6: 1, 7: 1, 8: 2, 9: 4, 16: 8 };

export const isTiff = (bytes) =>
  (bytes[0] === 0x49 && bytes[1] === 0x49 && bytes[2] === 42 && bytes[3] === 0) ||
  (bytes[0] === 0x4d && bytes[1] === 0x4d && bytes[2] === 0 && bytes[3] === 42);

/** One page of 16 or 32 bits, compressed by deflate. @param {Uint16Array | Uint32Array} values row by row */
export async function writeTiff(values, width, height) {
  const bits = 8 * values.BYTES_PER_ELEMENT;
  const strip = await compress(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), "deflate");
  const entries = [
    [TAG.width, 4, width], [TAG.height, 4, height], [TAG.bits, 3, bits], [TAG.compression, 3, DEFLATE],
    [TAG.photometric, 3, 1], [TAG.offsets, 4, 8], [TAG.samples, 3, 1], [TAG.rows, 4, height],
    [TAG.counts, 4, strip.length], [TAG.sampleFormat, 3, 1],
  ];
  const start = 8 + strip.length + (strip.length & 1), view = new DataView(new ArrayBuffer(2 + 12 * entries.length + 4));
  view.setUint16(0, entries.length, true);
  entries.forEach(([tag, type, value], i) => {
    view.setUint16(2 + 12 * i, tag, true);
    view.setUint16(4 + 12 * i, type, true);
    view.setUint32(6 + 12 * i, 1, true);
    view.setUint32(10 + 12 * i, value, true);
  });
  const header = new DataView(new ArrayBuffer(8));
  header.setUint32(0, 0x002a4949, true);
  header.setUint32(4, start, true);
  const padding = new Uint8Array(strip.length & 1);
  return concat([new Uint8Array(header.buffer), strip, padding, new Uint8Array(view.buffer)]);
}

/**
 * The pages of a TIFF of whole numbers from 0.
 * @param {string} name for errors
 * @returns {Promise<{width: number, height: number, values: Uint8Array | Uint16Array | Uint32Array}[]>}
 */
export async function readTiff(bytes, name) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), little = bytes[0] === 0x49;
  const reader = { view, bytes, little, name }, pages = [];
  try {
    for (let at = view.getUint32(4, little); at; ) {
      if (pages.length >= MAX_PAGES) throw new FormatError("damaged", name);
      const { fields, next } = readDirectory(reader, at);
      pages.push(await readPage(reader, fields));
      at = next;
    }
  } catch (error) {
    throw error instanceof RangeError ? new FormatError("damaged", name) : error; // an offset outside of the file
  }
  if (!pages.length) throw new FormatError("damaged", name);
  return pages;
}

function readDirectory({ view, little, name }, at) {
  const fields = new Map(), count = view.getUint16(at, little);
  for (let i = 0; i < count; i++) {
    const entry = at + 2 + 12 * i, type = view.getUint16(entry + 2, little), length = view.getUint32(entry + 4, little);
    if (!(type in FIELD_BYTES)) continue;
    const size = FIELD_BYTES[type], start = length * size <= 4 ? entry + 8 : view.getUint32(entry + 8, little);
    if (start + length * size > view.byteLength) throw new FormatError("damaged", name);
    if (type !== 3 && type !== 4) continue;
    const read = (n) => (type === 3 ? view.getUint16(start + 2 * n, little) : view.getUint32(start + 4 * n, little));
    fields.set(view.getUint16(entry, little), Array.from({ length }, (_, n) => read(n)));
  }
  return { fields, next: view.getUint32(at + 2 + 12 * count, little) };
}

async function readPage(reader, fields) {
  const { name, bytes } = reader, get = (tag, otherwise) => fields.get(tag)?.[0] ?? otherwise;
  const width = asSize(get(TAG.width), `${name}: width`), height = asSize(get(TAG.height), `${name}: height`);
  if (width * height > MAX_PIXELS) throw new FormatError("tooManyPixels", name, MAX_PIXELS);
  const layout = checkLayout(name, get), tiled = fields.has(TAG.tileOffsets);
  const [blockWidth, blockHeight] = tiled
    ? [asSize(get(TAG.tileWidth), `${name}: tile`), asSize(get(TAG.tileHeight), `${name}: tile`)]
    : [width, Math.min(height, get(TAG.rows, height))];
  if (!(blockWidth * blockHeight <= MAX_PIXELS && blockHeight > 0)) throw new FormatError("damaged", name);
  const offsets = fields.get(tiled ? TAG.tileOffsets : TAG.offsets) ?? [], counts = fields.get(tiled ? TAG.tileCounts : TAG.counts) ?? [];
  const across = Math.ceil(width / blockWidth), down = Math.ceil(height / blockHeight);
  if (offsets.length < across * down || counts.length < across * down) throw new FormatError("damaged", name);
  const values = new (layout.bytes === 1 ? Uint8Array : layout.bytes === 2 ? Uint16Array : Uint32Array)(width * height);
  for (let block = 0; block < across * down; block++) {
    const x = (block % across) * blockWidth, y = Math.floor(block / across) * blockHeight;
    const rows = tiled ? blockHeight : Math.min(blockHeight, height - y);
    const packed = bytes.subarray(offsets[block], offsets[block] + counts[block]);
    const unpacked = await unpack(packed, layout.compression, rows * blockWidth * layout.bytes, name);
    placeBlock(reader, unpacked, layout, { x, y, blockWidth, rows }, { width, height, values });
  }
  return { width, height, values };
}

function checkLayout(name, get) {
  const bits = get(TAG.bits, 1), samples = get(TAG.samples, 1), format = get(TAG.sampleFormat, 1);
  const compression = get(TAG.compression, NONE), predictor = get(TAG.predictor, 1);
  const fault = samples !== 1 ? "several channels" : ![8, 16, 32].includes(bits) ? `${bits} bits`
    : ![1, 2, 3].includes(format) || (format === 3 && bits !== 32) ? "numbers of an unknown kind"
      : ![NONE, LZW, DEFLATE, OLD_DEFLATE, PACK_BITS].includes(compression) ? `compression ${compression}`
        : predictor > 2 || (predictor === 2 && format === 3) ? `predictor ${predictor}` : null;
  if (fault) throw new FormatError("unsupportedTiff", name, fault);
  return { bytes: bits / 8, format, compression, predictor };
}

function placeBlock({ little, name }, bytes, { bytes: size, format, predictor }, { x, y, blockWidth, rows }, page) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), mask = size === 4 ? ~0 : (1 << (8 * size)) - 1;
  const read = format === 3 ? (at) => view.getFloat32(at, little)
    : size === 1 ? (at) => view.getUint8(at) : size === 2 ? (at) => view.getUint16(at, little) : (at) => view.getUint32(at, little);
  for (let row = 0; row < Math.min(rows, page.height - y); row++) {
    let previous = 0;
    for (let column = 0; column < Math.min(blockWidth, page.width - x); column++) {
      let value = read((row * blockWidth + column) * size);
      if (predictor === 2) value = previous = ((previous + value) & mask) >>> 0;
      const isNegative = format === 2 && value >= 2 ** (8 * size - 1);
      if (isNegative || !(value >= 0 && Number.isInteger(value) && value < 2 ** 32)) throw new FormatError("negativeLabels", name);
      page.values[(y + row) * page.width + x + column] = value;
    }
  }
}

async function unpack(packed, compression, needed, name) {
  const bytes = compression === NONE ? packed
    : compression === LZW ? unpackLzw(packed, needed)
      : compression === PACK_BITS ? unpackPackBits(packed, needed)
        : await decompress(packed, "deflate", name, needed + 1024);
  if (bytes.length < needed) throw new FormatError("damaged", name);
  return bytes;
}

function unpackPackBits(packed, needed) {
  const out = new Uint8Array(needed);
  let count = 0;
  for (let at = 0; at < packed.length && count < needed; ) {
    const head = packed[at++];
    if (head < 128) {
      const part = packed.subarray(at, Math.min(at + head + 1, at + needed - count));
      out.set(part, count);
      count += part.length;
      at += head + 1;
    } else if (head > 128) {
      out.fill(packed[at++], count, (count = Math.min(needed, count + 257 - head)));
    }
  }
  return out.subarray(0, count);
}

/** LZW of TIFF 6.0, section 13: codes of 9 to 12 bits, highest bit first, one code earlier than in GIF. */
function unpackLzw(packed, needed) {
  const CLEAR = 256, STOP = 257, out = new Uint8Array(needed);
  const prefix = new Uint16Array(4097), suffix = new Uint8Array(4097), lengths = new Uint16Array(4097).fill(1);
  let count = 0, next = 258, bits = 9, previous = -1, buffer = 0, held = 0;
  const first = (code) => {
    while (code > 257) code = prefix[code];
    return code;
  };
  for (let at = 0; count < needed; ) {
    while (held < bits && at < packed.length) [buffer, held] = [(buffer << 8) | packed[at++], held + 8];
    if (held < bits) break;
    const code = (buffer >> (held - bits)) & ((1 << bits) - 1);
    held -= bits;
    buffer &= (1 << held) - 1;
    if (code === STOP) break;
    if (code === CLEAR) {
      [next, bits, previous] = [258, 9, -1];
      continue;
    }
    if (code > next || (previous < 0 && code > 255)) break; // not a code that can come here
    if (previous >= 0 && next < 4096) {
      prefix[next] = previous;
      suffix[next] = first(code === next ? previous : code);
      lengths[next] = lengths[previous] + 1;
      next++;
    }
    const length = code < 256 ? 1 : lengths[code];
    for (let at2 = count + length - 1, part = code; at2 >= count; at2--) {
      if (at2 < needed) out[at2] = part < 256 ? part : suffix[part];
      part = prefix[part];
    }
    count = Math.min(needed, count + length);
    previous = code;
    if (next + 1 >= 1 << bits && bits < 12) bits++;
  }
  return out.subarray(0, count);
}
