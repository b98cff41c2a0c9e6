/**
 * Server-sent events (WHATWG HTML, 9.2) and lines, read from the body of a response.
 *
 * @typedef {object} ServerSentEvent
 * @property {string} id The last id that the stream named, to go on after.
 * @property {string} event Its name; "message" if it has none.
 * @property {string} data
 */
/**
 * Yield the text of a body as it arrives. A stream that says nothing for `silenceSeconds` is broken: it throws then.
 * @param {Response} response
 * @param {number} [silenceSeconds]
 * @returns {AsyncGenerator<string, void, void>}
 */
export function readText(response: Response, silenceSeconds?: number): AsyncGenerator<string, void, void>;
/**
 * Yield whole lines, without their ends. What comes after the last line end is no whole line and is left out.
 * @param {AsyncIterable<string>} chunks
 * @returns {AsyncGenerator<string, void, void>}
 */
export function splitLines(chunks: AsyncIterable<string>): AsyncGenerator<string, void, void>;
/**
 * Yield the events of a stream. An event that was cut off is left out.
 * @param {AsyncIterable<string>} lines
 * @param {string} [lastId]
 * @returns {AsyncGenerator<ServerSentEvent, void, void>}
 */
export function parseEvents(lines: AsyncIterable<string>, lastId?: string): AsyncGenerator<ServerSentEvent, void, void>;
/**
 * Server-sent events (WHATWG HTML, 9.2) and lines, read from the body of a response.
 */
export type ServerSentEvent = {
    /**
     * The last id that the stream named, to go on after.
     */
    id: string;
    /**
     * Its name; "message" if it has none.
     */
    event: string;
    data: string;
};
