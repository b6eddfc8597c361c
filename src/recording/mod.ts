/**
 * Recording and replay: what a consumer reads, in a directory of MCAP files that other tools open, and back from there at any
 * speed. Needs the package `@mcap/core`, which the entry "." does not.
 *
 * @module
 */

export { record } from "./record.ts";
export { Recorder, type RecordingProgress, type RecordOptions } from "./recorder.ts";
export type { UpdateCopy } from "./frames.ts";
export { Replay, replay, type ReplayedUpdate, type ReplayOptions, type ReplayProgress } from "./replay.ts";
export { ReplayClock } from "./clock.ts";
export { listSegments, type Segment } from "./directory.ts";
