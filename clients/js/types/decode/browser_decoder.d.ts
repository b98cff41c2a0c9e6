/** The image cannot be decoded here: clicks on it are decoded in regions, by the service. */
export class NotDecodable extends Error {
}
export class BrowserDecoder {
    /** @param {BrowserDecoderOptions} options */
    constructor({ client, ortUrl, wasmUrl }: BrowserDecoderOptions);
    _client: import("../client.js").Client;
    _urls: {
        ortUrl: string;
        wasmUrl: string | undefined;
    };
    /** @type {Promise<Runner> | null} */
    _runner: Promise<Runner> | null;
    /** @type {Map<string, Promise<Decoder>>} */
    _models: Map<string, Promise<Decoder>>;
    /** @type {Map<string, Promise<void>>} By model and image. */
    _images: Map<string, Promise<void>>;
    /** @type {Map<string, Promise<unknown>>} */
    _many: Map<string, Promise<unknown>>;
    /** Load the runtime and a model's graphs. @param {string} model */
    open(model: string): Promise<import("./geometry.js").Decoder>;
    /**
     * Fetch and prepare an image's embedding.
     * @param {string} model
     * @param {string} imageId
     * @param {Size} [size] Asked for if left out.
     */
    prepare(model: string, imageId: string, size?: Size): Promise<void>;
    /** Whether an image is prepared, or is on its way. @param {string} model @param {string} imageId */
    isKnown(model: string, imageId: string): boolean;
    /**
     * Decode a prompt. It waits for what is not there yet.
     * @param {string} model
     * @param {string} imageId
     * @param {Prompt} prompt
     * @param {Options & {signal?: AbortSignal}} [options]
     * @returns {Promise<BrowserMask[]>}
     */
    segment(model: string, imageId: string, prompt: Prompt, { signal, ...options }?: Options & {
        signal?: AbortSignal;
    }): Promise<BrowserMask[]>;
    /** Drop what is held of an image. @param {string} imageId */
    forget(imageId: string): Promise<void>;
    /** Stop, and free all memory. The next call starts again. */
    close(): Promise<void>;
    /** @param {string} model */
    _openMany(model: string): Promise<any>;
    /** @param {string} model @param {string[]} names @returns {Promise<Record<string, ArrayBuffer>>} */
    _fetchGraphs(model: string, names: string[]): Promise<Record<string, ArrayBuffer>>;
    /** @returns {Promise<Runner>} */
    _start(): Promise<Runner>;
}
export type Client = import("../client.js").Client;
export type Decoder = import("./geometry.js").Decoder;
export type Size = import("./geometry.js").Size;
export type Order = import("./decoder_host.js").Order;
export type Prompt = import("./prompt_encoding.js").Prompt;
export type Options = import("./decode_prompt.js").Options;
/**
 * A mask as the service answers it, and its logits.
 */
export type BrowserMask = {
    mask: {
        size: [number, number];
        counts: string;
    };
    score: number;
    box: [number, number, number, number];
    area: number;
    removed_parts: number;
    filled_holes: number;
    logits: Float32Array;
};
export type BrowserDecoderOptions = {
    client: Client;
    /**
     * The module of ONNX Runtime Web: its ort.wasm.bundle.min.mjs, or a package's name in Node.
     */
    ortUrl?: string | undefined;
    /**
     * Its ort-wasm-simd-threaded.wasm.
     */
    wasmUrl?: string | undefined;
};
/**
 * Performs orders, one after another.
 */
export type Runner = {
    perform: (order: Order, transfer?: Transferable[], signal?: AbortSignal) => Promise<any>;
    stop: () => void;
};
