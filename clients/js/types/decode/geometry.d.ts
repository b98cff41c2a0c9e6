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
export function logitsGeometry({ resize, low_res: low, input_size: square }: Decoder, original: Size): LogitsGeometry;
/**
 * Rows and columns of the low-res logits that show the image; the others are padding.
 * @param {LogitsGeometry} geometry
 */
export function validLow({ low, square, valid }: LogitsGeometry): {
    rows: number;
    columns: number;
};
/**
 * Scale points of the image to pixels of the model's input.
 * @param {[number, number][]} points
 * @param {Decoder} decoder
 * @param {Size} size
 * @returns {[number, number][]}
 */
export function scalePoints(points: [number, number][], decoder: Decoder, size: Size): [number, number][];
/**
 * How a model's low-res logits lie on the image. All values are in pixels.
 */
export type Size = {
    width: number;
    height: number;
};
/**
 * The description of a decoder, as GET /v1/models/{model}/decoder answers it.
 */
export type Decoder = {
    model: string;
    digest: string;
    kind: "sam" | "sam2";
    input_size: number;
    resize: "pad" | "stretch";
    low_res: number;
    masks: number[];
    mask_threshold: number;
    fold_below_points: number;
    graphs: {
        name: string;
        bytes: number;
        sha256: string;
    }[];
};
/**
 * How a model's low-res logits lie on the image. All values are in pixels.
 */
export type LogitsGeometry = {
    /**
     * Edge of the logits.
     */
    low: number;
    /**
     * Edge of the model's input.
     */
    square: number;
    /**
     * The part of that input, from its top left corner, that shows the image.
     */
    valid: Size;
    /**
     * The image itself.
     */
    original: Size;
};
