import assert from "node:assert/strict";
import { test } from "node:test";

import { Client } from "../src/client.js";
import { parseEvents, splitLines } from "../src/event_stream.js";

async function* pieces(text, length) {
  for (let i = 0; i < text.length; i += length) yield text.slice(i, i + length);
}

async function collect(iterable) {
  const items = [];
  for await (const item of iterable) items.push(item);
  return items;
}

test("events are read wherever the stream is cut into pieces", async () => {
  const stream = 'id: 1\nevent: progress\ndata: {"a":\ndata: 1}\n\n: still here\n\nid: 2\r\ndata: end\r\n\r\ndata: cut off';
  for (const length of [1, 2, 3, 7, 1000]) {
    assert.deepEqual(await collect(parseEvents(splitLines(pieces(stream, length)))), [
      { id: "1", event: "progress", data: '{"a":\n1}' },
      { id: "2", event: "message", data: "end" },
    ]);
  }
});

/** A body that breaks off after its text, as that of a service that is killed does. */
function broken(text) {
  let isSent = false;
  return new ReadableStream({
    pull(controller) {
      if (isSent) return controller.error(new TypeError("terminated"));
      isSent = true;
      controller.enqueue(new TextEncoder().encode(text));
    },
  });
}

const job = (done, state) => ({ job_id: "j", state, progress: { done } });
const event = (id, done, state) => `id: ${id}\nevent: ${state === "running" ? "progress" : "end"}\ndata: ${JSON.stringify(job(done, state))}\n\n`;

test("events go on after the last one that came", async () => {
  const asked = [];
  const bodies = [broken(event(1, 1, "running") + "id: 2\ndata: {"), event(2, 2, "running") + event(3, 3, "succeeded")];
  const fetch = async (_, { headers }) => {
    asked.push(headers.get("Last-Event-ID"));
    return new Response(bodies.shift());
  };
  const events = await collect(new Client({ fetch }).jobEvents("j"));
  assert.deepEqual(events.map(({ id }) => id), ["1", "2", "3"]);
  assert.deepEqual(asked, [null, "1"]);
});

test("results go on after the last whole line, and end with the job", async () => {
  const asked = [];
  const results = [broken('{"frame":0}\n{"frame":1}\n{"fra'), '{"frame":2}\n', '{"frame":3}\n'];
  const states = [job(2, "running"), job(3, "running"), job(4, "succeeded")];
  const fetch = async (url) => {
    if (url.endsWith("/events")) return new Response(event(9, 4, "running"));
    if (url.includes("/results")) {
      asked.push(new URL(url, "http://s").searchParams.get("from"));
      return new Response(results.shift());
    }
    return Response.json(states.shift());
  };
  const lines = await collect(new Client({ fetch }).jobResults("j"));
  assert.deepEqual(lines.map(({ frame }) => frame), [0, 1, 2, 3]);
  assert.deepEqual(asked, ["0", "2", "3"]);
});

test("a job that is not there is told at once", async () => {
  const fetch = async () => new Response("{}", { status: 404 });
  await assert.rejects(collect(new Client({ fetch }).jobEvents("j")), { status: 404 });
  await assert.rejects(collect(new Client({ fetch }).jobResults("j")), { status: 404 });
});

test("a service that stays away is given up", async () => {
  const fetch = async () => {
    throw new TypeError("fetch failed");
  };
  await assert.rejects(collect(new Client({ fetch, patienceSeconds: 0.1 }).jobEvents("j")), { status: 0 });
});
