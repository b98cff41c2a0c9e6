/**
 * @param {Uint16Array} halves
 * @returns {Float32Array<ArrayBuffer>}
 */
export function toFloat32(halves: Uint16Array): Float32Array<ArrayBuffer>;
/**
 * Round to the nearest, and to the even one of two that are as near.
 * @param {ArrayLike<number>} values
 * @returns {Uint16Array<ArrayBuffer>}
 */
export function toFloat16(values: ArrayLike<number>): Uint16Array<ArrayBuffer>;
