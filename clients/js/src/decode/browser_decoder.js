/** Decodes clicks here, off the page's thread: fetches what it needs from the service, and keeps it for the next click. */

import { DecoderHost } from "./decoder_host.js";
import { MANY } from "./fast_decoder.js";

/**
 * @typedef {import("../client.js").Client} Client
 * @typedef {import("./geometry.js").Decoder} Decoder
 * @typedef {import("./geometry.js").Size} Size
 * @typedef {import("./decoder_host.js").Order} Order
 * @typedef {import("./prompt_encoding.js").Prompt} Prompt
 * @typedef {import("./decode_prompt.js").Options} Options
 *
 * @typedef {object} BrowserMask A mask as the service answers it, and its logits.
 * @property {{size: [number, number], counts: string}} mask
 * @property {number} score
 * @property {[number, number, number, number]} box
 * @property {number} area
 * @property {number} removed_parts
 * @property {number} filled_holes
 * @property {Float32Array} logits
 *
 * @typedef {object} BrowserDecoderOptions
 * @property {Client} client
 * @property {string} [ortUrl] The module of ONNX Runtime Web: its ort.wasm.bundle.min.mjs, or a package's name in Node.
 * @property {string} [wasmUrl] Its ort-wasm-simd-threaded.wasm.
 */

const WORKER_URL = new URL("./decoder_worker.js", import.meta.url);
const DEFAULT_ORT = "onnxruntime-web";

/** The image cannot be decoded here: clicks on it are decoded in regions, by the service. */
export class NotDecodable extends Error {}

export class BrowserDecoder {
  /** @param {BrowserDecoderOptions} options */
  constructor({ client, ortUrl = DEFAULT_ORT, wasmUrl }) {
    this._client = client;
    // A worker has no address of its own to begin at.
    this._urls = { ortUrl: absolute(ortUrl), wasmUrl: wasmUrl && absolute(wasmUrl) };
    /** @type {Promise<Runner> | null} */
    this._runner = null;
    /** @type {Map<string, Promise<Decoder>>} */
    this._models = new Map();
    /** @type {Map<string, Promise<void>>} By model and image. */
    this._images = new Map();
    /** @type {Map<string, Promise<unknown>>} */
    this._many = new Map();
  }

  /** Load the runtime and a model's graphs. @param {string} model */
  open(model) {
    return remember(this._models, model, async () => {
      const runner = await this._start();
      const decoder = await this._client.decoder(model);
      const names = decoder.graphs.map(({ name }) => name).filter((name) => name !== MANY);
      const graphs = await this._fetchGraphs(model, names);
      await runner.perform({ act: "open", decoder, graphs }, Object.values(graphs));
      return decoder;
    });
  }

  /**
   * Fetch and prepare an image's embedding.
   * @param {string} model
   * @param {string} imageId
   * @param {Size} [size] Asked for if left out.
   */
  prepare(model, imageId, size) {
    return remember(this._images, `${model} ${imageId}`, async () => {
      await this.open(model);
      const [runner, { width, height }, { data, isTiled }] = await Promise.all([
        this._start(),
        size ?? this._client.getImage(imageId),
        this._client.embedding(imageId, { model }),
      ]);
      if (isTiled) throw new NotDecodable("The service decodes large images in regions.");
      await runner.perform({ act: "add", model, imageId, size: { width, height }, file: data }, [data]);
    });
  }

  /** Whether an image is prepared, or is on its way. @param {string} model @param {string} imageId */
  isKnown(model, imageId) {
    return this._images.has(`${model} ${imageId}`);
  }

  /**
   * Decode a prompt. It waits for what is not there yet.
   * @param {string} model
   * @param {string} imageId
   * @param {Prompt} prompt
   * @param {Options & {signal?: AbortSignal}} [options]
   * @returns {Promise<BrowserMask[]>}
   */
  async segment(model, imageId, prompt, { signal, ...options } = {}) {
    const decoder = await this.open(model);
    // A box counts as two points, and padding as one.
    if (prompt.labels.length + 3 >= decoder.fold_below_points) await this._openMany(model);
    for (let tries = 0; tries < 2; tries++) {
      await this.prepare(model, imageId);
      const runner = await this._start();
      const masks = await runner.perform({ act: "segment", model, imageId, prompt, options }, [], signal);
      if (masks) return masks;
      this._images.delete(`${model} ${imageId}`); // it had to make room for others
    }
    throw new Error("There is no room for the image.");
  }

  /** Drop what is held of an image. @param {string} imageId */
  async forget(imageId) {
    for (const key of this._images.keys()) if (key.endsWith(` ${imageId}`)) this._images.delete(key);
    if (this._runner) await (await this._runner).perform({ act: "forget", imageId });
  }

  /** Stop, and free all memory. The next call starts again. */
  async close() {
    const runner = this._runner;
    this._runner = null;
    for (const known of [this._models, this._images, this._many]) known.clear();
    (await runner?.catch(() => null))?.stop();
  }

  /** @param {string} model */
  _openMany(model) {
    return remember(this._many, model, async () => {
      const graphs = await this._fetchGraphs(model, [MANY]);
      return (await this._start()).perform({ act: "openMore", model, graphs }, Object.values(graphs));
    });
  }

  /** @param {string} model @param {string[]} names @returns {Promise<Record<string, ArrayBuffer>>} */
  async _fetchGraphs(model, names) {
    const files = await Promise.all(names.map((name) => this._client.decoderGraph(model, name)));
    return Object.fromEntries(names.map((name, i) => [name, files[i]]));
  }

  /** @returns {Promise<Runner>} */
  _start() {
    this._runner ??= (async () => {
      const runner = typeof Worker === "undefined" ? new InPlace() : new InWorker();
      await runner.perform({ act: "start", ...this._urls });
      return runner;
    })().catch((error) => {
      this._runner = null;
      throw error;
    });
    return this._runner;
  }
}

/**
 * The promise of a key; made anew after it has failed.
 * @template T
 * @param {Map<string, Promise<T>>} known
 * @param {string} key
 * @param {() => Promise<T>} make
 * @returns {Promise<T>}
 */
function remember(known, key, make) {
  const found = known.get(key);
  if (found) return found;
  const made = make();
  known.set(key, made);
  made.catch(() => known.get(key) === made && known.delete(key));
  return made;
}

/** @param {string} url */
function absolute(url) {
  const isBare = !/^([a-z]+:|\.{0,2}\/)/i.test(url);
  return isBare || typeof location === "undefined" ? url : new URL(url, location.href).href;
}

/**
 * Performs orders, one after another.
 * @typedef {{perform: (order: Order, transfer?: Transferable[], signal?: AbortSignal) => Promise<any>, stop: () => void}} Runner
 */

/** @implements {Runner} */
class InPlace {
  constructor() {
    this._host = new DecoderHost();
    /** @type {Promise<unknown>} */
    this._last = Promise.resolve();
  }

  /** @param {Order} order @param {Transferable[]} [_] @param {AbortSignal} [signal] @returns {Promise<any>} */
  perform(order, _, signal) {
    const result = this._last.then(() => {
      signal?.throwIfAborted();
      return this._host.perform(order);
    });
    this._last = result.catch(() => {});
    return result;
  }

  stop() {}
}

/** One order at a time is with the worker: those that wait here can be given up. @implements {Runner} */
class InWorker {
  constructor() {
    this._worker = new Worker(WORKER_URL, { type: "module" });
    this._worker.onmessage = ({ data }) => this._finish(data);
    this._worker.onerror = (event) => this._fail(event.message || "The worker that decodes has failed.");
    /** @type {{order: Order, transfer: Transferable[], signal?: AbortSignal, resolve: (result: any) => void, reject: (error: unknown) => void}[]} */
    this._queue = [];
    this._isBusy = false;
    this._number = 0;
    /** @type {string | null} */
    this._failure = null;
  }

  /** @param {Order} order @param {Transferable[]} [transfer] @param {AbortSignal} [signal] @returns {Promise<any>} */
  perform(order, transfer = [], signal) {
    return new Promise((resolve, reject) => {
      if (this._failure !== null) return reject(new Error(this._failure));
      this._queue.push({ order, transfer, signal, resolve, reject });
      this._next();
    });
  }

  stop() {
    this._worker.terminate();
    this._fail("The decoder was closed.");
  }

  _next() {
    if (this._isBusy) return;
    while (this._queue[0]?.signal?.aborted) {
      const given = this._queue.shift();
      given?.reject(given.signal?.reason);
    }
    if (!this._queue.length) return;
    this._isBusy = true;
    const { order, transfer } = this._queue[0];
    this._worker.postMessage({ number: ++this._number, order }, transfer);
  }

  /** @param {{number: number, result?: any, error?: string}} answer */
  _finish({ number, result, error }) {
    if (number !== this._number || !this._isBusy) return;
    const done = this._queue.shift();
    this._isBusy = false;
    if (error === undefined) done?.resolve(result);
    else done?.reject(new Error(error));
    this._next();
  }

  /** @param {string} message */
  _fail(message) {
    this._failure = message;
    for (const { reject } of this._queue.splice(0)) reject(new Error(message));
  }
}
