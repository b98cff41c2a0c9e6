/**
 * Tracks in the format of the Cell Tracking Challenge (celltrackingchallenge.net, "Naming and file content conventions"): a
 * label map for each frame, and a table of tracks with a line `label first last parent` for each. The service's tracking
 * jobs answer them, and so do other trackers.
 */

import { decodeText } from "./bytes.js";
import { FormatError } from "./checks.js";
import { basename } from "./imported.js";
import { toPicture } from "./label_map.js";
import { readTiff } from "./tiff.js";

const TABLE = /^(?:res|man)_track\.txt$/i;
const MASK = /^(?:mask|man_track)(\d+)\.tiff?$/i;

const folderOf = (name) => name.slice(0, name.length - basename(name).length);

/** Whether files are tracks: the table is among them. @param {{name: string}[]} files */
export const isCtc = (files) => files.some(({ name }) => TABLE.test(basename(name)));

/**
 * Each map is a frame of the open clip. The parts of a track that was missed in between are one track again.
 * @param {{name: string, bytes: Uint8Array}[]} files @param {string} where the files are, for errors
 * @returns {Promise<import("./imported.js").Imported>}
 */
export async function readCtc(files, where) {
  const table = files.find(({ name }) => TABLE.test(basename(name))), maps = files.filter(({ name }) => MASK.test(basename(name)));
  if (!maps.length) throw new FormatError("noTrackMaps", where);
  if (new Set(maps.map(({ name }) => folderOf(name))).size > 1) throw new FormatError("severalSequences", where);
  const tracks = readTracks(decodeText(table.bytes, table.name), table.name), pictures = [];
  for (const { name, bytes } of maps) {
    const pages = await readTiff(bytes, name);
    if (pages.length > 1) throw new FormatError("trackVolume", name);
    const frame = Number(MASK.exec(basename(name))[1]), picture = toPicture(pages[0], name, null);
    for (const object of picture.objects) object.fields.track = String(tracks.get(object.value) ?? object.value);
    pictures.push({ ...picture, frame });
  }
  return { classes: [], pictures: pictures.sort((a, b) => a.frame - b.frame) };
}

/**
 * The number of the object of each label. A division has two children; a child that is alone is its parent after a gap.
 * @param {string} text @param {string} name of the file @returns {Map<number, number>}
 */
export function readTracks(text, name) {
  const parents = new Map(), children = new Map();
  for (const [at, line] of text.split(/\r?\n/).entries()) {
    if (!line.trim()) continue;
    const numbers = line.trim().split(/\s+/).map(Number);
    if (numbers.length !== 4 || !numbers.every((number) => Number.isInteger(number) && number >= 0)) throw new FormatError("trackLine", name, at + 1);
    const [label, , , parent] = numbers;
    parents.set(label, parent);
    if (parent) children.set(parent, (children.get(parent) ?? 0) + 1);
  }
  const rootOf = (label) => {
    const seen = new Set();
    for (let at = label; ; at = parents.get(at)) {
      const parent = parents.get(at);
      if (!parent || children.get(parent) !== 1 || seen.has(at)) return at;
      seen.add(at);
    }
  };
  return new Map([...parents.keys()].map((label) => [label, rootOf(label)]));
}
