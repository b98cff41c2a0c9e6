/** Label maps: a picture of numbers, each an object; 0 is no object. */

import { encode } from "../../js/src/masks/rle.js";
import { boundingBox, forEachSegment, RunBuilder } from "../../js/src/masks/runs.js";
import { runsOf } from "../state/masks.js";
import { encodeText } from "./bytes.js";
import { checkCount, FormatError } from "./checks.js";
import { fileStems, stem } from "./imported.js";
import { readPng, writePng } from "./png.js";
import { readTiff, writeTiff } from "./tiff.js";

const MAX_PNG_LABEL = 65_535;

/**
 * The numbers of the objects, row by row: from 1, in their order. An object that lies above another one hides it.
 * @param {import("../state/labels.js").LabelledPicture} picture
 */
export function drawLabels({ width, height, objects }) {
  const values = new (objects.length > MAX_PNG_LABEL ? Uint32Array : Uint16Array)(width * height);
  objects.forEach(({ mask }, index) => {
    const runs = runsOf(mask);
    forEachSegment(runs, height, boundingBox(runs, height), (x, y0, y1) => {
      for (let y = y0; y < y1; y++) values[y * width + x] = index + 1;
    });
  });
  return values;
}

/** The runs of each number but 0, in the order of the numbers. @returns {{value: number, runs: Uint32Array}[]} */
export function cutLabels(values, width, height) {
  const builders = new Map();
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; ) {
      const value = values[y * width + x], start = y;
      while (y < height && values[y * width + x] === value) y++;
      if (value === 0) continue;
      if (!builders.has(value)) {
        builders.set(value, new RunBuilder(height));
        checkCount(builders.size);
      }
      builders.get(value).add(x, start, y);
    }
  }
  return [...builders].sort(([a], [b]) => a - b).map(([value, builder]) => ({ value, runs: builder.finish() }));
}

/** @param {import("../state/labels.js").Labels} labels @param {"png" | "tif"} suffix */
export async function writeLabelMaps(labels, suffix) {
  const names = fileStems(labels.pictures), files = [];
  for (const [index, picture] of labels.pictures.entries()) {
    if (suffix === "png" && picture.objects.length > MAX_PNG_LABEL) throw new FormatError("tooManyLabels", picture.name, picture.objects.length);
    const write = suffix === "png" ? writePng : writeTiff;
    files.push({ name: `${names[index]}.${suffix}`, bytes: await write(drawLabels(picture), picture.width, picture.height) });
  }
  return [...files, { name: "objects.csv", bytes: encodeText(writeTable(labels, names.map((name) => `${name}.${suffix}`))) }];
}

/** What each number is. */
function writeTable({ classes, pictures }, files) {
  const names = new Map(classes.map(({ id, name }) => [id, name]));
  const quote = (text) => `"${String(text).replaceAll('"', '""')}"`;
  const rows = pictures.flatMap(({ objects }, index) => objects.map((object, number) =>
    [quote(files[index]), number + 1, quote(names.get(object.class) ?? ""), object.area, object.score ?? "", quote(object.track ?? "")].join(",")));
  return ["file,label,class,area,score,track", ...rows, ""].join("\n");
}

/** @returns {Promise<import("./imported.js").Imported>} */
export async function readLabelPng(bytes, name) {
  return { classes: [], pictures: [toPicture(await readPng(bytes, name), name, stem(name))] };
}

/** Each page is a picture; of a stack the n-th page is the n-th frame. @returns {Promise<import("./imported.js").Imported>} */
export async function readLabelTiff(bytes, name) {
  const pages = await readTiff(bytes, name);
  if (pages.length === 1) return { classes: [], pictures: [toPicture(pages[0], name, stem(name))] };
  return { classes: [], pictures: pages.map((page, frame) => ({ ...toPicture(page, name, null, true), frame })) };
}

/** hasTracks: the numbers are objects that are the same on other pictures. */
export function toPicture({ width, height, values }, file, name, hasTracks = false) {
  const objects = cutLabels(values, width, height).map(({ value, runs }) => ({
    value,
    class: null,
    mask: encode(runs, width, height),
    fields: hasTracks ? { track: String(value) } : {},
  }));
  return { name, file, width, height, objects };
}

/** Classes and tracks of the numbers, from the table beside label maps. @param {string} text @returns {Map<string, {class: string, track: string}>} */
export function readTable(text) {
  const found = new Map();
  for (const line of text.split(/\r?\n/).slice(1)) {
    const cells = [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map(([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain);
    if (cells.length >= 3) found.set(`${cells[0]} ${cells[1]}`, { class: cells[2], track: cells[5] ?? "" });
  }
  return found;
}
