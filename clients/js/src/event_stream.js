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
export async function* readText(response, silenceSeconds = Infinity) {
  if (!response.body) return;
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await withTimeout(reader.read(), silenceSeconds);
      if (done) break;
      yield decoder.decode(value, { stream: true });
    }
    const rest = decoder.decode();
    if (rest) yield rest;
  } finally {
    // The consumer may have stopped early: the connection is closed.
    await reader.cancel().catch(() => {});
  }
}

/**
 * @template T
 * @param {Promise<T>} promise
 * @param {number} seconds
 * @returns {Promise<T>}
 */
async function withTimeout(promise, seconds) {
  if (!Number.isFinite(seconds)) return promise;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const timeout = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new TypeError("The stream is silent.")), seconds * 1000);
  });
  try {
    return /** @type {T} */ (await Promise.race([promise, timeout]));
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Yield whole lines, without their ends. What comes after the last line end is no whole line and is left out.
 * @param {AsyncIterable<string>} chunks
 * @returns {AsyncGenerator<string, void, void>}
 */
export async function* splitLines(chunks) {
  let rest = "";
  for await (const chunk of chunks) {
    rest += chunk;
    let start = 0;
    for (let end; (end = rest.indexOf("\n", start)) >= 0; start = end + 1) {
      yield rest.slice(start, rest[end - 1] === "\r" && end > start ? end - 1 : end);
    }
    rest = rest.slice(start);
  }
}

/**
 * Yield the events of a stream. An event that was cut off is left out.
 * @param {AsyncIterable<string>} lines
 * @param {string} [lastId]
 * @returns {AsyncGenerator<ServerSentEvent, void, void>}
 */
export async function* parseEvents(lines, lastId = "") {
  let id = lastId;
  let event = "";
  /** @type {string[]} */
  let data = [];
  for await (const line of lines) {
    if (line === "") {
      if (data.length) yield { id, event: event || "message", data: data.join("\n") };
      event = "";
      data = [];
      continue;
    }
    const colon = line.indexOf(":");
    if (colon === 0) continue;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") data.push(value);
    else if (name === "event") event = value;
    else if (name === "id" && !value.includes("\0")) id = value;
  }
}
