/**
 * Return the seconds of a Retry-After header, which holds seconds or a date.
 * @param {string | null} header
 */
export function parseRetryAfter(header: string | null): number | undefined;
/**
 * Errors of the service: problem documents (RFC 9457).
 *
 * @typedef {object} ProblemFields
 * @property {number} [status] HTTP status; 0 if the service did not answer.
 * @property {string} [type] Stable name of the problem, such as "urn:segserve:problem:image_not_found".
 * @property {string} [title] Its name for people.
 * @property {string} [detail] What went wrong.
 * @property {string} [field] Path of the field at fault, such as "prompts.0.box".
 * @property {string} [remedy] What to do about it.
 * @property {number} [retryAfter] Seconds after which the service wants to be asked again.
 * @property {unknown} [cause] The error of the network.
 */
export const UNREACHABLE: "urn:segserve:problem:unreachable";
/** A request that the service refused, or that did not reach it (status 0). */
export class Problem extends Error {
    /**
     * Read the problem document of an answer that is no success. An answer of a proxy need not have one.
     * @param {Response} response
     */
    static fromResponse(response: Response): Promise<Problem>;
    /** @param {unknown} cause What `fetch` threw. */
    static unreachable(cause: unknown): Problem;
    /** @param {ProblemFields} fields */
    constructor({ status, type, title, detail, field, remedy, retryAfter, cause }: ProblemFields);
    status: number;
    type: string;
    title: string;
    detail: string;
    field: string | undefined;
    remedy: string | undefined;
    retryAfter: number | undefined;
    /** The last part of the type, such as "image_not_found". */
    get code(): string;
    /** Whether the service could not be reached. */
    get isUnreachable(): boolean;
}
/**
 * Errors of the service: problem documents (RFC 9457).
 */
export type ProblemFields = {
    /**
     * HTTP status; 0 if the service did not answer.
     */
    status?: number | undefined;
    /**
     * Stable name of the problem, such as "urn:segserve:problem:image_not_found".
     */
    type?: string | undefined;
    /**
     * Its name for people.
     */
    title?: string | undefined;
    /**
     * What went wrong.
     */
    detail?: string | undefined;
    /**
     * Path of the field at fault, such as "prompts.0.box".
     */
    field?: string | undefined;
    /**
     * What to do about it.
     */
    remedy?: string | undefined;
    /**
     * Seconds after which the service wants to be asked again.
     */
    retryAfter?: number | undefined;
    /**
     * The error of the network.
     */
    cause?: unknown;
};
