/**
 * The labels as the formats read and write them: plain JSON, without what only the page needs.
 *
 * @typedef {object} Labels
 * @property {{id: string, name: string, colour: string}[]} classes in their order
 * @property {LabelledPicture[]} pictures in their order
 *
 * @typedef {object} LabelledPicture
 * @property {string} id
 * @property {string} name
 * @property {number} width pixels
 * @property {number} height
 * @property {object | null} source see Picture in document.js
 * @property {LabelledObject[]} objects accepted ones with a mask, from the bottom to the top
 *
 * @typedef {object} LabelledObject
 * @property {string} id
 * @property {string} class id of its class
 * @property {import("./document.js").Rle} mask
 * @property {[number, number, number, number]} box
 * @property {number} area
 * @property {number | null} score
 * @property {number | null} tolerance for polygons, pixels; null: the format's default
 * @property {import("./document.js").Prompt | null} prompt
 * @property {string | null} model
 * @property {string} madeBy
 * @property {string | null} track
 */

/** @returns {Labels} */
export function toLabels(document, pictureIds = null) {
  const pictures = document.listPictures().filter(({ id, width }) => width && (!pictureIds || pictureIds.includes(id)));
  return {
    classes: document.listClasses().map(({ id, name, colour }) => ({ id, name, colour })),
    pictures: pictures.map(({ id, name, width, height, source }) => ({
      id, name, width, height, source, objects: document.objectsOf(id).filter(isLabel).map(toLabelledObject),
    })),
  };
}

const isLabel = ({ state, mask, area }) => state === "done" && mask && area > 0;

const toLabelledObject = (object) => ({
  id: object.id,
  class: object.class,
  mask: object.mask,
  box: object.box,
  area: object.area,
  score: object.score,
  tolerance: object.tolerance,
  prompt: object.prompt,
  model: object.model,
  madeBy: object.madeBy,
  track: object.track,
});
