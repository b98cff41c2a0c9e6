/** The frame of the page. It is drawn anew, at most once a frame of the screen, when the document or the session changes. */

import { html, nothing, render } from "../vendor/lit-html/lit-html.js";
import { texts } from "../texts/en.js";
import { actionButton } from "./buttons.js";
import { classesPanel } from "./classes.js";
import { dialogs } from "./dialogs.js";
import { draftBar, reviewBar } from "./bars.js";
import { header } from "./header.js";
import { icon } from "./icons.js";
import { objectPanel } from "./object.js";
import { objectsPanel } from "./objects.js";
import { optionsPanel } from "./options.js";
import { picturesPanel, pictureState } from "./pictures.js";
import { semanticPanel } from "./semantic.js";
import { timelinePanel } from "./timeline.js";

const TOOLS = ["segment", "boxes", "brush", "erase", "select", "pan"];

export class Frame {
  constructor(app, root) {
    this.app = app;
    this.root = root;
    this.scheduled = false;
    this.draw();
  }

  get elements() {
    const find = (selector) => this.root.querySelector(selector);
    return { viewerElement: find("#viewer"), maskCanvas: find("#masks"), marksCanvas: find("#marks"), glass: find("#glass") };
  }

  /** Draw after every change from now on. */
  watch() {
    const schedule = () => this.schedule();
    this.app.store.addEventListener("change", schedule);
    this.app.session.addEventListener("change", ({ detail }) => {
      if (!(detail.size === 1 && detail.has("hovering"))) schedule();
    });
    this.draw();
  }

  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.draw();
    });
  }

  draw() {
    render(frame(this.app), this.root);
  }
}

function frame(app) {
  const { session, store, labelling } = app, hasPictures = store.document.pictures.size > 0, { sheet } = session;
  return html`
    <div class=${`page ${hasPictures ? "working" : "empty"} ${sheet ? `sheet-${sheet}` : ""}`}>
      ${header(app)}
      ${problemBar(app)}
      <nav class="tools" aria-label=${texts.tools.label}>
        ${TOOLS.map((tool) => actionButton(app, `tool${tool[0].toUpperCase()}${tool.slice(1)}`, { icon: tool, text: texts.tools[tool], pressed: session.tool === tool }))}
      </nav>
      <aside class="left" aria-label=${texts.pictures.title}>${picturesPanel(app)}</aside>
      <main aria-label=${texts.picture}>
        <div id="viewer" aria-hidden="true"></div>
        <canvas id="masks" aria-hidden="true"></canvas>
        <canvas id="marks" aria-hidden="true"></canvas>
        <div id="glass" tabindex="0" role="application" aria-label=${glassLabel(app)} class=${`tool-${session.tool}`}></div>
        ${hasPictures ? pictureState(app) : emptyState(app)}
        ${session.busy ? busyBar(session.busy) : runBar(app)}
        ${labelling ? html`${timelinePanel(app)}${reviewBar(app)}${draftBar(app)}` : nothing}
      </main>
      <aside class="right" aria-label=${texts.objects.title}>
        ${labelling ? html`${classesPanel(app)}${semanticPanel(app)}${objectPanel(app)}${objectsPanel(app)}${optionsPanel(app)}` : nothing}
      </aside>
      ${footer(app)}
      ${labelling ? dialogs(app) : nothing}
    </div>`;
}

function glassLabel({ labelling }) {
  const picture = labelling?.picture;
  return picture?.width ? `${picture.name}, ${picture.width} × ${picture.height}, ${texts.pictures.objects(labelling.objects.length)}` : texts.picture;
}

function emptyState(app) {
  return html`<section class="start">
    <div class="start-card">
      ${icon("picture")}
      <h2>${texts.empty.title}</h2>
      <p>${texts.empty.or}</p>
      <div class="row">
        <button class="primary" type="button" @click=${() => app.chooseFiles()}>${texts.empty.open}</button>
        <button type="button" @click=${() => app.chooseFolder()}>${texts.empty.folder}</button>
      </div>
      <dl class="how">${texts.empty.how.map(([act, what]) => html`<div><dt>${act}</dt><dd>${what}</dd></div>`)}</dl>
      <p class="quiet">${texts.empty.private}</p>
    </div>
  </section>`;
}

const busyBar = ({ text, cancel }) => html`<div class="bar busy"><span class="spinner"></span><span>${text}</span>
  <button type="button" @click=${cancel}>${texts.find.cancel}</button></div>`;

/** The job that finds everything on the open picture. */
function runBar({ session, runs }) {
  const run = session.runs.get(session.picture);
  if (!run) return nothing;
  return html`<div class="bar busy" id="run"><span class="spinner"></span><span>${texts.find.run[run.state]}</span>
    <button type="button" id="stop-run" title=${texts.find.runHint} @click=${() => runs.stop(session.picture)}>${texts.find.cancel}</button></div>`;
}

function problemBar({ session }) {
  const { problem, online } = session;
  return html`<div class="problems" role="alert">
    ${problem ? html`<p class="problem"><span><strong>${problem.detail}</strong> ${problem.remedy ?? ""}</span>
      <button type="button" class="plain" aria-label=${texts.service.dismiss} @click=${() => session.set({ problem: null })}>${icon("close")}</button></p>` : nothing}
    ${online ? nothing : html`<p class="problem away">${texts.service.away}</p>`}
    ${session.saving === "saved" ? nothing : html`<p class="problem away">${texts.saving[session.saving]}</p>`}
  </div>`;
}

function footer(app) {
  const { session, labelling } = app, { roundTripMs } = session;
  return html`<footer>
    <p id="status" role="status" aria-live="polite">${session.status}</p>
    <span class="spacer"></span>
    ${roundTripMs === null ? nothing : html`<span class="fact">${texts.object.roundTrip} <output id="round-trip">${texts.object.ms(roundTripMs)}</output> <span id="decoded-by">${texts.object.decodedBy[session.decodedBy]}</span></span>`}
    ${labelling?.picture?.width ? html`
      <span class="zoom" role="group" aria-label="Zoom">
        ${actionButton(app, "zoomOut", { icon: "minus", plain: true })}${actionButton(app, "fit", { icon: "fit", plain: true })}${actionButton(app, "zoomIn", { icon: "plus", plain: true })}
      </span>` : nothing}
  </footer>`;
}
