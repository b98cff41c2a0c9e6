export class Segmenter {
    /** @param {SegmenterOptions} options */
    constructor({ client, decode, ortUrl, wasmUrl, onChoice }: SegmenterOptions);
    _client: import("../client.js").Client;
    decode: "auto" | Place;
    _browser: BrowserDecoder | null;
    _onChoice: ((choice: Choice) => void) | undefined;
    /** @type {Map<string, Measured>} By model; "" is the default one. */
    _measured: Map<string, Measured>;
    /** @type {Map<string, Promise<import("./geometry.js").Size>>} */
    _sizes: Map<string, Promise<import("./geometry.js").Size>>;
    /** @type {Map<string, Float32Array>} Of masks that were decoded here, by mask_id. */
    _logits: Map<string, Float32Array>;
    /** @type {Set<string>} Images that the browser cannot decode. */
    _tiled: Set<string>;
    _number: number;
    /**
     * Return the masks of prompts, as `Client.segment` does, and who decoded them in how many ms. Whatever fails here is
     * decoded by the service.
     * @param {SegmentRequest} body
     * @param {{signal?: AbortSignal}} [options]
     * @returns {Promise<Answer>}
     */
    segment(body: SegmentRequest, { signal }?: {
        signal?: AbortSignal;
    }): Promise<Answer>;
    /**
     * Fetch what decoding an image here needs, where the browser decodes.
     * @param {string} imageId
     * @param {string} model
     */
    prepare(imageId: string, model: string): Promise<void>;
    /** What was measured of a model: medians in ms, and where its clicks are decoded. @param {string} [model] @returns {Choice} */
    choice(model?: string): Choice;
    /** Free what decoding here takes. */
    close(): Promise<void>;
    /** @param {SegmentRequest} body @returns {Place} */
    _choose(body: SegmentRequest): Place;
    /** Whether a request has nothing that only the service knows. @param {SegmentRequest} body */
    _canDecodeHere({ image_id: imageId, model, prompts, format }: SegmentRequest): boolean;
    /** @param {SegmentRequest} body @param {AbortSignal} [signal] @returns {Promise<Answer>} */
    _segmentHere({ image_id: imageId, model, prompts, select, multimask, raw }: SegmentRequest, signal?: AbortSignal): Promise<Answer>;
    /** @param {SegmentRequest} body @param {AbortSignal} [signal] @returns {Promise<Answer>} */
    _segmentThere(body: SegmentRequest, signal?: AbortSignal): Promise<Answer>;
    /**
     * Decode a request here too, in the background, until both are known; then choose.
     * @param {SegmentRequest} body
     * @param {Answer} answer
     */
    _measure(body: SegmentRequest, answer: Answer): Promise<void>;
    /** @param {string} model */
    _decide(model: string): void;
    /** Whether the service has become much slower than the browser was. @param {Measured} measured */
    _isSlow({ server, browser }: Measured): boolean;
    /** Leave the browser where it has become slow. @param {string} model */
    _reconsider(model: string): void;
    /** @param {SegmentRequest} body @param {unknown} error */
    _noteFailure({ image_id: imageId, model }: SegmentRequest, error: unknown): void;
    /** @param {string} [model] */
    _of(model?: string): Measured;
    /** @param {string} imageId */
    _size(imageId: string): Promise<import("./geometry.js").Size>;
    /**
     * @param {Prompt} prompt
     * @param {import("./geometry.js").Size} size
     * @returns {import("./prompt_encoding.js").Prompt}
     */
    _toPrompt({ points, labels, box, logits, mask_id: maskId }: Prompt, { width, height }: import("./geometry.js").Size): import("./prompt_encoding.js").Prompt;
    /** A prompt without what only the browser knows. @param {Prompt} prompt @returns {Prompt} */
    _toServer(prompt: Prompt): Prompt;
    /** Keep logits, as the service keeps them: in float16. @param {Float32Array} logits */
    _hold(logits: Float32Array): string;
}
export type Client = import("../client.js").Client;
export type Mask = import("../types.js").Mask;
export type Prompt = import("../types.js").Prompt;
export type SegmentAnswer = import("../types.js").SegmentAnswer;
export type SegmentRequest = import("../types.js").SegmentRequest;
export type Place = "server" | "browser";
export type SegmenterOptions = {
    client: Client;
    /**
     * auto measures both on the first clicks, unless the service is quick, and keeps the
     * quicker.
     */
    decode?: "auto" | Place | undefined;
    /**
     * The module of ONNX Runtime Web; without it the browser decodes nothing.
     */
    ortUrl?: string | undefined;
    /**
     * Its WebAssembly.
     */
    wasmUrl?: string | undefined;
    /**
     * Called when auto has chosen, or chooses anew.
     */
    onChoice?: ((choice: Choice) => void) | undefined;
};
export type Choice = {
    model: string;
    by: Place;
    /**
     * Medians of the last clicks.
     */
    serverMs: number;
    browserMs: number;
    /**
     * Why the browser cannot decode.
     */
    reason?: string | undefined;
};
/**
 * An answer of the service, and who decoded it.
 */
export type Answer = SegmentAnswer & {
    decoded: {
        by: Place;
        ms: number;
    };
};
/**
 * What is known of a model.
 */
export type Measured = {
    /**
     * Milliseconds of the last clicks.
     */
    server: number[];
    browser: number[];
    choice: Place | null;
    isMeasuring: boolean;
    failure: string | null;
};
import { BrowserDecoder } from "./browser_decoder.js";
