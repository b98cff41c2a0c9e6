/**
 * Return whether a request may be sent again after this failure.
 * @param {unknown} error
 * @param {boolean} isRepeatable Whether doing it twice is the same as doing it once.
 */
export function mayRetry(error: unknown, isRepeatable: boolean): boolean;
/**
 * Return the seconds to wait before the next try: exponential with full jitter, and at least what the service asked for.
 * @param {number} failures How many tries have failed, from 1.
 * @param {number} [retryAfter] Seconds, of the answer.
 * @param {() => number} [random]
 */
export function waitSeconds(failures: number, retryAfter?: number, random?: () => number): number;
/**
 * Wait. Rejects with the signal's reason when it is aborted.
 * @param {number} seconds
 * @param {AbortSignal | null} [signal]
 * @returns {Promise<void>}
 */
export function sleep(seconds: number, signal?: AbortSignal | null): Promise<void>;
