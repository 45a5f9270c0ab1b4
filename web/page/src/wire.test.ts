// Held against real WebSockets of a real server, which is cut off as a network is: without a word.
import { afterEach, describe, expect, it, vi } from "vitest";
import { createServer, type Server, type Socket as TCP } from "node:net";
import { createServer as createHTTP } from "node:http";
import type { AddressInfo } from "node:net";
import WebSocket, { WebSocketServer } from "ws";
import { inCall, Wire } from "./wire";

const cleanups: (() => void)[] = [];
afterEach(() => cleanups.splice(0).forEach((f) => f()));

/** A server whose link can be cut: bytes go nowhere, connections neither close nor open. */
async function link(pongs = true) {
  const http = createHTTP();
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

function wire(url: string) {
  (globalThis as { WebSocket: unknown }).WebSocket = WebSocket;
  const w = new Wire(url, (u) => new WebSocket(u, "sip") as unknown as globalThis.WebSocket);
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

it("takes a connection that was opened before it was wanted, and tells of it later", async () => {
  const early = { readyState: WebSocket.OPEN, send: () => {}, close: () => {} } as never;
  const wire = new Wire("wss://baton.example/sip", () => early);
  let told = false;
  wire.onconnect = () => (told = true);
  wire.connect();
  expect([told, wire.isConnected()]).toEqual([false, false]);
  await Promise.resolve();
  expect([told, wire.isConnected()]).toEqual([true, true]);
  wire.disconnect();
});
