/**
 * Return the outline of a mask. Outer rings run clockwise on a screen, holes the other way.
 * @param {Runs} runs
 * @param {number} height Of the image.
 * @param {number} [tolerance] Pixels: vertices within this distance of the line that remains are left out. No two lines
 *   cross, all parts and holes stay, each at least a triangle.
 * @returns {Polygon}
 */
export function toPolygon(runs: Runs, height: number, tolerance?: number): Polygon;
/** The vertices of all rings, without the repeated first ones. @param {Polygon} polygon */
export function countVertices(polygon: Polygon): number;
/**
 * Return the runs of a polygon: the pixels whose centre is inside. Rings may be open or closed.
 * @param {Polygon} polygon
 * @param {number} width Of the image.
 * @param {number} height Of the image.
 * @returns {Runs}
 */
export function fromPolygon(polygon: Polygon, width: number, height: number): Runs;
/** Positive for rings that run clockwise on a screen. @param {Point[]} ring */
export function signedArea(ring: Point[]): number;
/**
 * Outlines of masks as GeoJSON polygons with holes, and back.
 *
 * (0, 0) is the top left corner of the top left pixel, so a pixel's centre lies at +0.5. The line runs halfway between
 * the centres of pixels that are of the mask and neighbours that are not. A pixel is of the mask exactly if its centre is
 * inside. Pixels that touch only diagonally are separate parts. These are the polygons of the service.
 */
export type Runs = import("./runs.js").Runs;
/**
 * Outlines of masks as GeoJSON polygons with holes, and back.
 *
 * (0, 0) is the top left corner of the top left pixel, so a pixel's centre lies at +0.5. The line runs halfway between
 * the centres of pixels that are of the mask and neighbours that are not. A pixel is of the mask exactly if its centre is
 * inside. Pixels that touch only diagonally are separate parts. These are the polygons of the service.
 */
export type Point = [number, number];
/**
 * Closed: its last point is its first.
 */
export type Ring = Point[];
/**
 * Outlines of masks as GeoJSON polygons with holes, and back.
 *
 * (0, 0) is the top left corner of the top left pixel, so a pixel's centre lies at +0.5. The line runs halfway between
 * the centres of pixels that are of the mask and neighbours that are not. A pixel is of the mask exactly if its centre is
 * inside. Pixels that touch only diagonally are separate parts. These are the polygons of the service.
 */
export type Polygon = {
    type: "Polygon";
    coordinates: Ring[];
} | {
    type: "MultiPolygon";
    coordinates: Ring[][];
};
