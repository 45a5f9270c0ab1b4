import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Saved } from "./call";
import { Tab, type Role } from "./tab";

/** Locks is a LockManager of one lock. */
class Locks {
  private held: { steal(): void } | undefined;
  private queue: (() => void)[] = [];

  query = async () => ({ held: this.held ? [{ name: "baton.device" }] : [], pending: [] });

  request = (_: string, o: { steal?: boolean; signal?: AbortSignal }, f: () => Promise<void>) =>
    new Promise<void>((done, failed) => {
      const start = () => {
        const mine = (this.held = { steal: () => failed(new DOMException("stolen", "AbortError")) });
        void f().then(() => {
          if (this.held === mine) this.next();
          done();
        });
      };
      o.signal?.addEventListener("abort", () => {
        this.queue = this.queue.filter((q) => q !== start);
        failed(new DOMException("aborted", "AbortError"));
      });
      if (o.steal) {
        this.held?.steal();
        start();
      } else if (this.held) this.queue.push(start);
      else start();
    });

  private next(): void {
    this.held = undefined;
    this.queue.shift()?.();
  }
}

/** Channel is a BroadcastChannel that passes everything on at once. */
class Channel {
  static all: Channel[] = [];
  onmessage: ((e: { data: unknown }) => void) | null = null;
  constructor() {
    Channel.all.push(this);
  }
  postMessage(data: unknown): void {
    for (const c of Channel.all) if (c !== this) c.onmessage?.({ data });
  }
  close(): void {
    Channel.all = Channel.all.filter((c) => c !== this);
  }
}

beforeEach(() => {
  vi.useFakeTimers();
  Channel.all = [];
  vi.stubGlobal("navigator", { locks: new Locks() });
  vi.stubGlobal("BroadcastChannel", Channel);
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const call = { call: "c1" } as unknown as Saved;

/** opened is a tab with what it was told; frozen ones hear nothing. */
async function opened(has: Saved[] = []) {
  const t = { role: "waiting" as Role, became: 0, inherited: [] as Saved[], gave: 0, signedOut: 0 };
  const tab = new Tab({
    role: (r) => (t.role = r), become: () => t.became++, inherit: (s) => void t.inherited.push(...s),
    give: () => (t.gave++, has), signedOut: () => t.signedOut++,
  });
  tab.start();
  await vi.advanceTimersByTimeAsync(0);
  return { tab, channel: Channel.all.at(-1)!, t };
}

test("the first tab is the device, the next one when it has gone", async () => {
  const a = await opened();
  const b = await opened();
  expect([a.t.role, b.t.role]).toEqual(["device", "other"]);
  a.tab.leave(); // loaded anew or closed
  await vi.advanceTimersByTimeAsync(0);
  expect([a.t.became, a.t.gave, b.t.role, b.t.became]).toEqual([1, 0, "device", 1]);
});

test("a tab that takes over gets the calls, and those that waited before it wait on", async () => {
  const a = await opened([call]);
  const b = await opened();
  const c = await opened();
  c.tab.takeOver();
  await vi.advanceTimersByTimeAsync(0);
  expect([a.t.role, a.t.gave, b.t.role, c.t.role, c.t.became]).toEqual(["other", 1, expect.any(String), "device", 1]);
  expect(c.t.inherited).toEqual([call]);
  await vi.advanceTimersByTimeAsync(5000);
  expect([a.t.role, b.t.role, c.t.role]).toEqual(["other", "other", "device"]);
  expect(b.t.inherited).toEqual([]);
});

test("one that answers nothing has the lock stolen, and stops being the device", async () => {
  const a = await opened([call]);
  const b = await opened();
  a.channel.onmessage = null; // frozen
  b.tab.takeOver();
  await vi.advanceTimersByTimeAsync(1000);
  expect([a.t.role, b.t.role]).toEqual(["device", "other"]);
  await vi.advanceTimersByTimeAsync(1000);
  expect([a.t.role, a.t.gave, b.t.role, b.t.became]).toEqual(["other", 1, "device", 1]);
});

test("signing out is told to the others", async () => {
  const a = await opened();
  const b = await opened();
  a.tab.stop(true);
  await vi.advanceTimersByTimeAsync(0);
  expect([b.t.signedOut, a.t.signedOut]).toEqual([1, 0]);
});

test("without locks every tab is the device", async () => {
  vi.stubGlobal("navigator", {});
  const a = await opened();
  const b = await opened();
  expect([a.t.role, b.t.role]).toEqual(["device", "device"]);
});
