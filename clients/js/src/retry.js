/** When to send a request again, and how long to wait before that. */

import { Problem } from "./problem.js";

// The service did not do the work: it may be asked again, whatever the request is.
const REFUSED_FOR_NOW = new Set([429, 503]);
// A gateway lost the answer: the work may be done already.
const ANSWER_LOST = new Set([502, 504]);
// Node's names for connections that were never made.
const NOT_CONNECTED = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "UND_ERR_CONNECT_TIMEOUT"]);
const FIRST_WAIT_S = 0.5;
const MAX_WAIT_S = 15;
// A longer Retry-After is the caller's to decide.
const MAX_RETRY_AFTER_S = 60;

/**
 * Return whether a request may be sent again after this failure.
 * @param {unknown} error
 * @param {boolean} isRepeatable Whether doing it twice is the same as doing it once.
 */
export function mayRetry(error, isRepeatable) {
  if (!(error instanceof Problem)) return false;
  if (REFUSED_FOR_NOW.has(error.status)) return (error.retryAfter ?? 0) <= MAX_RETRY_AFTER_S;
  if (error.isUnreachable) return isRepeatable || NOT_CONNECTED.has(causeCode(error));
  return isRepeatable && ANSWER_LOST.has(error.status);
}

/** @param {Problem} error */
function causeCode(error) {
  const cause = /** @type {any} */ (error.cause);
  return cause?.cause?.code ?? cause?.code ?? "";
}

/**
 * Return the seconds to wait before the next try: exponential with full jitter, and at least what the service asked for.
 * @param {number} failures How many tries have failed, from 1.
 * @param {number} [retryAfter] Seconds, of the answer.
 * @param {() => number} [random]
 */
export function waitSeconds(failures, retryAfter = 0, random = Math.random) {
  const ceiling = Math.min(MAX_WAIT_S, FIRST_WAIT_S * 2 ** (failures - 1));
  // What the service asked for counts from its answer on; a little more spreads the clients.
  return retryAfter > 0 ? retryAfter + random() * FIRST_WAIT_S : ceiling * (0.5 + 0.5 * random());
}

/**
 * Wait. Rejects with the signal's reason when it is aborted.
 * @param {number} seconds
 * @param {AbortSignal | null} [signal]
 * @returns {Promise<void>}
 */
export function sleep(seconds, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, seconds * 1000);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
