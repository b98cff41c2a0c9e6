/** The classes: the one of new objects, names, colours, keys. */

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { live } from "../vendor/lit-html/directives/live.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import * as commands from "../state/commands.js";
import { texts } from "../texts/en.js";
import { keyFor } from "./buttons.js";
import { icon } from "./icons.js";

export function classesPanel(app) {
  const { store, labelling } = app, classes = store.document.listClasses();
  return html`<section class="panel">
    <h2>${texts.classes.title}<span class="spacer"></span>
      <button type="button" class="plain icon-only" aria-label=${texts.classes.add} title=${texts.classes.add} @click=${() => app.addClass()}>${icon("plus")}</button></h2>
    <ul class="classes">${repeat(classes, ({ id }) => id, (record, at) => row(app, record, at, classes.length, labelling.classId))}</ul>
  </section>`;
}

function row(app, record, at, number, chosen) {
  const edit = (fields) => app.store.run(commands.editClass, record.id, fields), key = at < 9 ? keyFor(app, `class${at + 1}`) : "";
  return html`<li class=${record.id === chosen ? "chosen" : ""}>
    <input type="color" .value=${live(record.colour)} aria-label=${texts.classes.colour(record.name)} @change=${({ target }) => edit({ colour: target.value })}>
    <button type="button" class="plain class" aria-pressed=${String(record.id === chosen)} aria-label=${record.name} @click=${() => app.labelling.setClass(record.id)}>${icon("check")}</button>
    <input type="text" .value=${live(record.name)} aria-label=${texts.classes.name} maxlength="64"
      @change=${({ target }) => (target.value.trim() ? edit({ name: target.value.trim() }) : (target.value = record.name))}
      @keydown=${(event) => { if (event.key === "Enter") event.target.blur(); }}>
    ${key ? html`<kbd>${key}</kbd>` : nothing}
    ${number > 1 ? html`<button type="button" class="plain icon-only remove" aria-label=${texts.classes.remove(record.name)} title=${texts.classes.remove(record.name)} @click=${() => app.removeClass(record.id)}>${icon("close")}</button>` : nothing}
  </li>`;
}
