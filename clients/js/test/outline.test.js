import assert from "node:assert/strict";
import { test } from "node:test";

import * as draw from "../src/masks/draw.js";
import * as outline from "../src/masks/outline.js";
import * as runs from "../src/masks/runs.js";
import { isInside, simplify } from "../src/masks/simplify.js";
import { randomMask, sizes } from "./random_masks.js";

const size = { width: 60, height: 50 };

test("an exact outline is of exactly the mask", () => {
  for (const { bitmap, width, height } of [...sizes(3)].map(randomMask)) {
    const mask = runs.fromBitmap(bitmap, { width, height });
    assert.deepEqual(outline.fromPolygon(outline.toPolygon(mask, height), width, height), mask);
  }
});

test("outer rings run clockwise on a screen, holes the other way", () => {
  const mask = runs.subtract(draw.fromBox([5, 5, 40, 40], size), draw.fromBox([10, 10, 20, 20], size));
  const { type, coordinates } = outline.toPolygon(mask, size.height);
  assert.equal(type, "Polygon");
  assert.deepEqual(coordinates.map((ring) => Math.sign(outline.signedArea(ring))), [1, -1]);
  assert.ok(coordinates.every((ring) => ring[0] === ring.at(-1) || String(ring[0]) === String(ring.at(-1))));
});

test("no mask is a polygon without rings", () => {
  assert.deepEqual(outline.toPolygon(runs.empty(), 5), { type: "Polygon", coordinates: [] });
  assert.equal(outline.fromPolygon({ type: "Polygon", coordinates: [] }, 5, 5).length, 0);
});

test("a tolerance leaves vertices out, and the mask nearly as it was", () => {
  const mask = runs.union(draw.fromStroke([[15, 15], [40, 30]], 9, size), draw.fromStroke([[50, 8]], 6, size));
  const exact = outline.toPolygon(mask, size.height);
  let vertices = outline.countVertices(exact);
  for (const tolerance of [0.5, 1, 2]) {
    const simple = outline.toPolygon(mask, size.height, tolerance);
    assert.ok(outline.countVertices(simple) < vertices);
    vertices = outline.countVertices(simple);
    assert.ok(runs.iou(outline.fromPolygon(simple, size.width, size.height), mask) > 0.85);
  }
});

test("whatever the tolerance, parts and holes stay and no two lines cross", () => {
  for (const { bitmap, width, height } of [...sizes(4)].map(randomMask)) {
    const mask = runs.fromBitmap(bitmap, { width, height });
    const exact = outline.toPolygon(mask, height);
    const polygons = ({ type, coordinates }) => (type === "Polygon" ? [coordinates] : coordinates);
    for (const tolerance of [1, 4, 100]) {
      const simple = outline.toPolygon(mask, height, tolerance);
      assert.deepEqual(polygons(simple).map((rings) => rings.length), polygons(exact).map((rings) => rings.length));
      const rings = polygons(simple).flat();
      assert.ok(rings.every((ring) => ring.length > 3));
      assert.equal(countCrossings(rings), 0);
      for (const [outer, ...holes] of polygons(simple)) assert.ok(holes.every((hole) => isInside(hole[0], outer)));
    }
  }
});

test("polygons that overlap are joined", () => {
  const square = (x) => [[[x, 0], [x + 4, 0], [x + 4, 4], [x, 4]]];
  const mask = outline.fromPolygon({ type: "MultiPolygon", coordinates: [square(0), square(2)] }, 10, 10);
  assert.deepEqual(mask, draw.fromBox([0, 0, 6, 4], { width: 10, height: 10 }));
});

test("a ring that is a triangle stays one", () => {
  const ring = [[0, 0], [9, 1], [4, 8], [0, 0]];
  assert.deepEqual(simplify([[ring]], 100), [[ring]]);
});

/** How many pairs of lines cross properly. */
function countCrossings(rings) {
  const lines = rings.flatMap((ring) => ring.slice(0, -1).map((from, i) => [from, ring[i + 1]]));
  const side = (a, b, c) => Math.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]));
  let count = 0;
  for (let i = 0; i < lines.length; i++) {
    for (let j = i + 1; j < lines.length; j++) {
      const [[a, b], [c, d]] = [lines[i], lines[j]];
      if (side(a, b, c) * side(a, b, d) < 0 && side(c, d, a) * side(c, d, b) < 0) count++;
    }
  }
  return count;
}
