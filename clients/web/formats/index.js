/**
 * The formats that labels are exported to and imported from.
 *
 *     const { name, bytes, type } = await exportLabels("coco", toLabels(store.document));
 *     const { notes, ...records } = await importLabels([{ name: file.name, bytes }], store.document, { open: pictureId });
 *     store.run(commands.importLabels, records);
 *
 * A file that cannot be read throws FormatError, whose message says what is wrong where; the document stays as it is.
 */

import { decodeText, encodeText } from "./bytes.js";
import { FormatError, parseJson } from "./checks.js";
import { fromCoco, isCoco, toCoco } from "./coco.js";
import { isCtc, readCtc } from "./ctc.js";
import { fromGeoJson, isGeoJson, toGeoJson } from "./geojson.js";
import { basename, fileStems } from "./imported.js";
import { readLabelPng, readLabelTiff, readTable, writeLabelMaps } from "./label_map.js";
import { fromLabels, isLabelVolume } from "./label_volume.js";
import { place } from "./place.js";
import { isPng } from "./png.js";
import { fromProject, isProject, PROJECT_FILE, writeProject } from "./project.js";
import { fromResults, isResults } from "./results.js";
import { isTiff } from "./tiff.js";
import { isYolo, readYolo, writeYolo } from "./yolo.js";
import { isZip, readZip, writeZip } from "./zip.js";

export { FormatError };

const JSON_TYPE = "application/json", ZIP_TYPE = "application/zip";

const asJson = (content) => encodeText(JSON.stringify(content));
const asZip = async (name, entries) => ({ name: `${name}.zip`, bytes: await writeZip(entries), type: ZIP_TYPE });

/** By their keys in texts.names, in the order in which they are offered. */
const WRITERS = {
  coco: (labels, name) => ({ name: `${name}.coco.json`, bytes: asJson(toCoco(labels)), type: JSON_TYPE }),
  cocoPolygons: (labels, name) => ({ name: `${name}.coco.json`, bytes: asJson(toCoco(labels, { polygons: true })), type: JSON_TYPE }),
  labelPng: async (labels, name) => asZip(`${name}-labels`, await writeLabelMaps(labels, "png")),
  labelTiff: async (labels, name) => asZip(`${name}-labels`, await writeLabelMaps(labels, "tif")),
  geojson: (labels, name) => writeGeoJson(labels, name),
  yolo: (labels, name) => asZip(`${name}-yolo`, writeYolo(labels)),
  project: (labels, name) => asZip(`${name}-project`, writeProject(labels)),
};

export const FORMATS = Object.freeze(Object.keys(WRITERS));

/**
 * @param {string} format one of FORMATS
 * @param {import("../state/labels.js").Labels} labels
 * @returns {Promise<{name: string, bytes: Uint8Array, type: string}>} a file: its name, its content, its media type
 */
export async function exportLabels(format, labels) {
  if (!labels.pictures.some(({ objects }) => objects.length)) throw new FormatError("nothingToExport");
  return WRITERS[format](labels, labels.pictures.length === 1 ? fileStems(labels.pictures)[0] : "labels");
}

function writeGeoJson({ classes, pictures }, name) {
  const names = fileStems(pictures);
  const files = pictures.map((picture, index) => ({ name: `${names[index]}.geojson`, bytes: asJson(toGeoJson(picture, classes)) }));
  return files.length === 1 ? { ...files[0], type: "application/geo+json" } : asZip(`${name}-geojson`, files);
}

/**
 * Read files of labels, whatever format each has, and fit them to the document, which is not changed.
 * @param {{name: string, bytes: Uint8Array}[]} files
 * @param {import("../state/document.js").Document} document
 * @param {object} [options]
 * @param {string | null} [options.open] id of the picture that is open
 * @param {(file: {name: string, bytes: Uint8Array}) => Promise<import("../../js/src/types.js").Labels>} [options.readVolume] reads a
 *   label volume on the grid of the volume that is open
 */
export async function importLabels(files, document, { open = null, readVolume } = {}) {
  return place(document, join(await readFiles(files, readVolume)), open);
}

async function readFiles(files, readVolume) {
  if (isCtc(files)) return [await readCtc(files, files[0].name)];
  const volumes = files.filter(isLabelVolume), read = [];
  for (const file of volumes) {
    if (!readVolume) throw new FormatError("noVolume", file.name);
    read.push(fromLabels(await readVolume(file), file.name));
  }
  files = files.filter((file) => !volumes.includes(file));
  for (const { name, bytes } of files) read.push(...(isZip(bytes) ? await readArchive(bytes, name) : [await readFile(bytes, name)]));
  return read;
}

async function readArchive(bytes, zip) {
  const files = await readZip(bytes, zip), project = files.find(({ name }) => basename(name) === PROJECT_FILE);
  if (project) return [await readFile(project.bytes, `${zip}/${project.name}`)];
  if (isCtc(files)) return [await readCtc(files, zip)];
  if (isYolo(files)) return [readYolo(files, zip)];
  const table = files.find(({ name }) => basename(name) === "objects.csv");
  const labels = files.filter(({ name, bytes: content }) => /\.(geo)?json$/i.test(name) || isPng(content) || isTiff(content));
  if (!labels.length) throw new FormatError("unknownFormat", zip);
  const known = table ? readTable(decodeText(table.bytes, `${zip}/${table.name}`)) : new Map(), read = [];
  for (const { name, bytes: content } of labels) read.push(nameObjects(await readFile(content, basename(name)), known));
  return read;
}

/** Give the objects of label maps the classes and tracks of the table beside them. */
function nameObjects(imported, table) {
  for (const { file, objects } of imported.pictures)
    for (const object of objects) {
      const row = table.get(`${file} ${object.value}`);
      if (row?.class) object.class = row.class;
      if (row?.track) object.fields.track = row.track;
    }
  return imported;
}

async function readFile(bytes, name) {
  if (isPng(bytes)) return readLabelPng(bytes, name);
  if (isTiff(bytes)) return readLabelTiff(bytes, name);
  if (isResults(name)) return fromResults(decodeText(bytes, name), name);
  if (/\.txt$/i.test(name)) return readYolo([{ name: basename(name), bytes }], name);
  if (![0x7b, 0x5b].includes(bytes.find((byte) => ![0x20, 0x0a, 0x0d, 0x09, 0xef, 0xbb, 0xbf].includes(byte)))) throw new FormatError("unknownFormat", name);
  const json = parseJson(decodeText(bytes, name), name);
  if (isProject(json)) return fromProject(json, name);
  if (isCoco(json)) return fromCoco(json, name);
  if (isGeoJson(json)) return fromGeoJson(json, name);
  throw new FormatError("unknownFormat", name);
}

/** @param {import("./imported.js").Imported[]} all */
function join(all) {
  return {
    classes: all.flatMap(({ classes }) => classes),
    pictures: all.flatMap(({ pictures }) => pictures),
    withoutMask: all.reduce((sum, { withoutMask = 0 }) => sum + withoutMask, 0),
  };
}
