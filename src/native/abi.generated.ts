// Generated from zig/layout.zig by `zig build abi`. Do not edit: change the layout and build.

export const ABI_HASH = 158072038;
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
export const LOADED_KEYS_MAX = 256;
export const DEMAND_ACCOUNTS = 1;
export const DEMAND_TRANSACTIONS = 2;
export const LATENCY_BUCKETS = 112;
export const LATENCY_SHIFT_MIN = 7;
export const STAT_VERSION = 2;
export const STAT_HEADER_SIZE = 4096;
export const LOSS_REASONS = 9;
export const STAT_ENDS = 5;
export const FRAME_FLAG_STATE = 512;
export const FRAME_FLAG_RESTORED = 1024;
export const FANOUT_WORK_FLAG = 536870912;
export const STATE_PARTS_MIN = 64;
export const STATE_PARTS_MAX = 1048576;
export const GRANT_HAS_STATE = 1;
export const GRANT_HAS_HISTORY = 2;
export const GRANT_HAS_TAKEOVER = 4;
export const FILTER_FLAG_STATE = 1;
export const FILTER_FLAG_MORE = 2;
export const FILTER_FLAG_VERSIONS = 4;
export const FILTERS_MAX = 2048;
export const FILTER_SETS_MAX = 262144;
export const FILTER_SETS_MADE_MAX = 65536;
export const FILTER_SET_BYTES_MAX = 67108864;
export const STATE_REQUESTS_MAX = 256;
export const STATE_REQUEST_BYTES_MAX = 134217728;

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
  size: 1152,
  magic: 0,
  layoutVersion: 8,
  consumerCursor: 64,
  skippedUpdates: 72,
  parkEpoch: 128,
  read: 192,
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
  loadedWritableCount: 92,
  loadedReadonlyCount: 94,
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
  size: 40,
  versionMin: 0,
  versionMax: 2,
  nameLength: 4,
  policy: 8,
  transactionPolicy: 10,
  backlogBytes: 12,
  resumeAfter: 16,
  resumeSenderId: 24,
} as const;

/** Offsets in bytes. */
export const GrantBody = {
  size: 72,
  version: 0,
  reservedBytes: 4,
  capacityBytes: 8,
  connectionId: 16,
  senderId: 24,
  poolBytes: 40,
  policy: 44,
  transactionPolicy: 46,
  sequence: 48,
  historyFrom: 56,
  features: 64,
  isResumed: 68,
} as const;

/** Offsets in bytes. */
export const SubscribeBody = {
  size: 16,
  accountCount: 0,
  ownerCount: 4,
  transactions: 8,
  flags: 12,
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
  size: 20,
  op: 0,
  bit: 1,
  transactions: 2,
  isLast: 3,
  accountCount: 4,
  ownerCount: 8,
  programLength: 12,
  flags: 16,
} as const;

/** Offsets in bytes. */
export const FanoutOptions = {
  size: 80,
  seed: 0,
  keysMax: 16,
  keysPerConsumerMax: 20,
  consumersPermitted: 24,
  poolBytes: 28,
  poolThreshold: 32,
  trackedMax: 36,
  guard: 40,
  stateParts: 44,
  stateKeep: 48,
  historyParts: 52,
  stallMs: 56,
  hasStats: 60,
  statId: 64,
} as const;

/** Offsets in bytes. */
export const FanoutConsumer = {
  size: 48,
  seed: 0,
  policy: 16,
  transactionPolicy: 20,
  statuses: 24,
  backlogBytes: 28,
  poolBytes: 32,
  isHeld: 36,
  resumeAfter: 40,
} as const;

/** Offsets in bytes. */
export const FanoutInfo = {
  size: 248,
  sequence: 0,
  accounts: 8,
  transactions: 16,
  slots: 24,
  deliveries: 32,
  lostBy: 40,
  unchanged: 112,
  stale: 120,
  newestSlot: 128,
  accountKeys: 136,
  ownerKeys: 144,
  tracked: 152,
  indexBytes: 160,
  poolBytes: 168,
  poolUsedBytes: 176,
  stateBytes: 184,
  stateAccounts: 192,
  stateVersions: 200,
  stateEvicted: 208,
  rollbacks: 216,
  rolledBack: 224,
  historyBytes: 232,
  historyFrom: 240,
} as const;

/** Offsets in bytes. */
export const FanoutConsumerInfo = {
  size: 192,
  accountKeys: 0,
  ownerKeys: 8,
  takesTransactions: 16,
  isAwaited: 24,
  frames: 32,
  bytes: 40,
  lostBy: 48,
  waitingFrames: 120,
  waitingBytes: 128,
  poolBytes: 136,
  gapDue: 144,
  editDue: 152,
  snapshots: 160,
  isBehind: 168,
  unreadFrames: 176,
  oldestUs: 184,
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

/** Offsets in bytes. */
export const DemandHead = {
  size: 16,
  isDone: 0,
  allAccounts: 4,
  allTransactions: 8,
} as const;

/** Offsets in bytes. */
export const DemandRecord = {
  size: 36,
  key: 0,
  kind: 32,
  was: 33,
  now: 34,
} as const;

/** Offsets in bytes. */
export const ReadReport = {
  size: 944,
  frames: 0,
  lost: 8,
  polls: 16,
  publishNs: 24,
  latency: 32,
  parks: 928,
  spins: 936,
} as const;

/** Offsets in bytes. */
export const StatHeader = {
  size: 1352,
  magic: 0,
  version: 8,
  headerSize: 12,
  entrySize: 16,
  entryCount: 20,
  id: 24,
  pid: 40,
  startedNs: 48,
  entriesUsed: 56,
  beatNs: 64,
  beatIntervalNs: 72,
  beats: 80,
  stallTotalNs: 88,
  stallMaxNs: 96,
  publishNs: 104,
  sequence: 112,
  accounts: 120,
  transactions: 128,
  slots: 136,
  deliveries: 144,
  lostBy: 152,
  unchanged: 224,
  olderVersions: 232,
  newestSlot: 240,
  accountKeys: 248,
  ownerKeys: 256,
  tracked: 264,
  indexBytes: 272,
  poolBytes: 280,
  poolUsedBytes: 288,
  connections: 296,
  refused: 304,
  memoryBytes: 312,
  ended: 320,
  droppedVersion: 360,
  droppedReason: 364,
  dropped: 368,
  stalls: 456,
} as const;

/** Offsets in bytes. */
export const StatEntry = {
  size: 1256,
  version: 0,
  state: 4,
  id: 8,
  connectedMs: 16,
  pid: 24,
  uid: 28,
  protocol: 32,
  policy: 36,
  transactionPolicy: 40,
  nameLength: 44,
  name: 48,
  frames: 112,
  bytes: 120,
  lostBy: 128,
  ordinal: 200,
  producerCursor: 208,
  consumerCursor: 216,
  ringBytes: 224,
  waitingFrames: 232,
  waitingBytes: 240,
  behindNs: 248,
  poolBytes: 256,
  accountKeys: 264,
  ownerKeys: 272,
  takesTransactions: 280,
  filters: 288,
  parked: 296,
  wakes: 304,
  read: 312,
} as const;

/** Offsets in bytes. */
export const StatIdentity = {
  size: 104,
  id: 0,
  connectedMs: 8,
  pid: 16,
  uid: 20,
  protocol: 24,
  policy: 28,
  transactionPolicy: 32,
  nameLength: 36,
  name: 40,
} as const;

/** Offsets in bytes. */
export const StatBeat = {
  size: 176,
  intervalNs: 0,
  stallNs: 8,
  connections: 16,
  refused: 24,
  memoryBytes: 32,
  ended: 40,
  droppedReason: 80,
  dropped: 88,
} as const;

/** Offsets in bytes. */
export const StatDropped = {
  size: 88,
  id: 0,
  atMs: 8,
  pid: 16,
  nameLength: 20,
  name: 24,
} as const;

/** Offsets in bytes. */
export const SnapshotCompleteBody = {
  size: 40,
  asOfSequence: 0,
  known: 8,
  unknownKeys: 16,
  evicted: 24,
  generation: 32,
  isCut: 36,
} as const;

/** Offsets in bytes. */
export const RollbackBody = {
  size: 32,
  slot: 0,
  bankId: 8,
  accounts: 16,
  evicted: 24,
} as const;

/** Offsets in bytes. */
export const ResumedBody = {
  size: 32,
  after: 0,
  replayedTo: 8,
  liveAfter: 16,
  evicted: 24,
} as const;

/** Offsets in bytes. */
export const HandoverBody = {
  size: 24,
  sequence: 0,
  newestSlot: 8,
  evicted: 16,
} as const;

export const FrameKind = {
  account: 1,
  transaction: 2,
  slot: 3,
  gap: 4,
  filter: 5,
  goodbye: 6,
  left: 7,
  snapshotComplete: 8,
  rollback: 9,
  withdrawn: 10,
  resumed: 11,
} as const;

export const EndReason = {
  none: 0,
  senderClosed: 1,
  slowConsumer: 2,
  peerCorrupt: 3,
  consumerClosed: 4,
  handedOver: 5,
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
  start: 10,
  takeover: 11,
  handover: 12,
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
  filterKeysLimit: -4217,
  keysLimit: -4218,
  setsLimit: -4219,
  requestsLimit: -4220,
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

export const LossReason = {
  replaced: 0,
  skipped: 1,
  ringFull: 2,
  poolShare: 3,
  poolFull: 4,
  queueFull: 5,
  tooLarge: 6,
  noMemory: 7,
  ended: 8,
} as const;

export const StatEnd = {
  consumerClosed: 0,
  consumerGone: 1,
  slowConsumer: 2,
  peerCorrupt: 3,
  idle: 4,
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
  listenerPass: ["qlaster_listener_pass", ["u32", "buffer"], "i32"],
  listenerYield: ["qlaster_listener_yield", ["u32"], "i32"],
  listenerTake: ["qlaster_listener_take", ["buffer", "u32", "u32", "i32", "i32"], "i32"],
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
  fanoutSweep: ["qlaster_fanout_sweep", ["u32", "u32"], "i32"],
  fanoutClock: ["qlaster_fanout_clock", ["u32", "f64"], "i32"],
  fanoutEdit: ["qlaster_fanout_edit", ["u32", "u32", "buffer", "u32"], "i32"],
  fanoutPublish: ["qlaster_fanout_publish", ["u32", "buffer", "u32", "buffer", "u32", "u32"], "i32"],
  fanoutPublishMany: ["qlaster_fanout_publish_many", ["u32", "buffer", "u32", "u32"], "i32"],
  fanoutCommit: ["qlaster_fanout_commit", ["u32"], "i32"],
  fanoutStart: ["qlaster_fanout_start", ["u32", "u32"], "i32"],
  fanoutPump: ["qlaster_fanout_pump", ["u32"], "i32"],
  fanoutFreeze: ["qlaster_fanout_freeze", ["u32", "u32"], "i32"],
  fanoutSeed: ["qlaster_fanout_seed", ["u32", "buffer", "u32", "buffer", "u32"], "i32"],
  fanoutAdopt: ["qlaster_fanout_adopt", ["u32", "f64", "f64", "f64"], "i32"],
  fanoutFlush: ["qlaster_fanout_flush", ["u32", "u32"], "i32"],
  fanoutMark: ["qlaster_fanout_mark", ["u32", "u32", "buffer", "u32"], "i32"],
  fanoutEvent: ["qlaster_fanout_event", ["u32"], "i32"],
  fanoutStatAnnounce: ["qlaster_fanout_stat_announce", ["u32", "u32"], "i32"],
  fanoutStatIdentify: ["qlaster_fanout_stat_identify", ["u32", "u32", "buffer"], "i32"],
  fanoutStatBeat: ["qlaster_fanout_stat_beat", ["u32", "buffer"], "i32"],
  fanoutInfo: ["qlaster_fanout_info", ["u32", "buffer"], "i32"],
  fanoutDemandStart: ["qlaster_fanout_demand_start", ["u32"], "i32"],
  fanoutDemand: ["qlaster_fanout_demand", ["u32", "buffer", "u32", "u32"], "i32"],
  fanoutConsumerInfo: ["qlaster_fanout_consumer_info", ["u32", "u32", "buffer"], "i32"],
  filterEvaluate: ["qlaster_filter_evaluate", ["buffer", "u32", "buffer", "u32", "buffer", "u32", "i32", "buffer"], "i32"],
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
