import assert from "node:assert/strict";
import { test } from "node:test";

import * as draw from "../src/masks/draw.js";
import * as parts from "../src/masks/parts.js";
import * as runs from "../src/masks/runs.js";
import { randomMask, sizes } from "./random_masks.js";

const cases = [...sizes(2)].map((size) => ({ a: randomMask(size), b: randomMask(size) }));
const whole = ({ width, height }) => [0, 0, width, height];
const toRuns = (mask) => runs.fromBitmap(mask.bitmap, mask);

test("area, box and pixels are those of the bitmap", () => {
  for (const { a } of cases) {
    const mask = toRuns(a);
    const ones = [...a.bitmap.keys()].filter((i) => a.bitmap[i]).map((i) => [i % a.width, Math.floor(i / a.width)]);
    assert.equal(runs.area(mask), ones.length);
    const [xs, ys] = [ones.map(([x]) => x), ones.map(([, y]) => y)];
    const box = ones.length ? [Math.min(...xs), Math.min(...ys), Math.max(...xs) + 1, Math.max(...ys) + 1] : [0, 0, 0, 0];
    assert.deepEqual(runs.boundingBox(mask, a.height), box);
    for (let i = 0; i < a.bitmap.length; i++) {
      assert.equal(runs.at(mask, a.height, i % a.width, Math.floor(i / a.width)), Boolean(a.bitmap[i]));
    }
    assert.equal(runs.at(mask, a.height, 0, a.height), false);
    assert.equal(runs.at(mask, a.height, -1, 0), false);
    assert.deepEqual(runs.toBitmap(mask, a.height, whole(a)), a.bitmap);
    assert.ok(mask.every((value, i) => i === 0 || value > mask[i - 1]));
  }
});

test("operations on two masks are those of their bitmaps", () => {
  for (const { a, b } of cases) {
    const [one, other] = [toRuns(a), toRuns(b)];
    const expected = (keep) => a.bitmap.map((value, i) => Number(keep(value, b.bitmap[i])));
    const check = (result, keep) => assert.deepEqual(runs.toBitmap(result, a.height, whole(a)), expected(keep));
    check(runs.union(one, other), (p, q) => p || q);
    check(runs.intersect(one, other), (p, q) => p && q);
    check(runs.subtract(one, other), (p, q) => p && !q);
    check(runs.invert(one, a.width, a.height), (p) => !p);
    const count = (keep) => expected(keep).reduce((sum, value) => sum + value, 0);
    const either = count((p, q) => p || q);
    assert.equal(runs.iou(one, other), either ? count((p, q) => p && q) / either : 1);
    assert.equal(runs.overlapArea(one, other), count((p, q) => p && q));
    assert.deepEqual(runs.unionAll([one, other, one]), runs.union(one, other));
  }
});

test("a window of a mask, and a mask that is moved", () => {
  for (const { a } of cases.filter(({ a }) => a.width > 4 && a.height > 4)) {
    const [x0, y0, x1, y1] = [1, 2, a.width - 1, a.height - 1];
    const window = runs.toBitmap(toRuns(a), a.height, [x0, y0, x1, y1]);
    window.forEach((value, i) => {
      const [x, y] = [x0 + (i % (x1 - x0)), y0 + Math.floor(i / (x1 - x0))];
      assert.equal(value, a.bitmap[y * a.width + x]);
    });
    const cut = runs.move(toRuns(a), a.height, { x: -x0, y: -y0, width: x1 - x0, height: y1 - y0 });
    assert.deepEqual(runs.toBitmap(cut, y1 - y0, [0, 0, x1 - x0, y1 - y0]), window);
    const placed = runs.fromBitmap(window, { width: x1 - x0, height: y1 - y0 }, { x: x0, y: y0, imageWidth: a.width, imageHeight: a.height });
    assert.deepEqual(placed, runs.intersect(toRuns(a), draw.fromBox([x0, y0, x1, y1], a)));
  }
});

test("a bitmap that reaches beyond the image is cut off", () => {
  const mask = runs.fromBitmap([1, 1, 1, 1], { width: 2, height: 2 }, { x: -1, y: 2, imageWidth: 3, imageHeight: 3 });
  assert.deepEqual([...mask], [2, 3]);
});

test("parts are 4-connected, the largest first", () => {
  //  1 1 0
  //  0 0 1
  //  1 0 1
  const mask = runs.fromBitmap([1, 1, 0, 0, 0, 1, 1, 0, 1], { width: 3, height: 3 });
  const split = parts.split(mask, 3);
  assert.deepEqual(split.map(runs.area), [2, 2, 1]);
  assert.deepEqual(runs.unionAll(split), mask);
  assert.deepEqual(parts.removeSpecks(mask, 3, 2), runs.unionAll(split.slice(0, 2)));
});

test("holes are what the mask surrounds", () => {
  const ring = runs.subtract(draw.fromBox([1, 1, 6, 6], { width: 8, height: 8 }), draw.fromBox([2, 2, 4, 4], { width: 8, height: 8 }));
  assert.deepEqual(parts.fillHoles(ring, 8, 8), draw.fromBox([1, 1, 6, 6], { width: 8, height: 8 }));
  assert.deepEqual(parts.fillHoles(ring, 8, 8, 3), ring);
  const open = runs.subtract(ring, draw.fromBox([1, 2, 2, 3], { width: 8, height: 8 }));
  assert.deepEqual(parts.fillHoles(open, 8, 8), open);
});

test("a stroke covers the pixels within its radius", () => {
  const size = { width: 40, height: 30 };
  const points = [[5, 5], [30, 20], [30, 3]];
  const stroke = draw.fromStroke(points, 4, size);
  const near = (x, y, [ax, ay], [bx, by]) => {
    const t = Math.max(0, Math.min(1, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2)));
    return Math.hypot(x - ax - t * (bx - ax), y - ay - t * (by - ay));
  };
  for (let x = 0; x < size.width; x++) {
    for (let y = 0; y < size.height; y++) {
      const distance = Math.min(near(x + 0.5, y + 0.5, points[0], points[1]), near(x + 0.5, y + 0.5, points[1], points[2]));
      if (Math.abs(distance - 4) > 1e-9) assert.equal(runs.at(stroke, size.height, x, y), distance < 4, `${x}, ${y}`);
    }
  }
  assert.equal(runs.area(draw.fromStroke([[3.5, 3.5]], 0.5, size)), 1);
});
