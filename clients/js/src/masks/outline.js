/**
 * Outlines of masks as GeoJSON polygons with holes, and back.
 *
 * (0, 0) is the top left corner of the top left pixel, so a pixel's centre lies at +0.5. The line runs halfway between
 * the centres of pixels that are of the mask and neighbours that are not. A pixel is of the mask exactly if its centre is
 * inside. Pixels that touch only diagonally are separate parts. These are the polygons of the service.
 *
 * @typedef {import("./runs.js").Runs} Runs
 * @typedef {[number, number]} Point
 * @typedef {Point[]} Ring Closed: its last point is its first.
 * @typedef {{type: "Polygon", coordinates: Ring[]} | {type: "MultiPolygon", coordinates: Ring[][]}} Polygon
 */

import { cutAtColumns, forEachNeighbour, labelParts } from "./parts.js";
import { RunBuilder } from "./runs.js";
import { simplify } from "./simplify.js";

/**
 * Return the outline of a mask. Outer rings run clockwise on a screen, holes the other way.
 * @param {Runs} runs
 * @param {number} height Of the image.
 * @param {number} [tolerance] Pixels: vertices within this distance of the line that remains are left out. No two lines
 *   cross, all parts and holes stay, each at least a triangle.
 * @returns {Polygon}
 */
export function toPolygon(runs, height, tolerance = 0) {
  const parts = traceParts(runs, height).map((rings) => rings.map(dropCollinear));
  const polygons = tolerance > 0 ? simplify(parts, tolerance) : parts;
  if (polygons.length > 1) return { type: "MultiPolygon", coordinates: polygons };
  return { type: "Polygon", coordinates: polygons[0] ?? [] };
}

/** The vertices of all rings, without the repeated first ones. @param {Polygon} polygon */
export function countVertices(polygon) {
  return listPolygons(polygon).flat().reduce((sum, ring) => sum + Math.max(0, ring.length - 1), 0);
}

/** @param {Polygon} polygon @returns {Ring[][]} */
const listPolygons = ({ type, coordinates }) =>
  type === "MultiPolygon" ? /** @type {Ring[][]} */ (coordinates) : coordinates.length ? [/** @type {Ring[]} */ (coordinates)] : [];

/**
 * Return the runs of a polygon: the pixels whose centre is inside. Rings may be open or closed.
 * @param {Polygon} polygon
 * @param {number} width Of the image.
 * @param {number} height Of the image.
 * @returns {Runs}
 */
export function fromPolygon(polygon, width, height) {
  const builder = new RunBuilder(height);
  const columns = polygonsToCrossings(listPolygons(polygon), width);
  for (const [x, crossings] of columns) {
    const sorted = Float64Array.from(crossings).sort();
    for (let i = 0; i + 1 < sorted.length; i += 2) {
      builder.add(x, Math.max(0, Math.ceil(sorted[i] - 0.5)), Math.min(height, Math.ceil(sorted[i + 1] - 0.5)));
    }
  }
  return builder.finish();
}

/**
 * Return where the lines cross the centre of each column, in ascending order of columns. A polygon covers what an odd
 * number of its rings surrounds; polygons that overlap are joined.
 * @param {Ring[][]} polygons
 * @param {number} width
 * @returns {[number, number[]][]}
 */
function polygonsToCrossings(polygons, width) {
  /** @type {Map<number, number[]>} */
  const columns = new Map();
  for (const rings of polygons) {
    /** @type {Map<number, number[]>} */
    const own = new Map();
    for (const ring of rings) addCrossings(ring, width, own);
    for (const [x, crossings] of own) columns.set(x, columns.has(x) ? joinIntervals(columns.get(x) ?? [], crossings) : crossings);
  }
  return [...columns].sort(([a], [b]) => a - b);
}

/** Join the intervals of two lists of crossings. @param {number[]} a @param {number[]} b */
function joinIntervals(a, b) {
  const intervals = [...pairs(a), ...pairs(b)].sort((one, other) => one[0] - other[0]);
  /** @type {number[]} */
  const joined = [];
  for (const [start, end] of intervals) {
    if (joined.length && start <= joined[joined.length - 1]) joined[joined.length - 1] = Math.max(end, joined[joined.length - 1]);
    else joined.push(start, end);
  }
  return joined;
}

/** @param {number[]} crossings @returns {[number, number][]} */
function pairs(crossings) {
  const sorted = [...crossings].sort((a, b) => a - b);
  return Array.from({ length: sorted.length >> 1 }, (_, i) => [sorted[2 * i], sorted[2 * i + 1]]);
}

/** @param {Ring} ring @param {number} width @param {Map<number, number[]>} columns */
function addCrossings(ring, width, columns) {
  for (let i = 0; i < ring.length; i++) {
    let [ax, ay] = ring[i];
    let [bx, by] = ring[(i + 1) % ring.length];
    if (ax > bx) [ax, ay, bx, by] = [bx, by, ax, ay];
    // A line begins at its left end and stops before its right end.
    const end = Math.min(width, Math.ceil(bx - 0.5));
    for (let x = Math.max(0, Math.ceil(ax - 0.5)); x < end; x++) {
      const y = ay + ((by - ay) * (x + 0.5 - ax)) / (bx - ax);
      const crossings = columns.get(x);
      if (crossings) crossings.push(y);
      else columns.set(x, [y]);
    }
  }
}

/**
 * The borders between pixels, as a graph. An edge leads from corner to corner with the mask on its right; a corner is a
 * number. Vertical edges are as long as they can be, horizontal ones one pixel.
 */
class BorderGraph {
  /** @param {number} height Of the image. */
  constructor(height) {
    this._stride = height + 1;
    /** @type {Map<number, number>} From a corner to its edge, the first of two. */
    this._first = new Map();
    /** @type {Map<number, number>} The second edge, of corners where two pixels touch diagonally. */
    this._second = new Map();
    /** @type {number[]} x0, y0, x1, y1 and the part of each edge. */
    this._edges = [];
  }

  /** @param {number} x0 @param {number} y0 @param {number} x1 @param {number} y1 @param {number} part */
  add(x0, y0, x1, y1, part) {
    const edge = this._edges.length;
    this._edges.push(x0, y0, x1, y1, part);
    const corner = x0 * this._stride + y0;
    if (this._first.has(corner)) this._second.set(corner, edge);
    else this._first.set(corner, edge);
  }

  /** Yield each ring, as the middles of its pixel edges, and the part that it is of. @returns {Generator<{ring: Point[], part: number}>} */
  *rings() {
    const used = new Uint8Array(this._edges.length / 5);
    for (let start = 0; start < this._edges.length; start += 5) {
      if (used[start / 5]) continue;
      /** @type {Point[]} */
      const ring = [];
      const part = this._edges[start + 4];
      for (let edge = start; !used[edge / 5]; edge = this._next(edge)) {
        used[edge / 5] = 1;
        addMiddles(this._edges.slice(edge, edge + 4), ring);
      }
      yield { ring, part };
    }
  }

  /** The edge after another: where there are two, the one to the right, which stays at the same pixel. @param {number} edge */
  _next(edge) {
    const [x0, y0, x1, y1] = this._edges.slice(edge, edge + 4);
    const corner = x1 * this._stride + y1;
    const first = /** @type {number} */ (this._first.get(corner));
    const second = this._second.get(corner);
    if (second === undefined) return first;
    const [fx0, fy0, fx1, fy1] = this._edges.slice(first, first + 4);
    const turn = Math.sign(x1 - x0) * Math.sign(fy1 - fy0) - Math.sign(y1 - y0) * Math.sign(fx1 - fx0);
    return turn > 0 ? first : second;
  }
}

/** Add the middles of the first and the last pixel edge of a line. @param {number[]} edge @param {Point[]} ring */
function addMiddles([x0, y0, x1, y1], ring) {
  const [dx, dy] = [Math.sign(x1 - x0) / 2, Math.sign(y1 - y0) / 2];
  ring.push([x0 + dx, y0 + dy]);
  if (Math.abs(y1 - y0) > 1) ring.push([x1 - dx, y1 - dy]);
}

/**
 * Return the rings of each part, the outer one first.
 * @param {Runs} runs
 * @param {number} height
 * @returns {Point[][][]}
 */
function traceParts(runs, height) {
  const segments = cutAtColumns(runs, height);
  const { labels, count } = labelParts(segments);
  const graph = new BorderGraph(height);
  for (let i = 0; i < segments.count; i++) {
    const [x, y0, y1] = [segments.x[i], segments.y0[i], segments.y1[i]];
    graph.add(x, y0, x + 1, y0, labels[i]);
    graph.add(x + 1, y1, x, y1, labels[i]);
  }
  addSides(segments, labels, graph);
  /** @type {Point[][][]} */
  const parts = Array.from({ length: count }, () => []);
  for (const { ring, part } of graph.rings()) {
    if (signedArea(ring) > 0) parts[part].unshift(ring);
    else parts[part].push(ring);
  }
  return parts;
}

/**
 * Add the vertical edges: where a segment has no neighbour to its left or right.
 * @param {import("./parts.js").Segments} segments
 * @param {Uint32Array} labels
 * @param {BorderGraph} graph
 */
function addSides({ x, y0, y1, count }, labels, graph) {
  // How far down each side is dealt with.
  const left = y0.slice();
  const right = y0.slice();
  const addLeft = (/** @type {number} */ i, /** @type {number} */ end) => {
    if (end > left[i]) graph.add(x[i], end, x[i], left[i], labels[i]);
  };
  const addRight = (/** @type {number} */ i, /** @type {number} */ end) => {
    if (end > right[i]) graph.add(x[i] + 1, right[i], x[i] + 1, end, labels[i]);
  };
  forEachNeighbour({ x, y0, y1, count }, (a, b) => {
    const [start, end] = [Math.max(y0[a], y0[b]), Math.min(y1[a], y1[b])];
    addRight(a, start);
    right[a] = end;
    addLeft(b, start);
    left[b] = end;
  });
  for (let i = 0; i < count; i++) {
    addRight(i, y1[i]);
    addLeft(i, y1[i]);
  }
}

/** Positive for rings that run clockwise on a screen. @param {Point[]} ring */
export function signedArea(ring) {
  let sum = 0;
  for (let i = 0; i < ring.length; i++) {
    const [ax, ay] = ring[i];
    const [bx, by] = ring[(i + 1) % ring.length];
    sum += ax * by - bx * ay;
  }
  return sum / 2;
}

/** Return a closed ring without the points on the line between their neighbours. @param {Point[]} points @returns {Ring} */
function dropCollinear(points) {
  const kept = points.filter(([x, y], i) => {
    const [px, py] = points[(i + points.length - 1) % points.length];
    const [nx, ny] = points[(i + 1) % points.length];
    return (x - px) * (ny - y) !== (y - py) * (nx - x);
  });
  return [...kept, kept[0]];
}
