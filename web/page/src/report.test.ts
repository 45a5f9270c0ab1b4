import { describe, expect, it } from "vitest";
import type { MyReport } from "./api";
import { Reporter, reportOf } from "./report";
import { between, type Sample } from "./stats";

const sample = (over: Partial<Sample>): Sample => ({
  at: 0, received: 0, sent: 0, lost: 0, concealed: 0, silent: 0, samples: 0, jitter: 2, bufferDelay: 0, bufferCount: 0,
  rtt: 20, outLoss: 0, outJitter: 1, codec: "PCMU", pair: undefined, cipher: "", ...over,
});
const dialog = { callID: "cid", localTag: "mine", remoteTag: "batons" };

describe("reportOf", () => {
  const a = sample({ codec: "opus" });
  const b = sample({
    at: 5000, received: 500, sent: 400, lost: 5, concealed: 960, silent: 480, samples: 480000, bufferDelay: 20000, bufferCount: 480000,
    jitter: 4, rtt: 30, outLoss: 2, outJitter: 6, codec: "opus",
  });

  it("tells both directions and names the dialog", () => {
    expect(reportOf(dialog, b, between(a, b))).toEqual({
      call_id: "cid", local_tag: "mine", remote_tag: "batons", rtt_ms: 30,
      hears: { codec: "opus", packets: 500, lost: 5, loss_percent: 1, jitter_ms: 4, concealed_percent: 0.1, buffer_ms: 41.7 },
      says: { packets: 400, loss_percent: 2, jitter_ms: 6 },
    });
  });

  it("leaves out what the browser does not tell", () => {
    const bare = sample({ received: 10, codec: "", rtt: undefined, outLoss: undefined, outJitter: undefined });
    const r = reportOf(dialog, bare, between(sample({}), bare));
    expect(r).not.toHaveProperty("rtt_ms");
    expect(r).not.toHaveProperty("says");
    expect(Object.keys(r.hears).sort()).toEqual(["concealed_percent", "jitter_ms", "loss_percent", "lost", "packets"]);
  });

  it("is small, and within what the node believes whatever the browser says", () => {
    const wild = sample({ received: 10, jitter: 1e9, rtt: -5, outLoss: 3, outJitter: 1e7 });
    const r = reportOf(dialog, wild, { ...between(sample({}), wild), buffer: 1e9 });
    expect([r.hears.jitter_ms, r.hears.buffer_ms, r.rtt_ms, r.says!.jitter_ms]).toEqual([10_000, 10_000, 0, 10_000]);
    expect(JSON.stringify(reportOf(dialog, b, between(a, b))).length).toBeLessThan(400);
  });
});

describe("Reporter", () => {
  const run = async (send: (r: MyReport) => Promise<unknown>, seconds: number, known = true) => {
    const r = new Reporter(send);
    for (let s = 0; s < seconds; s++) {
      const now = sample({ at: 1000 * s, received: 50 * s });
      r.tell("call", known ? dialog : undefined, now, s === 0 ? undefined : between(sample({}), now));
      await Promise.resolve();
      await Promise.resolve();
    }
    return r;
  };

  it("tells of a call every five seconds, once it is measured", async () => {
    const sent: MyReport[] = [];
    const r = await run(async (m) => void sent.push(m), 22);
    expect(sent.map((m) => m.hears.packets)).toEqual([50, 300, 550, 800, 1050]);
    r.forget("call");
    r.tell("call", dialog, sample({ at: 22_000, received: 1100 }), between(sample({}), sample({ at: 22_000, received: 1100 })));
    expect(sent).toHaveLength(6); // another call under the same id does not wait
  });

  it("says nothing without a dialog", async () => {
    let sent = 0;
    await run(async () => void sent++, 30, false);
    expect(sent).toBe(0);
  });

  it("comes ever more seldom where the node does not take it", async () => {
    let sent = 0;
    await run(async () => { sent++; throw new Error("404"); }, 301);
    expect(sent).toBeGreaterThan(5); // every minute in the end
    expect(sent).toBeLessThan(10);
  });
});
