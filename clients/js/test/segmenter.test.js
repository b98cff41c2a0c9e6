import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { NotDecodable } from "../src/decode/browser_decoder.js";
import { toFloat16, toFloat32 } from "../src/decode/float16.js";
import { parseSafetensors } from "../src/decode/safetensors.js";
import { Segmenter } from "../src/decode/segmenter.js";

const MASK = { size: [2, 2], counts: "13" };
const OTHER = { size: [2, 2], counts: "04" };
// A clock that only the service and the browser below move.
let now = 0;
mock.method(performance, "now", () => now);
const turn = () => new Promise(setImmediate);
const body = (extra) => ({ image_id: "i", model: "m", prompts: [{ points: [[1, 1]], ...extra }] });

/** A segmenter on a service and a browser of these speeds. */
function make({ serverMs = 1, browserMs = 1, mask = MASK, prepareFails = null, ...options } = {}) {
  const sent = [];
  const speed = { serverMs, browserMs };
  const client = {
    getImage: async () => ({ width: 2, height: 2 }),
    segment: async (request) => {
      sent.push(request);
      now += speed.serverMs;
      return { results: [{ masks: [{ mask: MASK, mask_id: "from the service" }] }] };
    },
  };
  const known = new Set();
  const browser = {
    decoded: 0,
    isKnown: (model, image) => known.has(`${model} ${image}`),
    prepare: async (model, image) => {
      if (prepareFails) throw prepareFails;
      known.add(`${model} ${image}`);
    },
    segment: async (model, image, prompt) => {
      await browser.prepare(model, image);
      browser.decoded++;
      browser.prompt = prompt;
      now += speed.browserMs;
      return [{ mask, logits: new Float32Array(4).fill(0.1) }];
    },
    close: async () => known.clear(),
  };
  const choices = [];
  const segmenter = new Segmenter({ client, ortUrl: "ort", onChoice: (choice) => choices.push(choice), ...options });
  segmenter._browser = browser;
  return { segmenter, sent, browser, choices, speed };
}

async function click(segmenter, times) {
  let answer;
  for (let i = 0; i < times; i++) {
    answer = await segmenter.segment(body());
    do await turn();
    while (segmenter._of("m").isMeasuring);
  }
  return answer.decoded.by;
}

test("auto keeps the browser where it is quicker", async () => {
  const { segmenter, choices } = make({ serverMs: 200 });
  assert.equal(await click(segmenter, 3), "server");
  assert.equal(await click(segmenter, 3), "browser");
  assert.deepEqual(choices.map(({ by, model }) => [by, model]), [["browser", "m"]]);
  assert.ok(choices[0].browserMs < choices[0].serverMs);
});

test("auto keeps the service where it is quicker, and measures no more", async () => {
  const { segmenter, browser } = make({ serverMs: 200, browserMs: 500 });
  assert.equal(await click(segmenter, 6), "server");
  const { decoded } = browser;
  assert.equal(await click(segmenter, 3), "server");
  assert.equal(browser.decoded, decoded);
});

test("where the service is quick, nothing is fetched", async () => {
  const { segmenter, browser } = make({ serverMs: 20, prepareFails: new Error("fetched") });
  assert.equal(await click(segmenter, 8), "server");
  assert.equal(browser.decoded, 0);
  assert.equal(segmenter.choice("m").reason, undefined);
});

test("auto changes to the browser where the link becomes slow", async () => {
  const { segmenter, speed } = make({ serverMs: 200, browserMs: 250 });
  assert.equal(await click(segmenter, 6), "server");
  speed.serverMs = 2000;
  assert.equal(await click(segmenter, 9), "browser");
});

test("a browser that decodes another mask is not used", async () => {
  const { segmenter, choices } = make({ serverMs: 200, mask: OTHER });
  assert.equal(await click(segmenter, 6), "server");
  assert.match(choices[0].reason, /another mask/);
});

test("whatever fails in the browser is decoded by the service", async () => {
  const { segmenter, choices } = make({ decode: "browser", prepareFails: new Error("no WebAssembly") });
  assert.equal(await click(segmenter, 2), "server");
  assert.deepEqual(choices.map(({ by, reason }) => [by, reason]), [["server", "no WebAssembly"]]);
  assert.equal(segmenter.choice("m").reason, "no WebAssembly");
});

test("a large image is decoded by the service, others still here", async () => {
  const { segmenter } = make({ decode: "browser", prepareFails: new NotDecodable("large") });
  assert.equal(await click(segmenter, 1), "server");
  assert.equal(segmenter.choice("m").reason, undefined);
});

test("what only the service knows is decoded there", async () => {
  const { segmenter, browser } = make({ decode: "browser" });
  for (const extra of [{ mask_id: "from the service" }, { mask: MASK }, { points: [[9, 1]] }]) {
    assert.equal((await segmenter.segment(body(extra))).decoded.by, "server");
  }
  assert.equal((await segmenter.segment({ ...body(), format: "polygon" })).decoded.by, "server");
  assert.equal((await segmenter.segment(body())).decoded.by, "browser");
  assert.equal(browser.decoded, 1);
});

test("a mask of the browser is refined here, and by the service from its logits", async () => {
  const { segmenter, browser, sent } = make({ decode: "browser" });
  const [{ mask_id }] = (await segmenter.segment(body())).results[0].masks;
  await segmenter.segment(body({ mask_id }));
  assert.equal(browser.prompt.prior.length, 4);
  segmenter.decode = "server";
  await segmenter.segment(body({ mask_id }));
  const { mask_id: id, logits } = sent[0].prompts[0];
  assert.equal(id, undefined);
  assert.deepEqual([logits.size, Buffer.from(logits.data, "base64").length], [[2, 2], 8]);
});

test("float16 is rounded to the nearest, both ways", () => {
  for (const [value, bits] of [[0, 0], [-0, 0x8000], [1, 0x3c00], [-2, 0xc000], [65504, 0x7bff], [1e6, 0x7c00], [2 ** -24, 1], [2 ** -14, 0x400], [1 / 3, 0x3555], [1 + 2 ** -11, 0x3c00], [1 + 3 * 2 ** -11, 0x3c02], [6.1e-5, 0x3ff]]) {
    assert.equal(toFloat16([value])[0], bits, String(value));
  }
  const halves = Uint16Array.from({ length: 65536 }, (_, i) => i).filter((bits) => (bits & 0x7c00) !== 0x7c00);
  assert.deepEqual(toFloat16(toFloat32(halves)), halves);
});

test("safetensors are read, broken ones refused", () => {
  const header = new TextEncoder().encode('{"a":{"dtype":"F16","shape":[1,2],"data_offsets":[0,4]}}');
  const file = new Uint8Array(8 + header.length + 4);
  new DataView(file.buffer).setBigUint64(0, BigInt(header.length), true);
  file.set(header, 8);
  file.set([0, 0x3c, 0, 0xc0], 8 + header.length);
  assert.deepEqual(toFloat32(parseSafetensors(file.buffer).a.data), Float32Array.of(1, -2));
  assert.throws(() => parseSafetensors(file.buffer.slice(0, -1)), RangeError);
});
