/** Numbers of 16 bits (IEEE 754 binary16), which browsers know only since 2025. */

const words = new Uint32Array(1);
const floats = new Float32Array(words.buffer);

/** @type {Float32Array | null} */
let table = null;

function makeTable() {
  const values = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 31) values[bits] = fraction ? NaN : sign * Infinity;
    else if (exponent === 0) values[bits] = sign * fraction * 2 ** -24;
    else values[bits] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }
  return values;
}

/**
 * @param {Uint16Array} halves
 * @returns {Float32Array<ArrayBuffer>}
 */
export function toFloat32(halves) {
  const values = (table ??= makeTable());
  const result = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) result[i] = values[halves[i]];
  return result;
}

/**
 * Round to the nearest, and to the even one of two that are as near.
 * @param {ArrayLike<number>} values
 * @returns {Uint16Array<ArrayBuffer>}
 */
export function toFloat16(values) {
  return Uint16Array.from(values, (value) => {
    floats[0] = value;
    const bits = words[0];
    const sign = (bits >>> 16) & 0x8000;
    const magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return sign | 0x7e00;
    if (magnitude >= 0x47800000) return sign | 0x7c00; // 65536 and more
    if (magnitude >= 0x38800000) {
      const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
      return sign | ((rounded - 0x38000000) >>> 13);
    }
    return sign | roundToEven(Math.abs(floats[0]) * 2 ** 24);
  });
}

/** @param {number} value */
function roundToEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
}
