/** Masks for prompts, decoded by the service or here, whichever is quicker. */

import { iou } from "../masks/runs.js";
import { decode as decodeRle } from "../masks/rle.js";
import { Problem } from "../problem.js";
import { BrowserDecoder, NotDecodable } from "./browser_decoder.js";
import { toFloat16, toFloat32 } from "./float16.js";

/**
 * @typedef {import("../client.js").Client} Client
 * @typedef {import("../types.js").Mask} Mask
 * @typedef {import("../types.js").Prompt} Prompt
 * @typedef {import("../types.js").SegmentAnswer} SegmentAnswer
 * @typedef {import("../types.js").SegmentRequest} SegmentRequest
 *
 * @typedef {"server" | "browser"} Place
 *
 * @typedef {object} SegmenterOptions
 * @property {Client} client
 * @property {Place | "auto"} [decode] auto measures both on the first clicks, unless the service is quick, and keeps the
 *   quicker.
 * @property {string} [ortUrl] The module of ONNX Runtime Web; without it the browser decodes nothing.
 * @property {string} [wasmUrl] Its WebAssembly.
 * @property {(choice: Choice) => void} [onChoice] Called when auto has chosen, or chooses anew.
 *
 * @typedef {object} Choice
 * @property {string} model
 * @property {Place} by
 * @property {number} serverMs Medians of the last clicks.
 * @property {number} browserMs
 * @property {string} [reason] Why the browser cannot decode.
 *
 * @typedef {SegmentAnswer & {decoded: {by: Place, ms: number}}} Answer An answer of the service, and who decoded it.
 *
 * @typedef {object} Measured What is known of a model.
 * @property {number[]} server Milliseconds of the last clicks.
 * @property {number[]} browser
 * @property {Place | null} choice
 * @property {boolean} isMeasuring
 * @property {string | null} failure
 */

const MIN_SAMPLES = 3;
const MAX_SAMPLES = 5;
// A service that answers as soon as this needs no help, and a browser that decodes nothing needs no 20 MB.
const QUICK_MS = 50;
// The service is left for the browser, or the other way round, where that is so much quicker.
const SWITCH_FACTOR = 1.5;
// A browser that decodes another mask than the service is not used.
const MIN_IOU = 0.95;
const MAX_LOGITS = 64;

export class Segmenter {
  /** @param {SegmenterOptions} options */
  constructor({ client, decode = "auto", ortUrl, wasmUrl, onChoice }) {
    this._client = client;
    this.decode = decode;
    this._browser = ortUrl === undefined ? null : new BrowserDecoder({ client, ortUrl, wasmUrl });
    this._onChoice = onChoice;
    /** @type {Map<string, Measured>} By model; "" is the default one. */
    this._measured = new Map();
    /** @type {Map<string, Promise<import("./geometry.js").Size>>} */
    this._sizes = new Map();
    /** @type {Map<string, Float32Array>} Of masks that were decoded here, by mask_id. */
    this._logits = new Map();
    /** @type {Set<string>} Images that the browser cannot decode. */
    this._tiled = new Set();
    this._number = 0;
  }

  /**
   * Return the masks of prompts, as `Client.segment` does, and who decoded them in how many ms. Whatever fails here is
   * decoded by the service.
   * @param {SegmentRequest} body
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<Answer>}
   */
  async segment(body, { signal } = {}) {
    if (this._choose(body) === "browser") {
      try {
        return await this._segmentHere(body, signal);
      } catch (error) {
        signal?.throwIfAborted();
        this._noteFailure(body, error);
      }
    }
    const answer = await this._segmentThere(body, signal);
    if (this.decode === "auto") this._measure(body, answer);
    return answer;
  }

  /**
   * Fetch what decoding an image here needs, where the browser decodes.
   * @param {string} imageId
   * @param {string} model
   */
  async prepare(imageId, model) {
    const isUsed = this.decode === "browser" || (this.decode === "auto" && this._of(model).choice === "browser");
    if (isUsed && this._browser && !this._tiled.has(imageId)) {
      await this._browser.prepare(model, imageId).catch((error) => this._noteFailure({ image_id: imageId, model, prompts: [] }, error));
    }
  }

  /** What was measured of a model: medians in ms, and where its clicks are decoded. @param {string} [model] @returns {Choice} */
  choice(model = "") {
    const { server, browser, choice, failure } = this._of(model);
    // Where the browser has failed, the service decodes, whatever was asked for.
    const by = failure ? "server" : this.decode === "auto" ? (choice ?? "server") : this.decode;
    return { model, by, serverMs: median(server), browserMs: median(browser), ...(failure && { reason: failure }) };
  }

  /** Free what decoding here takes. */
  async close() {
    await this._browser?.close();
  }

  /** @param {SegmentRequest} body @returns {Place} */
  _choose(body) {
    const { model = "" } = body;
    if (!this._canDecodeHere(body)) return "server";
    if (this.decode !== "auto") return this.decode;
    if (this._of(model).choice !== "browser") return "server";
    if (this._browser?.isKnown(model, body.image_id)) return "browser";
    // The first click on an image does not wait for its embedding to be downloaded.
    this._browser?.prepare(model, body.image_id).catch((error) => this._noteFailure(body, error));
    return "server";
  }

  /** Whether a request has nothing that only the service knows. @param {SegmentRequest} body */
  _canDecodeHere({ image_id: imageId, model, prompts, format = "rle" }) {
    if (!this._browser || !model || this.decode === "server" || format !== "rle" || this._tiled.has(imageId)) return false;
    if (this._of(model).failure) return false;
    return prompts.every((prompt) => !prompt.mask && (!prompt.mask_id || this._logits.has(prompt.mask_id)));
  }

  /** @param {SegmentRequest} body @param {AbortSignal} [signal] @returns {Promise<Answer>} */
  async _segmentHere({ image_id: imageId, model = "", prompts, select, multimask, raw }, signal) {
    const start = performance.now();
    const browser = /** @type {BrowserDecoder} */ (this._browser);
    const size = await this._size(imageId);
    /** @type {{masks: Mask[]}[]} */
    const results = [];
    for (const prompt of prompts) {
      const masks = await browser.segment(model, imageId, this._toPrompt(prompt, size), { select, multimask, raw, signal });
      results.push({ masks: masks.map(({ logits, ...mask }) => ({ ...mask, mask_id: this._hold(logits) })) });
    }
    const ms = performance.now() - start;
    addSample(this._of(model).browser, ms);
    return { image_id: imageId, model, ...size, results, hints: [], decoded: { by: "browser", ms } };
  }

  /** @param {SegmentRequest} body @param {AbortSignal} [signal] @returns {Promise<Answer>} */
  async _segmentThere(body, signal) {
    const start = performance.now();
    const prompts = body.prompts.map((prompt) => this._toServer(prompt));
    const answer = await this._client.segment({ ...body, prompts }, { signal });
    const ms = performance.now() - start;
    addSample(this._of(body.model).server, ms);
    return { ...answer, decoded: { by: "server", ms } };
  }

  /**
   * Decode a request here too, in the background, until both are known; then choose.
   * @param {SegmentRequest} body
   * @param {Answer} answer
   */
  async _measure(body, answer) {
    const { model = "" } = body;
    const measured = this._of(model);
    if (measured.choice === "browser") return this._reconsider(model);
    if (measured.server.length < MIN_SAMPLES || median(measured.server) <= QUICK_MS || savesData()) return;
    if (measured.choice && !this._isSlow(measured)) return;
    if (measured.isMeasuring || !this._canDecodeHere(body)) return;
    measured.isMeasuring = true;
    try {
      await this._browser?.prepare(model, body.image_id);
      if (!measured.browser.length) {
        await this._segmentHere(body); // the first run of a graph takes longer
        measured.browser.length = 0;
      }
      checkSame(answer, await this._segmentHere(body));
      if (measured.browser.length >= MIN_SAMPLES) this._decide(model);
    } catch (error) {
      this._noteFailure(body, error);
    } finally {
      measured.isMeasuring = false;
    }
  }

  /** @param {string} model */
  _decide(model) {
    const measured = this._of(model);
    measured.choice = median(measured.browser) < median(measured.server) ? "browser" : "server";
    if (measured.choice === "server" && ![...this._measured.values()].some(({ choice }) => choice === "browser")) {
      this._browser?.close(); // nothing here needs the memory
    }
    this._onChoice?.(this.choice(model));
  }

  /** Whether the service has become much slower than the browser was. @param {Measured} measured */
  _isSlow({ server, browser }) {
    return browser.length >= MIN_SAMPLES && median(server) > SWITCH_FACTOR * median(browser);
  }

  /** Leave the browser where it has become slow. @param {string} model */
  _reconsider(model) {
    const { browser, server } = this._of(model);
    if (median(browser) > SWITCH_FACTOR * median(server)) this._decide(model);
  }

  /** @param {SegmentRequest} body @param {unknown} error */
  _noteFailure({ image_id: imageId, model = "" }, error) {
    if (error instanceof NotDecodable) {
      this._tiled.add(imageId);
      return;
    }
    if (!saysSomethingOfTheModel(error)) return;
    const measured = this._of(model);
    measured.failure = error instanceof Error ? error.message : String(error);
    measured.choice = "server";
    this._onChoice?.(this.choice(model));
  }

  /** @param {string} [model] */
  _of(model = "") {
    let measured = this._measured.get(model);
    if (!measured) {
      measured = { server: [], browser: [], choice: null, isMeasuring: false, failure: null };
      this._measured.set(model, measured);
    }
    return measured;
  }

  /** @param {string} imageId */
  _size(imageId) {
    let size = this._sizes.get(imageId);
    if (!size) {
      size = this._client.getImage(imageId).then(({ width, height }) => ({ width, height }));
      this._sizes.set(imageId, size);
      size.catch(() => this._sizes.delete(imageId));
    }
    return size;
  }

  /**
   * @param {Prompt} prompt
   * @param {import("./geometry.js").Size} size
   * @returns {import("./prompt_encoding.js").Prompt}
   */
  _toPrompt({ points = [], labels, box = null, logits, mask_id: maskId }, { width, height }) {
    const corners = box ? [[box[0], box[1]], [box[2], box[3]]] : [];
    if ([...points, ...corners].some(([x, y]) => !(x >= 0 && x <= width && y >= 0 && y <= height))) {
      throw new RangeError("A coordinate lies outside the image."); // the service says it in full
    }
    const prior = logits ? fromBase64(logits.data) : maskId ? (this._logits.get(maskId) ?? null) : null;
    return { points, labels: labels ?? points.map(() => 1), box, prior };
  }

  /** A prompt without what only the browser knows. @param {Prompt} prompt @returns {Prompt} */
  _toServer(prompt) {
    const held = prompt.mask_id && this._logits.get(prompt.mask_id);
    if (!held) return prompt;
    const edge = Math.sqrt(held.length);
    return { ...prompt, mask_id: undefined, logits: { size: [edge, edge], data: toBase64(toFloat16(held)) } };
  }

  /** Keep logits, as the service keeps them: in float16. @param {Float32Array} logits */
  _hold(logits) {
    const id = `browser-${++this._number}`;
    this._logits.set(id, toFloat32(toFloat16(logits)));
    if (this._logits.size > MAX_LOGITS) this._logits.delete(/** @type {string} */ (this._logits.keys().next().value));
    return id;
  }
}

/**
 * Whether an error means that a model cannot be decoded here; others are of the prompt, or of a service that is away.
 * @param {unknown} error
 */
function saysSomethingOfTheModel(error) {
  if (error instanceof Problem) return error.field === "model";
  return !(error instanceof RangeError);
}

/** Whether the user wants little to be downloaded. */
const savesData = () => Boolean(/** @type {any} */ (globalThis.navigator)?.connection?.saveData);

/** @param {number[]} samples @param {number} ms */
function addSample(samples, ms) {
  samples.push(ms);
  if (samples.length > MAX_SAMPLES) samples.shift();
}

/** @param {number[]} samples */
function median(samples) {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted.length ? sorted[sorted.length >> 1] : NaN;
}

/** @param {SegmentAnswer} answer @param {SegmentAnswer} other */
function checkSame(answer, other) {
  answer.results.forEach(({ masks }, i) => {
    masks.forEach(({ mask }, k) => {
      if (iou(decodeRle(mask), decodeRle(other.results[i].masks[k].mask)) < MIN_IOU) {
        throw new Error("The browser decodes another mask than the service.");
      }
    });
  });
}

/** @param {Uint16Array<ArrayBuffer>} halves */
function toBase64(halves) {
  const bytes = new Uint8Array(halves.buffer);
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(text);
}

/** @param {string} data */
function fromBase64(data) {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  return toFloat32(new Uint16Array(bytes.buffer));
}
