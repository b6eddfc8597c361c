// Generated from zig/layout.zig by `zig build abi`. Do not edit: change the layout and build.

export const ABI_HASH = 132074012;
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
export const FRAME_FLAG_SLICED = 128;
export const FRAME_FLAG_CLIPPED = 256;
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
export const FILTERS_PER_CONSUMER_MAX = 64;
export const FANOUT_CONSUMERS_MAX = 1280;
export const FANOUT_EVENT_FLAG = 1073741824;
export const POOL_BYTES_MIN = 1048576;
export const POOL_BYTES_MAX = 1073741824;
export const SHAQ_CAPACITY_BYTES_MIN = 64;
export const SHAQ_CAPACITY_BYTES_MAX = 2147483648;
export const FILTER_KEYS_MAX = 4096;
export const FILTER_MEMCMPS_MAX = 8;
export const FILTER_MEMCMP_BYTES_MAX = 128;
export const FILTER_SLICES_MAX = 4;
export const FILTER_PROGRAM_BYTES_MAX = 395264;

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
  producerOrdinal: 72,
  newestSlot: 80,
  closing: 128,
  revoked: 132,
  skipTo: 136,
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
  ordinal: 60,
} as const;

/** Offsets in bytes. */
export const AccountBody = {
  size: 120,
  pubkey: 0,
  owner: 32,
  lamports: 64,
  rentEpoch: 72,
  slot: 80,
  bankId: 88,
  writeVersion: 96,
  dataLength: 104,
  sourceEpoch: 108,
  fullLength: 112,
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
export const LeftBody = {
  size: 96,
  pubkey: 0,
  owner: 32,
  lamports: 64,
  slot: 72,
  bankId: 80,
  writeVersion: 88,
} as const;

/** Offsets in bytes. */
export const FilterMarkBody = {
  size: 8,
  generation: 0,
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
  flags: 6,
  ringBytes: 8,
  lost: 12,
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
  size: 104,
  capacityBytes: 0,
  reservedBytes: 8,
  producerCursor: 16,
  consumerCursor: 24,
  connectionId: 32,
  closing: 40,
  parked: 48,
  wakes: 56,
  lostPending: 64,
  producerOrdinal: 72,
  consumerOrdinal: 80,
  newestSlot: 88,
  oldestUs: 96,
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
  size: 16,
  versionMin: 0,
  versionMax: 2,
  nameLength: 4,
  policy: 8,
  transactionPolicy: 10,
  backlogBytes: 12,
} as const;

/** Offsets in bytes. */
export const GrantBody = {
  size: 48,
  version: 0,
  reservedBytes: 4,
  capacityBytes: 8,
  connectionId: 16,
  senderId: 24,
  poolBytes: 40,
  policy: 44,
  transactionPolicy: 46,
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

/** Offsets in bytes. */
export const FilterBody = {
  size: 16,
  op: 0,
  bit: 1,
  transactions: 2,
  isLast: 3,
  accountCount: 4,
  ownerCount: 8,
  programLength: 12,
} as const;

/** Offsets in bytes. */
export const FanoutOptions = {
  size: 40,
  seed: 0,
  keysMax: 16,
  keysPerConsumerMax: 20,
  poolBytes: 24,
  poolThreshold: 28,
  trackedMax: 32,
  guard: 36,
} as const;

/** Offsets in bytes. */
export const FanoutConsumer = {
  size: 40,
  seed: 0,
  policy: 16,
  transactionPolicy: 20,
  statuses: 24,
  backlogBytes: 28,
  poolBytes: 32,
} as const;

/** Offsets in bytes. */
export const FanoutInfo = {
  size: 128,
  sequence: 0,
  accounts: 8,
  transactions: 16,
  slots: 24,
  deliveries: 32,
  lost: 40,
  conflated: 48,
  unchanged: 56,
  stale: 64,
  newestSlot: 72,
  accountKeys: 80,
  ownerKeys: 88,
  tracked: 96,
  indexBytes: 104,
  poolBytes: 112,
  poolUsedBytes: 120,
} as const;

/** Offsets in bytes. */
export const FanoutConsumerInfo = {
  size: 96,
  accountKeys: 0,
  ownerKeys: 8,
  takesTransactions: 16,
  isAwaited: 24,
  frames: 32,
  bytes: 40,
  lost: 48,
  conflated: 56,
  waitingFrames: 64,
  waitingBytes: 72,
  poolBytes: 80,
  gapDue: 88,
} as const;

/** Offsets in bytes. */
export const FilterProgram = {
  size: 8,
  kind: 0,
  conditionCount: 2,
  length: 4,
} as const;

/** Offsets in bytes. */
export const FilterCondition = {
  size: 8,
  opcode: 0,
  argument: 2,
  length: 4,
} as const;

/** Offsets in bytes. */
export const FilterRange = {
  size: 8,
  offset: 0,
  length: 4,
} as const;

/** Offsets in bytes. */
export const FilterVerdict = {
  size: 48,
  outcome: 0,
  sliceCount: 4,
  clipped: 8,
  slices: 16,
} as const;

export const FrameKind = {
  account: 1,
  transaction: 2,
  slot: 3,
  gap: 4,
  filter: 5,
  goodbye: 6,
  left: 7,
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
  filter: 9,
} as const;

export const Status = {
  wouldBlock: -4097,
  full: -4098,
  endOfStream: -4099,
  tooLarge: -4100,
  revoked: -4101,
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
  filtersLimit: -4216,
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

export const Policy = {
  disconnect: 0,
  dropNewest: 1,
  dropOldest: 2,
  conflate: 3,
  block: 4,
} as const;

export const FilterOp = {
  add: 1,
  remove: 2,
  replace: 3,
  drop: 4,
} as const;

export const FilterKind = {
  accounts: 1,
  transactions: 2,
  slots: 3,
} as const;

export const FilterOpcode = {
  startup: 1,
  signature: 2,
  dataSize: 3,
  lamports: 4,
  lamportsNot: 5,
  owners: 6,
  tokenAccount: 7,
  memcmp: 8,
  ownersNot: 9,
  accountsNot: 10,
  changed: 11,
  slices: 12,
  vote: 32,
  failed: 33,
  firstSignature: 34,
  required: 35,
  excluded: 36,
  statuses: 64,
} as const;

export const FilterOutcome = {
  no: 0,
  unchanged: 1,
  yes: 2,
} as const;

/** TypeScript's name: the library's name, parameters, result. */
export const SYMBOLS = {
  abiHash: ["qlaster_abi_hash", [], "u32"],
  layoutVersion: ["qlaster_layout_version", [], "u32"],
  instance: ["qlaster_instance", ["f64"], "f64"],
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
  ringJoin: ["qlaster_ring_join", ["i32", "i32", "i32", "u32", "u32", "u32"], "i32"],
  ringAddress: ["qlaster_ring_address", ["u32"], "f64"],
  ringInfo: ["qlaster_ring_info", ["u32", "buffer"], "i32"],
  ringOffer: ["qlaster_ring_offer", ["buffer", "u32", "buffer", "u32", "buffer", "u32", "u32"], "i32"],
  ringCommit: ["qlaster_ring_commit", ["buffer", "u32"], "i32"],
  ringEnd: ["qlaster_ring_end", ["u32", "u32"], "i32"],
  ringPoll: ["qlaster_ring_poll", ["u32", "buffer", "u32"], "i32"],
  ringRelease: ["qlaster_ring_release", ["u32", "u32"], "i32"],
  ringPark: ["qlaster_ring_park", ["u32"], "i32"],
  ringUnpark: ["qlaster_ring_unpark", ["u32"], "i32"],
  ringRetire: ["qlaster_ring_retire", ["u32"], "i32"],
  ringSpin: ["qlaster_ring_spin", ["u32", "u32"], "i32"],
  fanoutCreate: ["qlaster_fanout_create", ["buffer"], "i32"],
  fanoutPoolFd: ["qlaster_fanout_pool_fd", ["u32"], "i32"],
  fanoutAdd: ["qlaster_fanout_add", ["u32", "u32", "buffer"], "i32"],
  fanoutRemove: ["qlaster_fanout_remove", ["u32", "u32", "u32"], "i32"],
  fanoutSweep: ["qlaster_fanout_sweep", ["u32"], "i32"],
  fanoutEdit: ["qlaster_fanout_edit", ["u32", "u32", "buffer", "u32"], "i32"],
  fanoutPublish: ["qlaster_fanout_publish", ["u32", "buffer", "u32", "buffer", "u32", "u32"], "i32"],
  fanoutPublishMany: ["qlaster_fanout_publish_many", ["u32", "buffer", "u32", "u32"], "i32"],
  fanoutCommit: ["qlaster_fanout_commit", ["u32"], "i32"],
  fanoutFlush: ["qlaster_fanout_flush", ["u32", "u32"], "i32"],
  fanoutMark: ["qlaster_fanout_mark", ["u32", "u32", "buffer", "u32"], "i32"],
  fanoutEvent: ["qlaster_fanout_event", ["u32"], "i32"],
  fanoutInfo: ["qlaster_fanout_info", ["u32", "buffer"], "i32"],
  fanoutConsumerInfo: ["qlaster_fanout_consumer_info", ["u32", "u32", "buffer"], "i32"],
  filterEvaluate: ["qlaster_filter_evaluate", ["buffer", "u32", "buffer", "u32", "buffer", "u32", "buffer", "u32", "i32", "buffer"], "i32"],
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
