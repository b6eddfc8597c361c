/**
 * One run of the demo: its processes, what they tell, and the check of what they logged.
 * May touch: the directory that it was given, the processes that it starts.
 * May not touch: signals, the exit code, the terminal but through its view.
 * Why the filters are made here: they name accounts that exist only once the sender has set up its bank.
 *
 * @module
 */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Child, type Program, type Runtime } from "./child.ts";
import type {
  ConsumerFilter,
  ConsumerReport,
  ConsumerTask,
  Message,
  SenderReady,
  SenderReport,
  SenderTask,
  UpstreamReady,
  UpstreamTask,
} from "./messages.ts";
import type { DemoOptions } from "./options.ts";
import { ProcessGroup } from "./process_group.ts";
import type { DemoState } from "./screen.ts";
import type { View } from "./view.ts";

/** How a run ended. */
export interface DemoResult {
  readonly ok: boolean;
  /** What the oracle said, by consumer. */
  readonly checks: readonly { readonly consumer: string; readonly ok: boolean; readonly text: string }[];
  readonly transactions: number;
  readonly seconds: number;
}

interface ConsumerPlan {
  readonly runtime: Runtime;
  /** The filter, in words. */
  readonly wants: string;
  readonly filter: (keys: SenderReady) => ConsumerFilter;
}

const ACCOUNTS_BY_KEY = 12;
const CONSUMERS: readonly ConsumerPlan[] = [
  {
    runtime: "deno",
    wants: `${ACCOUNTS_BY_KEY} accounts by key and all transactions`,
    filter: ({ tokenAccounts }) => ({
      accounts: tokenAccounts.slice(0, ACCOUNTS_BY_KEY),
      owners: [],
      transactions: true,
    }),
  },
  {
    runtime: "bun",
    wants: "all accounts of the token program",
    filter: ({ tokenProgram }) => ({ accounts: [], owners: [tokenProgram], transactions: false }),
  },
];

const VIEW_INTERVAL_MS = 200;
/** For what is not streaming: starting processes, setting up the bank, checking. */
const OVERHEAD_SECONDS_MAX = 60;
/** What one transaction may take on a slow machine, whatever was asked for. */
const TRANSACTION_SECONDS_MAX = 0.005;

/** Runs the demo. Throws when a process fails, when it takes too long, and when the signal is aborted. */
export function runDemo(options: DemoOptions, directory: string, view: View, signal: AbortSignal): Promise<DemoResult> {
  return new DemoRun(options, directory, view).run(signal);
}

class DemoRun {
  readonly #options: DemoOptions;
  readonly #directory: string;
  readonly #view: View;
  readonly #reports: { sender?: SenderReport; deno?: ConsumerReport; bun?: ConsumerReport } = {};

  constructor(options: DemoOptions, directory: string, view: View) {
    this.#options = options;
    this.#directory = directory;
    this.#view = view;
  }

  async run(signal: AbortSignal): Promise<DemoResult> {
    await using group = new ProcessGroup(signal);
    const { seconds, transactionsMin } = this.#options;
    const limit = OVERHEAD_SECONDS_MAX + 2 * seconds + TRANSACTION_SECONDS_MAX * transactionsMin;
    const watchdog = setTimeout(() => group.abort(new Error(`The demo has not ended within ${limit} s`)), limit * 1000);
    const drawing = setInterval(() => this.#view.show(this.#state()), VIEW_INTERVAL_MS);
    try {
      await this.#stream(group).finally(() => clearInterval(drawing));
      this.#view.showLast(this.#state());
      return await this.#check(group);
    } finally {
      clearTimeout(watchdog);
    }
  }

  async #stream(group: ProcessGroup): Promise<void> {
    const upstream = await group.guard(this.#startUpstream(group));
    const ready = await group.guard(this.#startSender(group, upstream));
    for (const { runtime, filter } of CONSUMERS) {
      writeFileSync(this.#file(`${runtime}.filter.json`), JSON.stringify(filter(ready)));
      this.#startConsumer(group, runtime);
    }
    await group.allEnded();
  }

  /** Resolves when the server is listening from which the sender gets its updates; undefined if it needs none. */
  #startUpstream(group: ProcessGroup): Promise<UpstreamReady | undefined> {
    const { source, runtime, seconds, transactionsMin } = this.#options;
    if (source === undefined || source === "litesvm") return Promise.resolve(undefined);
    if (source === "relay") return this.#startRelayed(group);
    const task: UpstreamTask = {
      source,
      log: this.#file("upstream.jsonl"),
      seconds,
      transactionsMin,
      accounts: ACCOUNTS_BY_KEY,
    };
    return new Promise((resolve) => {
      // In Bun whatever the sender's runtime: see upstream.ts.
      this.#start(
        group,
        `${source} server for the ${runtime} sender`,
        "bun",
        { file: "upstream.ts", permissions: [] },
        task,
        (message) => {
          if (message.type === "upstream") resolve(message);
        },
      );
    });
  }

  /** A sender that is relayed by the other one. */
  #startRelayed(group: ProcessGroup): Promise<UpstreamReady> {
    const { seconds, transactionsMin } = this.#options;
    const path = this.#file("upstream.sock");
    const task: SenderTask = {
      path,
      log: this.#file("upstream.jsonl"),
      seconds,
      transactionsMin,
      consumers: 1,
      isRelayed: true,
    };
    return new Promise((resolve) => {
      this.#start(group, "relayed sender", "bun", { file: "sender.ts", permissions: [] }, task, (message) => {
        if (message.type === "ready") resolve({ ...message, type: "upstream", url: path });
      });
    });
  }

  /** Resolves when the sender is listening. */
  #startSender(group: ProcessGroup, upstream: UpstreamReady | undefined): Promise<SenderReady> {
    const { runtime, source, seconds, transactionsMin } = this.#options;
    const log = this.#file("sender.jsonl");
    const task: SenderTask = {
      path: this.#path(),
      log,
      seconds,
      transactionsMin,
      consumers: CONSUMERS.length,
      source,
      ...upstream === undefined ? {} : { upstream },
    };
    // LiteSVM reads the environment and files to find its add-on. Two of the sources use the network.
    const network = source === "yellowstone" || source === "rpc" ? ["--allow-net=127.0.0.1"] : [];
    const permissions = ["--allow-ffi", "--allow-read", "--allow-env", `--allow-write=${log}`, ...network];
    return new Promise((resolve) => {
      this.#start(group, `${runtime} sender`, runtime, { file: "sender.ts", permissions }, task, (message) => {
        if (message.type === "ready") resolve(message);
        if (message.type === "sender") this.#reports.sender = message;
      });
    });
  }

  #startConsumer(group: ProcessGroup, runtime: Runtime): void {
    const log = this.#file(`${runtime}.jsonl`);
    const filter = this.#file(`${runtime}.filter.json`);
    const task: ConsumerTask = { name: runtime, path: this.#path(), log, filter };
    // The library needs --allow-ffi and nothing else. The rest is for the filter, the log, and kit, which decodes.
    const files = [`--allow-read=${filter}`, `--allow-write=${log}`];
    const permissions = ["--allow-ffi", "--allow-env=NODE_ENV,WS_NO_BUFFER_UTIL", ...files];
    this.#start(group, `${runtime} consumer`, runtime, { file: "consumer.ts", permissions }, task, (message) => {
      if (message.type === "consumer") this.#reports[runtime] = message;
    });
  }

  #start(
    group: ProcessGroup,
    name: string,
    runtime: Runtime,
    program: Program,
    task: SenderTask | ConsumerTask | UpstreamTask,
    onMessage: (message: Message) => void,
  ): void {
    const onLine = (line: string) => {
      try {
        onMessage(JSON.parse(line));
      } catch (cause) {
        group.abort(new Error(`The ${name} said what is no message: ${line}`, { cause }));
      }
    };
    group.addEssential(new Child(name, runtime, program, [JSON.stringify(task)], onLine));
  }

  async #check(group: ProcessGroup): Promise<DemoResult> {
    const checks = [];
    // Where there is a log on the other side of the source, that is what the checker believes.
    const { source } = this.#options;
    const sent = source === "yellowstone" || source === "relay" ? "upstream.jsonl" : "sender.jsonl";
    for (const { runtime, wants } of CONSUMERS) {
      const files = [sent, `${runtime}.filter.json`, `${runtime}.jsonl`].map((name) => this.#file(name));
      const program = { file: "checker.ts", permissions: [`--allow-read=${files.join(",")}`] };
      const said: string[] = [];
      const checker = group.add(new Child("checker", runtime, program, files, (line) => said.push(line)));
      const { ok, reason } = await group.guard(checker.ended);
      checks.push({ consumer: `${runtime} consumer, ${wants}`, ok, text: said.join(" ") || reason });
    }
    const { transactions = 0, elapsedSeconds: seconds = 0 } = this.#reports.sender ?? {};
    if (transactions < this.#options.transactionsMin) throw new Error(`Only ${transactions} transactions were sent`);
    return { ok: checks.every(({ ok }) => ok), checks, transactions, seconds };
  }

  #state(): DemoState {
    const { runtime, seconds } = this.#options;
    return {
      title:
        `qlaster: live token transfers${
          this.#options.source === undefined ? "" : `, by ${this.#options.source},`
        } from one ` +
        `sender to ${CONSUMERS.length} consumers`,
      seconds,
      sender: { label: `${runtime} sender`, report: this.#reports.sender },
      consumers: CONSUMERS.map(({ runtime }) => ({ label: `${runtime} consumer`, report: this.#reports[runtime] })),
    };
  }

  #path(): string {
    return this.#options.path ?? this.#file("qlaster.sock");
  }

  #file(name: string): string {
    return join(this.#directory, name);
  }
}
