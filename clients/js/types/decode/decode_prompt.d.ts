/**
 * Return the masks for one prompt.
 * @param {Decode} decode
 * @param {Decoder} decoder
 * @param {Size} size Of the image.
 * @param {Prompt} prompt
 * @param {Options} [options]
 * @returns {Promise<Candidate[]>}
 */
export function decodePrompt(decode: Decode, decoder: Decoder, size: Size, prompt: Prompt, { multimask, select, raw }?: Options): Promise<Candidate[]>;
/**
 * One prompt through the mask decoder: encode the prompt, run the graph, choose masks, clean and upscale them.
 */
export type Decoder = import("./geometry.js").Decoder;
/**
 * One prompt through the mask decoder: encode the prompt, run the graph, choose masks, clean and upscale them.
 */
export type Size = import("./geometry.js").Size;
/**
 * One prompt through the mask decoder: encode the prompt, run the graph, choose masks, clean and upscale them.
 */
export type Prompt = import("./prompt_encoding.js").Prompt;
/**
 * One prompt through the mask decoder: encode the prompt, run the graph, choose masks, clean and upscale them.
 */
export type Options = {
    multimask?: boolean | null | undefined;
    select?: "all" | "best" | "first" | undefined;
    raw?: boolean | undefined;
};
/**
 * One prompt through the mask decoder: encode the prompt, run the graph, choose masks, clean and upscale them.
 */
export type Candidate = {
    runs: import("../masks/runs.js").Runs;
    /**
     * Low-res, to refine the mask by.
     */
    logits: Float32Array;
    score: number;
    removedParts: number;
    filledHoles: number;
};
/**
 * Runs the graph.
 */
export type Decode = (coords: Float32Array, labels: Float32Array, tokens: number[]) => Promise<{
    logits: Float32Array[];
    scores: Float32Array;
}>;
