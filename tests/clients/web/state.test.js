import assert from "node:assert/strict";
import { test } from "node:test";

import * as commands from "../../../clients/web/state/commands.js";
import { Document } from "../../../clients/web/state/document.js";
import { toLabels } from "../../../clients/web/state/labels.js";
import { newClass, newObject, newPicture } from "../../../clients/web/state/new_records.js";
import { MAX_CHANGES, Store } from "../../../clients/web/state/store.js";

const MASK = { size: [4, 4], counts: "04L" };

function makeStore() {
  const store = new Store(), cell = newClass("cell", 0), picture = newPicture("a.png", { width: 4, height: 4 });
  store.run(commands.addClass, cell);
  store.run(commands.addPictures, [picture]);
  return { store, cell, picture };
}

const snapshot = ({ document }) =>
  JSON.stringify(["classes", "pictures", "objects"].map((table) => [...document[table].values()].sort((a, b) => a.order - b.order)));

test("undo and redo put back every state", () => {
  const { store, cell, picture } = makeStore();
  const states = [snapshot(store)];
  const note = (...run) => { assert.ok(store.run(...run)); states.push(snapshot(store)); };
  const [first, second] = [newObject(picture.id, cell.id, { mask: MASK, area: 3 }), newObject(picture.id, cell.id)];
  const dust = newClass("dust", 1);
  note(commands.addObjects, [first]);
  note(commands.addObjects, [second]);
  note(commands.addClass, dust);
  note(commands.setClass, [first.id, second.id], dust.id);
  note(commands.replaceObjects, [first.id, second.id], [newObject(picture.id, dust.id)], "join");
  note(commands.removeClass, dust.id, cell.id);
  note(commands.removePictures, [picture.id]);
  for (let at = states.length - 1; at > 0; at--) {
    assert.equal(snapshot(store), states[at]);
    store.undo();
  }
  assert.equal(snapshot(store), states[0]);
  for (let at = 1; at < states.length; at++) {
    store.redo();
    assert.equal(snapshot(store), states[at]);
  }
  assert.equal(store.redo(), null);
});

test("a change after an undo forgets what could be redone", () => {
  const { store, cell, picture } = makeStore();
  store.run(commands.addObjects, [newObject(picture.id, cell.id)]);
  store.undo();
  store.run(commands.editClass, cell.id, { name: "nucleus" });
  assert.equal(store.canRedo, false);
});

test("a command without an effect is no change", () => {
  const { store, cell } = makeStore();
  assert.equal(store.run(commands.editClass, cell.id, { name: "cell" }), null);
  assert.equal(store.run(commands.removeObjects, ["unknown"]), null);
  assert.equal(store.run(commands.removeClass, cell.id, cell.id), null);
});

test("an answer is added to its revision only, also in the history", () => {
  const { store, cell, picture } = makeStore();
  const object = newObject(picture.id, cell.id, { revision: 1, pending: true, state: "draft" });
  store.run(commands.addObjects, [object]);
  store.run(commands.editObjects, [object.id], { revision: 2, pending: true });
  assert.equal(store.amend("objects", object.id, { mask: MASK, pending: false }, 1), true);
  assert.equal(store.document.objects.get(object.id).mask, null);
  store.undo();
  assert.deepEqual(store.document.objects.get(object.id).mask, MASK);
  store.amend("objects", object.id, { area: 7 }, 2);
  store.redo();
  assert.equal(store.document.objects.get(object.id).area, 7);
  assert.equal(store.amend("objects", object.id, { area: 8 }, 3), false);
});

test("a refused change is taken back and cannot be redone", () => {
  const { store, cell, picture } = makeStore();
  const before = snapshot(store), change = store.run(commands.addObjects, [newObject(picture.id, cell.id)]);
  assert.equal(store.takeBack(change), true);
  assert.equal(snapshot(store), before);
  assert.equal(store.canRedo, false);
  assert.equal(store.takeBack(change), false);
});

test("the history is bounded", () => {
  const { store, cell } = makeStore();
  for (let at = 0; at < MAX_CHANGES + 5; at++) store.run(commands.editClass, cell.id, { name: `cell ${at}` });
  assert.equal(store.done.length, MAX_CHANGES);
});

test("what was saved is restored with its history", () => {
  const { store, cell, picture } = makeStore();
  store.run(commands.addObjects, [newObject(picture.id, cell.id)]);
  store.undo();
  const restored = new Store(), { document } = store;
  restored.restore(structuredClone({
    classes: [...document.classes.values()], pictures: [...document.pictures.values()], objects: [],
    done: store.done, undone: store.undone,
  }));
  assert.equal(snapshot(restored), snapshot(store));
  restored.redo();
  store.redo();
  assert.equal(snapshot(restored), snapshot(store));
});

test("objects of a picture come in their order, and labels are those that were accepted", () => {
  const document = new Document(), cell = newClass("cell", 0), picture = newPicture("a.png", { width: 4, height: 4 });
  document.set("classes", cell.id, cell);
  document.set("pictures", picture.id, picture);
  const fields = { mask: MASK, area: 3, box: [0, 0, 1, 3] };
  const top = newObject(picture.id, cell.id, { ...fields, order: 2 }), bottom = newObject(picture.id, cell.id, { ...fields, order: 1 });
  const others = [newObject(picture.id, cell.id, { ...fields, state: "draft" }), newObject(picture.id, cell.id)];
  for (const object of [top, bottom, ...others]) document.set("objects", object.id, object);
  assert.deepEqual(document.objectsOf(picture.id).slice(0, 2), [bottom, top]);
  assert.deepEqual(toLabels(document).pictures[0].objects.map(({ id }) => id), [bottom.id, top.id]);
  document.set("objects", top.id, undefined);
  assert.equal(document.objectsOf(picture.id).length, 3);
});
