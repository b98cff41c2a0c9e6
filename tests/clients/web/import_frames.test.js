import assert from "node:assert/strict";
import { test } from "node:test";

import { encode } from "../../../clients/js/src/masks/rle.js";
import { fromBox } from "../../../clients/js/src/masks/draw.js";
import { encodeText } from "../../../clients/web/formats/bytes.js";
import { readTracks } from "../../../clients/web/formats/ctc.js";
import { importLabels } from "../../../clients/web/formats/index.js";
import { writeTiff } from "../../../clients/web/formats/tiff.js";
import { writeZip } from "../../../clients/web/formats/zip.js";
import * as commands from "../../../clients/web/state/commands.js";
import { newClass } from "../../../clients/web/state/new_records.js";
import { Store } from "../../../clients/web/state/store.js";
import { framesOf, newClip, plantFrame } from "../../../clients/web/timeline/clip.js";

const [WIDTH, HEIGHT, FRAMES] = [12, 10, 6];
const axes = [{ axis: 0, frames: FRAMES, width: WIDTH, height: HEIGHT }];

function openClip() {
  const store = new Store(), clip = newClip({ file_id: "f", kind: "video", format: "mp4", fps: 10, spacing: null, axes }, "clip.mp4");
  store.run(commands.addClass, newClass("cell", 0));
  return { store, open: plantFrame(store, clip, 2, 0).id };
}

async function importInto({ store, open }, files, more = {}) {
  const { notes, ...records } = await importLabels(files, store.document, { open, ...more });
  store.run(commands.importLabels, records);
  return notes;
}

/** A label map with a square for each [value, x]. */
function draw(...squares) {
  const values = new Uint16Array(WIDTH * HEIGHT);
  for (const [value, x] of squares) for (let y = 2; y < 6; y++) values.fill(value, y * WIDTH + x, y * WIDTH + x + 3);
  return values;
}

const tracksOf = ({ store }, frame) => store.document.objectsOf(framesOf(store.document, "f", 0).get(frame).id).map(({ track, area, madeBy }) => [track, area, madeBy]);

const square = (x) => encode(fromBox([x, 2, x + 3, 6], { width: WIDTH, height: HEIGHT }), WIDTH, HEIGHT);

async function ctcFiles(folder = "01_RES/") {
  const maps = [draw([1, 0], [2, 6]), draw([1, 1]), draw([3, 2]), draw([4, 0], [5, 6])];
  const files = await Promise.all(maps.map(async (values, frame) => ({ name: `${folder}mask00${frame}.tif`, bytes: await writeTiff(values, WIDTH, HEIGHT) })));
  // 3 is 1 after a gap; 4 and 5 are its daughters.
  return [...files, { name: `${folder}res_track.txt`, bytes: encodeText("1 0 1 0\n2 0 0 0\n3 2 2 1\n4 3 3 3\n5 3 3 3\n") }];
}

test("tracks of the Cell Tracking Challenge come onto frames that nobody has opened, and go with undo", async () => {
  for (const zipped of [true, false]) {
    const clip = openClip(), files = await ctcFiles();
    const notes = await importInto(clip, zipped ? [{ name: "tracks.zip", bytes: await writeZip(files) }] : files);
    assert.equal(notes[0], "6 objects on 4 pictures.");
    assert.deepEqual(tracksOf(clip, 0), [["1", 12, "import"], ["2", 12, "import"]]);
    assert.deepEqual(tracksOf(clip, 2), [["1", 12, "import"]]);
    assert.deepEqual(tracksOf(clip, 3).map(([track]) => track), ["4", "5"]);
    assert.equal(clip.store.document.pictures.get(clip.open).source.frame, 2, "the frame that was open is used");
    clip.store.undo();
    assert.equal(clip.store.document.pictures.size, 1);
    assert.equal(clip.store.document.objects.size, 0);
  }
});

test("a table that runs in a circle is read", () => {
  assert.deepEqual([...readTracks("1 0 1 2\n2 2 3 1\n", "t")].length, 2);
});

test("results of a job are imported by their frames", async () => {
  const clip = openClip(), line = (frame, id, x) => JSON.stringify({ frame, width: WIDTH, height: HEIGHT, objects: [{ object_id: id, mask: square(x), score: 0.7, parent: null }] });
  await importInto(clip, [{ name: "results.ndjson", bytes: encodeText(`${line(0, 4, 0)}\n${line(5, 4, 3)}\n`) }]);
  assert.deepEqual(tracksOf(clip, 5), [["4", 12, "import"]]);
  const [object] = clip.store.document.objectsOf(framesOf(clip.store.document, "f", 0).get(0).id);
  assert.equal(object.score, 0.7);
});

test("a label volume is read by the service, and its segments' names are classes", async () => {
  const clip = openClip(), asked = [];
  const readVolume = async ({ name }) => {
    asked.push(name);
    return { axis: 0, width: WIDTH, height: HEIGHT, slices: [{ slice: 1, objects: [{ object_id: 3, name: "Liver", mask: square(2) }, { object_id: 9, name: null, mask: square(7) }] }] };
  };
  const dicom = new Uint8Array(200);
  dicom.set(encodeText("DICM"), 128);
  await importInto(clip, [{ name: "labels.nii.gz", bytes: new Uint8Array(4) }, { name: "no ending", bytes: dicom }], { readVolume });
  assert.deepEqual(asked, ["labels.nii.gz", "no ending"]);
  const objects = clip.store.document.objectsOf(framesOf(clip.store.document, "f", 0).get(1).id);
  assert.deepEqual(objects.slice(0, 2).map((object) => [clip.store.document.classes.get(object.class).name, object.track]), [["Liver", "3"], ["cell", "9"]]);
});

const BAD = [
  ["labels.nii", new Uint8Array(4), "noVolume", /Open the volume/],
  ["res_track.txt", encodeText("1 0 1 0\n"), "noTrackMaps", /mask000\.tif/],
  ["r.ndjson", encodeText('{"frame": 1, "objects": [{"mask": {"size": [1], "counts": "a"}}]}'), "notASize", /line 1/],
  ["r.ndjson", encodeText('{"frame": -1, "objects": []}'), "notANumber", /frame/],
  ["r.ndjson", encodeText('{"frame": 1, "objects": [{"mask": {"size": [9, 9], "counts": "01"}}]}'), "badMask", /line 1/],
];

for (const [name, bytes, key, message] of BAD)
  test(`${key} is told of ${name}`, async () => {
    const clip = openClip();
    await assert.rejects(importInto(clip, [{ name, bytes }]), (error) => error.key === key && message.test(error.message));
    assert.equal(clip.store.document.objects.size, 0);
  });

test("bad tables, two sequences and maps of another size are told", async () => {
  const files = await ctcFiles(), table = files.length - 1, map = await writeTiff(new Uint16Array(6).fill(1), 3, 2);
  const cases = [
    [[...files.slice(0, table), { name: files[table].name, bytes: encodeText("1 0 x 0") }], "trackLine"],
    [[...files, ...(await ctcFiles("02_RES/"))], "severalSequences"],
    [[{ name: "mask000.tif", bytes: map }, files[table]], "otherSize"],
  ];
  for (const [broken, key] of cases) await assert.rejects(importInto(openClip(), broken), { key });
});

test("frames that the clip does not have are left out, and told", async () => {
  const clip = openClip(), line = JSON.stringify({ frame: 99, objects: [{ object_id: 1, mask: square(0) }] });
  const notes = await importInto(clip, [{ name: "r.ndjson", bytes: encodeText(line) }]);
  assert.match(notes.join(" "), /r\.ndjson/);
  assert.equal(clip.store.document.objects.size, 0);
});
