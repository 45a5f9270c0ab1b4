// Held against a real server over HTTP.
import { afterEach, expect, test, vi } from "vitest";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Client } from "./api";

const real = globalThis.fetch;
const cleanups: (() => void)[] = [];
afterEach(() => {
  cleanups.splice(0).forEach((f) => f());
  globalThis.fetch = real;
});

test("renewed, the events come over another connection", async () => {
  const streams: ServerResponse[] = [];
  const server = createServer((_, answer) => {
    answer.setHeader("Content-Type", "text/event-stream");
    answer.write(`event: calls\ndata: ["${streams.push(answer)}"]\n\n`);
  });
  await new Promise<void>((r) => server.listen(0, "127.0.0.1", r));
  globalThis.window = new EventTarget() as typeof globalThis.window;
  globalThis.fetch = (path, o) => real(`http://127.0.0.1:${(server.address() as AddressInfo).port}${String(path)}`, o);
  const over = new AbortController();
  cleanups.push(() => {
    over.abort();
    server.closeAllConnections();
    server.close();
  });

  const client = new Client("token");
  client.renew(); // there is none yet
  const got: string[] = [];
  void client.follow({ event: (e) => got.push(e.data), up: (up) => got.push(up ? "up" : "down"), refused: () => got.push("refused") }, over.signal);
  await vi.waitFor(() => expect(got).toEqual(["up", '["1"]']));
  client.renew();
  await vi.waitFor(() => expect(got).toEqual(["up", '["1"]', "down", "up", '["2"]']), { timeout: 3000 });
  streams[1]!.write('event: calls\ndata: ["more"]\n\n');
  await vi.waitFor(() => expect(got.at(-1)).toBe('["more"]'));
});
