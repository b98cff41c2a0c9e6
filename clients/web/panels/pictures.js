/** The list of pictures, and what stands in the middle while one cannot be shown. */

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { texts } from "../texts/en.js";
import { actionButton } from "./buttons.js";
import { icon } from "./icons.js";

const THUMBNAIL_PX = 112;

export function picturesPanel(app) {
  const pictures = app.store.document.listPictures();
  return html`<section class="panel fill">
    <h2>${texts.pictures.title} <span class="count">${pictures.length || ""}</span>
      <span class="spacer"></span>
      ${actionButton(app, "previousPicture", { icon: "previous", plain: true })}${actionButton(app, "nextPicture", { icon: "next", plain: true })}
    </h2>
    <div class="row">
      <button type="button" @click=${() => app.chooseFiles()}>${icon("plus")}<span>${texts.pictures.add}</span></button>
      <button type="button" class="icon-only" title=${texts.pictures.addFolder} aria-label=${texts.pictures.addFolder} @click=${() => app.chooseFolder()}>${icon("folder")}</button>
      <span class="spacer"></span>
      ${pictures.length ? html`<button type="button" class="icon-only plain" title=${texts.pictures.newWorkspace} aria-label=${texts.pictures.newWorkspace} @click=${() => app.clearWorkspace()}>${icon("trash")}</button>` : nothing}
    </div>
    <ol class="pictures">${repeat(pictures, ({ id }) => id, (picture) => row(app, picture))}</ol>
  </section>`;
}

const stateOf = ({ session }, { id, imageId }) => session.pictureStates.get(id) ?? { state: imageId ? "uploaded" : "waiting" };

function stateText({ state, progress }) {
  const text = texts.pictures.state[state];
  return typeof text === "function" ? text(progress) : text;
}

/** Of a frame its number first: the names of all frames of a clip begin alike. */
const shownName = ({ name, clip }) => (clip ? `${name.slice(clip.name.length + 1)} ${clip.name}` : name);

function row(app, picture) {
  const { session, store } = app, state = stateOf(app, picture), isOpen = session.picture === picture.id;
  const objects = store.document.objectsOf(picture.id).filter((object) => object.state === "done").length;
  return html`<li class=${isOpen ? "open" : ""}>
    <button type="button" class="picture" aria-current=${isOpen ? "true" : nothing} title=${picture.name} @click=${() => app.openPicture(picture.id)}>
      ${picture.imageId ? html`<img loading="lazy" alt="" width="44" height="44" src=${app.client.previewUrl(picture.imageId, THUMBNAIL_PX)}>` : html`<span class="thumbnail">${icon("picture")}</span>`}
      <span class="name">${shownName(picture)}<small><span class=${`dot ${state.state}`}></span>${stateText(state)}${objects ? html` · ${texts.pictures.objects(objects)}` : nothing}</small></span>
    </button>
    <button type="button" class="plain icon-only remove" aria-label=${texts.pictures.remove(picture.name)} title=${texts.pictures.remove(picture.name)} @click=${() => app.removePicture(picture.id)}>${icon("close")}</button>
  </li>`;
}

/** What stands in the middle while the open picture is not shown. */
export function pictureState(app) {
  const picture = app.labelling?.picture;
  if (!picture) return nothing;
  const { state, problem } = stateOf(app, picture);
  if (problem && ["failed", "away"].includes(state) && !picture.imageId) {
    const isGone = problem.code === "file_gone";
    return html`<section class="start"><div class="start-card" role="alert">
      <h2>${texts.pictures.failedTitle(picture.name)}</h2>
      <p>${isGone ? texts.pictures.fileGone : problem.detail || problem.message} ${isGone ? texts.pictures.fileGoneRemedy : problem.remedy}</p>
      <div class="row">
        ${isGone ? html`<button class="primary" type="button" @click=${() => app.chooseFiles()}>${texts.empty.open}</button>`
          : html`<button class="primary" type="button" @click=${() => app.queue.retry(picture.id)}>${texts.pictures.retry}</button>`}
        <button type="button" @click=${() => app.removePicture(picture.id)}>${texts.pictures.remove(picture.name)}</button>
      </div>
    </div></section>`;
  }
  return picture.width && picture.imageId ? nothing : html`<div class="bar busy"><span class="spinner"></span><span>${texts.pictures.loading}</span></div>`;
}
