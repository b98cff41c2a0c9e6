/** Connected parts of small bitmaps. */
/**
 * Return the part of each pixel, from 1 in the order of the rows, 0 outside, and how many there are.
 * @param {Uint8Array} mask Row by row.
 * @param {number} width
 * @param {boolean} diagonal Whether pixels that touch at a corner are of one part.
 */
export function labelBitmap(mask: Uint8Array, width: number, diagonal: boolean): {
    labels: Int32Array<ArrayBuffer>;
    count: number;
};
