export class DecoderHost {
    /** @type {any} */
    _ort: any;
    /** @type {Map<string, FastDecoder>} */
    _decoders: Map<string, FastDecoder>;
    /**
     * Do one thing. Orders must be given one after another.
     * @param {Order} order
     * @returns {Promise<any>}
     */
    perform(order: Order): Promise<any>;
    /** @param {string} model */
    _decoder(model: string): FastDecoder;
}
/**
 * Runs decoders for one page: models by name, each with its graphs and images. It lives in a worker, or in place where
 * there are none.
 */
export type Decoder = import("./geometry.js").Decoder;
/**
 * Runs decoders for one page: models by name, each with its graphs and images. It lives in a worker, or in place where
 * there are none.
 */
export type Size = import("./geometry.js").Size;
/**
 * Runs decoders for one page: models by name, each with its graphs and images. It lives in a worker, or in place where
 * there are none.
 */
export type Prompt = import("./prompt_encoding.js").Prompt;
/**
 * Runs decoders for one page: models by name, each with its graphs and images. It lives in a worker, or in place where
 * there are none.
 */
export type Options = import("./decode_prompt.js").Options;
/**
 * Runs decoders for one page: models by name, each with its graphs and images. It lives in a worker, or in place where
 * there are none.
 */
export type Order = {
    act: "start";
    ortUrl: string;
    wasmUrl?: string;
} | {
    act: "open";
    decoder: Decoder;
    graphs: Record<string, ArrayBuffer>;
} | {
    act: "openMore";
    model: string;
    graphs: Record<string, ArrayBuffer>;
} | {
    act: "add";
    model: string;
    imageId: string;
    size: Size;
    file: ArrayBuffer;
} | {
    act: "forget";
    imageId: string;
} | {
    act: "segment";
    model: string;
    imageId: string;
    prompt: Prompt;
    options: Options;
};
import { FastDecoder } from "./fast_decoder.js";
