// Follows a job, while the test kills the service. Usage: node follow.mjs URL JOB_ID. Prints each event and each line's index.
import { Client } from "../../../clients/js/src/index.js";

const [url, jobId] = process.argv.slice(2);
const client = new Client({ baseUrl: url });

async function printEvents() {
  for await (const { id, event, job } of client.jobEvents(jobId)) console.log(JSON.stringify({ id, event, state: job.state }));
}

async function printLines() {
  for await (const { index } of client.jobResults(jobId)) console.log(JSON.stringify({ index }));
}

await Promise.all([printEvents(), printLines()]);
