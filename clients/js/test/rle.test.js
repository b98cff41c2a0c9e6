import assert from "node:assert/strict";
import { test } from "node:test";

import * as rle from "../src/masks/rle.js";
import * as runs from "../src/masks/runs.js";
import { randomMask, sizes } from "./random_masks.js";

test("a mask survives both ways", () => {
  for (const { bitmap, width, height } of [...sizes(1)].map(randomMask)) {
    const mask = runs.fromBitmap(bitmap, { width, height });
    const encoded = rle.encode(mask, width, height);
    assert.deepEqual(rle.decode(encoded), mask);
    assert.deepEqual(rle.formatCounts(rle.parseCounts(encoded.counts)), encoded.counts);
    assert.deepEqual(rle.decode({ size: [height, width], counts: [...rle.parseCounts(encoded.counts)] }), mask);
  }
});

test("runs that no zero parts are joined", () => {
  assert.deepEqual([...rle.lengthsToRuns([1, 2, 0, 3, 4], 10)], [1, 6]);
  assert.deepEqual([...rle.lengthsToRuns([0, 10], 10)], [0, 10]);
  assert.deepEqual([...rle.lengthsToRuns([10], 10)], []);
});

test("lengths of 32 bits", () => {
  const counts = rle.formatCounts([4_000_000_000, 5, 7, 1, 200_000_000]);
  assert.deepEqual([...rle.parseCounts(counts)], [4_000_000_000, 5, 7, 1, 200_000_000]);
});

test("what is malformed is refused", () => {
  for (const counts of ["", "o", "1z", "01é", "oooooooooo0", "5", "T"]) {
    assert.throws(() => rle.decode({ size: [2, 2], counts }), RangeError, counts);
  }
  assert.throws(() => rle.decode({ size: [1e6, 1e6], counts: "4" }), RangeError);
});
