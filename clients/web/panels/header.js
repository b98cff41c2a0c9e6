/** The bar at the top: the model, history, finding, files, keys. */

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { live } from "../vendor/lit-html/directives/live.js";
import { texts } from "../texts/en.js";
import { actionButton } from "./buttons.js";
import { icon } from "./icons.js";

const THEMES = ["system", "light", "dark"];

export function header(app) {
  const { session } = app, promptable = session.models.filter(({ input_size: size }) => size);
  const nextTheme = THEMES[(THEMES.indexOf(session.theme) + 1) % THEMES.length];
  return html`<header>
    <h1><img src=${new URL("../icon.svg", import.meta.url).href} alt="" width="24" height="24">${texts.title}</h1>
    <label class="model"><span>${texts.header.model}</span>
      <select id="model" .value=${live(session.model ?? "")} @change=${({ target }) => session.set({ model: target.value })}>
        ${promptable.map(({ name, description, prompts }) => html`<option value=${name} title=${description} ?selected=${name === session.model}>${prompts.includes("points") ? name : texts.header.forBoxes(name)}</option>`)}
      </select></label>
    ${session.takesPoints ? nothing : html`<span class="note" id="boxes-only" title=${texts.service.boxesOnlyHint}>${texts.service.boxesOnly}</span>`}
    <span class="group history">${actionButton(app, "undo", { icon: "undo" })}${actionButton(app, "redo", { icon: "redo" })}</span>
    <span class="group find" role="group" aria-label=${texts.header.find}>
      ${actionButton(app, "everything", { icon: "everything", text: texts.find.everything })}
      ${actionButton(app, "similar", { icon: "similar", text: texts.find.similar })}
      ${session.models.some(({ kind }) => kind === "semantic") ? actionButton(app, "semantic", { icon: "semantic", text: texts.find.semantic }) : nothing}
    </span>
    <span class="spacer"></span>
    <span class="group files">${actionButton(app, "importLabels", { icon: "upload", text: texts.header.importLabels })}${actionButton(app, "exportLabels", { icon: "download", text: texts.header.exportLabels })}</span>
    <span class="group">
      ${actionButton(app, "keys", { icon: "keys" })}
      <button type="button" class="icon-only" title=${`${texts.header.theme}: ${texts.options.themes[session.theme]}`} aria-label=${`${texts.header.theme}: ${texts.options.themes[session.theme]}`}
        @click=${() => session.set({ theme: nextTheme })}>${icon("theme")}</button>
      ${loginButton(app)}
      <a href="/docs" class="api">${texts.api}</a>
    </span>
    <span class="group sheets">
      ${[["pictures", "picture", texts.pictures.title], ["objects", "list", texts.objects.title]].map(([sheet, name, text]) => html`
        <button type="button" class="icon-only" aria-label=${text} title=${text} aria-expanded=${String(session.sheet === sheet)}
          @click=${() => session.set({ sheet: session.sheet === sheet ? null : sheet })}>${icon(name)}</button>`)}
    </span>
  </header>`;
}

/** Who is logged in, and a way out; or a way in where the login has ended. */
function loginButton(app) {
  const { who, isLoggedOut } = app.session;
  if (isLoggedOut) return html`<button type="button" id="log-in" class="primary" @click=${() => app.login.show()}>${texts.header.logIn}</button>`;
  if (!who?.asks_for_keys) return nothing;
  const text = texts.header.logOut(who.name, who.tenant);
  return html`<button type="button" id="log-out" class="icon-only" title=${text} aria-label=${text} @click=${() => app.logOut()}>${icon("user")}</button>`;
}
