/**
 * The command: parses arguments, runs one thing, and says what went wrong in one sentence.
 * May touch: process.argv, exit codes, signals.
 *
 * @module
 */

import process from "node:process";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { ERRORS } from "../errors.ts";
import { OVERFLOW_POLICIES } from "../types.ts";
import { readConfig } from "./config.ts";
import { bytesOf, durationOf, Failure, numberOf, sentence } from "./failure.ts";
import { SORTS } from "./stat.ts";
import { SOURCES } from "./send.ts";

const VERSION = "0.1.0";

/** A parser of one value, whose refusal is the command line's. */
function by<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      throw new InvalidArgumentError(error instanceof Error ? error.message : String(error));
    }
  };
}

const size = (name: string) => by((text) => bytesOf(text, name));
const time = (name: string) => by((text) => durationOf(text, name));
const count = (name: string, max?: number) => by((text) => Math.floor(numberOf(text, name, 0, max)));
const slot = (name: string) => by((text) => BigInt(Math.floor(numberOf(text, name, 0))));
const uids = (text: string, before: number[] = []) => [...before, count("--uid")(text)];

function filters(command: Command): Command {
  return command
    .option("-a, --account <address...>", "accounts by address")
    .option("-o, --owner <address...>", "accounts by the program that owns them")
    .option("-t, --transactions", "all transactions")
    .option("--all", "everything")
    .option("--uid <uid>", "believe that user's sender, too", uids)
    .addOption(new Option("--policy <policy>", "what happens if we are too slow").choices(OVERFLOW_POLICIES));
}

function sending(command: Command): Command {
  return command
    .option("--path <path>", "where consumers connect")
    .option(
      "--speed <speed>",
      'of a replay: a number, or "max" (default 1)',
      by((text) => text === "max" ? "max" : numberOf(text, "--speed", 1e-6)),
    )
    .option("--from-slot <slot>", "of a replay: the first slot", slot("--from-slot"))
    .option("--to-slot <slot>", "of a replay: the last slot", slot("--to-slot"))
    .option("--loop", "of a replay: over and over")
    .option("--wait-for <count>", "wait for so many consumers first", count("--wait-for"))
    .option("--stay", "stay when the source has ended")
    .option("--http-port <port>", "serve /health and /metrics there (0: any port)", count("--http-port", 65_535))
    .option("--http-host <host>", "on that address (default 127.0.0.1)")
    .option("--ring-size <size>", "of each consumer, a power of two", size("--ring-size"))
    .option("--consumers <count>", "most at a time", count("--consumers"))
    .option("--memory <size>", "for all rings, pool and state", size("--memory"))
    .option("--uid <uid>", "let that user's consumers connect, too", uids)
    .addOption(
      new Option("--policy <policy...>", "what consumers may ask for when their ring is full").choices(
        OVERFLOW_POLICIES,
      ),
    )
    .option("--state <size>", "memory for the newest state of accounts", size("--state"));
}

/** The command line. @param signal Ends what runs until told to. */
export function createProgram(signal: AbortSignal): Command {
  const program = new Command("qlaster")
    .description("Live Solana updates through shared memory: watch, record, replay.")
    .version(VERSION)
    .showHelpAfterError("(qlaster --help, qlaster COMMAND --help)")
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, "qlaster: ")) })
    .exitOverride();

  filters(program.command("tap").description("print updates").argument("<path>", "the sender's socket"))
    .option("--json", "a JSON object a line")
    .option("--hex", "with the data in hex")
    .option("-n, --count <count>", "end after so many", count("--count"))
    .option("--for <time>", "end after that time, such as 10s", time("--for"))
    .action(async (path, flags) => await (await import("./tap.ts")).tap(path, flags, signal));

  program.command("stat").description("a sender's figures, also while it is stuck").argument(
    "<path>",
    "the sender's socket",
  )
    .option("--json", "as JSON")
    .option("--prom", "as Prometheus text")
    .option("--uid <uid>", "believe that user's sender, too", uids)
    .action(async (path, flags) => await (await import("./stat.ts")).stat(path, flags));

  program.command("top").description("the same, live; plain text when piped").argument("<path>", "the sender's socket")
    .option("--every <time>", "between two looks (default 1s)", time("--every"))
    .option("-n, --count <count>", "end after so many looks", count("--count"))
    .addOption(new Option("--sort <by>", "order of consumers").choices(SORTS))
    .option("--uid <uid>", "believe that user's sender, too", uids)
    .action(async (path, flags) => await (await import("./stat.ts")).top(path, flags, signal));

  filters(
    program.command("record").description("record what a sender publishes, as MCAP files")
      .argument("<path>", "the sender's socket").argument("<directory>", "where to"),
  )
    .option("--rotate <size>", "a new file at that size (default 1G)", size("--rotate"))
    .option("--rotate-slots <count>", "a new file after so many slots (default 1500)", count("--rotate-slots"))
    .option("--max-size <size>", "delete the oldest files beyond that", size("--max-size"))
    .option("--for <time>", "end after that time", time("--for"))
    .option("--once", "end with the sender (default: wait for the next one)")
    .option("--sync", "force each chunk to the disk")
    .option("--no-compress", "without zstd")
    .action(async (path, directory, flags) =>
      await (await import("./record.ts")).recordTo(path, directory, flags, signal)
    );

  sending(program.command("replay").description("send a recording").argument("<directory>", "the recording"))
    .action(async (directory, flags) =>
      await (await import("./send.ts")).send({ ...flags, from: "replay", source: directory }, signal, "replay")
    );

  sending(program.command("send").description("run a sender that a source feeds"))
    .addOption(new Option("--from <source>", "what feeds it").choices(SOURCES))
    .option("--source <where>", "URL of the server, path of the sender, directory of the recording")
    .option("--rate <count>", "of litesvm: token transfers a second (default 1000)", count("--rate", 1e6))
    .option("--slots <count>", "of litesvm: end after so many slots of 400 ms", count("--slots"))
    .option("--requests <url>", "of rpc: where requests go (default: by --source)")
    .option("--token <token>", "of the Yellowstone provider (x-token)")
    .addOption(new Option("--commitment <level>", "how final").choices(["processed", "confirmed", "finalized"]))
    .option("--config <file>", "a JSON object with these options by their names, in camelCase")
    .action(async ({ config, ...flags }, command: Command) => {
      const said = config === undefined ? {} : readConfig(config, command);
      await (await import("./send.ts")).send({ ...said, ...flags }, signal);
    });

  program.command("bench").description("what this machine does, in a few seconds")
    .option("--for <time>", "each part (default 1s)", time("--for"))
    .action(async (flags) => await (await import("./bench.ts")).bench(flags.for ?? 1000, signal));

  program.command("doctor").description("what of this machine matters, and what to change")
    .action(async () => {
      if (!(await (await import("./doctor.ts")).doctor())) {
        throw new Failure("something keeps the library from working: see BAD above");
      }
    });

  program.command("explain").description("what an error code means, and what to do").argument(
    "<code>",
    "such as CONNECT_TIMEOUT",
  )
    .action((code: string) => {
      const known = ERRORS as Readonly<Record<string, readonly [cause: string, cure: string]>>;
      const name = code.toUpperCase().replaceAll("-", "_");
      if (!Object.hasOwn(known, name)) {
        const near = Object.keys(known).filter((other) => other.startsWith(name.split("_")[0]!));
        throw new Failure(
          `There is no code "${code}"; there is ${(near.length > 0 ? near : Object.keys(known)).join(", ")}`,
        );
      }
      const [cause, cure] = known[name]!;
      process.stdout.write(`${name}\n  ${cause}.\n  What to do: ${cure}.\n`);
    });
  return program;
}

/** Runs the command. @param argv Arguments, without runtime and script. @returns The exit code. */
export async function main(argv: readonly string[] = process.argv.slice(2)): Promise<number> {
  const stop = new AbortController();
  const end = () => stop.abort();
  // Not `once`: what redraws a status line ends the process where nobody else listens any longer.
  process.on("SIGINT", end);
  process.on("SIGTERM", end);
  // Who reads our output may have seen enough.
  const onOutputError = (error: { code?: string }) => {
    if (error.code === "EPIPE") process.exit(0);
  };
  process.stdout.on("error", onOutputError);
  try {
    await createProgram(stop.signal).parseAsync([...argv], { from: "user" });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    process.stderr.write(`qlaster: ${sentence(error)}\n`);
    return 1;
  } finally {
    process.off("SIGINT", end);
    process.off("SIGTERM", end);
    process.stdout.off("error", onOutputError);
  }
}
