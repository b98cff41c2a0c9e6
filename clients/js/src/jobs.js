/** Following a job by streams that reconnect, also past a service that was killed and started again. */

import { parseEvents, readText, splitLines } from "./event_stream.js";
import { Problem } from "./problem.js";
import { mayRetry, sleep, waitSeconds } from "./retry.js";

/**
 * @typedef {import("./http.js").Http} Http
 * @typedef {import("./types.js").Job} Job
 * @typedef {import("./types.js").JobEvent} JobEvent
 */

// The service says something every 15 s.
const MAX_SILENCE_S = 60;
const END_EVENT = "end";

/** Whether a job goes on. @param {Job} job */
export const isRunning = (job) => job.state === "queued" || job.state === "running";

/** Tries again for a while after each sign of life. */
class Reconnect {
  /**
   * @param {number} patienceSeconds
   * @param {AbortSignal} [signal]
   */
  constructor(patienceSeconds, signal) {
    this._patienceMs = patienceSeconds * 1000;
    this._signal = signal;
    this._failures = 0;
    this._since = Date.now();
  }

  /** Something arrived. */
  reset() {
    this._failures = 0;
    this._since = Date.now();
  }

  /**
   * Wait before the next try. Throws the error where another try cannot help or would come too late.
   * @param {unknown} error
   */
  async wait(error) {
    // A stream that breaks off throws errors of the network, which are no Problem.
    const mayHelp = error instanceof Problem ? mayRetry(error, true) : true;
    if (this._signal?.aborted) throw this._signal.reason;
    if (!mayHelp || Date.now() - this._since > this._patienceMs) throw error;
    const retryAfter = error instanceof Problem ? error.retryAfter : undefined;
    await sleep(waitSeconds(++this._failures, retryAfter), this._signal);
  }
}

/**
 * Yield the events of a job until it has ended. Each comes once, whatever happens to connections.
 * @param {Http} http
 * @param {string} jobId
 * @param {{from?: string, signal?: AbortSignal, patienceSeconds: number}} options from: id of the last event known.
 * @returns {AsyncGenerator<JobEvent, void, void>}
 */
export async function* followEvents(http, jobId, { from = "", signal, patienceSeconds }) {
  const reconnect = new Reconnect(patienceSeconds, signal);
  const path = `/v1/jobs/${encodeURIComponent(jobId)}/events`;
  for (let lastId = from; ; ) {
    /** @type {unknown} */
    let failure;
    try {
      const headers = { "Last-Event-ID": lastId || undefined, Accept: "text/event-stream" };
      const response = await http.send(path, { headers, signal, retries: 0 });
      for await (const { id, event, data } of parseEvents(splitLines(readText(response, MAX_SILENCE_S)), lastId)) {
        reconnect.reset();
        lastId = id;
        yield { id, event, job: JSON.parse(data) };
        if (event === END_EVENT) return;
      }
      failure = Problem.unreachable(undefined); // the service stopped in an orderly way
    } catch (error) {
      failure = error;
    }
    await reconnect.wait(failure);
  }
}

/**
 * Yield the lines of a job's results, each once.
 * @param {Http} http
 * @param {string} jobId
 * @param {{from: number, signal?: AbortSignal, follow: boolean, patienceSeconds: number}} options
 *   from: number of lines to leave out. follow: go on until the job has ended.
 * @returns {AsyncGenerator<import("./types.js").ResultLine, Job, void>} Returns the job as it was when its last line was read.
 */
export async function* followResults(http, jobId, { from, signal, follow, patienceSeconds }) {
  const reconnect = new Reconnect(patienceSeconds, signal);
  const path = `/v1/jobs/${encodeURIComponent(jobId)}`;
  let count = from;
  let lastId = "";
  for (;;) {
    try {
      // Asked before the lines are read: a job that has ended by now has no more lines than these.
      const job = /** @type {Job} */ (await http.json(path, { signal, retries: 0 }));
      const response = await http.send(`${path}/results`, { query: { from: count }, signal, retries: 0 });
      for await (const line of splitLines(readText(response, MAX_SILENCE_S))) {
        if (!line) continue;
        const parsed = JSON.parse(line);
        count++;
        reconnect.reset();
        yield parsed;
      }
      if (!follow || !isRunning(job)) return job;
      for await (const event of followEvents(http, jobId, { from: lastId, signal, patienceSeconds })) {
        lastId = event.id;
        if (event.job.progress.done > count || !isRunning(event.job)) break;
      }
      reconnect.reset();
    } catch (error) {
      await reconnect.wait(error);
    }
  }
}
