/** How masks are shown, and what tools do. */

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { live } from "../vendor/lit-html/directives/live.js";
import { texts } from "../texts/en.js";

export function optionsPanel({ session, decodingNow }) {
  const check = (name, text) => html`<label class="check"><input type="checkbox" id=${name} .checked=${live(session[name])} @change=${({ target }) => session.set({ [name]: target.checked })}><span>${text}</span></label>`;
  const number = (target) => Number(target.value);
  return html`<details class="panel options">
    <summary>${texts.options.title}</summary>
    ${check("hover", texts.options.hover)}
    ${check("noOverlaps", texts.options.noOverlaps)}
    ${check("masksHidden", texts.options.hide)}
    <label class="field"><span>${texts.options.colourBy}</span><select id="colour-by" .value=${live(session.colourBy)} @change=${({ target }) => session.set({ colourBy: target.value })}>
      <option value="class">${texts.options.byClass}</option><option value="object">${texts.options.byObject}</option></select></label>
    <label class="field"><span>${texts.options.decode}</span><select id="decode" .value=${live(session.decode)} @change=${({ target }) => session.set({ decode: target.value })}>
      ${Object.entries(texts.options.decodePlaces).map(([value, text]) => html`<option value=${value}>${text}</option>`)}</select></label>
    <p class="quiet" id="decoding-now">${texts.options.decodingNow(decodingNow.by)}${decodingNow.reason && session.decode !== "server" ? ` ${texts.options.notHere}` : nothing}</p>
    <label class="slider"><span>${texts.options.opacity} <output>${Math.round(100 * session.opacity)} %</output></span>
      <input type="range" min="0" max="1" step="0.05" .value=${live(String(session.opacity))} @input=${({ target }) => session.set({ opacity: number(target) })}></label>
    <label class="slider"><span>${texts.options.brush} <output>${Math.round(session.brushRadius)} ${texts.options.px}</output></span>
      <input type="range" min="1" max="100" step="1" .value=${live(String(Math.round(session.brushRadius)))} @input=${({ target }) => session.set({ brushRadius: number(target) })}></label>
    <label class="field"><span>${texts.options.minArea}, ${texts.options.px}</span>
      <input type="number" min="0" max="100000" .value=${live(String(session.minArea))} @change=${({ target }) => session.set({ minArea: Math.max(0, number(target) || 0) })}></label>
  </details>`;
}
