/**
 * Load ONNX Runtime Web. One thread: more need headers that forbid pages much else.
 * @param {string} ortUrl Its module.
 * @param {string} [wasmUrl] Its WebAssembly; beside the module if left out.
 * @returns {Promise<Ort>}
 */
export function loadOrt(ortUrl: string, wasmUrl?: string): Promise<Ort>;
export const MANY: "fast_decoder_many.onnx";
export class FastDecoder {
    /**
     * @param {Ort} ort
     * @param {Decoder} decoder
     */
    constructor(ort: Ort, decoder: Decoder);
    _ort: any;
    decoder: import("./geometry.js").Decoder;
    /** @type {Map<string, any>} */
    _sessions: Map<string, any>;
    /** @type {Map<string, PreparedImage>} The least recently used first. */
    _images: Map<string, PreparedImage>;
    /** Open graphs. @param {Graphs} graphs */
    open(graphs: Graphs): Promise<void>;
    /** @param {string} name */
    hasGraph(name: string): boolean;
    /** @param {string} imageId */
    has(imageId: string): boolean;
    /** The size of an image that was added. @param {string} imageId */
    sizeOf(imageId: string): import("./geometry.js").Size;
    /**
     * Prepare an image. file: its embedding as safetensors.
     * @param {string} imageId
     * @param {Size} size
     * @param {ArrayBuffer} file
     */
    add(imageId: string, size: Size, file: ArrayBuffer): Promise<void>;
    /** @param {string} imageId */
    forget(imageId: string): void;
    /**
     * Decode a prompt on an image that was added.
     * @param {string} imageId
     * @param {import("./prompt_encoding.js").Prompt} prompt
     * @param {import("./decode_prompt.js").Options} options
     */
    segment(imageId: string, prompt: import("./prompt_encoding.js").Prompt, options: import("./decode_prompt.js").Options): Promise<import("./decode_prompt.js").Candidate[]>;
    /** Free what the graphs and images take. */
    release(): Promise<void>;
    /**
     * @param {import("./safetensors.js").Float16Array} embedding
     * @param {Float32Array | null} prior
     * @returns {Promise<Record<string, any>>}
     */
    _prepare(embedding: import("./safetensors.js").Float16Array, prior: Float32Array | null): Promise<Record<string, any>>;
    /**
     * Models of segserve 0.2 have no graph for it: their decoder reads the features as they are.
     * @param {Record<string, import("./safetensors.js").Float16Array>} features
     * @returns {Promise<Record<string, any>>}
     */
    _prepareFine(features: Record<string, import("./safetensors.js").Float16Array>): Promise<Record<string, any>>;
    /**
     * @param {Record<string, any>} inputs
     * @param {Float32Array} coords
     * @param {Float32Array} labels
     * @param {number[]} tokens
     */
    _decode(inputs: Record<string, any>, coords: Float32Array, labels: Float32Array, tokens: number[]): Promise<{
        logits: any[];
        scores: any;
    }>;
    /** @param {import("./safetensors.js").Float16Array} array */
    _tensor({ shape, data }: import("./safetensors.js").Float16Array): any;
}
export type Decoder = import("./geometry.js").Decoder;
export type Size = import("./geometry.js").Size;
/**
 * The module `onnxruntime-web`.
 */
export type Ort = any;
/**
 * Files by name.
 */
export type Graphs = Record<string, ArrayBuffer>;
export type PreparedImage = {
    size: Size;
    embedding: Record<string, import("./safetensors.js").Float16Array>;
    /**
     * The fine features that some models have, as the decoder reads them.
     */
    fine: Record<string, any>;
    /**
     * Without a prior mask.
     */
    prepared: Record<string, any>;
    bytes: number;
};
