/**
 * Label volumes: NIfTI, NRRD, MetaImage, MGH, DICOM SEG. A browser has no reader for them; the service reads them on the grid
 * of the volume that is open.
 */

import { checkCount } from "./checks.js";

const ENDINGS = /\.(nii|nii\.gz|hdr|img|nrrd|nhdr|mha|mhd|mgh|mgz|dcm|dicom)$/i;

/** Whether a file is a label volume, or may be: DICOM has no ending of its own. @param {{name: string, bytes: Uint8Array}} file */
export const isLabelVolume = ({ name, bytes }) => ENDINGS.test(name) || String.fromCharCode(...bytes.subarray(128, 132)) === "DICM";

/**
 * What the service has read of a label volume.
 * @param {import("../../js/src/types.js").Labels} labels @param {string} file for messages
 * @returns {import("./imported.js").Imported}
 */
export function fromLabels({ width, height, slices }, file) {
  checkCount(slices.reduce((sum, { objects }) => sum + objects.length, 0));
  const toObject = ({ object_id: id, name, mask }) => ({ class: name ?? null, mask, fields: { track: String(id) } });
  return {
    classes: [],
    pictures: slices.map(({ slice, objects }) => ({ name: null, file, frame: slice, width, height, objects: objects.map(toObject) })),
  };
}
