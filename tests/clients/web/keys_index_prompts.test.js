import assert from "node:assert/strict";
import { test } from "node:test";

import { SpatialIndex } from "../../../clients/web/geometry/spatial_index.js";
import { actionOf, keyOf, keysOf, withKey } from "../../../clients/web/keys/keymap.js";
import { Hover } from "../../../clients/web/segmenting/hover.js";
import { pendingFields, toRequest, withBox, withPoint } from "../../../clients/web/segmenting/prompts.js";
import * as commands from "../../../clients/web/state/commands.js";
import { newClass, newObject, newPicture } from "../../../clients/web/state/new_records.js";
import { Store } from "../../../clients/web/state/store.js";

/** A small generator of numbers from 0 to 1 (mulberry32), so that a run can be repeated. */
function seeded(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

test("keys are written as people read them", () => {
  assert.equal(keyOf({ key: "z", ctrlKey: true, shiftKey: true }), "Ctrl+Shift+Z");
  assert.equal(keyOf({ key: "z", metaKey: true }), "Ctrl+Z");
  assert.equal(keyOf({ key: "?", shiftKey: true }), "?");
  assert.equal(keyOf({ key: "¡", code: "Digit1", altKey: true }), "Alt+1");
  assert.equal(keyOf({ key: "Shift", shiftKey: true }), "");
});

test("a key has one action, the user's before the default", () => {
  const actions = [{ name: "accept", keys: ["Enter", "N"] }, { name: "clear", keys: ["Esc"] }];
  const own = withKey({}, actions, "clear", "N");
  assert.equal(actionOf("N", actions, own), "clear");
  assert.equal(actionOf("Esc", actions, own), undefined);
  assert.deepEqual(keysOf(actions, own).get("accept"), []);
});

test("the index finds what a search through all boxes finds", () => {
  const random = seeded(7), index = new SpatialIndex(20_000, 15_000), boxes = new Map();
  for (let id = 0; id < 500; id++) {
    const [x, y] = [random() * 19_000, random() * 14_000], box = [x, y, x + 1 + random() * 900, y + 1 + random() * 900];
    boxes.set(id, box);
    index.set(id, box);
  }
  for (let id = 0; id < 500; id += 3) {
    boxes.delete(id);
    index.set(id, null);
  }
  for (let turn = 0; turn < 50; turn++) {
    const [x, y] = [random() * 20_000, random() * 15_000], window = [x, y, x + random() * 4000, y + random() * 4000];
    const wanted = [...boxes].filter(([, b]) => b[0] < window[2] && window[0] < b[2] && b[1] < window[3] && window[1] < b[3]).map(([id]) => id);
    assert.deepEqual([...index.find(window)].sort((a, b) => a - b), wanted);
  }
});

test("later points refine the mask, a new box starts anew, an expired mask_id is replaced by the mask", () => {
  const mask = { size: [4, 4], counts: "04L" }, first = { prompt: withPoint(null, [1, 1], 1), mask, maskId: "m", model: "sam" };
  const second = { ...first, ...pendingFields(first, withPoint(first.prompt, [2, 2], 0), "sam") };
  assert.deepEqual(toRequest(second), { points: [[1, 1], [2, 2]], labels: [1, 0], mask_id: "m" });
  assert.deepEqual(toRequest(second, { maskIdExpired: true }).mask, mask);
  const boxed = { ...first, ...pendingFields(first, withBox(first.prompt, [0, 0, 3, 3]), "sam") };
  assert.equal(toRequest(boxed).mask_id, undefined);
  assert.deepEqual(toRequest({ ...second, base: mask }).mask, mask);
});

test("hovering asks one at a time and shows only the latest", async () => {
  const asked = [], shown = [], answers = [];
  const hover = new Hover({ segment: (point) => { asked.push(point); return new Promise((resolve) => answers.push(resolve)); }, show: (answer) => shown.push(answer?.point ?? null) });
  for (const x of [1, 2, 3]) hover.move([x, 0]);
  assert.deepEqual(asked, [[1, 0]]);
  answers[0]({});
  await new Promise((resolve) => setTimeout(resolve));
  assert.deepEqual(asked, [[1, 0], [3, 0]]);
  hover.clear();
  answers[1]({});
  await new Promise((resolve) => setTimeout(resolve));
  assert.deepEqual(shown, [[1, 0], null]);
});

test("200 random acts are undone and done again to the same state", () => {
  const random = seeded(200), store = new Store(), picture = newPicture("a.png", { width: 9, height: 9 });
  const pick = (list) => list[Math.floor(random() * list.length)];
  store.plant("classes", newClass("object", 0));
  store.plant("pictures", picture);
  const snapshot = () => JSON.stringify([store.document.listClasses(), store.document.listPictures(), store.document.objectsOf(picture.id)]);
  const start = snapshot();
  const acts = [
    () => store.run(commands.addObjects, [newObject(picture.id, pick(store.document.listClasses()).id, { revision: Math.floor(random() * 1e9), pending: true })]),
    () => store.run(commands.removeObjects, store.document.objectsOf(picture.id).filter(() => random() < 0.1).map(({ id }) => id)),
    () => store.run(commands.setClass, store.document.objectsOf(picture.id).filter(() => random() < 0.3).map(({ id }) => id), pick(store.document.listClasses()).id),
    () => store.run(commands.addClass, newClass(`class ${random()}`, 1)),
    () => store.document.classes.size > 1 && store.run(commands.removeClass, pick(store.document.listClasses()).id, store.document.listClasses()[0].id),
    () => { const object = pick(store.document.objectsOf(picture.id)); if (object) store.amend("objects", object.id, { area: Math.floor(random() * 99), pending: false }, object.revision); },
    () => store.undo(),
    () => store.redo(),
  ];
  for (let turn = 0; turn < 200; turn++) pick(acts)();
  while (store.canRedo) store.redo();
  const end = snapshot();
  while (store.canUndo) store.undo();
  assert.equal(snapshot(), start);
  while (store.canRedo) store.redo();
  assert.equal(snapshot(), end);
});
