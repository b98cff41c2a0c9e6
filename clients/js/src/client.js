/** The REST API of a segserve service. */

import { Http } from "./http.js";
import { followEvents, followResults } from "./jobs.js";

/**
 * @typedef {import("./types.js").Identity} Identity
 * @typedef {import("./types.js").ClassArea} ClassArea
 * @typedef {import("./types.js").ClassObjects} ClassObjects
 * @typedef {import("./types.js").Coco} Coco
 * @typedef {import("./types.js").Image} Image
 * @typedef {import("./types.js").Job} Job
 * @typedef {import("./types.js").JobEvent} JobEvent
 * @typedef {import("./types.js").Labels} Labels
 * @typedef {import("./types.js").Model} Model
 * @typedef {import("./types.js").ResultFormat} ResultFormat
 * @typedef {import("./types.js").ResultLine} ResultLine
 * @typedef {import("./types.js").SegmentAnswer} SegmentAnswer
 * @typedef {import("./types.js").SegmentRequest} SegmentRequest
 * @typedef {import("./types.js").SimilarObjects} SimilarObjects
 * @typedef {import("./types.js").StoredFile} StoredFile
 * @typedef {import("./types.js").Usage} Usage
 * @typedef {import("./types.js").Prompt} Prompt
 *
 * @typedef {object} ClientOptions
 * @property {string} [baseUrl] Where the service is, such as "http://127.0.0.1:8000"; "" is the origin of the page.
 * @property {typeof globalThis.fetch} [fetch] Used in place of the global one.
 * @property {number} [retries] How often a request is sent again.
 * @property {Record<string, string>} [headers] Sent with every request.
 * @property {string} [apiKey] If the service asks for one. The operator makes it by `segserve keys add`.
 * @property {(retry: import("./http.js").Retry) => void} [onRetry] Called before a request is sent again.
 * @property {import("./http.js").Unauthenticated} [onUnauthenticated] Called where the service asks for a key; requests
 *   wait for its promise and are sent again. Without it they throw the problem, whose status is 401.
 * @property {number} [patienceSeconds] How long events and results of a job wait for a service that is away.
 *
 * @typedef {object} CallOptions
 * @property {AbortSignal} [signal]
 *
 * @typedef {(sent: number, total: number) => void} OnProgress Called with bytes.
 *
 * @typedef {object} ImageOptions How the image is read; see docs/formats.md of the service.
 * @property {number} [page] Page of a multi-page file, from 0.
 * @property {string | number[]} [channels] Channels to take, in order.
 * @property {string} [normalize] How values become 8-bit.
 * @property {string} [stain] Read as grey how much of a stain there is.
 * @property {boolean} [invert]
 * @property {string} [model] Start encoding for this model at once.
 * @property {AbortSignal} [signal]
 *
 * @typedef {object} FrameView How a volume is looked at; see docs/videos-and-volumes.md of the service.
 * @property {0 | 1 | 2} [axis] Along which slices are numbered; 0: as they are stored.
 * @property {[number, number]} [window] Values that become black and white.
 *
 * @typedef {object} FileOptions
 * @property {string | number} [series] The series to take of a file that holds several.
 * @property {number} [time] The point in time to take.
 * @property {AbortSignal} [signal]
 */

const OCTETS = "application/octet-stream";
// What a link is made for: an image, a file or a job, with all below it.
const LINKED = /^\/v1\/(images|files|jobs)\/[^/?]+/;
// A link that ends sooner is made anew: what it is for still has to be loaded.
const MIN_LINK_LEFT_S = 60;

export class Client {
  /** @param {ClientOptions} [options] */
  constructor({ baseUrl = "", fetch, retries = 4, headers, apiKey, onRetry, onUnauthenticated, patienceSeconds = 300 } = {}) {
    this.http = new Http({ baseUrl, fetch, retries, headers, apiKey, onRetry, onUnauthenticated });
    this._patienceSeconds = patienceSeconds;
    /** @type {Map<string, Promise<{link: string | null, expires_at: number}>>} */
    this._links = new Map();
  }

  // ---- Who asks

  /** Whom the service takes this client for. @param {CallOptions} [options] @returns {Promise<Identity>} */
  identity({ signal } = {}) {
    return this.http.json("/v1/login", { signal });
  }

  /**
   * Exchange a key, or a token, for a cookie that no script can read. For pages of the service's own origin.
   * @param {string} key
   * @param {CallOptions} [options]
   * @returns {Promise<Identity>}
   */
  login(key, { signal } = {}) {
    return this.http.json("/v1/login", { method: "POST", json: { key }, waitsForKey: false, signal });
  }

  /**
   * The issuers of OpenID Connect at which people sign in.
   * @param {CallOptions} [options]
   * @returns {Promise<{name: string}[]>}
   */
  async issuers({ signal } = {}) {
    return (await this.http.json("/v1/login/issuers", { waitsForKey: false, signal })).issuers;
  }

  /**
   * Begin to sign in at an issuer. Returns the address to send the browser to; it comes back to the service's page,
   * with the cookie of a login. For pages of the service's own origin.
   * @param {string} name One of `issuers`.
   * @param {CallOptions} [options]
   * @returns {Promise<string>}
   */
  async beginSignIn(name, { signal } = {}) {
    const path = `/v1/login/issuers/${encodeURIComponent(name)}`;
    return (await this.http.json(path, { method: "POST", waitsForKey: false, signal })).url;
  }

  /** Forget the cookie. @param {CallOptions} [options] */
  async logout({ signal } = {}) {
    await this.http.send("/v1/login", { method: "DELETE", waitsForKey: false, signal });
  }

  /**
   * Make an address of this client, such as `tileUrl`, readable without a key for a while: for an <img> or a download.
   * One link serves all addresses of an image, a file or a job, and is used again until it is about to end.
   * @param {string} url
   * @param {{seconds?: number, signal?: AbortSignal}} [options] seconds: at most 3600.
   * @returns {Promise<string>}
   */
  async sign(url, { seconds = 600, signal } = {}) {
    const { link } = await this._link(this.http.pathOf(url), seconds, signal);
    return link === null ? url : `${url}${url.includes("?") ? "&" : "?"}link=${encodeURIComponent(link)}`;
  }

  /**
   * What a tenant used, day by day.
   * @param {{from?: string, to?: string, tenant?: string, signal?: AbortSignal}} [options] from, to: days in UTC, such as
   *   "2026-11-28"; 30 days up to today if left out. tenant: another one, or "*" for all: for operators.
   * @returns {Promise<Usage>}
   */
  usage({ from, to, tenant, signal } = {}) {
    return this.http.json("/v1/usage", { query: { from, to, tenant }, signal });
  }

  /** @param {string} path @param {number} seconds @param {AbortSignal} [signal] */
  async _link(path, seconds, signal) {
    const linked = LINKED.exec(path)?.[0];
    if (!linked) throw new TypeError(`${path} is of no image, file or job.`);
    const known = await this._links.get(linked)?.catch(() => undefined);
    if (known && known.expires_at - Date.now() / 1000 > MIN_LINK_LEFT_S) return known;
    const json = { path: decodeURI(linked), expires_s: seconds };
    const made = this.http.json("/v1/links", { method: "POST", json, repeatable: true, signal });
    this._links.set(linked, made);
    return made;
  }

  // ---- Models

  /** @param {CallOptions} [options] @returns {Promise<Model[]>} */
  async models({ signal } = {}) {
    return (await this.http.json("/v1/models", { signal })).models;
  }

  /**
   * Return what decoding a model's clicks elsewhere needs. Throws Problem for a model without a fast decoder.
   * @param {string} model
   * @param {CallOptions} [options]
   * @returns {Promise<import("./decode/geometry.js").Decoder>}
   */
  decoder(model, { signal } = {}) {
    return this.http.json(`${modelPath(model)}/decoder`, { signal });
  }

  /**
   * Return a graph of a model's decoder, as ONNX.
   * @param {string} model
   * @param {string} graph One of `decoder(model).graphs`.
   * @param {CallOptions} [options]
   */
  async decoderGraph(model, graph, { signal } = {}) {
    const path = `${modelPath(model)}/decoder/${encodeURIComponent(graph)}`;
    return (await this.http.send(path, { signal })).arrayBuffer();
  }

  // ---- Images

  /**
   * Store an image. The same bytes with the same options have the same id, so that sending them again does no harm.
   * @param {Blob} blob A File, or any bytes: the service detects what they are.
   * @param {ImageOptions & {onProgress?: OnProgress}} [options]
   * @returns {Promise<Image>}
   */
  uploadImage(blob, { signal, onProgress, ...options } = {}) {
    const query = imageQuery(options);
    return this.http.json("/v1/images", { ...upload(blob, "image/"), query, signal, onProgress });
  }

  /**
   * Let the service fetch an image, if its operator allows that.
   * @param {string} url
   * @param {ImageOptions} [options]
   * @returns {Promise<Image>}
   */
  fetchImage(url, { signal, ...options } = {}) {
    const query = imageQuery(options);
    return this.http.json("/v1/images", { method: "POST", json: { url }, repeatable: true, query, signal });
  }

  /** @param {string} imageId @param {CallOptions} [options] @returns {Promise<Image>} */
  getImage(imageId, { signal } = {}) {
    return this.http.json(imagePath(imageId), { signal });
  }

  /**
   * Delete an image and everything that was made from it.
   * @param {string} imageId
   * @param {CallOptions} [options]
   */
  async deleteImage(imageId, { signal } = {}) {
    await this.http.send(imagePath(imageId), { method: "DELETE", signal });
  }

  /**
   * Return the image as models see it, as PNG or JPEG.
   * @param {string} imageId
   * @param {{max?: number, signal?: AbortSignal}} [options] max: longest side in pixels.
   * @returns {Promise<Blob>}
   */
  async preview(imageId, { max, signal } = {}) {
    return (await this.http.send(`${imagePath(imageId)}/preview`, { query: { max }, signal })).blob();
  }

  /** The address of a preview, for an <img>. @param {string} imageId @param {number} [max] */
  previewUrl(imageId, max) {
    return this.http.url(`${imagePath(imageId)}/preview`, { max });
  }

  /**
   * The address of a tile of the image's pyramid.
   * @param {string} imageId @param {number} level @param {number} x @param {number} y
   */
  tileUrl(imageId, level, x, y) {
    return this.http.url(`${imagePath(imageId)}/tiles/${level}/${x}/${y}`);
  }

  /**
   * Return the embedding as safetensors (float16). An image that is not encoded is encoded first. isTiled: the image is
   * large, its clicks are decoded in regions, and this is of all of it at once.
   * @param {string} imageId
   * @param {{model?: string, signal?: AbortSignal}} [options]
   */
  async embedding(imageId, { model, signal } = {}) {
    const response = await this.http.send(`${imagePath(imageId)}/embedding`, { query: { model }, signal });
    return { data: await response.arrayBuffer(), isTiled: response.headers.get("Segserve-Tiled") === "true" };
  }

  // ---- Operations on an image

  /**
   * Return the masks of prompts.
   * @param {SegmentRequest} body
   * @param {CallOptions} [options]
   * @returns {Promise<SegmentAnswer>}
   */
  segment(body, options) {
    return this._operate("segment", body, options);
  }

  /**
   * Find all objects, by AIS or AMG. The answer is a PNG where no format is named; "rle", "polygon" and "coco" are JSON.
   * An image with too many tiles for one request answers a Job in place of it.
   * @template {ResultFormat} [F="png"]
   * @param {import("./types.js").WholeImageRequest<F>} body
   * @param {CallOptions} [options]
   * @returns {Promise<import("./types.js").InFormat<F> | Job>}
   */
  automatic(body, options) {
    return this._operate("automatic", body, options);
  }

  /**
   * Class maps of U-Nets; formats as of `automatic`, and "probabilities", which is a file.
   * @template {ResultFormat | "probabilities"} [F="png"]
   * @param {import("./types.js").WholeImageRequest<F>} body
   * @param {CallOptions} [options]
   * @returns {Promise<import("./types.js").InFormat<F, ClassObjects, Coco & {classes: ClassArea[]}>>}
   */
  semantic(body, options) {
    return this._operate("semantic", body, options);
  }

  /**
   * Objects of Mask R-CNN; formats as of `automatic`, "rle" where none is named.
   * @template {ResultFormat} [F="rle"]
   * @param {import("./types.js").WholeImageRequest<F>} body
   * @param {CallOptions} [options]
   * @returns {Promise<import("./types.js").InFormat<F>>}
   */
  instances(body, options) {
    return this._operate("instances", body, options);
  }

  /**
   * Objects that are like examples; formats as of `automatic`, "rle" where none is named.
   * @template {ResultFormat} [F="rle"]
   * @param {import("./types.js").WholeImageRequest<F>} body
   * @param {CallOptions} [options]
   * @returns {Promise<import("./types.js").InFormat<F, SimilarObjects>>}
   */
  similar(body, options) {
    return this._operate("similar", body, options);
  }

  /**
   * @param {string} operation
   * @param {{image_id: string} & Record<string, any>} body
   * @param {CallOptions} [options]
   * @returns {Promise<any>} The JSON of the answer, or a Blob where the format is a file.
   */
  async _operate(operation, { image_id: imageId, ...json }, { signal } = {}) {
    // The id is in the path, so that a load balancer can send all requests on an image to one replica.
    const options = { method: "POST", json, repeatable: true, signal };
    const response = await this.http.send(`${imagePath(imageId)}/${operation}`, options);
    const isJson = /\bjson\b/.test(response.headers.get("Content-Type") ?? "");
    return isJson ? response.json() : response.blob();
  }

  // ---- Files

  /**
   * Store a video, a stack, a volume or a zip.
   * @param {Blob} blob
   * @param {FileOptions & {onProgress?: OnProgress}} [options]
   * @returns {Promise<StoredFile>}
   */
  uploadFile(blob, { series, time, signal, onProgress } = {}) {
    return this.http.json("/v1/files", { ...upload(blob, "video/"), query: { series, time }, signal, onProgress });
  }

  /** @param {string} fileId @param {CallOptions} [options] @returns {Promise<StoredFile>} */
  getFile(fileId, { signal } = {}) {
    return this.http.json(`/v1/files/${encodeURIComponent(fileId)}`, { signal });
  }

  /** @param {string} fileId @param {CallOptions} [options] */
  async deleteFile(fileId, { signal } = {}) {
    await this.http.send(`/v1/files/${encodeURIComponent(fileId)}`, { method: "DELETE", signal });
  }

  /**
   * The address of a frame or slice as a picture, for an <img>.
   * @param {string} fileId
   * @param {number} frame
   * @param {FrameView & {max?: number}} [options] max: longest side in pixels.
   */
  frameUrl(fileId, frame, { axis, window, max } = {}) {
    const query = { axis, window: window && String(window), max };
    return this.http.url(`/v1/files/${encodeURIComponent(fileId)}/frames/${frame}`, query);
  }

  /**
   * Make an image of a frame or slice, to click on.
   * @param {string} fileId
   * @param {number} frame
   * @param {FrameView & {model?: string, signal?: AbortSignal}} [options] model: start encoding for it at once.
   * @returns {Promise<Image>}
   */
  imageOfFrame(fileId, frame, { axis, window, model, signal } = {}) {
    const json = { file_id: fileId, frame, axis, window };
    return this.http.json("/v1/images", { method: "POST", json, repeatable: true, query: { model }, signal });
  }

  /**
   * Read a label volume (NIfTI, NRRD, MetaImage, MGH, DICOM SEG) on the grid of a volume of the service. It is not stored.
   * @param {string} fileId The volume that the labels belong to.
   * @param {Blob} blob
   * @param {{axis?: 0 | 1 | 2, signal?: AbortSignal, onProgress?: OnProgress}} [options] axis: along which slices are numbered.
   * @returns {Promise<Labels>}
   */
  readLabels(fileId, blob, { axis, signal, onProgress } = {}) {
    return this.http.json(`/v1/files/${encodeURIComponent(fileId)}/labels`, { ...upload(blob, OCTETS), query: { axis }, signal, onProgress });
  }

  // ---- Jobs

  /**
   * Submit long work. It is submitted once, however often the connection breaks.
   * @param {Record<string, any>} body
   * @param {{idempotencyKey?: string, signal?: AbortSignal}} [options]
   * @returns {Promise<Job>}
   */
  submitJob(body, { idempotencyKey = randomKey(), signal } = {}) {
    const headers = { "Idempotency-Key": idempotencyKey };
    return this.http.json("/v1/jobs", { method: "POST", json: body, headers, repeatable: true, signal });
  }

  /** @param {string} jobId @param {CallOptions} [options] @returns {Promise<Job>} */
  getJob(jobId, { signal } = {}) {
    return this.http.json(jobPath(jobId), { signal });
  }

  /** The newest jobs. @param {CallOptions} [options] @returns {Promise<Job[]>} */
  async jobs({ signal } = {}) {
    return (await this.http.json("/v1/jobs", { signal })).jobs;
  }

  /**
   * Yield the events of a job until it has ended. Goes on past lost connections and a restarted service.
   * @param {string} jobId
   * @param {{from?: string, signal?: AbortSignal}} [options] from: id of the last event that is known.
   * @returns {AsyncGenerator<JobEvent, void, void>}
   */
  jobEvents(jobId, { from, signal } = {}) {
    return followEvents(this.http, jobId, { from, signal, patienceSeconds: this._patienceSeconds });
  }

  /**
   * Yield the results of a job as they come, each once. Goes on past lost connections and a restarted service.
   * @param {string} jobId
   * @param {{from?: number, signal?: AbortSignal, follow?: boolean}} [options]
   *   from: number of lines to leave out. follow: wait for results that are not done yet.
   * @returns {AsyncGenerator<ResultLine, Job, void>} Returns the job.
   */
  jobResults(jobId, { from = 0, signal, follow = true } = {}) {
    return followResults(this.http, jobId, { from, signal, follow, patienceSeconds: this._patienceSeconds });
  }

  /**
   * Add objects and corrections to a job on a video or a volume. Results that depend on them are made again: read on
   * with `from` set to the `progress.done` of the answer.
   * @param {string} jobId
   * @param {Record<string, any>} body
   * @param {CallOptions} [options]
   * @returns {Promise<Job>}
   */
  addPrompts(jobId, body, { signal } = {}) {
    return this.http.json(`${jobPath(jobId)}/prompts`, { method: "POST", json: body, signal });
  }

  /** Stop a job. Its finished results stay. @param {string} jobId @param {CallOptions} [options] @returns {Promise<Job>} */
  cancelJob(jobId, { signal } = {}) {
    return this.http.json(jobPath(jobId), { method: "DELETE", signal });
  }

  /** Run a failed or cancelled job again. @param {string} jobId @param {CallOptions} [options] @returns {Promise<Job>} */
  retryJob(jobId, { signal } = {}) {
    return this.http.json(`${jobPath(jobId)}/retry`, { method: "POST", signal });
  }

  /**
   * Return the results of a job as one file.
   * @param {string} jobId
   * @param {{format: string, signal?: AbortSignal}} options format: such as "coco", "png", "nifti", "mp4".
   * @returns {Promise<Blob>}
   */
  async downloadResults(jobId, { format, signal }) {
    return (await this.http.send(`${jobPath(jobId)}/results`, { query: { format }, signal })).blob();
  }
}

/** @param {string} model */
const modelPath = (model) => `/v1/models/${encodeURIComponent(model)}`;

/** @param {string} imageId */
const imagePath = (imageId) => `/v1/images/${encodeURIComponent(imageId)}`;

/** @param {string} jobId */
const jobPath = (jobId) => `/v1/jobs/${encodeURIComponent(jobId)}`;

/** @param {Omit<ImageOptions, "signal">} options */
function imageQuery({ page, channels, normalize, stain, invert, model }) {
  return { page, channels: channels === undefined ? undefined : String(channels), normalize, stain, invert, model };
}

/**
 * The same bytes are the same image or file, so an upload may be repeated.
 * @param {Blob} blob
 * @param {string} family Media types that the route takes beside octets.
 */
function upload(blob, family) {
  const type = blob.type.startsWith(family) ? blob.type : OCTETS;
  return { method: "POST", body: blob, headers: { "Content-Type": type }, repeatable: true };
}

// crypto.randomUUID is for secure contexts only, and the service may be called by http on a LAN.
function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
