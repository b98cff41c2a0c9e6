/** The time line below the picture: a slider, what each frame is, and what can be done with the objects on all of them. */

import { html, nothing } from "../vendor/lit-html/lit-html.js";
import { live } from "../vendor/lit-html/directives/live.js";
import { timeline as texts } from "../texts/en_timeline.js";
import { download } from "./export.js";

/** Windows of computed tomography, in Hounsfield units: level - width / 2, level + width / 2. */
const WINDOWS = { soft: [-160, 240], lung: [-1350, 150], bone: [-450, 1050], brain: [0, 80], liver: [-45, 105] };
const STATES = ["prompted", "found", "uncertain", "ended", "reviewed"];

export function timelinePanel(app) {
  const { timeline } = app;
  if (!timeline.clip) return stackOffer(app);
  const { clip, axis, frame, count, propagation, states } = timeline, { problem, saved, isRunning } = propagation;
  const totals = Object.fromEntries(STATES.map((state) => [state, states.filter((one) => one[state]).length]));
  return html`
    ${timeline.scrubUrl ? html`<img class="scrub" alt="" src=${timeline.scrubUrl}>` : nothing}
    <section class="timeline" aria-label=${texts.title}>
      <div class="row">
        <button type="button" class="icon-only plain" id="previous-frame" aria-label=${texts.previous} title=${texts.previous} ?disabled=${frame <= 0} @click=${() => timeline.step(-1)}>‹</button>
        <button type="button" class="icon-only plain" id="next-frame" aria-label=${texts.next} title=${texts.next} ?disabled=${frame >= count - 1} @click=${() => timeline.step(1)}>›</button>
        <output id="frame-number">${texts.frame(frame, count, clip.kind)}</output>
        ${clip.axes.length > 1 ? html`<label>${texts.axis} <select id="axis" @change=${({ target }) => timeline.setAxis(Number(target.value))}>
          ${clip.axes.map((one) => html`<option value=${one.axis} ?selected=${one.axis === axis}>${texts.axes[one.axis]}</option>`)}</select></label>` : nothing}
        ${clip.kind === "volume" ? windowFields(timeline) : nothing}
        <span class="spacer"></span>
        <ul class="legend" aria-hidden="true">${STATES.map((state) => html`<li class=${state}>${texts.legend[state]} ${totals[state]}</li>`)}</ul>
      </div>
      <div class="lanes" aria-hidden="true">
        <div class="lane marks" .style=${`background: ${gradient(states, ({ prompted, reviewed }) => (prompted ? "prompted" : reviewed ? "reviewed" : "none"))}`}></div>
        <div class="lane" .style=${`background: ${gradient(states, ({ found, uncertain, ended }) => (ended ? "ended" : uncertain ? "uncertain" : found ? "found" : "none"))}`}></div>
      </div>
      <input type="range" id="frame" min="0" max=${count - 1} step="1" .value=${String(frame)} aria-label=${texts.slider(clip.kind)} aria-valuetext=${texts.frame(frame, count, clip.kind)}
        @input=${({ target }) => timeline.scrub(Number(target.value))} @change=${({ target }) => timeline.go(Number(target.value))}>
      <div class="row">
        <select id="direction" aria-label=${texts.direction} ?hidden=${Boolean(saved)}>
          ${Object.entries(texts.directions).map(([value, text]) => html`<option value=${value}>${text}</option>`)}</select>
        <button type="button" class="primary" id="follow" title=${texts.followHint} ?disabled=${propagation.isSending || !propagation.hasNews}
          @click=${({ target }) => timeline.follow(target.parentElement.querySelector("#direction").value)}>${saved ? texts.correct : texts.follow}</button>
        ${isRunning ? html`<button type="button" id="stop" @click=${() => propagation.cancel()}>${texts.stop}</button>` : nothing}
        ${saved ? html`<output id="progress">${texts.progress(totals.found, count)}${isRunning ? html` · ${texts.following}` : nothing}</output>` : nothing}
        ${problem ? html`<span class="bad" role="alert">${problem.detail ?? problem.message} ${problem.remedy ?? nothing}</span>` : nothing}
        ${propagation.canRetry ? html`<button type="button" id="retry" @click=${() => propagation.retry()}>${texts.again}</button>` : nothing}
        <span class="spacer"></span>
        ${totals.uncertain + totals.ended ? html`<button type="button" id="doubt" @click=${() => timeline.goToDoubt()}>${texts.doubt}</button>` : nothing}
        <label><input type="checkbox" id="reviewed" .checked=${Boolean(timeline.picture.reviewed)} @change=${({ target }) => timeline.setReviewed(target.checked)}> ${texts.reviewed}</label>
        ${saved && totals.found ? html`<select id="download-results" aria-label=${texts.download} @change=${({ target }) => save(timeline, target)}>
          <option value="">${texts.download}…</option>${timeline.formats.map((format) => html`<option value=${format}>${texts.formats[format]}</option>`)}</select>` : nothing}
      </div>
      <p class="visually-hidden">${texts.summary(totals, count)}</p>
    </section>`;
}

/** Which values of a volume are black and white. */
function windowFields(timeline) {
  const { window } = timeline.clip, known = window ? Object.keys(WINDOWS).find((name) => String(WINDOWS[name]) === String(window)) ?? "own" : "auto";
  const field = (id, label, at) => html`<input type="number" id=${id} step="any" aria-label=${label} title=${label} .value=${live(window ? String(window[at]) : "")}
    @change=${({ target }) => setWindow(timeline, target.parentElement)}>`;
  return html`<span class="window"><label>${texts.window} <select id="window" .value=${live(known)} @change=${({ target }) => timeline.setWindow(WINDOWS[target.value] ?? null)}>
    ${Object.entries(texts.windows).map(([name, text]) => html`<option value=${name} ?hidden=${name === "own"}>${text}</option>`)}</select></label>
    ${field("window-low", texts.windowLow, 0)}–${field("window-high", texts.windowHigh, 1)}</span>`;
}

/** Take the two numbers, once both are there. */
function setWindow(timeline, fields) {
  const values = ["#window-low", "#window-high"].map((selector) => fields.querySelector(selector).value);
  if (values.every((value) => value === "")) timeline.setWindow(null);
  else if (values.every((value) => value !== "")) timeline.setWindow(values.map(Number));
}

/** A picture of a file that holds more: all of it can be opened. */
function stackOffer({ timeline, labelling }) {
  const { picture } = timeline;
  if (!picture || picture.source || labelling.current || !(picture.pages > 1)) return nothing;
  return html`<div class="bar stack"><span>${texts.pageOf(picture.page ?? 0, picture.pages)}</span>
    <button type="button" id="open-stack" @click=${() => timeline.openStack(picture)}>${texts.openStack(picture.pages)}</button></div>`;
}

async function save(timeline, select) {
  const format = select.value;
  select.value = "";
  const made = format && (await timeline.download(format));
  if (made) download(made.blob, made.name);
}

/** Colours from left to right, one for each run of frames of the same kind. */
function gradient(states, kindOf) {
  const stops = [], place = (frame) => `${((100 * frame) / states.length).toFixed(3)}%`;
  for (let start = 0; start < states.length; ) {
    const kind = kindOf(states[start]);
    let end = start + 1;
    while (end < states.length && kindOf(states[end]) === kind) end++;
    stops.push(`var(--frame-${kind}) ${place(start)} ${place(end)}`);
    start = end;
  }
  return `linear-gradient(to right, ${stops.join(", ")})`;
}
