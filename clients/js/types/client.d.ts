export class Client {
    /** @param {ClientOptions} [options] */
    constructor({ baseUrl, fetch, retries, headers, apiKey, onRetry, onUnauthenticated, patienceSeconds }?: ClientOptions);
    http: Http;
    _patienceSeconds: number;
    /** @type {Map<string, Promise<{link: string | null, expires_at: number}>>} */
    _links: Map<string, Promise<{
        link: string | null;
        expires_at: number;
    }>>;
    /** Whom the service takes this client for. @param {CallOptions} [options] @returns {Promise<Identity>} */
    identity({ signal }?: CallOptions): Promise<Identity>;
    /**
     * Exchange a key, or a token, for a cookie that no script can read. For pages of the service's own origin.
     * @param {string} key
     * @param {CallOptions} [options]
     * @returns {Promise<Identity>}
     */
    login(key: string, { signal }?: CallOptions): Promise<Identity>;
    /**
     * The issuers of OpenID Connect at which people sign in.
     * @param {CallOptions} [options]
     * @returns {Promise<{name: string}[]>}
     */
    issuers({ signal }?: CallOptions): Promise<{
        name: string;
    }[]>;
    /**
     * Begin to sign in at an issuer. Returns the address to send the browser to; it comes back to the service's page,
     * with the cookie of a login. For pages of the service's own origin.
     * @param {string} name One of `issuers`.
     * @param {CallOptions} [options]
     * @returns {Promise<string>}
     */
    beginSignIn(name: string, { signal }?: CallOptions): Promise<string>;
    /** Forget the cookie. @param {CallOptions} [options] */
    logout({ signal }?: CallOptions): Promise<void>;
    /**
     * Make an address of this client, such as `tileUrl`, readable without a key for a while: for an <img> or a download.
     * One link serves all addresses of an image, a file or a job, and is used again until it is about to end.
     * @param {string} url
     * @param {{seconds?: number, signal?: AbortSignal}} [options] seconds: at most 3600.
     * @returns {Promise<string>}
     */
    sign(url: string, { seconds, signal }?: {
        seconds?: number;
        signal?: AbortSignal;
    }): Promise<string>;
    /**
     * What a tenant used, day by day.
     * @param {{from?: string, to?: string, tenant?: string, signal?: AbortSignal}} [options] from, to: days in UTC, such as
     *   "2026-11-28"; 30 days up to today if left out. tenant: another one, or "*" for all: for operators.
     * @returns {Promise<Usage>}
     */
    usage({ from, to, tenant, signal }?: {
        from?: string;
        to?: string;
        tenant?: string;
        signal?: AbortSignal;
    }): Promise<Usage>;
    /** @param {string} path @param {number} seconds @param {AbortSignal} [signal] */
    _link(path: string, seconds: number, signal?: AbortSignal): Promise<any>;
    /** @param {CallOptions} [options] @returns {Promise<Model[]>} */
    models({ signal }?: CallOptions): Promise<Model[]>;
    /**
     * Return what decoding a model's clicks elsewhere needs. Throws Problem for a model without a fast decoder.
     * @param {string} model
     * @param {CallOptions} [options]
     * @returns {Promise<import("./decode/geometry.js").Decoder>}
     */
    decoder(model: string, { signal }?: CallOptions): Promise<import("./decode/geometry.js").Decoder>;
    /**
     * Return a graph of a model's decoder, as ONNX.
     * @param {string} model
     * @param {string} graph One of `decoder(model).graphs`.
     * @param {CallOptions} [options]
     */
    decoderGraph(model: string, graph: string, { signal }?: CallOptions): Promise<ArrayBuffer>;
    /**
     * Store an image. The same bytes with the same options have the same id, so that sending them again does no harm.
     * @param {Blob} blob A File, or any bytes: the service detects what they are.
     * @param {ImageOptions & {onProgress?: OnProgress}} [options]
     * @returns {Promise<Image>}
     */
    uploadImage(blob: Blob, { signal, onProgress, ...options }?: ImageOptions & {
        onProgress?: OnProgress;
    }): Promise<Image>;
    /**
     * Let the service fetch an image, if its operator allows that.
     * @param {string} url
     * @param {ImageOptions} [options]
     * @returns {Promise<Image>}
     */
    fetchImage(url: string, { signal, ...options }?: ImageOptions): Promise<Image>;
    /** @param {string} imageId @param {CallOptions} [options] @returns {Promise<Image>} */
    getImage(imageId: string, { signal }?: CallOptions): Promise<Image>;
    /**
     * Delete an image and everything that was made from it.
     * @param {string} imageId
     * @param {CallOptions} [options]
     */
    deleteImage(imageId: string, { signal }?: CallOptions): Promise<void>;
    /**
     * Return the image as models see it, as PNG or JPEG.
     * @param {string} imageId
     * @param {{max?: number, signal?: AbortSignal}} [options] max: longest side in pixels.
     * @returns {Promise<Blob>}
     */
    preview(imageId: string, { max, signal }?: {
        max?: number;
        signal?: AbortSignal;
    }): Promise<Blob>;
    /** The address of a preview, for an <img>. @param {string} imageId @param {number} [max] */
    previewUrl(imageId: string, max?: number): string;
    /**
     * The address of a tile of the image's pyramid.
     * @param {string} imageId @param {number} level @param {number} x @param {number} y
     */
    tileUrl(imageId: string, level: number, x: number, y: number): string;
    /**
     * Return the embedding as safetensors (float16). An image that is not encoded is encoded first. isTiled: the image is
     * large, its clicks are decoded in regions, and this is of all of it at once.
     * @param {string} imageId
     * @param {{model?: string, signal?: AbortSignal}} [options]
     */
    embedding(imageId: string, { model, signal }?: {
        model?: string;
        signal?: AbortSignal;
    }): Promise<{
        data: ArrayBuffer;
        isTiled: boolean;
    }>;
    /**
     * Return the masks of prompts.
     * @param {SegmentRequest} body
     * @param {CallOptions} [options]
     * @returns {Promise<SegmentAnswer>}
     */
    segment(body: SegmentRequest, options?: CallOptions): Promise<SegmentAnswer>;
    /**
     * Find all objects, by AIS or AMG. The answer is a PNG where no format is named; "rle", "polygon" and "coco" are JSON.
     * An image with too many tiles for one request answers a Job in place of it.
     * @template {ResultFormat} [F="png"]
     * @param {import("./types.js").WholeImageRequest<F>} body
     * @param {CallOptions} [options]
     * @returns {Promise<import("./types.js").InFormat<F> | Job>}
     */
    automatic<F extends ResultFormat = "png">(body: import("./types.js").WholeImageRequest<F>, options?: CallOptions): Promise<import("./types.js").InFormat<F> | Job>;
    /**
     * Class maps of U-Nets; formats as of `automatic`, and "probabilities", which is a file.
     * @template {ResultFormat | "probabilities"} [F="png"]
     * @param {import("./types.js").WholeImageRequest<F>} body
     * @param {CallOptions} [options]
     * @returns {Promise<import("./types.js").InFormat<F, ClassObjects, Coco & {classes: ClassArea[]}>>}
     */
    semantic<F extends ResultFormat | "probabilities" = "png">(body: import("./types.js").WholeImageRequest<F>, options?: CallOptions): Promise<import("./types.js").InFormat<F, ClassObjects, Coco & {
        classes: ClassArea[];
    }>>;
    /**
     * Objects of Mask R-CNN; formats as of `automatic`, "rle" where none is named.
     * @template {ResultFormat} [F="rle"]
     * @param {import("./types.js").WholeImageRequest<F>} body
     * @param {CallOptions} [options]
     * @returns {Promise<import("./types.js").InFormat<F>>}
     */
    instances<F extends ResultFormat = "rle">(body: import("./types.js").WholeImageRequest<F>, options?: CallOptions): Promise<import("./types.js").InFormat<F>>;
    /**
     * Objects that are like examples; formats as of `automatic`, "rle" where none is named.
     * @template {ResultFormat} [F="rle"]
     * @param {import("./types.js").WholeImageRequest<F>} body
     * @param {CallOptions} [options]
     * @returns {Promise<import("./types.js").InFormat<F, SimilarObjects>>}
     */
    similar<F extends ResultFormat = "rle">(body: import("./types.js").WholeImageRequest<F>, options?: CallOptions): Promise<import("./types.js").InFormat<F, SimilarObjects>>;
    /**
     * @param {string} operation
     * @param {{image_id: string} & Record<string, any>} body
     * @param {CallOptions} [options]
     * @returns {Promise<any>} The JSON of the answer, or a Blob where the format is a file.
     */
    _operate(operation: string, { image_id: imageId, ...json }: {
        image_id: string;
    } & Record<string, any>, { signal }?: CallOptions): Promise<any>;
    /**
     * Store a video, a stack, a volume or a zip.
     * @param {Blob} blob
     * @param {FileOptions & {onProgress?: OnProgress}} [options]
     * @returns {Promise<StoredFile>}
     */
    uploadFile(blob: Blob, { series, time, signal, onProgress }?: FileOptions & {
        onProgress?: OnProgress;
    }): Promise<StoredFile>;
    /** @param {string} fileId @param {CallOptions} [options] @returns {Promise<StoredFile>} */
    getFile(fileId: string, { signal }?: CallOptions): Promise<StoredFile>;
    /** @param {string} fileId @param {CallOptions} [options] */
    deleteFile(fileId: string, { signal }?: CallOptions): Promise<void>;
    /**
     * The address of a frame or slice as a picture, for an <img>.
     * @param {string} fileId
     * @param {number} frame
     * @param {FrameView & {max?: number}} [options] max: longest side in pixels.
     */
    frameUrl(fileId: string, frame: number, { axis, window, max }?: FrameView & {
        max?: number;
    }): string;
    /**
     * Make an image of a frame or slice, to click on.
     * @param {string} fileId
     * @param {number} frame
     * @param {FrameView & {model?: string, signal?: AbortSignal}} [options] model: start encoding for it at once.
     * @returns {Promise<Image>}
     */
    imageOfFrame(fileId: string, frame: number, { axis, window, model, signal }?: FrameView & {
        model?: string;
        signal?: AbortSignal;
    }): Promise<Image>;
    /**
     * Read a label volume (NIfTI, NRRD, MetaImage, MGH, DICOM SEG) on the grid of a volume of the service. It is not stored.
     * @param {string} fileId The volume that the labels belong to.
     * @param {Blob} blob
     * @param {{axis?: 0 | 1 | 2, signal?: AbortSignal, onProgress?: OnProgress}} [options] axis: along which slices are numbered.
     * @returns {Promise<Labels>}
     */
    readLabels(fileId: string, blob: Blob, { axis, signal, onProgress }?: {
        axis?: 0 | 1 | 2;
        signal?: AbortSignal;
        onProgress?: OnProgress;
    }): Promise<Labels>;
    /**
     * Submit long work. It is submitted once, however often the connection breaks.
     * @param {Record<string, any>} body
     * @param {{idempotencyKey?: string, signal?: AbortSignal}} [options]
     * @returns {Promise<Job>}
     */
    submitJob(body: Record<string, any>, { idempotencyKey, signal }?: {
        idempotencyKey?: string;
        signal?: AbortSignal;
    }): Promise<Job>;
    /** @param {string} jobId @param {CallOptions} [options] @returns {Promise<Job>} */
    getJob(jobId: string, { signal }?: CallOptions): Promise<Job>;
    /** The newest jobs. @param {CallOptions} [options] @returns {Promise<Job[]>} */
    jobs({ signal }?: CallOptions): Promise<Job[]>;
    /**
     * Yield the events of a job until it has ended. Goes on past lost connections and a restarted service.
     * @param {string} jobId
     * @param {{from?: string, signal?: AbortSignal}} [options] from: id of the last event that is known.
     * @returns {AsyncGenerator<JobEvent, void, void>}
     */
    jobEvents(jobId: string, { from, signal }?: {
        from?: string;
        signal?: AbortSignal;
    }): AsyncGenerator<JobEvent, void, void>;
    /**
     * Yield the results of a job as they come, each once. Goes on past lost connections and a restarted service.
     * @param {string} jobId
     * @param {{from?: number, signal?: AbortSignal, follow?: boolean}} [options]
     *   from: number of lines to leave out. follow: wait for results that are not done yet.
     * @returns {AsyncGenerator<ResultLine, Job, void>} Returns the job.
     */
    jobResults(jobId: string, { from, signal, follow }?: {
        from?: number;
        signal?: AbortSignal;
        follow?: boolean;
    }): AsyncGenerator<ResultLine, Job, void>;
    /**
     * Add objects and corrections to a job on a video or a volume. Results that depend on them are made again: read on
     * with `from` set to the `progress.done` of the answer.
     * @param {string} jobId
     * @param {Record<string, any>} body
     * @param {CallOptions} [options]
     * @returns {Promise<Job>}
     */
    addPrompts(jobId: string, body: Record<string, any>, { signal }?: CallOptions): Promise<Job>;
    /** Stop a job. Its finished results stay. @param {string} jobId @param {CallOptions} [options] @returns {Promise<Job>} */
    cancelJob(jobId: string, { signal }?: CallOptions): Promise<Job>;
    /** Run a failed or cancelled job again. @param {string} jobId @param {CallOptions} [options] @returns {Promise<Job>} */
    retryJob(jobId: string, { signal }?: CallOptions): Promise<Job>;
    /**
     * Return the results of a job as one file.
     * @param {string} jobId
     * @param {{format: string, signal?: AbortSignal}} options format: such as "coco", "png", "nifti", "mp4".
     * @returns {Promise<Blob>}
     */
    downloadResults(jobId: string, { format, signal }: {
        format: string;
        signal?: AbortSignal;
    }): Promise<Blob>;
}
export type Identity = import("./types.js").Identity;
export type ClassArea = import("./types.js").ClassArea;
export type ClassObjects = import("./types.js").ClassObjects;
export type Coco = import("./types.js").Coco;
export type Image = import("./types.js").Image;
export type Job = import("./types.js").Job;
export type JobEvent = import("./types.js").JobEvent;
export type Labels = import("./types.js").Labels;
export type Model = import("./types.js").Model;
export type ResultFormat = import("./types.js").ResultFormat;
export type ResultLine = import("./types.js").ResultLine;
export type SegmentAnswer = import("./types.js").SegmentAnswer;
export type SegmentRequest = import("./types.js").SegmentRequest;
export type SimilarObjects = import("./types.js").SimilarObjects;
export type StoredFile = import("./types.js").StoredFile;
export type Usage = import("./types.js").Usage;
export type Prompt = import("./types.js").Prompt;
export type ClientOptions = {
    /**
     * Where the service is, such as "http://127.0.0.1:8000"; "" is the origin of the page.
     */
    baseUrl?: string | undefined;
    /**
     * Used in place of the global one.
     */
    fetch?: typeof fetch | undefined;
    /**
     * How often a request is sent again.
     */
    retries?: number | undefined;
    /**
     * Sent with every request.
     */
    headers?: Record<string, string> | undefined;
    /**
     * If the service asks for one. The operator makes it by `segserve keys add`.
     */
    apiKey?: string | undefined;
    /**
     * Called before a request is sent again.
     */
    onRetry?: ((retry: import("./http.js").Retry) => void) | undefined;
    /**
     * Called where the service asks for a key; requests
     * wait for its promise and are sent again. Without it they throw the problem, whose status is 401.
     */
    onUnauthenticated?: import("./http.js").Unauthenticated | undefined;
    /**
     * How long events and results of a job wait for a service that is away.
     */
    patienceSeconds?: number | undefined;
};
export type CallOptions = {
    signal?: AbortSignal | undefined;
};
/**
 * Called with bytes.
 */
export type OnProgress = (sent: number, total: number) => void;
/**
 * How the image is read; see docs/formats.md of the service.
 */
export type ImageOptions = {
    /**
     * Page of a multi-page file, from 0.
     */
    page?: number | undefined;
    /**
     * Channels to take, in order.
     */
    channels?: string | number[] | undefined;
    /**
     * How values become 8-bit.
     */
    normalize?: string | undefined;
    /**
     * Read as grey how much of a stain there is.
     */
    stain?: string | undefined;
    invert?: boolean | undefined;
    /**
     * Start encoding for this model at once.
     */
    model?: string | undefined;
    signal?: AbortSignal | undefined;
};
/**
 * How a volume is looked at; see docs/videos-and-volumes.md of the service.
 */
export type FrameView = {
    /**
     * Along which slices are numbered; 0: as they are stored.
     */
    axis?: 0 | 2 | 1 | undefined;
    /**
     * Values that become black and white.
     */
    window?: [number, number] | undefined;
};
export type FileOptions = {
    /**
     * The series to take of a file that holds several.
     */
    series?: string | number | undefined;
    /**
     * The point in time to take.
     */
    time?: number | undefined;
    signal?: AbortSignal | undefined;
};
import { Http } from "./http.js";
