/** Icons of 20 x 20, drawn with the colour of the text around them. */

import { html, svg } from "../vendor/lit-html/lit-html.js";

const PATHS = {
  segment: svg`<path d="M5 4l10 5-4.2 1.6L9 15z"/><path d="M13 14l3 3"/>`,
  boxes: svg`<rect x="3.5" y="3.5" width="9" height="9" rx="1"/><path d="M15.5 7.5v8a1 1 0 0 1-1 1h-7"/>`,
  brush: svg`<path d="M16.5 3.5c-3 1-6.5 4.5-8 7l2.500 2.500c2.500-1.500 5-6.500 5.500-9.500z"/><path d="M8 11c-2 0-3 1.500-3 3.500-.5 1-1.500 1.500-2 1.500 2 1.500 7 1 7.500-2.500"/>`,
  erase: svg`<path d="M8.500 16.500l-5-5 8-8 5.500 5.500-7.500 7.500z"/><path d="M7 8l5.500 5.500M8 16.500h8.500"/>`,
  select: svg`<rect x="3.500" y="3.500" width="13" height="13" rx="1.500" stroke-dasharray="3 2.300"/>`,
  pan: svg`<path d="M10 2.500v15M2.500 10h15M10 2.500L8 4.500m2-2l2 2M10 17.500l-2-2m2 2l2-2M2.500 10l2-2m-2 2l2 2M17.500 10l-2-2m2 2l-2 2"/>`,
  undo: svg`<path d="M7 4L3.500 7.500 7 11"/><path d="M4 7.500h7.500a4.500 4.500 0 0 1 0 9H8"/>`,
  redo: svg`<path d="M13 4l3.500 3.500L13 11"/><path d="M16 7.500H8.500a4.500 4.500 0 0 0 0 9H12"/>`,
  everything: svg`<circle cx="6" cy="6" r="2.500"/><circle cx="14" cy="7" r="2"/><circle cx="7" cy="14" r="2"/><circle cx="14" cy="14" r="2.800"/>`,
  similar: svg`<circle cx="6.500" cy="10" r="3"/><circle cx="14" cy="10" r="3" stroke-dasharray="2.400 1.800"/>`,
  semantic: svg`<path d="M3.500 13c3-5 5 1 8-3s4-3 5-3"/><rect x="3.500" y="3.500" width="13" height="13" rx="1.500"/>`,
  plus: svg`<path d="M10 4v12M4 10h12"/>`,
  minus: svg`<path d="M4 10h12"/>`,
  close: svg`<path d="M5 5l10 10M15 5L5 15"/>`,
  check: svg`<path d="M4 10.500l4 4 8-9"/>`,
  keys: svg`<rect x="2.500" y="5.500" width="15" height="9" rx="1.500"/><path d="M5.500 8.500h.01M8.500 8.500h.01M11.500 8.500h.01M14.500 8.500h.01M6.500 11.500h7"/>`,
  download: svg`<path d="M10 3v9m0 0l-3.500-3.500M10 12l3.500-3.500M4 16.500h12"/>`,
  upload: svg`<path d="M10 13V4m0 0L6.500 7.500M10 4l3.500 3.500M4 16.500h12"/>`,
  folder: svg`<path d="M2.500 15.500v-11h5l2 2h8v9z"/>`,
  picture: svg`<rect x="2.500" y="3.500" width="15" height="13" rx="1.500"/><path d="M3 14l4-4 3.500 3.500L13 11l4 4"/><circle cx="13" cy="7.500" r="1"/>`,
  list: svg`<path d="M7 5.500h9.500M7 10h9.500M7 14.500h9.500M3.500 5.500h.01M3.500 10h.01M3.500 14.500h.01"/>`,
  edit: svg`<path d="M4 16l.8-3.500L13.500 4l2.500 2.500-8.500 8.700z"/>`,
  trash: svg`<path d="M4 6h12M8 6V4h4v2M5.500 6l.7 10.500h7.600L14.500 6M8.500 9v5M11.500 9v5"/>`,
  fit: svg`<path d="M3.500 7.500v-4h4M12.500 3.500h4v4M16.500 12.500v4h-4M7.500 16.500h-4v-4"/>`,
  theme: svg`<circle cx="10" cy="10" r="6.500"/><path d="M10 3.500v13a6.500 6.500 0 0 0 0-13z" fill="currentColor"/>`,
  user: svg`<circle cx="10" cy="7" r="3.200"/><path d="M3.500 17c.6-3.600 3-5.300 6.500-5.300s5.900 1.700 6.500 5.300"/>`,
  previous: svg`<path d="M12.500 4L6.500 10l6 6"/>`,
  next: svg`<path d="M7.500 4l6 6-6 6"/>`,
  eye: svg`<path d="M2.500 10s2.800-5 7.500-5 7.500 5 7.500 5-2.800 5-7.500 5-7.500-5-7.500-5z"/><circle cx="10" cy="10" r="2.200"/>`,
};

export const icon = (name) => html`<svg class="icon" viewBox="0 0 20 20" width="20" height="20" aria-hidden="true" fill="none"
  stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round">${PATHS[name]}</svg>`;
