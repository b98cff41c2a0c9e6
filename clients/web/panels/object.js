/** The current or selected object: its facts, candidates, outline, and what can be done with it. */

import { countVertices, toPolygon } from "../../js/src/masks/outline.js";
import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { live } from "../vendor/lit-html/directives/live.js";
import { runsOf } from "../state/masks.js";
import { texts } from "../texts/en.js";
import { actionButton } from "./buttons.js";
import { downloadMask } from "./export.js";
import { icon } from "./icons.js";

/** Steps of the outline's slider, in pixels. */
const TOLERANCES = [0, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32];

export function objectPanel(app) {
  const { labelling, store } = app, { targets, current } = labelling;
  if (!targets.length) return nothing;
  const [object] = targets, many = targets.length > 1;
  const title = many ? texts.object.many(targets.length) : current ? (app.session.editing ? texts.object.editingTitle : texts.object.draftTitle) : texts.object.title;
  return html`<section class="panel" id="object">
    <h2>${title}</h2>
    ${many ? nothing : facts(object, store.document.classes.get(object.class)?.name)}
    ${!many && object.candidates.length > 1 ? candidates(app, object) : nothing}
    ${object.mask ? outline(app, object, many) : nothing}
    <div class="acts">
      ${current ? nothing : actionButton(app, "edit", { icon: "edit", text: texts.object.edit })}
      ${actionButton(app, "clean", { text: texts.object.clean })}
      ${many ? actionButton(app, "join", { text: texts.object.join }) : actionButton(app, "split", { text: texts.object.split })}
      ${actionButton(app, "tightenBox", { text: texts.object.tighten })}
      ${current ? nothing : actionButton(app, "similar", { icon: "similar", text: texts.object.similar })}
      ${many || !object.mask ? nothing : html`<button type="button" @click=${() => downloadMask(app, object)}>${icon("download")}<span>${texts.object.png}</span></button>`}
      ${actionButton(app, "remove", { icon: "trash", text: texts.object.remove })}
    </div>
  </section>`;
}

function facts(object, className) {
  const prompt = object.prompt && texts.object.promptIs(object.prompt);
  const rows = [
    [texts.object.class, className],
    [texts.object.score, object.score === null ? null : object.score.toFixed(3), "score"],
    [texts.object.area, object.mask ? texts.objects.area(object.area) : null, "area"],
    [texts.object.prompt, prompt, "prompt"],
    [texts.object.made, [texts.objects.madeBy[object.madeBy], object.model].filter(Boolean).join(", ")],
  ];
  return html`<dl class="facts">${rows.filter(([, value]) => value).map(([name, value, id]) => html`<div><dt>${name}</dt><dd id=${id ?? nothing}>${value}</dd></div>`)}</dl>`;
}

const candidates = (app, object) => html`<div class="candidates" role="group" aria-label=${texts.object.candidates}>
  ${object.candidates.map(({ score }, at) => html`<button type="button" aria-pressed=${String(object.candidate === at)} title=${texts.object.candidate(at + 1, score)}
    @click=${() => app.labelling.chooseCandidate(at)}>${at + 1} <small>${score.toFixed(2)}</small></button>`)}
</div>`;

const vertices = new WeakMap(); // mask -> Map of tolerance -> number

function countPoints({ mask, tolerance }) {
  if (!vertices.has(mask)) vertices.set(mask, new Map());
  const known = vertices.get(mask);
  if (!known.has(tolerance)) known.set(tolerance, countVertices(toPolygon(runsOf(mask), mask.size[0], tolerance)));
  return known.get(tolerance);
}

function outline(app, object, many) {
  const { tolerance } = object, at = Math.max(0, TOLERANCES.indexOf(tolerance ?? 0));
  const text = tolerance ? texts.object.detailPoints(many ? 0 : countPoints(object), tolerance) : texts.object.detailExact;
  return html`<label class="slider"><span>${texts.object.detail} <output>${many && tolerance ? `${tolerance} px` : text}</output></span>
    <input id="detail" type="range" min="0" max=${TOLERANCES.length - 1} step="1" .value=${live(String(at))} aria-valuetext=${text}
      @change=${({ target }) => app.labelling.setTolerance(TOLERANCES[Number(target.value)])}></label>`;
}
