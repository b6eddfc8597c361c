/**
 * A headless Chromium, if there is one: what a page shows.
 * May touch: child processes, the temporary directory. May not touch: anything but the page that it is told.
 *
 * @module
 */

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { Temporary } from "../../support/temporary.ts";

const NAMES = ["chromium", "chromium-browser", "google-chrome"];

/** Its command; undefined if there is none. */
export function browserOnPath(): string | undefined {
  return NAMES.find((name) => {
    try {
      execFileSync(name, ["--version"], { stdio: "ignore" });
      return true;
    } catch {
      return false;
    }
  });
}

/** Where the browser listens for us, which it says when it is ready. */
function debuggerOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = "";
    child.stderr!.on("data", (bytes) => {
      said += bytes;
      const url = /ws:\/\/127\.0\.0\.1:(\d+)\//.exec(said);
      if (url !== null) resolve(`http://127.0.0.1:${url[1]}`);
    });
    child.on("close", () => reject(new Error(`the browser ended: ${said}`)));
  });
}

/** Asks the page by the browser's own protocol. */
async function evaluate(socket: WebSocket, expression: string): Promise<string> {
  const answer = new Promise<string>((resolve) => {
    socket.onmessage = ({ data }) => resolve(JSON.parse(String(data)).result?.result?.value ?? "");
  });
  socket.send(JSON.stringify({ id: 1, method: "Runtime.evaluate", params: { expression, returnByValue: true } }));
  return await answer;
}

/** The text of an element of the page, once it is like this. */
export async function textIn(browser: string, url: string, id: string, pattern: RegExp): Promise<string> {
  using profile = new Temporary();
  const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0"];
  const child = spawn(browser, [...flags, `--user-data-dir=${profile.path}`, url]);
  const closed = new Promise((resolve) => child.on("close", resolve));
  try {
    const address = await debuggerOf(child);
    let page: { webSocketDebuggerUrl: string } | undefined;
    while (page === undefined) {
      const pages = await (await fetch(`${address}/json/list`)).json() as {
        url: string;
        webSocketDebuggerUrl: string;
      }[];
      page = pages.find((each) => each.url === url);
    }
    const socket = new WebSocket(page.webSocketDebuggerUrl);
    await new Promise((resolve) => socket.onopen = resolve);
    while (true) {
      const text = await evaluate(socket, `document.getElementById(${JSON.stringify(id)})?.textContent ?? ""`);
      if (pattern.test(text)) return text;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  } finally {
    child.kill("SIGKILL");
    await closed;
  }
}
