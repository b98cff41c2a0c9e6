/** Colours of masks, as [red, green, blue, alpha], 0 to 255. */

const GOLDEN_ANGLE = 137.508;

export function parseHex(hex) {
  const number = Number.parseInt(hex.slice(1), 16);
  return [number >> 16, (number >> 8) & 255, number & 255];
}

/** A colour of its own for the n-th object. */
export function objectColour(index) {
  const hue = (200 + GOLDEN_ANGLE * index) % 360;
  return hslToRgb(hue, 0.85, 0.58);
}

function hslToRgb(hue, saturation, lightness) {
  const chroma = saturation * Math.min(lightness, 1 - lightness);
  return [0, 8, 4].map((offset) => {
    const k = (offset + hue / 30) % 12;
    return Math.round(255 * (lightness - chroma * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  });
}

/** How an object is drawn: {fill, line, lineWidth}. ratio: pixels of the canvas for a CSS pixel. */
export function styleOf(object, { classes, colourBy, opacity, selected, ratio }) {
  const rgb = colourBy === "object" ? objectColour(Math.floor(object.order * 1024) % 4096) : parseHex(classes.get(object.class)?.colour ?? "#2f9bff");
  const isSuggested = object.state === "suggested";
  const alpha = Math.round(255 * (selected ? Math.min(1, opacity + 0.2) : isSuggested ? opacity / 2 : opacity));
  const line = selected ? [255, 255, 255, 255] : [...rgb, isSuggested ? 160 : 255];
  return { fill: [...rgb, alpha], line, lineWidth: Math.round((selected ? 2 : 1.5) * ratio) };
}
