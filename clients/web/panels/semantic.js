/** What a semantic model found: its classes, to look at and to take as objects. */

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { repeat } from "../vendor/lit-html/directives/repeat.js";
import { texts } from "../texts/en.js";
import { icon } from "./icons.js";

export function semanticPanel(app) {
  const { semantic } = app.session;
  if (!semantic) return nothing;
  return html`<section class="panel" id="semantic">
    <h2>${texts.find.semanticTitle}<span class="spacer"></span><button type="button" class="plain icon-only" aria-label=${texts.find.close} title=${texts.find.close}
      @click=${() => app.session.set({ semantic: null })}>${icon("close")}</button></h2>
    <p class="quiet">${semantic.model}</p>
    <ul class="found">${repeat(semantic.classes, ({ name }) => name, (found) => html`<li><span class="swatch" .style=${`background: ${found.colour}`}></span>
      <span class="name">${found.name}<small>${texts.find.percent(found.fraction)}</small></span>
      <button type="button" @click=${() => app.takeClass(found)}>${texts.find.take}</button></li>`)}</ul>
    ${semantic.classes.length ? nothing : html`<p class="quiet">${texts.status.foundObjects(0)}</p>`}
  </section>`;
}
