/**
 * For Workers: the hot loop of a consumer in a thread of its own, while its connection stays with the thread that set it up;
 * and publishing through a sender of another thread.
 *
 * @module
 */

export { attachReader, type ReaderOptions } from "./attach.ts";
export type { ConsumerShare } from "../stream/reader_share.ts";
export { attachPublisher } from "../stream/worker_publisher.ts";
export type { SenderShare } from "../stream/share.ts";
