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
 */

export class Http {
  /**
   * @param {object} options
   * @param {string} options.baseUrl
   * @param {typeof globalThis.fetch} [options.fetch]
   * @param {number} options.retries
   * @param {Record<string, string>} [options.headers]
   * @param {(retry: Retry) => void} [options.onRetry]
   */
  constructor({ baseUrl, fetch, retries, headers = {}, onRetry }) {
    this._baseUrl = baseUrl.replace(/\/+$/, "");
    this._fetch = fetch;
    this._retries = retries;
    this._headers = headers;
    this._onRetry = onRetry;
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

  /**
   * Send a request until it is answered. Throws Problem, or the reason of the signal.
   * @param {string} path
   * @param {RequestOptions} [options]
   * @returns {Promise<Response>} A success.
   */
  async send(path, options = {}) {
    const { method = "GET", signal, retries = this._retries } = options;
    const repeatable = options.repeatable ?? ["GET", "HEAD", "DELETE"].includes(method);
    for (let failures = 1; ; failures++) {
      try {
        return await this._sendOnce(path, { ...options, method });
      } catch (error) {
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
 * @param {Record<string, string | undefined>} [headers]
 * @returns {Record<string, string>}
 */
function omitUndefined(headers = {}) {
  return /** @type {Record<string, string>} */ (
    Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined))
  );
}
