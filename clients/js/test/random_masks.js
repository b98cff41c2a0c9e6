/** Masks for tests, the same at each run. */

/** Numbers from 0 to 1 (mulberry32). @param {number} seed */
export function random(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** @param {number} seed */
export function* sizes(seed) {
  const next = random(seed);
  yield { width: 1, height: 1, next, density: 1 };
  yield { width: 7, height: 5, next, density: 0 };
  yield { width: 7, height: 5, next, density: 1 };
  for (let i = 0; i < 60; i++) {
    yield { width: 1 + Math.floor(next() * 20), height: 1 + Math.floor(next() * 20), next, density: [0.1, 0.5, 0.9][i % 3] };
  }
}

/** @param {{width: number, height: number, next: () => number, density: number}} size */
export function randomMask({ width, height, next, density }) {
  return { bitmap: Uint8Array.from({ length: width * height }, () => Number(next() < density)), width, height };
}
