/**
 * Return whether progress can be reported; a caller's own fetch is always used.
 * @param {typeof globalThis.fetch} [fetch]
 */
export function canReportProgress(fetch?: typeof globalThis.fetch): boolean;
/**
 * Send a body and report its progress. Throws Problem if the service does not answer, or the signal's reason.
 * @param {Upload} upload
 * @returns {Promise<Response>}
 */
export function sendWithProgress(upload: Upload): Promise<Response>;
/**
 * Uploads that report how much is sent. `fetch` cannot: browsers report it by XMLHttpRequest, and Node by a stream.
 */
export type Upload = {
    method: string;
    url: string;
    headers: Headers;
    body: Blob;
    signal?: AbortSignal | undefined;
    onProgress: (sent: number, total: number) => void;
    fetch?: typeof fetch | undefined;
};
