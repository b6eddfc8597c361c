/** What both sides of the Yellowstone bench are told, and what comes out. */

/** How a client takes a Geyser stream. */
export type GeyserClient =
  /** Our source, its updates counted. */
  | "source"
  /** Our source, fed to a sender, read by a consumer in the same process. */
  | "source to ring"
  /** `@grpc/grpc-js`, messages as bytes. */
  | "grpc-js raw"
  /** `@grpc/grpc-js`, messages decoded by protobufjs. */
  | "grpc-js decoded"
  /** The same, made into updates, published, read by a consumer in the same process. */
  | "grpc-js to ring";

/** The server sends to each stream as many updates as it can, until it ends. */
export interface GeyserServerTask {
  readonly port: number;
  readonly dataBytes: number;
  /** Subscriptions to serve before it ends. */
  readonly streams: number;
}

export interface GeyserClientTask {
  readonly port: number;
  readonly path: string;
  readonly client: GeyserClient;
  readonly runs: number;
  /** Updates of a run. */
  readonly updates: number;
}

/** Of each run. */
export interface GeyserClientResult {
  /** Updates a second, by the clock. */
  readonly wall: readonly number[];
  /** Updates a second of processor time, of all the process's threads. */
  readonly cpu: readonly number[];
}
