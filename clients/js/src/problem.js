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

export const UNREACHABLE = "urn:segserve:problem:unreachable";

/** A request that the service refused, or that did not reach it (status 0). */
export class Problem extends Error {
  /** @param {ProblemFields} fields */
  constructor({ status = 0, type = "about:blank", title = "", detail = "", field, remedy, retryAfter, cause }) {
    super([detail || title || `The service answered with status ${status}.`, remedy].filter(Boolean).join(" "), { cause });
    this.name = "Problem";
    this.status = status;
    this.type = type;
    this.title = title;
    this.detail = detail || this.message;
    this.field = field;
    this.remedy = remedy;
    this.retryAfter = retryAfter;
  }

  /** The last part of the type, such as "image_not_found". */
  get code() {
    return this.type.slice(this.type.lastIndexOf(":") + 1);
  }

  /** Whether the service could not be reached. */
  get isUnreachable() {
    return this.status === 0;
  }

  /**
   * Read the problem document of an answer that is no success. An answer of a proxy need not have one.
   * @param {Response} response
   */
  static async fromResponse(response) {
    const text = await response.text().catch(() => "");
    const known = parseDocument(text);
    return new Problem({
      ...(known.type ? known : notOurs(response)),
      status: response.status,
      retryAfter: parseRetryAfter(response.headers.get("Retry-After")),
    });
  }

  /** @param {unknown} cause What `fetch` threw. */
  static unreachable(cause) {
    return new Problem({
      type: UNREACHABLE,
      title: "Unreachable",
      detail: "The service does not answer.",
      remedy: isPage()
        ? "Check that it is running, and whether SEGSERVE_CORS_ORIGINS of the service lacks this page's origin."
        : "Check that it is running, then try again.",
      cause,
    });
  }
}

/** Whether this is a page of a browser or its worker, where a refusal by CORS looks like a service that is away. */
const isPage = () => typeof (/** @type {any} */ (globalThis).location) !== "undefined";

/**
 * An error of something else: a proxy, or a server that is no segserve.
 * @param {Response} response
 * @returns {ProblemFields}
 */
function notOurs({ status, statusText, url }) {
  return {
    title: statusText,
    detail: `Status ${status} came without a problem document: it is no answer of segserve.`,
    remedy: `Check that baseUrl, here ${url ? new URL(url).origin : "of the page"}, is the address of the service, and its proxies.`,
  };
}

/**
 * @param {string} text
 * @returns {ProblemFields}
 */
function parseDocument(text) {
  try {
    const { type, title, detail, field, remedy } = JSON.parse(text);
    return { type, title, detail, field, remedy };
  } catch {
    return {};
  }
}

/**
 * Return the seconds of a Retry-After header, which holds seconds or a date.
 * @param {string | null} header
 */
export function parseRetryAfter(header) {
  if (!header) return undefined;
  const seconds = /^\s*\d+\s*$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds);
}
