/**
 * Reads safetensors: 8 bytes with the length of a header, the header as JSON, then the arrays.
 *
 * @typedef {{shape: number[], data: Uint16Array<ArrayBuffer>}} Float16Array
 */

const HEADER_START = 8;

/**
 * Return the float16 arrays of a file by name. Throws RangeError where it has others, or is cut off.
 * @param {ArrayBuffer} buffer
 * @returns {Record<string, Float16Array>}
 */
export function parseSafetensors(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const start = HEADER_START + length;
  if (start > buffer.byteLength) throw new RangeError("The embedding is cut off.");
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, HEADER_START, length)));
  /** @type {Record<string, Float16Array>} */
  const arrays = {};
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const { dtype, shape, data_offsets: [from, to] } = entry;
    if (dtype !== "F16") throw new RangeError(`The embedding is of ${dtype}, not of float16.`);
    if (start + to > buffer.byteLength) throw new RangeError("The embedding is cut off.");
    // A copy: the arrays of a file need not begin at even bytes.
    arrays[name] = { shape, data: new Uint16Array(buffer.slice(start + from, start + to)) };
  }
  return arrays;
}
