/** Texts of the time line, English. */

const count = (number, one) => `${number} ${one}${number === 1 ? "" : "s"}`;

export const timeline = {
  title: "Time line",
  frame: (frame, frames, kind) => `${kind === "volume" ? "Slice" : "Frame"} ${frame + 1} of ${frames}`,
  slider: (kind) => (kind === "volume" ? "Slice" : "Frame"),
  previous: "Previous frame",
  next: "Next frame",
  axis: "Axis",
  axes: ["slices as stored (z)", "along y", "along x"],
  direction: "Direction",
  directions: { both: "both ways", forward: "forward", backward: "backward" },
  follow: "Follow objects",
  correct: "Send corrections",
  followHint: "Objects that you mark on any frame are followed through the others.",
  stop: "Stop",
  again: "Go on",
  progress: (found, frames) => `found on ${found} of ${frames}`,
  following: "following…",
  doubt: "Next doubtful",
  noDoubt: "No frame is in doubt.",
  reviewed: "This frame is right",
  download: "Download",
  formats: {
    coco: "COCO", png: "label maps, PNG", tiff: "label maps, TIFF", tiff_stack: "label stack, TIFF", nifti: "NIfTI", nrrd: "NRRD", mha: "MetaImage",
    dicom_seg: "DICOM SEG", mp4: "video with objects", sheet: "contact sheet",
  },
  uploading: (name) => `Uploading ${name}…`,
  pageOf: (page, pages) => `Page ${page + 1} of ${pages}.`,
  openStack: (pages) => `Open all ${pages} as a stack`,
  pictures: (name) => `${name} holds pictures of several sizes.`,
  fileGone: (name) => `${name} is not kept in this browser.`,
  fileGoneRemedy: "Open the file again.",
  picturesRemedy: "Open them as pictures.",
  summary: ({ prompted, found, uncertain, ended, reviewed }, frames) =>
    `${count(frames, "frame")}: ${prompted} marked, ${found} found, ${uncertain} uncertain, ${ended} lost an object, ${reviewed} right.`,
  legend: { prompted: "marked", found: "found", uncertain: "uncertain", ended: "lost", reviewed: "right" },
};
