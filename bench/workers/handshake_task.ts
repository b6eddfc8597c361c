/** What both sides of the handshake bench are told, and what comes out. */

/** The order: one cold connection, then single ones, then rounds of many at once, then plain sockets. */
export interface HandshakeTask {
  readonly path: string;
  readonly socketPath: string;
  readonly connections: number;
  readonly rounds: number;
  readonly consumers: number;
}

/** Milliseconds each. */
export interface HandshakeResult {
  readonly coldMs: number;
  readonly warmMs: readonly number[];
  readonly firstMs: readonly number[];
  readonly allMs: readonly number[];
  readonly socketMs: readonly number[];
}
