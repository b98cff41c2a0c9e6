import assert from "node:assert/strict";
import { test } from "node:test";

import { fromBox } from "../../../clients/js/src/masks/draw.js";
import * as commands from "../../../clients/web/state/commands.js";
import { maskFields } from "../../../clients/web/state/masks.js";
import { newClass, newObject } from "../../../clients/web/state/new_records.js";
import { Store } from "../../../clients/web/state/store.js";
import { clipOf, framesOf, frameStates, newClip, plantFrame, updateClip } from "../../../clients/web/timeline/clip.js";
import { Propagation } from "../../../clients/web/timeline/propagation.js";

const [WIDTH, HEIGHT, FRAMES] = [30, 20, 8];
const STORED = { file_id: "f", kind: "video", format: "mp4", fps: 10, spacing: null, axes: [{ axis: 0, frames: FRAMES, width: WIDTH, height: HEIGHT }] };
const square = (x, side = 6) => maskFields(fromBox([x, 4, x + side, 4 + side], { width: WIDTH, height: HEIGHT }), [HEIGHT, WIDTH]);
const line = (frame, objects, more = {}) => ({ frame, width: WIDTH, height: HEIGHT, objects, ...more });
const found = (id, x, score = 0.9) => ({ object_id: id, mask: square(x).mask, score });

/** A service whose jobs answer what a test has prepared. */
class FakeClient {
  constructor() {
    this.sent = [];
    this.lines = [];
    this.job = { job_id: "j", model: "m", state: "running", progress: { done: 0 } };
  }

  async submitJob(body) {
    this.sent.push(body);
    return this.job;
  }

  async addPrompts(id, body) {
    this.sent.push(body);
    return { ...this.job, progress: { done: this.lines.length } };
  }

  async getJob() {
    return this.job;
  }

  async *jobResults(id, { from }) {
    while (from < this.lines.length) yield this.lines[from++];
    return { ...this.job, state: "succeeded" };
  }
}

function makeClip() {
  const store = new Store(), cell = newClass("cell", 0), other = newClass("other", 1), client = new FakeClient();
  store.run(commands.addClass, cell);
  store.run(commands.addClass, other);
  const clip = newClip(STORED, "clip.mp4"), picture = plantFrame(store, clip, 0, 0);
  const propagation = new Propagation({ client, store, file: "f", axis: 0 });
  const mark = (target, x, fields = {}) => {
    const object = newObject(target.id, cell.id, { ...square(x), prompt: { points: [[x, 5]], labels: [1], box: null }, ...fields });
    store.run(commands.addObjects, [object]);
    return object.id;
  };
  return { store, client, clip, picture, propagation, mark, other };
}

const objectsOn = (store, frame) => store.document.objectsOf(framesOf(store.document, "f", 0).get(frame).id);

test("what is marked is sent as masks on frames, with a number for each object", async () => {
  const { store, client, clip, picture, propagation, mark } = makeClip();
  mark(picture, 2);
  mark(plantFrame(store, clip, 5, 0), 12);
  mark(picture, 20, { state: "draft" });
  await propagation.send({ direction: "forward" });
  const [{ kind, params }] = client.sent;
  assert.equal(kind, "video");
  assert.equal(params.direction, "forward");
  assert.deepEqual(params.objects.map(({ object_id: id, prompts }) => [id, prompts.map(({ frame, mask }) => [frame, mask.counts])]),
    [[1, [[0, square(2).mask.counts]]], [2, [[5, square(12).mask.counts]]]]);
  assert.equal(clipOf(store.document, "f").jobs[0].id, "j");
  assert.equal(propagation.hasNews, false);
});

test("what is found comes onto frames that are open, and onto others once they are opened", async () => {
  const { store, client, clip, picture, propagation, mark, other } = makeClip();
  mark(picture, 2, { class: other.id });
  plantFrame(store, clip, 1, 0);
  client.lines = [line(0, [found(1, 2)]), line(1, [found(1, 3)]), line(2, [found(1, 4)])];
  await propagation.send();
  const [object] = objectsOn(store, 1);
  assert.deepEqual([object.madeBy, object.track, object.class, object.mask], ["propagation", "1", other.id, square(3).mask]);
  assert.equal(objectsOn(store, 0).length, 1, "what a person has marked stays as it is");
  propagation.show(plantFrame(store, clip, 2, 0));
  assert.deepEqual(objectsOn(store, 2).map(({ mask }) => mask), [square(4).mask]);
  assert.equal(store.canUndo && store.done.at(-1).label, "addObjects", "what is found is no change to undo");
});

test("only corrections are sent again, and only what follows is read again", async () => {
  const { store, client, clip, picture, propagation, mark } = makeClip();
  mark(picture, 2);
  plantFrame(store, clip, 1, 0);
  client.lines = [line(0, [found(1, 2)]), line(1, [found(1, 3)]), line(2, [found(1, 9)])];
  await propagation.send();
  const frame = plantFrame(store, clip, 2, 0);
  propagation.show(frame);
  const [wrong] = objectsOn(store, 2);
  store.run(commands.editObjects, [wrong.id], { ...square(5), base: square(5).mask });
  assert.equal(propagation.hasNews, true);
  const sending = propagation.send();
  client.lines.push(line(2, [found(1, 5)]), line(3, [found(1, 6)]));
  await sending;
  assert.deepEqual(client.sent[1].objects.map(({ object_id: id, prompts }) => [id, prompts.map(({ frame: at }) => at)]), [[1, [2]]]);
  assert.deepEqual([...propagation.results.keys()].sort(), [0, 1, 2, 3]);
  assert.deepEqual(objectsOn(store, 2)[0].mask, square(5).mask);
});

test("a new object midway is added to the job, and the old ones stay", async () => {
  const { store, client, clip, picture, propagation, mark } = makeClip();
  mark(picture, 2);
  client.lines = [line(0, [found(1, 2)]), line(1, [found(1, 3)])];
  await propagation.send();
  mark(plantFrame(store, clip, 4, 0), 20);
  const sending = propagation.send();
  client.lines.push(line(4, [found(1, 6), found(2, 20)]));
  await sending;
  assert.deepEqual(client.sent[1].objects.map(({ object_id: id }) => id), [2]);
  assert.deepEqual(objectsOn(store, 4).map(({ track }) => track).sort(), ["1", "2"]);
});

test("an object that is not found any more goes, a corrected one does not", async () => {
  const { store, client, clip, picture, propagation, mark } = makeClip();
  mark(picture, 2);
  mark(picture, 20);
  plantFrame(store, clip, 1, 0);
  client.lines = [line(1, [found(1, 3), found(2, 21)])];
  await propagation.send();
  const [first, second] = objectsOn(store, 1);
  store.run(commands.editObjects, [first.id], { base: first.mask });
  const sending = propagation.send();
  client.lines.push(line(1, []));
  await sending;
  assert.deepEqual(objectsOn(store, 1).map(({ id }) => id), [first.id]);
  assert.notEqual(first.id, second.id);
});

test("an object that a person deleted does not come back", async () => {
  const { store, client, clip, picture, propagation, mark } = makeClip();
  mark(picture, 2);
  const frame = plantFrame(store, clip, 1, 0);
  client.lines = [line(1, [found(1, 3)])];
  await propagation.send();
  store.run(commands.removeObjects, [objectsOn(store, 1)[0].id]);
  propagation.show(store.document.pictures.get(frame.id));
  assert.equal(objectsOn(store, 1).length, 0);
});

test("the job outlasts a reload", async () => {
  const { store, client, picture, propagation, mark } = makeClip();
  mark(picture, 2);
  client.lines = [line(0, [found(1, 2)]), line(1, [found(1, 3)])];
  await propagation.send();
  const restored = new Store();
  restored.restore(structuredClone({ classes: [...store.document.classes.values()], pictures: [...store.document.pictures.values()], objects: [...store.document.objects.values()] }));
  const again = new Propagation({ client, store: restored, file: "f", axis: 0 });
  await again.follow();
  assert.equal(again.results.size, 2);
  assert.equal(again.hasNews, false);
  assert.equal(client.sent.length, 1);
});

test("frames tell what they are", async () => {
  const { store, client, clip, picture, propagation, mark } = makeClip();
  mark(picture, 2);
  client.lines = [line(0, [found(1, 2)]), line(1, [found(1, 3, 0.5)]), line(2, [], { missing: [{ object_id: 1, reason: "iou" }] }), line(3, [], { ends: [{ object_id: 1, reason: "iou" }] })];
  await propagation.send();
  store.amend("pictures", plantFrame(store, clip, 1, 0).id, { reviewed: true });
  const told = frameStates(store.document, clip, 0, propagation.results).map((state) => Object.keys(state).filter((key) => state[key] === true));
  assert.deepEqual(told, [["prompted", "found"], ["found", "uncertain", "reviewed"], ["uncertain"], ["ended"], [], [], [], []]);
});

test("a job that is gone is made anew, and one that failed says why", async () => {
  const { store, client, picture, propagation, mark } = makeClip();
  mark(picture, 2);
  await propagation.send();
  client.addPrompts = async () => { throw Object.assign(new Error("gone"), { status: 404 }); };
  mark(picture, 12);
  await propagation.send();
  assert.equal(propagation.problem.status, 404);
  assert.equal(propagation.saved, null);
  await propagation.send();
  assert.equal(client.sent[1].params.objects.length, 2, "with all that is marked");
});

test("a job that was stopped can go on", async () => {
  const { client, picture, propagation, mark } = makeClip();
  mark(picture, 2);
  client.jobResults = async function* () { yield line(0, [found(1, 2)]); return { ...client.job, state: "cancelled" }; };
  await propagation.send();
  assert.equal(propagation.canRetry, true);
  client.retryJob = async () => client.job;
  client.jobResults = async function* (id, { from }) { assert.equal(from, 1); yield line(1, [found(1, 3)]); return { ...client.job, state: "succeeded" }; };
  await propagation.retry();
  assert.deepEqual([propagation.canRetry, propagation.results.size], [false, 2]);
});

test("a clip is the same in all of its frames", () => {
  const { store, clip } = makeClip();
  plantFrame(store, clip, 3, 0);
  updateClip(store, "f", { name: "other" });
  assert.deepEqual([...store.document.pictures.values()].map((picture) => picture.clip.name), ["other", "other"]);
  assert.equal(plantFrame(store, clipOf(store.document, "f"), 3, 0).clip.name, "other");
});
