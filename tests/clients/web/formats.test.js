import assert from "node:assert/strict";
import { test } from "node:test";

import { fromBitmap } from "../../../clients/js/src/masks/runs.js";
import { fromPolygon, toPolygon } from "../../../clients/js/src/masks/outline.js";
import { encodeText } from "../../../clients/web/formats/bytes.js";
import { exportLabels, FORMATS, FormatError, importLabels } from "../../../clients/web/formats/index.js";
import { joinRings } from "../../../clients/web/formats/yolo.js";
import { readPng, writePng } from "../../../clients/web/formats/png.js";
import { readTiff, writeTiff } from "../../../clients/web/formats/tiff.js";
import { readZip, writeZip } from "../../../clients/web/formats/zip.js";
import * as commands from "../../../clients/web/state/commands.js";
import { toLabels } from "../../../clients/web/state/labels.js";
import { maskFields } from "../../../clients/web/state/masks.js";
import { newClass, newObject, newPicture } from "../../../clients/web/state/new_records.js";
import { Store } from "../../../clients/web/state/store.js";

const [WIDTH, HEIGHT] = [60, 40];

function draw(inside) {
  const bitmap = new Uint8Array(WIDTH * HEIGHT);
  for (let y = 0; y < HEIGHT; y++) for (let x = 0; x < WIDTH; x++) bitmap[y * WIDTH + x] = inside(x, y) ? 1 : 0;
  return fromBitmap(bitmap, { width: WIDTH, height: HEIGHT });
}

const disc = (cx, cy, r) => (x, y) => (x - cx) ** 2 + (y - cy) ** 2 < r * r;
const SHAPES = [
  draw(disc(12, 12, 8)),
  draw((x, y) => disc(40, 20, 15)(x, y) && !disc(40, 20, 6)(x, y)), // a hole
  draw((x, y) => disc(8, 33, 4)(x, y) || disc(20, 33, 4)(x, y)), // two parts
  draw((x, y) => x === 58 && y === 38), // one pixel
];

/** Two pictures with the shapes, in two classes. */
function makeDocument({ withObjects = true } = {}) {
  const store = new Store(), classes = ["nucleus", 'cell "x": y'].map((name, index) => newClass(name, index));
  const pictures = ["plate/a.png", "b.tif"].map((name) => newPicture(name, { width: WIDTH, height: HEIGHT }));
  for (const record of classes) store.run(commands.addClass, record);
  store.run(commands.addPictures, pictures);
  const prompt = { points: [[12, 12], [30, 5]], labels: [1, 0], box: [1, 2, 30, 31] };
  const objects = pictures.flatMap(({ id }, at) => SHAPES.slice(at).map((runs, index) =>
    newObject(id, classes[index % 2].id, { ...maskFields(runs, [HEIGHT, WIDTH]), score: 0.5 + index / 8, prompt, track: `t${index}` })));
  if (withObjects) store.run(commands.addObjects, objects);
  return store;
}

/** Names, classes and masks, to compare. */
const summary = (document, keys = ["class", "mask"]) => toLabels(document).pictures.map(({ name, objects }) => [name, objects.map((object) =>
  keys.map((key) => (key === "class" ? document.classes.get(object.class).name : key === "mask" ? object.mask.counts : object[key])))]);

const exported = async (format, store = makeDocument()) => {
  const { name, bytes } = await exportLabels(format, toLabels(store.document));
  return { name, bytes };
};

for (const format of FORMATS)
  test(`${format} comes back as it was`, async () => {
    const store = makeDocument(), empty = makeDocument({ withObjects: false });
    const imported = await importLabels([await exported(format, store)], empty.document);
    empty.run(commands.importLabels, imported);
    assert.deepEqual(summary(empty.document), summary(store.document));
    assert.equal(imported.classes.length, 0, "classes of the same names are the same");
    assert.deepEqual(imported.notes, ["7 objects on 2 pictures."]);
    assert.ok(imported.objects.every(({ base, madeBy, state }) => base && madeBy === "import" && state === "done"));
  });

test("a project keeps prompts, scores and tracks", async () => {
  const store = makeDocument(), empty = makeDocument({ withObjects: false }), keys = ["class", "mask", "prompt", "score", "track"];
  empty.run(commands.importLabels, await importLabels([await exported("project", store)], empty.document));
  assert.deepEqual(summary(empty.document, keys), summary(store.document, keys));
});

test("classes that are new are made, with their colours", async () => {
  const store = makeDocument(), bare = new Store();
  bare.run(commands.addPictures, toLabels(store.document).pictures.map(({ name }) => newPicture(name, { width: WIDTH, height: HEIGHT })));
  const imported = await importLabels([await exported("geojson", store)], bare.document);
  assert.deepEqual(imported.classes.map(({ name, colour }) => [name, colour]), store.document.listClasses().map(({ name, colour }) => [name, colour]));
});

test("one file for the open picture needs no name", async () => {
  const store = makeDocument(), [picture] = store.document.listPictures();
  const { bytes } = await exportLabels("geojson", toLabels(store.document, [picture.id]));
  const { objects } = await importLabels([{ name: "something else.geojson", bytes }], makeDocument().document);
  assert.equal(objects.length, 0);
  const taken = await importLabels([{ name: "something else.geojson", bytes }], store.document, { open: picture.id });
  assert.deepEqual(taken.objects.map((object) => object.picture), SHAPES.map(() => picture.id));
});

test("pictures that are not open are named, the others are imported", async () => {
  const store = makeDocument(), partly = makeDocument({ withObjects: false });
  partly.run(commands.removePictures, [partly.document.listPictures()[1].id]);
  const { objects, notes } = await importLabels([await exported("coco", store)], partly.document);
  assert.equal(objects.length, SHAPES.length);
  assert.match(notes[1], /b\.tif/);
});

test("a zip comes back, whatever is in it", async () => {
  const entries = [{ name: "ä/b.txt", bytes: encodeText("x".repeat(5000)) }, { name: "c.bin", bytes: Uint8Array.of(1, 2, 3) }, { name: "e", bytes: new Uint8Array(0) }];
  const read = await readZip(await writeZip(entries), "a.zip");
  assert.deepEqual(read.map(({ name, bytes }) => [name, [...bytes]]), entries.map(({ name, bytes }) => [name, [...bytes]]));
});

test("label maps come back from PNG and TIFF", async () => {
  const values = Uint16Array.from({ length: 7 * 5 }, (_, i) => (i * 1999) % 65_536);
  assert.deepEqual([...(await readPng(await writePng(values, 7, 5), "a")).values], [...values]);
  assert.deepEqual([...(await readTiff(await writeTiff(values, 7, 5), "a"))[0].values], [...values]);
  const large = Uint32Array.from(values, (value) => value * 65_537);
  assert.deepEqual([...(await readTiff(await writeTiff(large, 7, 5), "a"))[0].values], [...large]);
});

test("one ring encloses what all rings of an object do", () => {
  for (const runs of SHAPES) {
    const { type, coordinates } = toPolygon(runs, HEIGHT), rings = (type === "Polygon" ? [coordinates] : coordinates).flat();
    assert.deepEqual(fromPolygon({ type: "Polygon", coordinates: [joinRings(rings)] }, WIDTH, HEIGHT), runs);
  }
});

const json = (content) => encodeText(JSON.stringify(content));
const image = { id: 1, file_name: "a.png", width: WIDTH, height: HEIGHT }, category = { id: 1, name: "n" };
const coco = (annotation) => json({ images: [image], categories: [category], annotations: [{ id: 1, image_id: 1, category_id: 1, ...annotation }] });
const feature = (geometry) => json({ type: "FeatureCollection", features: [{ type: "Feature", geometry, properties: {} }] });
const BROKEN = [
  ["a.json", encodeText("{"), "notJson", /a\.json/],
  ["a.json", Uint8Array.of(0x7b, 0xff, 0xfe), "notUtf8", /a\.json/],
  ["a.xyz", Uint8Array.of(1, 2, 3), "unknownFormat", /a\.xyz/],
  ["a.json", json({ hello: 1 }), "unknownFormat", /a\.json/],
  ["a.json", json({ images: 3, annotations: [] }), "unknownFormat", /a\.json/],
  ["a.json", json({ images: [{ ...image, width: -1 }], annotations: [] }), "notASize", /images\[0\]\.width/],
  ["a.json", json({ images: [null], annotations: [] }), "notAnObject", /images\[0\]/],
  ["a.json", coco({ image_id: 9 }), "unknownId", /annotations\[0\]\.image_id/],
  ["a.json", coco({ category_id: "x" }), "unknownId", /annotations\[0\]\.category_id/],
  ["a.json", coco({ segmentation: { size: [HEIGHT, WIDTH], counts: "!!" } }), "badMask", /annotations\[0\]\.segmentation/],
  ["a.json", coco({ segmentation: { size: [1, 1], counts: "01" } }), "badMask", /its size/],
  ["a.json", coco({ segmentation: { size: [HEIGHT, WIDTH], counts: [5, -1] } }), "badMask", /annotations/],
  ["a.json", coco({ segmentation: [[1, 2, 3]] }), "fewPoints", /segmentation\[0\]/],
  ["a.json", coco({ segmentation: [[1, 2, 3, 4, 5, "6"]] }), "notANumber", /segmentation\[0\]/],
  ["a.json", coco({ segmentation: "x" }), "notAnObject", /segmentation/],
  ["a.geojson", feature({ type: "Polygon", coordinates: [[[0, 0], [1, 1]]] }), "fewPoints", /features\[0\]\.geometry/],
  ["a.geojson", feature({ type: "Polygon", coordinates: 5 }), "notAList", /coordinates/],
  ["a.geojson", feature({ type: "Polygon", coordinates: [[[0, 0], [1], [2, 2]]] }), "notAPoint", /\[0\]\[1\]/],
  ["a.txt", encodeText("0 0.1 0.1 0.2 0.2 0.3 7"), "yoloLine", /line 1: 7/],
  ["a.txt", encodeText("\nx 0.1 0.1"), "yoloLine", /line 2/],
  ["a.txt", encodeText("0 0.1 0.1 0.2 0.2 0.3"), "yoloLine", /line 1/],
  ["a.json", json({ segserve: 99 }), "newerProject", /99/],
  ["a.json", json({ segserve: 1, classes: [], pictures: [{ ...image, name: "a.png", objects: [{ mask: { size: [1, 1] } }] }] }), "badMask", /pictures\[0\]\.objects\[0\]\.mask/],
  ["a.zip", encodeText("PK\x03\x04 and no end"), "damaged", /a\.zip/],
  ["a.png", Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10, 0, 0), "damaged", /a\.png/],
  ["a.tif", Uint8Array.of(0x49, 0x49, 42, 0, 200, 0, 0, 0), "damaged", /a\.tif/],
  ["a.tif", Uint8Array.of(0x49, 0x49, 42, 0, 0, 0, 0, 0), "damaged", /a\.tif/],
];

for (const [name, bytes, key, message] of BROKEN)
  test(`${key} is told of ${name}: ${String(message)}`, async () => {
    const store = makeDocument(), before = JSON.stringify(toLabels(store.document));
    await assert.rejects(importLabels([{ name, bytes }], store.document), (error) => {
      assert.ok(error instanceof FormatError, String(error.stack));
      assert.equal(error.key, key);
      assert.match(error.message, message);
      return true;
    });
    assert.equal(JSON.stringify(toLabels(store.document)), before);
  });

test("what has no pixels is counted, not lost silently", async () => {
  const { document } = makeDocument(), bytes = json({ images: [image], categories: [category], annotations: [
    { image_id: 1, category_id: 1, bbox: [1, 2, 3, 4] }, { image_id: 1, category_id: 1, segmentation: [[900, 900, 905, 900, 905, 905]] }] });
  const { objects, notes } = await importLabels([{ name: "a.json", bytes }], document);
  assert.equal(objects.length, 0);
  assert.equal(notes.length, 3);
});

test("labels of another size are refused", async () => {
  const { document } = makeDocument(), bytes = await writePng(new Uint16Array(12).fill(1), 4, 3);
  await assert.rejects(importLabels([{ name: "a.png", bytes }], document), /4 x 3.*60 x 40/);
});

test("a bomb is refused before it is unpacked", async () => {
  const bytes = await writePng(new Uint16Array(1), 1, 1), view = new DataView(bytes.buffer);
  view.setUint32(16, 1_000_000);
  view.setUint32(20, 1_000_000);
  await assert.rejects(importLabels([{ name: "a.png", bytes }], makeDocument().document), { key: "tooManyPixels" });
});

test("every shortened or changed file is refused with a message, or read", async () => {
  let seed = 7;
  const random = (limit) => (seed = (seed * 48_271) % 2_147_483_647) % limit;
  for (const format of FORMATS) {
    const { name, bytes } = await exported(format);
    for (let round = 0; round < 40; round++) {
      const broken = round % 2 ? bytes.slice(0, random(bytes.length)) : bytes.slice();
      if (round % 2 === 0) for (let n = 0; n < 4; n++) broken[random(broken.length)] = random(256);
      try {
        await importLabels([{ name, bytes: broken }], makeDocument().document);
      } catch (error) {
        assert.ok(error instanceof FormatError, `${format}, round ${round}: ${error.stack}`);
      }
    }
  }
});

test("nothing to export is told", async () => {
  await assert.rejects(exportLabels("coco", toLabels(makeDocument({ withObjects: false }).document)), { key: "nothingToExport" });
});

