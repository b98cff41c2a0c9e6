/**
 * Uploads that report how much is sent. `fetch` cannot: browsers report it by XMLHttpRequest, and Node by a stream.
 *
 * @typedef {object} Upload
 * @property {string} method
 * @property {string} url
 * @property {Headers} headers
 * @property {Blob} body
 * @property {AbortSignal} [signal]
 * @property {(sent: number, total: number) => void} onProgress
 * @property {typeof globalThis.fetch} [fetch]
 */

import { Problem } from "./problem.js";

const hasXhr = () => typeof XMLHttpRequest !== "undefined";
const isNode = () => typeof (/** @type {any} */ (globalThis).process?.versions?.node) === "string";

/**
 * Return whether progress can be reported; a caller's own fetch is always used.
 * @param {typeof globalThis.fetch} [fetch]
 */
export function canReportProgress(fetch) {
  return isNode() || (hasXhr() && fetch === undefined);
}

/**
 * Send a body and report its progress. Throws Problem if the service does not answer, or the signal's reason.
 * @param {Upload} upload
 * @returns {Promise<Response>}
 */
export function sendWithProgress(upload) {
  return hasXhr() && upload.fetch === undefined ? sendByXhr(upload) : sendByStream(upload);
}

/**
 * @param {Upload} upload
 * @returns {Promise<Response>}
 */
function sendByXhr({ method, url, headers, body, signal, onProgress }) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    const fail = () => reject(signal?.aborted ? signal.reason : Problem.unreachable(undefined));
    request.open(method, url);
    request.responseType = "arraybuffer";
    headers.forEach((value, name) => request.setRequestHeader(name, value));
    request.upload.onprogress = ({ loaded, total }) => onProgress(loaded, total || body.size);
    request.onload = () => resolve(toResponse(request));
    request.onerror = request.onabort = request.ontimeout = fail;
    request.onloadend = () => signal?.removeEventListener("abort", abort);
    signal?.addEventListener("abort", abort, { once: true });
    request.send(body);
  });
}

/** @param {XMLHttpRequest} request */
function toResponse(request) {
  const headers = new Headers();
  for (const line of request.getAllResponseHeaders().trim().split(/[\r\n]+/)) {
    const colon = line.indexOf(":");
    if (colon > 0) headers.append(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  return new Response(request.status === 204 ? null : request.response, { status: request.status, headers });
}

/**
 * @param {Upload} upload
 * @returns {Promise<Response>}
 */
async function sendByStream({ method, url, headers, body, signal, onProgress, fetch = globalThis.fetch }) {
  let sent = 0;
  const counter = new TransformStream({
    transform(chunk, controller) {
      controller.enqueue(chunk);
      onProgress((sent += chunk.byteLength), body.size);
    },
  });
  if (body.type && !headers.has("Content-Type")) headers.set("Content-Type", body.type);
  const options = { method, headers, body: body.stream().pipeThrough(counter), signal, duplex: "half" };
  try {
    return await fetch(url, /** @type {RequestInit} */ (options));
  } catch (error) {
    throw signal?.aborted ? error : Problem.unreachable(error);
  }
}
