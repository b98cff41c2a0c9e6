/**
 * Polygons with fewer vertices: Douglas and Peucker's algorithm for each ring, with less tolerance where lines would cross.
 *
 * @typedef {[number, number]} Point
 * @typedef {Point[]} Ring Closed: its last point is its first.
 */

const MAX_HALVINGS = 6;

/**
 * Return polygons with fewer vertices. No two lines cross, all rings stay, each at least a triangle.
 * @param {Ring[][]} polygons Each an outer ring and its holes.
 * @param {number} tolerance Pixels that a vertex which is left out may be away from the line that remains.
 * @returns {Ring[][]}
 */
export function simplify(polygons, tolerance) {
  const rings = polygons.flat();
  const owners = polygons.flatMap((holes, part) => holes.map((_, i) => ({ part, isHole: i > 0 })));
  const tolerances = rings.map(() => tolerance);
  let simple = rings.map((ring) => simplifyRing(ring, tolerance));
  for (let halvings = 0; ; halvings++) {
    const bad = findConflicts(simple, rings, owners);
    if (!bad.size) break;
    for (const i of bad) {
      tolerances[i] = halvings < MAX_HALVINGS ? tolerances[i] / 2 : 0;
      simple[i] = tolerances[i] ? simplifyRing(rings[i], tolerances[i]) : rings[i];
    }
    if (halvings > MAX_HALVINGS) break; // all that conflicted are as they were
  }
  let next = 0;
  return polygons.map((holes) => holes.map(() => simple[next++]));
}

/**
 * @param {Ring} ring
 * @param {number} tolerance
 * @returns {Ring}
 */
export function simplifyRing(ring, tolerance) {
  const points = ring.slice(0, -1);
  if (points.length <= 3) return ring;
  // It is cut at two points that stay: the first, and the farthest from it.
  const middle = farthest(points, points[0]);
  const keep = new Uint8Array(points.length + 1);
  keep[0] = keep[middle] = keep[points.length] = 1;
  markKept(ring, 0, middle, tolerance, keep);
  markKept(ring, middle, points.length, tolerance, keep);
  const kept = ring.filter((_, i) => keep[i]);
  return kept.length > 3 ? kept : withThirdPoint(ring, middle);
}

/** The index of the point that is farthest from another. @param {Point[]} points @param {Point} from */
function farthest(points, [x, y]) {
  let best = 1;
  for (let i = 1; i < points.length; i++) {
    if (Math.hypot(points[i][0] - x, points[i][1] - y) > Math.hypot(points[best][0] - x, points[best][1] - y)) best = i;
  }
  return best;
}

/**
 * @param {Ring} ring
 * @param {number} first
 * @param {number} last
 * @param {number} tolerance
 * @param {Uint8Array} keep
 */
function markKept(ring, first, last, tolerance, keep) {
  const stack = [[first, last]];
  for (let range; (range = stack.pop()); ) {
    const [start, end] = range;
    let worst = tolerance;
    let index = -1;
    for (let i = start + 1; i < end; i++) {
      const distance = distanceToSegment(ring[i], ring[start], ring[end]);
      if (distance > worst) [worst, index] = [distance, i];
    }
    if (index < 0) continue;
    keep[index] = 1;
    stack.push([start, index], [index, end]);
  }
}

/** The triangle of a ring's two ends and the point farthest from the line between them. @param {Ring} ring @param {number} middle @returns {Ring} */
function withThirdPoint(ring, middle) {
  let best = middle === 1 ? 2 : 1;
  for (let i = 1; i < ring.length - 1; i++) {
    if (i !== middle && distanceToSegment(ring[i], ring[0], ring[middle]) > distanceToSegment(ring[best], ring[0], ring[middle])) best = i;
  }
  const [a, b] = [Math.min(best, middle), Math.max(best, middle)];
  return [ring[0], ring[a], ring[b], ring[0]];
}

/** @param {Point} point @param {Point} a @param {Point} b */
function distanceToSegment([x, y], [ax, ay], [bx, by]) {
  const [dx, dy] = [bx - ax, by - ay];
  const length = dx * dx + dy * dy;
  const t = length ? Math.max(0, Math.min(1, ((x - ax) * dx + (y - ay) * dy) / length)) : 0;
  return Math.hypot(x - ax - t * dx, y - ay - t * dy);
}

/**
 * Return the indices of rings whose lines cross or touch others, or that are not where they belong any more.
 * @param {Ring[]} simple
 * @param {Ring[]} exact
 * @param {{part: number, isHole: boolean}[]} owners
 */
function findConflicts(simple, exact, owners) {
  /** @type {Set<number>} */
  const bad = new Set();
  const changed = simple.map((ring, i) => ring !== exact[i]);
  const grid = new SegmentGrid(simple);
  grid.forEachPair((a, b) => {
    if (!changed[a.ring] && !changed[b.ring]) return;
    if (a.ring === b.ring && areNeighbours(a.index, b.index, simple[a.ring].length - 1)) return;
    if (!touch(a.from, a.to, b.from, b.to)) return;
    for (const { ring } of [a, b]) if (changed[ring]) bad.add(ring);
  });
  // A hole that no line crosses can still lie outside of its part.
  let outer = 0;
  owners.forEach(({ isHole }, i) => {
    if (!isHole) outer = i;
    else if ((changed[i] || changed[outer]) && !isInside(simple[i][0], simple[outer])) {
      for (const ring of [i, outer]) if (changed[ring]) bad.add(ring);
    }
  });
  return bad;
}

/** @param {number} a @param {number} b @param {number} count Of the ring's lines. */
const areNeighbours = (a, b, count) => (a + 1) % count === b || (b + 1) % count === a;

/** Whether two lines have a point in common. @param {Point} a @param {Point} b @param {Point} c @param {Point} d */
function touch(a, b, c, d) {
  const [abc, abd, cda, cdb] = [side(a, b, c), side(a, b, d), side(c, d, a), side(c, d, b)];
  if (abc * abd < 0 && cda * cdb < 0) return true;
  return (
    (abc === 0 && isBetween(a, b, c)) ||
    (abd === 0 && isBetween(a, b, d)) ||
    (cda === 0 && isBetween(c, d, a)) ||
    (cdb === 0 && isBetween(c, d, b))
  );
}

/** @param {Point} a @param {Point} b @param {Point} c */
const side = (a, b, c) => Math.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]));

/** @param {Point} a @param {Point} b @param {Point} c */
const isBetween = (a, b, c) =>
  Math.min(a[0], b[0]) <= c[0] && c[0] <= Math.max(a[0], b[0]) && Math.min(a[1], b[1]) <= c[1] && c[1] <= Math.max(a[1], b[1]);

/** @param {Point} point @param {Ring} ring */
export function isInside([x, y], ring) {
  let inside = false;
  for (let i = 0; i + 1 < ring.length; i++) {
    const [ax, ay] = ring[i];
    const [bx, by] = ring[i + 1];
    if (ay > y !== by > y && x < ax + ((bx - ax) * (y - ay)) / (by - ay)) inside = !inside;
  }
  return inside;
}

/**
 * Lines by the cells of a grid that their boxes touch.
 * @typedef {{ring: number, index: number, from: Point, to: Point}} Line
 */
class SegmentGrid {
  /** @param {Ring[]} rings */
  constructor(rings) {
    /** @type {Map<string, Line[]>} */
    this._cells = new Map();
    const lines = rings.flatMap((ring, number) =>
      ring.slice(0, -1).map((from, index) => ({ ring: number, index, from, to: ring[index + 1] })),
    );
    const length = lines.reduce((sum, { from, to }) => sum + Math.hypot(to[0] - from[0], to[1] - from[1]), 0);
    this._edge = Math.max(1, (2 * length) / Math.max(1, lines.length));
    for (const line of lines) this._add(line);
  }

  /** @param {Line} line */
  _add(line) {
    const { from, to } = line;
    const cell = (/** @type {number} */ value) => Math.floor(value / this._edge);
    for (let x = cell(Math.min(from[0], to[0])); x <= cell(Math.max(from[0], to[0])); x++) {
      for (let y = cell(Math.min(from[1], to[1])); y <= cell(Math.max(from[1], to[1])); y++) {
        const key = `${x},${y}`;
        const lines = this._cells.get(key);
        if (lines) lines.push(line);
        else this._cells.set(key, [line]);
      }
    }
  }

  /** Visit each two lines that share a cell, some of them more than once. @param {(a: Line, b: Line) => void} visit */
  forEachPair(visit) {
    for (const lines of this._cells.values()) {
      for (let i = 0; i < lines.length; i++) for (let j = i + 1; j < lines.length; j++) visit(lines[i], lines[j]);
    }
  }
}
