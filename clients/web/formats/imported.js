/**
 * What readers of formats return, before it is put into the document by place.js.
 *
 * @typedef {object} Imported
 * @property {{name: string, colour?: string}[]} classes
 * @property {ImportedPicture[]} pictures
 * @property {number} [withoutMask] entries that have no outline and no mask, which were left out
 *
 * @typedef {object} ImportedPicture
 * @property {string | null} name of the picture; null: the file does not say
 * @property {string} file where it was read, for messages
 * @property {number} [frame] which frame or slice of the open file it is; the file does not name pictures
 * @property {number | null} width pixels; null: the file does not say
 * @property {number | null} height
 * @property {ImportedObject[]} objects
 *
 * @typedef {object} ImportedObject One of mask and polygon.
 * @property {string | null} class name; null: the file has no classes
 * @property {import("../state/document.js").Rle} [mask]
 * @property {import("../../js/src/masks/outline.js").Polygon} [polygon] in pixels
 * @property {boolean} [isRelative] the polygon's points are parts of the width and the height, 0 to 1
 * @property {number} [value] its number in a label map
 * @property {object} [fields] further fields of the object, such as score and track
 */

/** A file's name without folders and suffix. @param {string} path */
export const stem = (path) => basename(path).replace(/\.[^.]+$/, "");

/** @param {string} path */
export const basename = (path) => path.slice(Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")) + 1);

/** Names of pictures as files: without folders and suffix, each once. @param {{name: string}[]} pictures @returns {string[]} */
export function fileStems(pictures) {
  const used = new Set();
  return pictures.map(({ name }) => {
    const plain = stem(name).replace(/[\u0000-\u001f<>:"|?*]/g, "_") || "picture";
    let unique = plain;
    for (let n = 2; used.has(unique.toLowerCase()); n++) unique = `${plain}_${n}`;
    used.add(unique.toLowerCase());
    return unique;
  });
}
