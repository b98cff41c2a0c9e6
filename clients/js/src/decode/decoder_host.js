/**
 * Runs decoders for one page: models by name, each with its graphs and images. It lives in a worker, or in place where
 * there are none.
 *
 * @typedef {import("./geometry.js").Decoder} Decoder
 * @typedef {import("./geometry.js").Size} Size
 * @typedef {import("./prompt_encoding.js").Prompt} Prompt
 * @typedef {import("./decode_prompt.js").Options} Options
 *
 * @typedef {{act: "start", ortUrl: string, wasmUrl?: string}
 *   | {act: "open", decoder: Decoder, graphs: Record<string, ArrayBuffer>}
 *   | {act: "openMore", model: string, graphs: Record<string, ArrayBuffer>}
 *   | {act: "add", model: string, imageId: string, size: Size, file: ArrayBuffer}
 *   | {act: "forget", imageId: string}
 *   | {act: "segment", model: string, imageId: string, prompt: Prompt, options: Options}} Order
 */

import { area, boundingBox } from "../masks/runs.js";
import { encode } from "../masks/rle.js";
import { FastDecoder, loadOrt } from "./fast_decoder.js";

export class DecoderHost {
  constructor() {
    /** @type {any} */
    this._ort = null;
    /** @type {Map<string, FastDecoder>} */
    this._decoders = new Map();
  }

  /**
   * Do one thing. Orders must be given one after another.
   * @param {Order} order
   * @returns {Promise<any>}
   */
  async perform(order) {
    switch (order.act) {
      case "start":
        this._ort = await loadOrt(order.ortUrl, order.wasmUrl);
        return null;
      case "open": {
        const opened = new FastDecoder(this._ort, order.decoder);
        await opened.open(order.graphs);
        this._decoders.set(order.decoder.model, opened);
        return null;
      }
      case "openMore":
        return this._decoder(order.model).open(order.graphs);
      case "add":
        return this._decoder(order.model).add(order.imageId, order.size, order.file);
      case "forget":
        for (const decoder of this._decoders.values()) decoder.forget(order.imageId);
        return null;
      case "segment": {
        const decoder = this._decoder(order.model);
        // It may have made room for others since it was added.
        if (!decoder.has(order.imageId)) return null;
        const size = decoder.sizeOf(order.imageId);
        const candidates = await decoder.segment(order.imageId, order.prompt, order.options);
        return candidates.map((candidate) => toMask(candidate, size));
      }
    }
  }

  /** @param {string} model */
  _decoder(model) {
    const decoder = this._decoders.get(model);
    if (!decoder) throw new Error(`The decoder of ${model} is not open.`);
    return decoder;
  }
}

/**
 * A candidate in the form of the service's answers.
 * @param {import("./decode_prompt.js").Candidate} candidate
 * @param {Size} size
 */
function toMask({ runs, logits, score, removedParts, filledHoles }, { width, height }) {
  return {
    mask: encode(runs, width, height),
    score,
    box: boundingBox(runs, height),
    area: area(runs),
    removed_parts: removedParts,
    filled_holes: filledHoles,
    logits,
  };
}
