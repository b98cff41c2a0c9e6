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
    constructor({ baseUrl, fetch, retries, headers, apiKey, onRetry, onUnauthenticated }: {
        baseUrl: string;
        fetch?: typeof globalThis.fetch | undefined;
        retries: number;
        headers?: Record<string, string> | undefined;
        apiKey?: string | undefined;
        onRetry?: ((retry: Retry) => void) | undefined;
        onUnauthenticated?: Unauthenticated | undefined;
    });
    _baseUrl: string;
    _fetch: typeof fetch | undefined;
    _retries: number;
    _headers: Record<string, string>;
    _apiKey: string | undefined;
    _onRetry: ((retry: Retry) => void) | undefined;
    _onUnauthenticated: Unauthenticated | undefined;
    /**
     * Return the address of a path.
     * @param {string} path
     * @param {Query} [query]
     */
    url(path: string, query?: Query): string;
    /** The path of an address of this service, without its query. @param {string} url */
    pathOf(url: string): string;
    /**
     * Send a request until it is answered. Throws Problem, or the reason of the signal.
     * @param {string} path
     * @param {RequestOptions} [options]
     * @returns {Promise<Response>} A success.
     */
    send(path: string, options?: RequestOptions): Promise<Response>;
    /**
     * @param {string} path
     * @param {RequestOptions} [options]
     * @returns {Promise<any>} The JSON of the answer.
     */
    json(path: string, options?: RequestOptions): Promise<any>;
    /**
     * @param {string} path
     * @param {RequestOptions & {method: string}} options
     */
    _sendOnce(path: string, { method, query, json, body, headers, signal, onProgress }: RequestOptions & {
        method: string;
    }): Promise<Response>;
    /**
     * @param {string} url
     * @param {RequestInit} options
     */
    _call(url: string, options: RequestInit): Promise<Response>;
}
export type Query = Record<string, string | number | boolean | null | undefined>;
/**
 * What is about to be repeated.
 */
export type Retry = {
    path: string;
    /**
     * How many tries have failed.
     */
    failures: number;
    waitSeconds: number;
    error: unknown;
};
/**
 * Called where the service asks for a key, or
 *  does not know the one that was sent. Its promise resolves once the request may be sent again, to the key of this and
 *  all later requests where there is a new one.
 */
export type Unauthenticated = (problem: Problem) => Promise<string | void>;
export type RequestOptions = {
    method?: string | undefined;
    /**
     * Values that are null or undefined are left out.
     */
    query?: Query | undefined;
    /**
     * Sent as JSON.
     */
    json?: unknown;
    /**
     * Sent as it is.
     */
    body?: Blob | undefined;
    headers?: Record<string, string | undefined> | undefined;
    signal?: AbortSignal | undefined;
    /**
     * Whether doing it twice is the same as doing it once; GET, HEAD and DELETE are.
     */
    repeatable?: boolean | undefined;
    retries?: number | undefined;
    /**
     * Bytes of the body.
     */
    onProgress?: ((sent: number, total: number) => void) | undefined;
    /**
     * Whether to call onUnauthenticated where the service asks for a key; it does.
     */
    waitsForKey?: boolean | undefined;
};
import { Problem } from "./problem.js";
