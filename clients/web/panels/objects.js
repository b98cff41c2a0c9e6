/** The list of objects. Only the rows that can be seen are drawn: a picture may have thousands. */

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { texts } from "../texts/en.js";
import { icon } from "./icons.js";

const ROW_PX = 38;
const ROOM = 8; // rows above and below

let scrollTop = 0;
let height = 400;

export function objectsPanel(app) {
  const { labelling, session } = app, objects = labelling.objects, waiting = objects.filter(({ pending }) => pending).length;
  const first = Math.max(0, Math.floor(scrollTop / ROW_PX) - ROOM), last = Math.min(objects.length, Math.ceil((scrollTop + height) / ROW_PX) + ROOM);
  // The newest come first.
  const shown = Array.from({ length: Math.max(0, last - first) }, (_, at) => objects[objects.length - 1 - first - at]);
  const chosen = session.selected[0];
  return html`<section class="panel fill" id="objects">
    <h2>${texts.objects.title} <span class="count">${objects.length || ""}</span>${waiting ? html`<span class="count waiting">${waiting} …</span>` : nothing}</h2>
    ${objects.length ? nothing : html`<p class="quiet">${texts.objects.none}</p>`}
    <div class="rows" role="listbox" tabindex=${objects.length ? "0" : "-1"} aria-label=${texts.objects.list} aria-multiselectable="true"
      aria-activedescendant=${chosen && shown.some(({ id }) => id === chosen) ? `object-${chosen}` : nothing}
      @keydown=${(event) => step(app, event)}
      @scroll=${({ target }) => { scrollTop = target.scrollTop; height = target.clientHeight; app.session.dispatchEvent(new CustomEvent("change", { detail: new Set(["scrolled"]) })); }}>
      <div class="tall" .style=${`height: ${objects.length * ROW_PX}px; padding-top: ${first * ROW_PX}px`}>
        ${repeat(shown, ({ id }) => id, (object, at) => row(app, object, objects.length - first - at, objects.length))}
      </div>
    </div>
  </section>`;
}

function step(app, event) {
  const direction = { ArrowDown: -1, ArrowUp: 1 }[event.key];
  if (direction) {
    event.preventDefault();
    event.stopPropagation();
    app.labelling.step(direction);
  }
}

function describe(object) {
  if (object.pending) return texts.objects.pending;
  const parts = [
    object.state === "draft" && texts.objects.draft,
    object.state === "suggested" && texts.objects.suggested,
    texts.objects.area(object.area),
    object.likeness !== undefined && object.state === "suggested" ? texts.objects.likeness(object.likeness) : object.score !== null && texts.objects.score(object.score),
  ];
  return parts.filter(Boolean).join(" · ");
}

function row(app, object, number, total) {
  const { session, labelling, store } = app, isSelected = session.selected.includes(object.id), name = `${store.document.classes.get(object.class)?.name ?? ""} ${number}`;
  const pick = (event) => {
    if (event.target.closest(".remove")) return;
    const selected = event.shiftKey || event.ctrlKey || event.metaKey
      ? (isSelected ? session.selected.filter((id) => id !== object.id) : [...session.selected, object.id])
      : [object.id];
    labelling.select(selected);
    if (object.box) app.viewer.reveal(object.box);
  };
  return html`<div class=${`object ${object.state}`} id=${`object-${object.id}`} role="option" aria-selected=${String(isSelected)} aria-setsize=${total} aria-posinset=${total - number + 1}
      @click=${pick} @dblclick=${() => labelling.edit(object.id)}>
    <span class="swatch" .style=${`background: ${app.colourOf(object)}`}></span>
    <span class="name">${name}<small>${describe(object)}</small></span>
    <span class="remove" aria-hidden="true" title=${texts.objects.remove(name)} @click=${() => { labelling.select([object.id]); labelling.remove(); }}>${icon("close")}</span>
  </div>`;
}
