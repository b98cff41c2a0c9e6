/** Connected parts of small bitmaps. */

/**
 * Return the part of each pixel, from 1 in the order of the rows, 0 outside, and how many there are.
 * @param {Uint8Array} mask Row by row.
 * @param {number} width
 * @param {boolean} diagonal Whether pixels that touch at a corner are of one part.
 */
export function labelBitmap(mask, width, diagonal) {
  const labels = new Int32Array(mask.length);
  const height = mask.length / width;
  const stack = new Int32Array(mask.length);
  let count = 0;
  for (let first = 0; first < mask.length; first++) {
    if (!mask[first] || labels[first]) continue;
    labels[first] = ++count;
    let size = 0;
    stack[size++] = first;
    while (size) {
      const at = stack[--size];
      const [x, y] = [at % width, Math.floor(at / width)];
      for (let dy = -1; dy <= 1; dy++) {
        if (y + dy < 0 || y + dy >= height) continue;
        for (let dx = -1; dx <= 1; dx++) {
          if (x + dx < 0 || x + dx >= width || (!diagonal && dx && dy)) continue;
          const other = at + dy * width + dx;
          if (!mask[other] || labels[other]) continue;
          labels[other] = count;
          stack[size++] = other;
        }
      }
    }
  }
  return { labels, count };
}
