// Generated from zig/layout.zig by `zig build abi`. Do not edit: change the layout and build.

export const ABI_HASH = 4290460687;
export const LAYOUT_VERSION = 1;
export const PART_SIZE = 65536;
export const CAPACITY_BYTES_MIN = 65536;
export const CAPACITY_BYTES_MAX = 1073741824;
export const FRAME_ALIGN = 8;
export const PAYLOAD_BYTES_MAX = 10485760;
export const SIGNATURE_SIZE = 64;
export const ADDRESS_SIZE = 32;
export const RESERVED_BYTES_MIN = 16384;
export const RESERVED_FRACTION = 16;
export const FRAME_FLAG_STARTUP = 1;
export const FRAME_FLAG_LOSSY = 2;
export const FRAME_FLAG_SIGNATURE = 4;
export const FRAME_FLAG_EXECUTABLE = 8;
export const FRAME_FLAG_VOTE = 16;
export const FRAME_FLAG_FAILED = 32;
export const FRAME_FLAG_META = 64;
export const LINK_MAGIC = 1396788305;
export const LINK_VERSION = 1;
export const LINK_BODY_BYTES_MAX = 1048576;
export const LINK_DESCRIPTORS_MAX = 4;
export const NAME_BYTES_MAX = 64;
export const STATUS_BASE = -4096;
export const V9_VERSION = 9;
export const V9_SLOTS_DEFAULT = 10;
export const V9_SLOT_NONE = 255;
export const V9_IDLE_MS = 30000;
export const V9_PING_MS = 10000;
export const V9_CONTROL_BYTES_MAX = 16777216;
export const V9_LIST_KEYS_MAX = 131072;
export const V9_READY_SHM_BYTES_MAX = 1024;
export const V9_PATH_BYTES_MAX = 993;
export const V9_SENTINEL = 4294967295;
export const V9_FLAG_LZ4 = 1;
export const FRAME_FLAG_DECOMPRESSED = 32768;
export const V9_COMPRESS_BYTES_MIN = 512000;
export const V9_COMPRESS_PROBE_BYTES = 8192;
export const V9_COMPRESS_GAIN_MIN = 75;
export const SHAQ_CAPACITY_BYTES_MIN = 64;
export const SHAQ_CAPACITY_BYTES_MAX = 2147483648;

/** Offsets in bytes. */
export const RingHeader = {
  size: 256,
  magic: 0,
  layoutVersion: 8,
  headerSize: 12,
  capacityBytes: 16,
  reservedBytes: 24,
  senderId: 32,
  connectionId: 48,
  producerCursor: 64,
  closing: 128,
  revoked: 132,
  spaceEpoch: 192,
} as const;

/** Offsets in bytes. */
export const ConsumerPage = {
  size: 192,
  magic: 0,
  layoutVersion: 8,
  consumerCursor: 64,
  parkEpoch: 128,
} as const;

/** Offsets in bytes. */
export const FrameHeader = {
  size: 64,
  length: 0,
  kind: 4,
  flags: 6,
  sequence: 8,
  publishNs: 16,
  sourceNs: 24,
  filterMask: 32,
  lost: 40,
  conflated: 44,
  poolBlock: 48,
  poolGeneration: 52,
  bodyLength: 56,
  reserved: 60,
} as const;

/** Offsets in bytes. */
export const AccountBody = {
  size: 112,
  pubkey: 0,
  owner: 32,
  lamports: 64,
  rentEpoch: 72,
  slot: 80,
  bankId: 88,
  writeVersion: 96,
  dataLength: 104,
} as const;

/** Offsets in bytes. */
export const TransactionBody = {
  size: 96,
  slot: 0,
  bankId: 8,
  signature: 16,
  index: 80,
  messageLength: 84,
  metaLength: 88,
} as const;

/** Offsets in bytes. */
export const SlotBody = {
  size: 64,
  slot: 0,
  parent: 8,
  bankId: 16,
  accountsPublished: 24,
  transactionsPublished: 32,
  accountsLost: 40,
  transactionsLost: 48,
  status: 56,
} as const;

/** Offsets in bytes. */
export const GapBody = {
  size: 8,
  lostTotal: 0,
} as const;

/** Offsets in bytes. */
export const GoodbyeBody = {
  size: 8,
  reason: 0,
} as const;

/** Offsets in bytes. */
export const PollRecord = {
  size: 32,
  frameOffset: 0,
  kind: 4,
  flags: 8,
  ringBytes: 12,
  payloadOffset: 16,
  payloadLength: 20,
  extraOffset: 24,
  extraLength: 28,
} as const;

/** Offsets in bytes. */
export const OfferTarget = {
  size: 8,
  ring: 0,
  status: 4,
} as const;

/** Offsets in bytes. */
export const RingInfo = {
  size: 72,
  capacityBytes: 0,
  reservedBytes: 8,
  producerCursor: 16,
  consumerCursor: 24,
  connectionId: 32,
  closing: 40,
  parked: 48,
  wakes: 56,
  lostPending: 64,
} as const;

/** Offsets in bytes. */
export const LinkHeader = {
  size: 16,
  magic: 0,
  version: 4,
  kind: 6,
  bodyLength: 8,
  requestId: 12,
} as const;

/** Offsets in bytes. */
export const HelloBody = {
  size: 8,
  versionMin: 0,
  versionMax: 2,
  nameLength: 4,
} as const;

/** Offsets in bytes. */
export const GrantBody = {
  size: 40,
  version: 0,
  reservedBytes: 4,
  capacityBytes: 8,
  connectionId: 16,
  senderId: 24,
} as const;

/** Offsets in bytes. */
export const SubscribeBody = {
  size: 16,
  accountCount: 0,
  ownerCount: 4,
  transactions: 8,
} as const;

/** Offsets in bytes. */
export const AckBody = {
  size: 16,
  sequence: 0,
  generation: 8,
} as const;

/** Offsets in bytes. */
export const RefuseBody = {
  size: 8,
  status: 0,
  textLength: 4,
} as const;

/** Offsets in bytes. */
export const V9Subscribe = {
  size: 19,
  version: 0,
  tag: 1,
  slotIndex: 2,
  slotGeneration: 3,
  accountCount: 11,
} as const;

/** Offsets in bytes. */
export const V9Token = {
  size: 11,
  version: 0,
  tag: 1,
  slotIndex: 2,
  slotGeneration: 3,
} as const;

/** Offsets in bytes. */
export const V9ReadyShm = {
  size: 19,
  version: 0,
  tag: 1,
  slotIndex: 2,
  slotGeneration: 3,
  pathLength: 11,
} as const;

/** Offsets in bytes. */
export const V9Account = {
  size: 116,
  version: 0,
  tag: 1,
  createdNs: 2,
  pubkey: 10,
  owner: 42,
  lamports: 74,
  executable: 82,
  rentEpoch: 83,
  slot: 91,
  writeVersion: 99,
  flags: 107,
  rawLength: 108,
  wireLength: 112,
} as const;

/** Offsets in bytes. */
export const V9Transaction = {
  size: 91,
  version: 0,
  tag: 1,
  createdNs: 2,
  slot: 10,
  index: 18,
  vote: 22,
  signature: 23,
  payloadLength: 87,
} as const;

/** Offsets in bytes. */
export const V9Slot = {
  size: 18,
  version: 0,
  tag: 1,
  createdNs: 2,
  slot: 10,
} as const;

/** Offsets in bytes. */
export const ShaqHeader = {
  size: 320,
  magic: 0,
  version: 8,
  bufferMask: 12,
  producerReservation: 64,
  producerPublication: 128,
  consumerReservation: 192,
  consumerRelease: 256,
} as const;

/** Offsets in bytes. */
export const V9Created = {
  size: 1008,
  wakeFd: 0,
  pathLength: 4,
  path: 8,
} as const;

export const FrameKind = {
  account: 1,
  transaction: 2,
  slot: 3,
  gap: 4,
  filter: 5,
  goodbye: 6,
} as const;

export const EndReason = {
  none: 0,
  senderClosed: 1,
  slowConsumer: 2,
  peerCorrupt: 3,
  consumerClosed: 4,
} as const;

export const LinkKind = {
  hello: 1,
  grant: 2,
  subscribe: 3,
  ack: 4,
  ping: 5,
  pong: 6,
  goodbye: 7,
  refuse: 8,
} as const;

export const Status = {
  wouldBlock: -4097,
  full: -4098,
  endOfStream: -4099,
  tooLarge: -4100,
  peerCorrupt: -4196,
  badMagic: -4197,
  badVersion: -4198,
  badSize: -4199,
  sealMissing: -4200,
  badDescriptor: -4201,
  tooManyDescriptors: -4202,
  controlTruncated: -4203,
  pathInUse: -4204,
  pathNotSocket: -4205,
  directoryUnsafe: -4206,
  wrongUid: -4207,
  handlesExhausted: -4208,
  memoryLimit: -4209,
  consumersLimit: -4210,
  v9Version: -4211,
  v9Tag: -4212,
  v9Malformed: -4213,
  v9TooLarge: -4214,
  v9Decode: -4215,
  badHandle: -4296,
  badArgument: -4297,
  pathTooLong: -4298,
  unsupported: -4299,
} as const;

export const V9Tag = {
  subscribe: 1,
  account: 2,
  ready: 3,
  ping: 4,
  readyShm: 5,
  transaction: 6,
  slot: 7,
} as const;

/** TypeScript's name: the library's name, parameters, result. */
export const SYMBOLS = {
  abiHash: ["qlaster_abi_hash", [], "u32"],
  layoutVersion: ["qlaster_layout_version", [], "u32"],
  clockUs: ["qlaster_clock_us", [], "f64"],
  uid: ["qlaster_uid", [], "u32"],
  close: ["qlaster_close", ["u32"], "i32"],
  fdClose: ["qlaster_fd_close", ["i32"], "i32"],
  limitsRaise: ["qlaster_limits_raise", [], "i32"],
  listen: ["qlaster_listen", ["buffer", "u32", "u32"], "i32"],
  listenerFd: ["qlaster_listener_fd", ["u32"], "i32"],
  listenerAccept: ["qlaster_listener_accept", ["u32"], "i32"],
  linkAdopt: ["qlaster_link_adopt", ["i32"], "i32"],
  linkFd: ["qlaster_link_fd", ["u32"], "i32"],
  linkConnect: ["qlaster_link_connect", ["buffer", "u32"], "i32"],
  linkPeer: ["qlaster_link_peer", ["u32", "buffer"], "i32"],
  linkSend: ["qlaster_link_send", ["u32", "buffer", "u32", "buffer", "u32"], "i32"],
  linkReceive: ["qlaster_link_receive", ["u32", "buffer", "u32", "buffer", "u32"], "i32"],
  wakeCreate: ["qlaster_wake_create", ["buffer"], "i32"],
  wakeOpen: ["qlaster_wake_open", ["i32"], "i32"],
  wakeNotify: ["qlaster_wake_notify", ["u32"], "i32"],
  ringCreate: ["qlaster_ring_create", ["u32", "u32", "f64", "buffer", "buffer"], "i32"],
  ringAttach: ["qlaster_ring_attach", ["u32", "u32"], "i32"],
  ringJoin: ["qlaster_ring_join", ["i32", "i32", "u32", "u32"], "i32"],
  ringAddress: ["qlaster_ring_address", ["u32"], "f64"],
  ringInfo: ["qlaster_ring_info", ["u32", "buffer"], "i32"],
  ringOffer: ["qlaster_ring_offer", ["buffer", "u32", "buffer", "u32", "buffer", "u32", "u32"], "i32"],
  ringCommit: ["qlaster_ring_commit", ["buffer", "u32"], "i32"],
  ringAbort: ["qlaster_ring_abort", ["u32"], "i32"],
  ringEnd: ["qlaster_ring_end", ["u32", "u32"], "i32"],
  ringPoll: ["qlaster_ring_poll", ["u32", "buffer", "u32"], "i32"],
  ringRelease: ["qlaster_ring_release", ["u32", "u32"], "i32"],
  ringPark: ["qlaster_ring_park", ["u32"], "i32"],
  ringUnpark: ["qlaster_ring_unpark", ["u32"], "i32"],
  ringRetire: ["qlaster_ring_retire", ["u32"], "i32"],
  ringSpin: ["qlaster_ring_spin", ["u32", "u32"], "i32"],
  v9RingCreate: ["qlaster_v9_ring_create", ["buffer", "u32", "u32", "f64", "f64", "buffer"], "i32"],
  v9RingJoin: ["qlaster_v9_ring_join", ["buffer", "u32", "i32", "u32"], "i32"],
  v9RingSize: ["qlaster_v9_ring_size", ["u32"], "f64"],
  v9RingPresent: ["qlaster_v9_ring_present", ["u32"], "i32"],
  v9Relay: ["qlaster_v9_relay", ["u32", "i32"], "i32"],
  v9Clean: ["qlaster_v9_clean", ["buffer", "u32"], "i32"],
  v9Reaches: ["qlaster_v9_reaches", ["i32"], "i32"],
  v9Encode: ["qlaster_v9_encode", ["buffer", "u32", "buffer", "u32", "u32", "buffer", "u32"], "i32"],
  v9Decode: ["qlaster_v9_decode", ["buffer", "u32", "buffer", "buffer", "u32"], "i32"],
} as const;
