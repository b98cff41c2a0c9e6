/**
 * Return polygons with fewer vertices. No two lines cross, all rings stay, each at least a triangle.
 * @param {Ring[][]} polygons Each an outer ring and its holes.
 * @param {number} tolerance Pixels that a vertex which is left out may be away from the line that remains.
 * @returns {Ring[][]}
 */
export function simplify(polygons: Ring[][], tolerance: number): Ring[][];
/**
 * @param {Ring} ring
 * @param {number} tolerance
 * @returns {Ring}
 */
export function simplifyRing(ring: Ring, tolerance: number): Ring;
/** @param {Point} point @param {Ring} ring */
export function isInside([x, y]: Point, ring: Ring): boolean;
/**
 * Polygons with fewer vertices: Douglas and Peucker's algorithm for each ring, with less tolerance where lines would cross.
 */
export type Point = [number, number];
/**
 * Closed: its last point is its first.
 */
export type Ring = Point[];
/**
 * Lines by the cells of a grid that their boxes touch.
 */
export type Line = {
    ring: number;
    index: number;
    from: Point;
    to: Point;
};
