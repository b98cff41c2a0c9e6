/**
 * For tests/clients/test_web_timeline.py: follow objects through a file of a real service, as the time line does.
 *
 *     node follow_clip.js URL FILE_PATH AXIS FRAME X,Y X,Y ...    prints what happened as JSON
 */

import { readFileSync } from "node:fs";

import { Client } from "../../../clients/js/src/client.js";
import { iou } from "../../../clients/js/src/masks/runs.js";
import * as commands from "../../../clients/web/state/commands.js";
import { maskFields, runsOf } from "../../../clients/web/state/masks.js";
import { newClass, newObject } from "../../../clients/web/state/new_records.js";
import { Store } from "../../../clients/web/state/store.js";
import { framesOf, frameStates, newClip, plantFrame } from "../../../clients/web/timeline/clip.js";
import { Propagation } from "../../../clients/web/timeline/propagation.js";

const [, , url, path, axisText, frameText, ...points] = process.argv, axis = Number(axisText), first = Number(frameText);
const client = new Client({ baseUrl: url }), store = new Store();
store.run(commands.addClass, newClass("cell", 0));
const clip = newClip(await client.uploadFile(new Blob([readFileSync(path)])), "cells");
const propagation = new Propagation({ client, store, file: clip.file, axis });

async function mark(frame, [x, y]) {
  const picture = plantFrame(store, clip, frame, axis), image = await client.imageOfFrame(clip.file, frame, { axis });
  store.amend("pictures", picture.id, { imageId: image.image_id, width: image.width, height: image.height });
  const { results: [{ masks: [{ mask }] }] } = await client.segment({ image_id: image.image_id, prompts: [{ points: [[x, y]] }] });
  const prompt = { points: [[x, y]], labels: [1], box: null };
  store.run(commands.addObjects, [newObject(picture.id, store.document.listClasses()[0].id, { ...maskFields(runsOf(mask), mask.size), prompt })]);
}

const count = (key) => frameStates(store.document, clip, axis, propagation.results).filter((state) => state[key]).length;

for (const point of points) await mark(first, point.split(",").map(Number));
let changes = 0;
propagation.addEventListener("change", () => changes++);
await propagation.send();
const told = { frames: clip.axes[axis].frames, found: count("found"), prompted: count("prompted"), changes, lines: propagation.lines, state: propagation.job.state, problem: propagation.problem };

// A frame in the middle: what was found there is shown, and corrected to what is marked.
const middle = first + 3, picture = plantFrame(store, clip, middle, axis);
propagation.show(picture);
const [object] = store.document.objectsOf(picture.id), before = propagation.lines;
told.shown = store.document.objectsOf(picture.id).length;
store.run(commands.editObjects, [object.id], { base: object.mask });
await propagation.send();
told.corrected = propagation.lines - before;
told.promptedThen = count("prompted");

// A reload: the same results come from the same job.
const again = new Propagation({ client, store, file: clip.file, axis });
await again.follow();
told.same = [...propagation.results].every(([frame, { objects }]) => objects.every(({ object_id: id, mask }) => {
  const other = again.results.get(frame)?.objects.find(({ object_id }) => object_id === id);
  return other && iou(runsOf(mask), runsOf(other.mask)) === 1;
}));
told.pictures = framesOf(store.document, clip.file, axis).size;
console.log(JSON.stringify(told));
