/**
 * Yield the events of a job until it has ended. Each comes once, whatever happens to connections.
 * @param {Http} http
 * @param {string} jobId
 * @param {{from?: string, signal?: AbortSignal, patienceSeconds: number}} options from: id of the last event known.
 * @returns {AsyncGenerator<JobEvent, void, void>}
 */
export function followEvents(http: Http, jobId: string, { from, signal, patienceSeconds }: {
    from?: string;
    signal?: AbortSignal;
    patienceSeconds: number;
}): AsyncGenerator<JobEvent, void, void>;
/**
 * Yield the lines of a job's results, each once.
 * @param {Http} http
 * @param {string} jobId
 * @param {{from: number, signal?: AbortSignal, follow: boolean, patienceSeconds: number}} options
 *   from: number of lines to leave out. follow: go on until the job has ended.
 * @returns {AsyncGenerator<import("./types.js").ResultLine, Job, void>} Returns the job as it was when its last line was read.
 */
export function followResults(http: Http, jobId: string, { from, signal, follow, patienceSeconds }: {
    from: number;
    signal?: AbortSignal;
    follow: boolean;
    patienceSeconds: number;
}): AsyncGenerator<import("./types.js").ResultLine, Job, void>;
export function isRunning(job: Job): boolean;
export type Http = import("./http.js").Http;
export type Job = import("./types.js").Job;
export type JobEvent = import("./types.js").JobEvent;
