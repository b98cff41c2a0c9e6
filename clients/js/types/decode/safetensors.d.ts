/**
 * Return the float16 arrays of a file by name. Throws RangeError where it has others, or is cut off.
 * @param {ArrayBuffer} buffer
 * @returns {Record<string, Float16Array>}
 */
export function parseSafetensors(buffer: ArrayBuffer): Record<string, Float16Array>;
/**
 * Reads safetensors: 8 bytes with the length of a header, the header as JSON, then the arrays.
 */
export type Float16Array = {
    shape: number[];
    data: Uint16Array<ArrayBuffer>;
};
