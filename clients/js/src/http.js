/** One HTTP connection to the service: addresses, errors as `Problem`, retries. */

import { Problem } from "./problem.js";
import { mayRetry, sleep, waitSeconds } from "./retry.js";
import { canReportProgress, sendWithProgress } from "./upload.js";

/**
 * @typedef {Record<string, string | number | boolean | null | undefined>} Query
 *
 * @typedef {object} Retry What is about to be repeated.
 * @property {string} path
 * @property {number} failures How many tries have failed.
 * @property {number} waitSeconds
 * @property {unknown} error
 *
 * @typedef {(problem: Problem) => Promise<string | void>} Unauthenticated Called where the service asks for a key, or
 *   does not know the one that was sent. Its promise resolves once the request may be sent again, to the key of this and
 *   all later requests where there is a new one.
 *
 * @typedef {object} RequestOptions
 * @property {string} [method]
 * @property {Query} [query] Values that are null or undefined are left out.
 * @property {unknown} [json] Sent as JSON.
 * @property {Blob} [body] Sent as it is.
 * @property {Record<string, string | undefined>} [headers]
 * @property {AbortSignal} [signal]
 * @property {boolean} [repeatable] Whether doing it twice is the same as doing it once; GET, HEAD and DELETE are.
 * @property {number} [retries]
 * @property {(sent: number, total: number) => void} [onProgress] Bytes of the body.
 * @property {boolean} [waitsForKey] Whether to call onUnauthenticated where the service asks for a key; it does.
 */

const UNAUTHENTICATED = 401;

export class Http {
  /**
   * @param {object} options
   * @param {string} options.baseUrl
   * @param {typeof globalThis.fetch} [options.fetch]
   * @param {number} options.retries
   * @param {Record<string, string>} [options.headers]
   * @param {string} [options.apiKey]
   * @param {(retry: Retry) => void} [options.onRetry]
   * @param {Unauthenticated} [options.onUnauthenticated]
   */
  constructor({ baseUrl, fetch, retries, headers = {}, apiKey, onRetry, onUnauthenticated }) {
    this._baseUrl = baseUrl.replace(/\/+$/, "");
    this._fetch = fetch;
    this._retries = retries;
    this._headers = headers;
    this._apiKey = apiKey;
    this._onRetry = onRetry;
    this._onUnauthenticated = onUnauthenticated;
  }

  /**
   * Return the address of a path.
   * @param {string} path
   * @param {Query} [query]
   */
  url(path, query = {}) {
    const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
    const text = new URLSearchParams(given.map(([key, value]) => [key, String(value)])).toString();
    return `${this._baseUrl}${path}${text && `?${text}`}`;
  }

  /** The path of an address of this service, without its query. @param {string} url */
  pathOf(url) {
    return (url.startsWith(this._baseUrl) ? url.slice(this._baseUrl.length) : url).replace(/[?#].*$/s, "");
  }

  /**
   * Send a request until it is answered. Throws Problem, or the reason of the signal.
   * @param {string} path
   * @param {RequestOptions} [options]
   * @returns {Promise<Response>} A success.
   */
  async send(path, options = {}) {
    const { method = "GET", signal, retries = this._retries, waitsForKey = true } = options;
    const repeatable = options.repeatable ?? ["GET", "HEAD", "DELETE"].includes(method);
    for (let failures = 1; ; failures++) {
      try {
        return await this._sendOnce(path, { ...options, method });
      } catch (error) {
        if (this._onUnauthenticated && waitsForKey && error instanceof Problem && error.status === UNAUTHENTICATED) {
          failures--; // it was not the service that failed
          this._apiKey = (await untilAborted(this._onUnauthenticated(error), signal)) ?? this._apiKey;
          continue;
        }
        if (signal?.aborted || failures > retries || !mayRetry(error, repeatable)) throw error;
        const seconds = waitSeconds(failures, /** @type {Problem} */ (error).retryAfter);
        this._onRetry?.({ path, failures, waitSeconds: seconds, error });
        await sleep(seconds, signal);
      }
    }
  }

  /**
   * @param {string} path
   * @param {RequestOptions} [options]
   * @returns {Promise<any>} The JSON of the answer.
   */
  async json(path, options) {
    const response = await this.send(path, options);
    try {
      return await response.json();
    } catch (error) {
      throw options?.signal?.aborted ? error : Problem.unreachable(error);
    }
  }

  /**
   * @param {string} path
   * @param {RequestOptions & {method: string}} options
   */
  async _sendOnce(path, { method, query, json, body, headers, signal, onProgress }) {
    const sent = new Headers({ ...this._headers, ...omitUndefined(headers) });
    if (this._apiKey && !sent.has("Authorization")) sent.set("Authorization", `Bearer ${this._apiKey}`);
    if (json !== undefined) sent.set("Content-Type", "application/json");
    const content = json === undefined ? body : JSON.stringify(json);
    const url = this.url(path, query);
    const response =
      onProgress && body && canReportProgress(this._fetch)
        ? await sendWithProgress({ method, url, headers: sent, body, signal, onProgress, fetch: this._fetch })
        : await this._call(url, { method, headers: sent, body: content, signal });
    if (!response.ok) throw await Problem.fromResponse(response);
    return response;
  }

  /**
   * @param {string} url
   * @param {RequestInit} options
   */
  async _call(url, options) {
    const fetch = this._fetch ?? globalThis.fetch;
    try {
      return await fetch(url, options);
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw Problem.unreachable(error);
    }
  }
}

/**
 * Wait for a promise, or throw the reason of the signal as soon as it is aborted.
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>}
 */
async function untilAborted(promise, signal) {
  if (!signal) return promise;
  signal.throwIfAborted();
  /** @type {() => void} */
  let stop = () => {};
  const aborted = new Promise((_, reject) => signal.addEventListener("abort", (stop = () => reject(signal.reason))));
  try {
    return await /** @type {Promise<T>} */ (Promise.race([promise, aborted]));
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

/**
 * @param {Record<string, string | undefined>} [headers]
 * @returns {Record<string, string>}
 */
function omitUndefined(headers = {}) {
  return /** @type {Record<string, string>} */ (
    Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined))
  );
}
