/**
 * How a model's low-res logits lie on the image. All values are in pixels.
 *
 * @typedef {{width: number, height: number}} Size
 *
 * @typedef {object} Decoder The description of a decoder, as GET /v1/models/{model}/decoder answers it.
 * @property {string} model
 * @property {string} digest
 * @property {"sam" | "sam2"} kind
 * @property {number} input_size
 * @property {"pad" | "stretch"} resize
 * @property {number} low_res
 * @property {number[]} masks
 * @property {number} mask_threshold
 * @property {number} fold_below_points
 * @property {{name: string, bytes: number, sha256: string}[]} graphs
 *
 * @typedef {object} LogitsGeometry
 * @property {number} low Edge of the logits.
 * @property {number} square Edge of the model's input.
 * @property {Size} valid The part of that input, from its top left corner, that shows the image.
 * @property {Size} original The image itself.
 */

/**
 * SAM's image is padded at the bottom and right, SAM 2's fills the square, and its logits go to the image in one step.
 * @param {Decoder} decoder
 * @param {Size} original
 * @returns {LogitsGeometry}
 */
export function logitsGeometry({ resize, low_res: low, input_size: square }, original) {
  if (resize === "stretch") return { low, square: low, valid: { width: low, height: low }, original };
  const scale = square / Math.max(original.width, original.height);
  const side = (/** @type {number} */ length) => Math.max(1, Math.floor(length * scale + 0.5));
  return { low, square, valid: { width: side(original.width), height: side(original.height) }, original };
}

/**
 * Rows and columns of the low-res logits that show the image; the others are padding.
 * @param {LogitsGeometry} geometry
 */
export function validLow({ low, square, valid }) {
  return { rows: Math.ceil((valid.height * low) / square), columns: Math.ceil((valid.width * low) / square) };
}

/**
 * Scale points of the image to pixels of the model's input.
 * @param {[number, number][]} points
 * @param {Decoder} decoder
 * @param {Size} size
 * @returns {[number, number][]}
 */
export function scalePoints(points, decoder, size) {
  const edge = decoder.input_size;
  const { valid } = logitsGeometry(decoder, size);
  const [width, height] = decoder.resize === "stretch" ? [edge, edge] : [valid.width, valid.height];
  return points.map(([x, y]) => [
    Math.fround(Math.fround(x) * (width / size.width)),
    Math.fround(Math.fround(y) * (height / size.height)),
  ]);
}
