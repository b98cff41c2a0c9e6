/** The graphs of the fast decoder, run by ONNX Runtime Web: an embedding is prepared once, then each click is decoded. */

import { decodePrompt } from "./decode_prompt.js";
import { toFloat32 } from "./float16.js";
import { parseSafetensors } from "./safetensors.js";

/**
 * @typedef {import("./geometry.js").Decoder} Decoder
 * @typedef {import("./geometry.js").Size} Size
 * @typedef {any} Ort The module `onnxruntime-web`.
 * @typedef {Record<string, ArrayBuffer>} Graphs Files by name.
 *
 * @typedef {object} PreparedImage
 * @property {Size} size
 * @property {Record<string, import("./safetensors.js").Float16Array>} embedding
 * @property {Record<string, any>} fine The fine features that some models have, as the decoder reads them.
 * @property {Record<string, any>} prepared Without a prior mask.
 * @property {number} bytes
 */

const PREPARE = "prepare.onnx";
const PREPARE_FINE = "prepare_fine.onnx";
const FEW = "fast_decoder.onnx";
export const MANY = "fast_decoder_many.onnx";
// Images held: SAM 2 takes 40 MB for each, SAM 14.
const MAX_BYTES = 256 * 2 ** 20;

export class FastDecoder {
  /**
   * @param {Ort} ort
   * @param {Decoder} decoder
   */
  constructor(ort, decoder) {
    this._ort = ort;
    this.decoder = decoder;
    /** @type {Map<string, any>} */
    this._sessions = new Map();
    /** @type {Map<string, PreparedImage>} The least recently used first. */
    this._images = new Map();
  }

  /** Open graphs. @param {Graphs} graphs */
  async open(graphs) {
    for (const [name, bytes] of Object.entries(graphs)) {
      this._sessions.set(name, await this._ort.InferenceSession.create(new Uint8Array(bytes), { executionProviders: ["wasm"] }));
    }
  }

  /** @param {string} name */
  hasGraph(name) {
    return this._sessions.has(name);
  }

  /** @param {string} imageId */
  has(imageId) {
    return this._images.has(imageId);
  }

  /** The size of an image that was added. @param {string} imageId */
  sizeOf(imageId) {
    return /** @type {PreparedImage} */ (this._images.get(imageId)).size;
  }

  /**
   * Prepare an image. file: its embedding as safetensors.
   * @param {string} imageId
   * @param {Size} size
   * @param {ArrayBuffer} file
   */
  async add(imageId, size, file) {
    const embedding = parseSafetensors(file);
    const { embedding: main, ...features } = embedding;
    const fine = await this._prepareFine(features);
    const prepared = await this._prepare(main, null);
    const bytes = file.byteLength + [...Object.values(fine), ...Object.values(prepared)].reduce((sum, { data }) => sum + data.byteLength, 0);
    this._images.set(imageId, { size, embedding, fine, prepared, bytes });
    let total = [...this._images.values()].reduce((sum, image) => sum + image.bytes, 0);
    for (const [id, image] of this._images) {
      if (total <= MAX_BYTES || id === imageId) break;
      this._images.delete(id);
      total -= image.bytes;
    }
  }

  /** @param {string} imageId */
  forget(imageId) {
    this._images.delete(imageId);
  }

  /**
   * Decode a prompt on an image that was added.
   * @param {string} imageId
   * @param {import("./prompt_encoding.js").Prompt} prompt
   * @param {import("./decode_prompt.js").Options} options
   */
  async segment(imageId, prompt, options) {
    const image = this._images.get(imageId);
    if (!image) throw new Error("The image is not prepared.");
    this._images.delete(imageId);
    this._images.set(imageId, image);
    const prepared = prompt.prior ? await this._prepare(image.embedding.embedding, prompt.prior) : image.prepared;
    const inputs = { ...image.fine, ...prepared };
    return decodePrompt(
      (coords, labels, tokens) => this._decode(inputs, coords, labels, tokens),
      this.decoder,
      image.size,
      prompt,
      options,
    );
  }

  /** Free what the graphs and images take. */
  async release() {
    for (const session of this._sessions.values()) await session.release();
    this._sessions.clear();
    this._images.clear();
  }

  /**
   * @param {import("./safetensors.js").Float16Array} embedding
   * @param {Float32Array | null} prior
   * @returns {Promise<Record<string, any>>}
   */
  async _prepare(embedding, prior) {
    const { Tensor } = this._ort;
    const low = this.decoder.low_res;
    return this._sessions.get(PREPARE).run({
      embedding: this._tensor(embedding),
      mask_input: new Tensor("float32", prior ?? new Float32Array(low * low), [1, 1, low, low]),
      has_mask: new Tensor("float32", Float32Array.of(prior ? 1 : 0), [1]),
    });
  }

  /**
   * Models of segserve 0.2 have no graph for it: their decoder reads the features as they are.
   * @param {Record<string, import("./safetensors.js").Float16Array>} features
   * @returns {Promise<Record<string, any>>}
   */
  async _prepareFine(features) {
    const tensors = Object.fromEntries(Object.entries(features).map(([name, array]) => [name, this._tensor(array)]));
    return this._sessions.get(PREPARE_FINE)?.run(tensors) ?? tensors;
  }

  /**
   * @param {Record<string, any>} inputs
   * @param {Float32Array} coords
   * @param {Float32Array} labels
   * @param {number[]} tokens
   */
  async _decode(inputs, coords, labels, tokens) {
    const { Tensor } = this._ort;
    const isLarge = labels.length >= this.decoder.fold_below_points;
    const session = this._sessions.get(isLarge ? MANY : FEW);
    const { low_res: lowRes, scores } = await session.run({
      ...inputs,
      point_coords: new Tensor("float32", coords, [1, labels.length, 2]),
      point_labels: new Tensor("float32", labels, [1, labels.length]),
      channels: new Tensor("int64", BigInt64Array.from(tokens, BigInt), [tokens.length]),
    });
    const area = this.decoder.low_res ** 2;
    return { logits: tokens.map((_, i) => lowRes.data.slice(i * area, (i + 1) * area)), scores: scores.data };
  }

  /** @param {import("./safetensors.js").Float16Array} array */
  _tensor({ shape, data }) {
    return new this._ort.Tensor("float32", toFloat32(data), [1, ...shape]);
  }
}

/**
 * Load ONNX Runtime Web. One thread: more need headers that forbid pages much else.
 * @param {string} ortUrl Its module.
 * @param {string} [wasmUrl] Its WebAssembly; beside the module if left out.
 * @returns {Promise<Ort>}
 */
export async function loadOrt(ortUrl, wasmUrl) {
  const ort = await import(ortUrl);
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  if (wasmUrl) ort.env.wasm.wasmPaths = { wasm: wasmUrl };
  return ort;
}
