/**
 * Draws masks in a worker. It keeps the masks, so that a move of the viewport sends none again.
 */
export type DrawnMask = import("./raster.js").DrawnMask;
/**
 * Draws masks in a worker. It keeps the masks, so that a move of the viewport sends none again.
 */
export type Viewport = import("./raster.js").Viewport;
/**
 * Draws masks in a worker. It keeps the masks, so that a move of the viewport sends none again.
 */
export type Message = {
    type: "set";
    masks: [string, DrawnMask][];
} | {
    type: "delete";
    ids: string[];
} | {
    type: "clear";
} | {
    type: "draw";
    request: number;
    viewport: Viewport;
    scale: number;
    order?: string[];
};
