// Held against real WebSockets of a real server, which is cut off as a network is: without a word.
import { afterEach, describe, expect, it, test, vi } from "vitest";
import { createServer, type Server, type Socket as TCP } from "node:net";
import { createServer as createHTTP } from "node:http";
import type { AddressInfo } from "node:net";
import WebSocket, { WebSocketServer } from "ws";
import { inCall, sockets, Wire } from "./wire";

const cleanups: (() => void)[] = [];
afterEach(() => cleanups.splice(0).forEach((f) => f()));

/** A server whose link can be cut: bytes go nowhere, connections neither close nor open. */
async function link(pongs = true) {
  const http = createHTTP((_, res) => res.end());
  const ws = new WebSocketServer({ server: http, handleProtocols: () => "sip" });
  const got: string[] = [];
  ws.on("connection", (c) => c.on("message", (m) => {
    const text = String(m);
    if (text === "\r\n\r\n") return pongs && c.send("\r\n");
    got.push(text);
    c.send(`echo ${text}`);
  }));
  await new Promise<void>((r) => http.listen(0, "127.0.0.1", r));
  let cut = false;
  const held: TCP[] = [];
  const proxy: Server = createServer((a) => {
    held.push(a);
    a.on("error", () => {});
    if (cut) return; // accepted by the kernel, never answered
    import("node:net").then(({ connect }) => {
      const b = connect((http.address() as AddressInfo).port, "127.0.0.1");
      held.push(b);
      b.on("error", () => {});
      a.on("data", (d) => cut || b.write(d));
      b.on("data", (d) => cut || a.write(d));
      a.on("close", () => cut || b.destroy());
      b.on("close", () => cut || a.destroy());
    });
  });
  await new Promise<void>((r) => proxy.listen(0, "127.0.0.1", r));
  cleanups.push(() => { held.forEach((s) => s.destroy()); proxy.close(); ws.close(); http.close(); });
  return {
    url: `ws://127.0.0.1:${(proxy.address() as AddressInfo).port}/sip`, got,
    cut: (on: boolean) => (cut = on), clients: () => ws.clients.size, kick: () => ws.clients.forEach((c) => c.close(1012, "restart")),
  };
}

function wire(...urls: string[]) {
  (globalThis as { WebSocket: unknown }).WebSocket = WebSocket;
  const answers = () => fetch(urls[0]!.replace("ws", "http"), { signal: AbortSignal.timeout(1000) }).then(() => true, () => false);
  const w = new Wire(urls, (u) => new WebSocket(u, "sip") as unknown as globalThis.WebSocket, answers);
  const log: string[] = [];
  w.onconnect = () => log.push("up");
  w.ondata = (d) => log.push(d);
  w.ondisconnect = (_e, _c, reason) => { log.push(`down ${reason}`); setTimeout(() => w.connect(), 0); }; // as the phone does
  cleanups.push(() => w.disconnect());
  return { w, log };
}

const until = (f: () => boolean, ms = 15_000) => vi.waitFor(() => expect(f()).toBe(true), { timeout: ms, interval: 10 });

describe("Wire", () => {
  it("carries messages, and keeps pongs to itself", async () => {
    const s = await link();
    const { w, log } = wire(s.url);
    w.connect();
    await until(() => w.isConnected());
    expect(w.send("REGISTER")).toBe(true);
    await until(() => log.includes("echo REGISTER"));
    expect(log).toEqual(["up", "echo REGISTER"]);
    expect([w.via_transport, w.sip_uri]).toEqual(["WS", `sip:${new URL(s.url).host};transport=ws`]);
  });

  it("comes back when the server restarts", async () => {
    const s = await link();
    const { w, log } = wire(s.url);
    w.connect();
    await until(() => w.isConnected());
    s.kick();
    await until(() => log.filter((l) => l === "up").length === 2);
    expect(log[1]).toBe("down restart");
  });

  it("notices a network that is silently gone, and is back soon after it", { timeout: 30_000 }, async () => {
    const s = await link();
    const { w, log } = wire(s.url);
    w.connect();
    w.setPace(inCall);
    await until(() => w.isConnected());
    await new Promise((r) => setTimeout(r, 700)); // a pong has proved that pings are answered
    s.cut(true);
    await until(() => log.includes("down no answer"));
    expect(w.send("BYE")).toBe(false);
    await new Promise((r) => setTimeout(r, 1500));
    s.cut(false);
    await until(() => w.isConnected());
    expect(log.filter((l) => l === "up")).toHaveLength(2);
  });

  it("does not give up a server that never answers pings", { timeout: 20_000 }, async () => {
    const s = await link(false);
    const { w, log } = wire(s.url);
    w.connect();
    w.setPace({ every: 20, patience: 60 });
    await until(() => w.isConnected());
    await new Promise((r) => setTimeout(r, 500));
    expect(log).toEqual(["up"]);
  });

  it("is silent after disconnect", async () => {
    const s = await link();
    const { w, log } = wire(s.url);
    w.connect();
    await until(() => w.isConnected());
    w.disconnect();
    await until(() => s.clients() === 0);
    w.nudge();
    await new Promise((r) => setTimeout(r, 300));
    expect(log).toEqual(["up"]);
    expect(s.clients()).toBe(0);
  });
});

describe("several nodes", () => {
  const nodeOf = (w: Wire, s: { url: string }) => w.isConnected() && w.url === new URL(s.url).href.replace(/\/$/, "");

  /** took is for how long f is not true. */
  async function took(f: () => boolean): Promise<number> {
    const began = Date.now();
    await until(f);
    return Date.now() - began;
  }

  it("turns to another when its own answers no more, and stays", async () => {
    const [own, other] = [await link(), await link()];
    const { w } = wire(own.url, other.url);
    w.connect();
    await until(() => nodeOf(w, own));
    own.cut(true); // it takes connections, and says nothing
    w.drop("no answer");
    expect(await took(() => nodeOf(w, other))).toBeLessThan(2000);
    expect(w.sip_uri).toBe(`sip:${new URL(other.url).host};transport=ws`);
    own.cut(false);
    w.drop("once more");
    await until(() => w.isConnected());
    expect(nodeOf(w, other)).toBe(true);
  });

  it("turns to another at once when its own refuses, and back in turn when that does", async () => {
    const [own, other] = [await link(), await link()];
    const nobody = "ws://127.0.0.1:9/sip";
    const { w, log } = wire(nobody, other.url);
    w.connect();
    expect(await took(() => nodeOf(w, other))).toBeLessThan(1000);
    w.disconnect();
    const third = wire(nobody, nobody.replace(":9", ":10"), own.url);
    third.w.connect();
    expect(await took(() => nodeOf(third.w, own))).toBeLessThan(1000);
    expect(log).toEqual(["up"]);
  });

  it("is back at its own when that is restarted and the other is not there", async () => {
    const own = await link();
    const { w, log } = wire(own.url, "ws://127.0.0.1:9/sip");
    w.connect();
    await until(() => nodeOf(w, own));
    own.kick();
    expect(await took(() => log.filter((l) => l === "up").length === 2)).toBeLessThan(1000);
    expect(nodeOf(w, own)).toBe(true);
  });
});

describe("tries", () => {
  afterEach(() => void vi.useRealTimers());

  /** tried tells when a wire tried during a time in which each try comes to its end after ms, or to none; there is when the node answers. */
  async function tried(during: number, ms: number | undefined, there: (at: number) => boolean = () => false): Promise<number[]> {
    vi.useFakeTimers();
    const began = Date.now();
    const times: number[] = [];
    const w = new Wire(["wss://baton.example/sip"], () => {
      times.push(Date.now() - began);
      const s = { readyState: 0, close: () => {}, onclose: undefined as (() => void) | undefined };
      if (ms !== undefined) setTimeout(() => s.onclose?.(), ms);
      return s as unknown as globalThis.WebSocket;
    }, () => new Promise((yes) => setTimeout(() => yes(there(Date.now() - began)), there(Date.now() - began) ? 50 : 3000)));
    w.connect();
    await vi.advanceTimersByTimeAsync(during);
    w.disconnect();
    const known = times.length;
    await vi.advanceTimersByTimeAsync(during);
    expect(times.length).toBe(known);
    return times;
  }

  const widest = (times: number[]) => Math.max(...times.slice(1).map((t, i) => t - times[i]!));
  const ends: [string, number | undefined][] = [["refused at once", 1], ["answered by nobody", undefined]];

  it.each(ends)("%s are few in six minutes", async (_, ms) => {
    const times = await tried(360_000, ms);
    expect(times.length).toBeLessThan(28); // more, and Chromium makes each wait
    const early = times.filter((t) => t < 3500);
    if (ms !== undefined) expect(widest(early)).toBeLessThan(1000);
    else expect(early.length).toBeLessThan(3); // Firefox goes on with each, and has six connections
  });

  it.each(ends)("%s are made again within a second of when the node answers", async (_, ms) => {
    for (const back of [2050, 2990, 9990, 12_345, 61_000, 200_400]) {
      const times = await tried(back + 10_000, ms, (at) => at >= back);
      expect(times.find((t) => t >= back)! - back, `back after ${back} ms`).toBeLessThan(1000);
      vi.useRealTimers();
    }
  });

  it("are made at once when the node has answered another request", async () => {
    vi.useFakeTimers();
    let tries = 0;
    const w = new Wire(["wss://baton.example/sip"], () => {
      tries++;
      return { readyState: 0, close: () => {} } as unknown as globalThis.WebSocket;
    }, () => new Promise((no) => setTimeout(() => no(false), 3000)));
    w.connect();
    await vi.advanceTimersByTimeAsync(20_000);
    const before = tries;
    w.answered();
    w.answered();
    expect(tries).toBe(before + 1);
    await vi.advanceTimersByTimeAsync(2000); // questions that were asked before it answered fail meanwhile
    w.answered();
    expect(tries).toBe(before + 1);
    w.disconnect();
    w.answered();
    expect(tries).toBe(before + 1);
  });

  it("go to the nodes in turn, within a second to each of three, its own first", async () => {
    vi.useFakeTimers();
    const began = Date.now();
    const tried: [string, number][] = [];
    const w = new Wire(["wss://a/sip", "wss://b/sip", "wss://c/sip"], (url) => {
      tried.push([url.slice(6, 7), Date.now() - began]);
      return { readyState: 0, close: () => {} } as unknown as globalThis.WebSocket;
    });
    w.connect();
    await vi.advanceTimersByTimeAsync(2000);
    w.disconnect();
    expect(tried).toEqual([["a", 0], ["b", 400], ["c", 800]]); // and none twice at a time
  });

  it("are seldom at a node that answers all but them", async () => {
    const times = (await tried(60_000, 1, () => true)).filter((t) => t > 12_000);
    expect(times.length).toBeGreaterThan(10);
    expect(widest(times)).toBeLessThan(4000);
    expect(times.length).toBeLessThan(20);
  });
});

test("the nodes of a page are its own, then the others that are spoken to as it is", () => {
  const page = { protocol: "https:", host: "a.example:8443" };
  expect(sockets(page, "/sip")).toEqual(["wss://a.example:8443/sip"]);
  expect(sockets(page, "/sip", ["wss://b.example:443/sip", "wss://a.example:8443/sip", "ws://c.example/sip", "no URL"]))
    .toEqual(["wss://a.example:8443/sip", "wss://b.example/sip"]);
  expect(sockets({ protocol: "http:", host: "localhost:5173" }, "/sip")).toEqual(["ws://localhost:5173/sip"]);
});

it("takes a connection that was opened before it was wanted, and tells of it later", async () => {
  const early = { readyState: WebSocket.OPEN, send: () => {}, close: () => {} } as never;
  const wire = new Wire(["wss://baton.example/sip"], () => early);
  let told = false;
  wire.onconnect = () => (told = true);
  wire.connect();
  expect([told, wire.isConnected()]).toEqual([false, false]);
  await Promise.resolve();
  expect([told, wire.isConnected()]).toEqual([true, true]);
  wire.disconnect();
});
