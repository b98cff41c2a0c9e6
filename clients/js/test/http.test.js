import assert from "node:assert/strict";
import { test } from "node:test";

import { Client } from "../src/client.js";
import { parseRetryAfter, Problem } from "../src/problem.js";
import { mayRetry, waitSeconds } from "../src/retry.js";

const answer = (status, body = {}, headers = {}) => new Response(JSON.stringify(body), { status, headers });
const BUSY = { type: "urn:segserve:problem:busy", title: "Busy", detail: "Too many clicks at once.", remedy: "Try again." };

/** A client whose requests are answered one by one; an Error is thrown. calls: what was sent. */
function scripted(...answers) {
  const calls = [];
  const retries = [];
  const fetch = async (url, options) => {
    calls.push({ url, ...options });
    const next = answers.shift();
    if (next instanceof Error) throw next;
    return next;
  };
  return { client: new Client({ baseUrl: "http://service/", fetch, onRetry: (retry) => retries.push(retry) }), calls, retries };
}

test("a busy service is asked again, no sooner than it wants", async () => {
  const { client, calls, retries } = scripted(answer(503, BUSY, { "Retry-After": "0" }), answer(200, { models: [1] }));
  assert.deepEqual(await client.models(), [1]);
  assert.equal(calls.length, 2);
  assert.equal(retries[0].error.detail, BUSY.detail);
  for (const random of [() => 0, () => 1]) assert.ok(waitSeconds(1, 3, random) >= 3);
});

test("a refusal says what the service said", async () => {
  const { client, calls } = scripted(answer(422, { type: "urn:segserve:problem:bad_input", field: "prompts.0.box", detail: "No.", remedy: "Do." }));
  const error = await client.segment({ image_id: "a/b", prompts: [] }).catch((problem) => problem);
  assert.ok(error instanceof Problem);
  assert.deepEqual([error.status, error.code, error.field, error.message], [422, "bad_input", "prompts.0.box", "No. Do."]);
  assert.equal(calls[0].url, "http://service/v1/images/a%2Fb/segment");
});

test("an answer that is no problem document is one all the same", async () => {
  const fetch = async () => new Response("<html>nginx</html>", { status: 413 });
  const error = await new Client({ fetch }).models().catch((problem) => problem);
  assert.deepEqual([error.status, error.type], [413, "about:blank"]);
  assert.match(error.message, /Status 413 .*baseUrl/);
  const refused = new Client({ fetch: async () => { throw new TypeError("Failed to fetch"); }, retries: 0 });
  assert.doesNotMatch((await refused.models().catch((problem) => problem)).message, /CORS/);
  globalThis.location = /** @type {any} */ ({ origin: "http://page.example" }); // as in a page
  try {
    assert.match((await refused.models().catch((problem) => problem)).message, /SEGSERVE_CORS_ORIGINS/);
  } finally {
    delete globalThis.location;
  }
});

test("what may have been done already is not done twice", async () => {
  const lost = new TypeError("terminated");
  const once = scripted(lost, answer(202, {}));
  await assert.rejects(once.client.addPrompts("j", { objects: [] }), { status: 0 });
  assert.equal(once.calls.length, 1);
  const refused = Object.assign(new TypeError("fetch failed"), { cause: { code: "ECONNREFUSED" } });
  const again = scripted(refused, answer(202, { job_id: "j" }));
  assert.equal((await again.client.addPrompts("j", { objects: [] })).job_id, "j");
});

test("a job is submitted with the same key each time", async () => {
  const { client, calls } = scripted(new TypeError("terminated"), answer(502), answer(202, { job_id: "j" }));
  assert.equal((await client.submitJob({ kind: "batch" })).job_id, "j");
  const keys = calls.map(({ headers }) => headers.get("Idempotency-Key"));
  assert.equal(new Set(keys).size, 1);
  assert.ok(keys[0].length >= 16);
});

test("which failures may be tried again", () => {
  for (const [fields, isRepeatable, expected] of [
    [{ status: 429 }, false, true],
    [{ status: 503, retryAfter: 3600 }, true, false],
    [{ status: 504 }, true, true],
    [{ status: 504 }, false, false],
    [{ status: 500 }, true, false],
    [{ status: 404 }, true, false],
  ]) assert.equal(mayRetry(new Problem(fields), isRepeatable), expected, JSON.stringify(fields));
  assert.equal(mayRetry(new Error("a mistake"), true), false);
});

test("Retry-After is seconds or a date", () => {
  assert.equal(parseRetryAfter("5"), 5);
  assert.equal(parseRetryAfter(null), undefined);
  assert.equal(parseRetryAfter("soon"), undefined);
  const seconds = parseRetryAfter(new Date(Date.now() + 9000).toUTCString());
  assert.ok(seconds > 5 && seconds <= 9);
});

test("waiting for a retry can be given up", async () => {
  const controller = new AbortController();
  const { client } = scripted(answer(503, BUSY, { "Retry-After": "30" }));
  setTimeout(() => controller.abort(), 10);
  await assert.rejects(client.models({ signal: controller.signal }), { name: "AbortError" });
});

test("a key is sent with every request, and headers of the caller come first", async () => {
  const calls = [];
  const fetch = async (url, { headers }) => (calls.push(headers.get("Authorization")), answer(200, { models: [] }));
  await new Client({ fetch, apiKey: "k" }).models();
  await new Client({ fetch, apiKey: "k", headers: { authorization: "Basic b" } }).models();
  await new Client({ fetch }).models();
  assert.deepEqual(calls, ["Bearer k", "Basic b", null]);
});

test("where the service asks for a key, requests wait for it and are sent again", async () => {
  const keys = [], asked = [];
  const fetch = async (url, { headers }) => {
    keys.push(headers.get("Authorization"));
    return keys.at(-1) === "Bearer new" ? answer(200, { models: [1] }) : answer(401, { type: "urn:segserve:problem:unauthenticated", detail: "This needs a key." });
  };
  const refused = await new Client({ fetch, apiKey: "old" }).models().catch((problem) => problem);
  assert.deepEqual([refused.status, refused.code], [401, "unauthenticated"]);
  const client = new Client({ fetch, apiKey: "old", retries: 0, onUnauthenticated: async (problem) => (asked.push(problem.detail), "new") });
  assert.deepEqual(await client.models(), [1]);
  await client.models();
  assert.deepEqual(asked, ["This needs a key."]);
  assert.deepEqual(keys.slice(1), ["Bearer old", "Bearer new", "Bearer new"]);
});

test("a request that waits for a key can be given up", async () => {
  const controller = new AbortController();
  const client = new Client({ fetch: async () => answer(401), onUnauthenticated: () => (controller.abort(), new Promise(() => {})) });
  await assert.rejects(client.models({ signal: controller.signal }), { name: "AbortError" });
  const never = new Client({ fetch: async () => answer(401), onUnauthenticated: async () => { throw new Error("no key"); } });
  await assert.rejects(never.models(), { message: "no key" });
});

test("addresses of one image share a link until it is about to end", async () => {
  const bodies = [];
  let left = 600;
  const fetch = async (url, { body }) => (bodies.push(JSON.parse(body)), answer(200, { link: `l=${bodies.length}`, expires_at: Date.now() / 1000 + left }));
  const client = new Client({ baseUrl: "http://service/", fetch });
  assert.equal(await client.sign(client.tileUrl("a b", 0, 1, 2)), "http://service/v1/images/a%20b/tiles/0/1/2?link=l%3D1");
  left = 30;
  assert.equal(await client.sign(client.previewUrl("a b", 64)), "http://service/v1/images/a%20b/preview?max=64&link=l%3D1");
  assert.equal(await client.sign(client.frameUrl("f", 3)), "http://service/v1/files/f/frames/3?link=l%3D2");
  assert.equal(await client.sign(client.frameUrl("f", 4)), "http://service/v1/files/f/frames/4?link=l%3D3");
  assert.deepEqual(bodies[0], { path: "/v1/images/a b", expires_s: 600 });
  await assert.rejects(client.sign("http://service/v1/models"), TypeError);
  const open = new Client({ fetch: async () => answer(200, { link: null, expires_at: 1e12 }) });
  assert.equal(await open.sign("/v1/jobs/j/results?format=coco"), "/v1/jobs/j/results?format=coco");
});

test("a login is not waited for by itself", async () => {
  const client = new Client({ fetch: async () => answer(401), onUnauthenticated: () => assert.fail("asked") });
  await assert.rejects(client.login("k"), { status: 401 });
});
