/** The dialog of export, import, and downloads. */

import { toBitmap } from "../../js/src/masks/runs.js";
import { Problem } from "../../js/src/problem.js";
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { exportLabels, FormatError, FORMATS, importLabels } from "../formats/index.js";
import * as commands from "../state/commands.js";
import { toLabels } from "../state/labels.js";
import { texts } from "../texts/en.js";
import { formats as formatTexts } from "../texts/en_formats.js";
import { shownRuns } from "../view/mask_view.js";
import { modal } from "./modal.js";

const URL_LIFE_MS = 60_000;

/** Give a file to the browser to download. */
export function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), URL_LIFE_MS);
}

const withoutEnding = (name) => name.split("/").at(-1).replace(/\.\w+$/, "");

/** The mask of an object as a black and white PNG of the picture's size. */
export async function downloadMask(app, object) {
  const [height, width] = object.mask.size, canvas = Object.assign(document.createElement("canvas"), { width, height });
  const inside = toBitmap(shownRuns(object), height, [0, 0, width, height]), image = new ImageData(width, height);
  for (let at = 0; at < inside.length; at++) image.data.set([255 * inside[at], 255 * inside[at], 255 * inside[at], 255], 4 * at);
  canvas.getContext("2d").putImageData(image, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve)), picture = app.store.document.pictures.get(object.picture);
  if (!blob) return app.showProblem({ detail: texts.export.tooLarge, remedy: texts.export.tooLargeRemedy });
  const number = app.store.document.objectsOf(object.picture).indexOf(object) + 1;
  download(blob, `${withoutEnding(picture.name)}-object-${number}.png`);
}

/** Import files of labels. What cannot be read leaves the labels as they are. files: File[]. */
export async function importFiles(app, files) {
  try {
    const read = await Promise.all(files.map(async (file) => ({ name: file.name, bytes: new Uint8Array(await file.arrayBuffer()) })));
    const { clip, axis } = app.timeline.clip?.kind === "volume" ? app.timeline : {};
    const readVolume = clip && (({ bytes }) => app.client.readLabels(clip.file, new Blob([bytes]), { axis }));
    const { notes, ...records } = await importLabels(read, app.store.document, { open: app.session.picture, readVolume });
    app.store.run(commands.importLabels, records);
    app.session.set({ problem: null, status: notes.join(" ") });
  } catch (error) {
    if (error instanceof FormatError) app.showProblem({ detail: error.message, remedy: "" });
    else if (error instanceof Problem) app.showProblem(error);
    else throw error;
  }
}

export function exportDialog(app) {
  const { store, session, labelling } = app, all = toLabels(store.document), total = all.pictures.reduce((sum, { objects }) => sum + objects.length, 0);
  const save = async (event) => {
    event.preventDefault();
    const chosen = new FormData(event.target), { picture } = labelling, format = chosen.get("format");
    session.set({ exportFormat: format });
    try {
      const { name, bytes, type } = await exportLabels(format, chosen.get("which") === "open" ? toLabels(store.document, [picture.id]) : all);
      download(new Blob([bytes], { type }), name);
      session.set({ dialog: null, status: texts.export.done(name) });
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      session.set({ dialog: null });
      app.showProblem({ detail: error.message, remedy: "" });
    }
  };
  const format = (key) => html`<label class="format"><input type="radio" name="format" value=${key} ?checked=${key === session.exportFormat}>
    <span>${formatTexts.names[key]}<small>${formatTexts.hints[key]}</small></span></label>`;
  const content = total
    ? html`<form class="form" @submit=${save}>
        <label><span>${texts.export.which}</span><select name="which"><option value="all">${texts.export.all(all.pictures.length)}</option>${labelling.picture?.width ? html`<option value="open">${texts.export.open}</option>` : nothing}</select></label>
        <fieldset><legend>${texts.export.format}</legend>${FORMATS.map(format)}</fieldset>
        <div class="row"><button type="submit" class="primary" id="download">${texts.export.download}</button></div>
      </form>`
    : html`<p class="quiet">${texts.export.nothing}</p>`;
  return modal(app, { id: "export", title: texts.export.title, content });
}
