import assert from "node:assert/strict";
import { test } from "node:test";

import * as draw from "../src/masks/draw.js";
import { drawMasks } from "../src/masks/raster.js";
import { RasterPool } from "../src/masks/raster_pool.js";
import * as runs from "../src/masks/runs.js";
import { randomMask, sizes } from "./random_masks.js";

const FILL = [10, 200, 30, 255];
const LINE = [255, 255, 255, 255];
const pixel = ({ data, width }, x, y) => [...data.slice(4 * (y * width + x), 4 * (y * width + x) + 4)];

test("each pixel shows the pixel of the image under its centre", () => {
  for (const { bitmap, width, height } of [...sizes(5)].map(randomMask).filter(({ bitmap, width }) => width > 1 && bitmap.some(Boolean))) {
    const mask = { runs: runs.fromBitmap(bitmap, { width, height }), height, fill: FILL };
    // Where a mask may lie between the samples, one pixel stands for it.
    const isSmall = Math.min(width, height) < 6;
    for (const scale of isSmall ? [1, 2.5] : [0.4, 1, 2.5]) {
      const viewport = { x: -2.3, y: 1.7, width: width + 5, height: height + 3 };
      const picture = drawMasks([mask], viewport, scale);
      for (let y = 0; y < picture.height; y++) {
        for (let x = 0; x < picture.width; x++) {
          const [column, row] = [Math.floor(viewport.x + (x + 0.5) / scale), Math.floor(viewport.y + (y + 0.5) / scale)];
          const inside = column >= 0 && column < width && runs.at(mask.runs, height, column, row);
          assert.deepEqual(pixel(picture, x, y), inside ? FILL : [0, 0, 0, 0], `${x}, ${y} at ${scale}`);
        }
      }
    }
  }
});

test("the outline lies inside of the mask, and not along the edge of the viewport", () => {
  const size = { width: 40, height: 40 };
  const mask = { runs: draw.fromBox([10, 10, 30, 30], size), height: 40, fill: FILL, line: LINE, lineWidth: 2 };
  const picture = drawMasks([mask], { x: 0, y: 0, ...size }, 1);
  assert.deepEqual(pixel(picture, 10, 20), LINE);
  assert.deepEqual(pixel(picture, 11, 20), LINE);
  assert.deepEqual(pixel(picture, 12, 20), FILL);
  assert.deepEqual(pixel(picture, 20, 29), LINE);
  assert.deepEqual(pixel(picture, 20, 27), FILL);
  assert.deepEqual(pixel(picture, 9, 20), [0, 0, 0, 0]);
  const cut = drawMasks([mask], { x: 15, y: 15, width: 10, height: 10 }, 4);
  for (const [x, y] of [[0, 0], [39, 0], [0, 39], [39, 39]]) assert.deepEqual(pixel(cut, x, y), FILL);
});

test("colours that one sees through are blended", () => {
  const size = { width: 4, height: 4 };
  const half = (colour) => ({ runs: draw.fromBox([0, 0, 4, 4], size), height: 4, fill: [...colour, 128] });
  const picture = drawMasks([half([255, 0, 0]), half([0, 0, 255])], { x: 0, y: 0, ...size }, 1);
  const [red, green, blue, alpha] = pixel(picture, 1, 1);
  assert.ok(Math.abs(red - 85) < 2 && green === 0 && Math.abs(blue - 170) < 2 && Math.abs(alpha - 192) < 2);
});

test("a mask smaller than a pixel is still to be seen", () => {
  const mask = { runs: draw.fromBox([503, 503, 506, 506], { width: 1000, height: 1000 }), height: 1000, fill: FILL };
  const { data } = drawMasks([mask], { x: 0, y: 0, width: 1000, height: 1000 }, 0.01);
  assert.equal(data.filter((value, i) => i % 4 === 3 && value).length, 1);
});

test("of the views that wait, the newest is drawn", async () => {
  const pool = new RasterPool();
  pool.set([["a", { runs: draw.fromBox([0, 0, 2, 2], { width: 4, height: 4 }), height: 4, fill: FILL }]]);
  const picture = await pool.draw({ x: 0, y: 0, width: 4, height: 4 }, 1);
  assert.deepEqual(pixel(picture, 1, 1), FILL);
  pool.delete(["a"]);
  assert.deepEqual(pixel(await pool.draw({ x: 0, y: 0, width: 4, height: 4 }, 1), 1, 1), [0, 0, 0, 0]);
  pool.close();
});
