import { describe, expect, it } from "vitest";
import { dialable, mediaOf, newLine, step, type Event, type Line, type Stage } from "./line";

const run = (l: Line, ...events: Event[]) => events.reduce(step, l);
const out = newLine("1", "call", { name: "Bob", number: "102" }, 0);
const inc = newLine("2", "in", { name: "Bob", number: "102" }, 0);
const end: Event = { type: "end", end: { cause: "Busy", code: 486, mine: false, established: false } };

describe("step", () => {
  it("goes through an outgoing call", () => {
    const l = run(out, { type: "sent" }, { type: "ringing" }, { type: "up", at: 5 });
    expect(l).toMatchObject({ stage: "talking", answered: 5 });
    expect(run(out, { type: "sent" }, { type: "up", at: 5 }).stage).toBe("talking");
  });

  it("goes through an incoming call, and cannot be up before it is answered", () => {
    expect(inc.stage).toBe("incoming");
    expect(step(inc, { type: "up", at: 1 })).toBe(inc);
    expect(run(inc, { type: "answer" }, { type: "up", at: 7 })).toMatchObject({ stage: "talking", answered: 7 });
  });

  it("keeps what was first: a late ringing or answer changes nothing", () => {
    const up = run(out, { type: "sent" }, { type: "up", at: 5 });
    expect(run(up, { type: "ringing" }, { type: "sent" }, { type: "answer" }, { type: "up", at: 9 })).toBe(up);
  });

  it("ends from every stage, says whether it had stood, and changes no more", () => {
    const stages: Line[] = [out, run(out, { type: "sent" }), run(out, { type: "sent" }, { type: "ringing" }), inc, run(inc, { type: "answer" })];
    for (const l of stages) expect(step(l, end)).toMatchObject({ stage: "over", end: { code: 486, established: false } });
    const over = step(run(out, { type: "sent" }, { type: "up", at: 5 }), end);
    expect(over.end?.established).toBe(true);
    const all: Event[] = [
      { type: "sent" }, { type: "up", at: 9 }, { type: "mute", on: true }, { type: "media", media: "connected" }, { ...end, end: { cause: "x", mine: true, established: false } },
    ];
    for (const e of all) expect(step(over, e)).toBe(over);
  });

  it("keeps both sides' holds apart, and the last tones", () => {
    const l = run(out, { type: "hold", by: "me", on: true }, { type: "hold", by: "peer", on: true }, { type: "hold", by: "me", on: false });
    expect([l.held, l.heldByPeer]).toEqual([false, true]);
    let t = out;
    for (let i = 0; i < 40; i++) t = step(t, { type: "tone", tone: String(i % 10) });
    expect(t.tones).toHaveLength(32);
  });

  it("has every stage in its table", () => {
    const stages: Stage[] = ["asking", "calling", "ringing", "incoming", "answering", "talking", "over"];
    for (const stage of stages) expect(step({ ...out, stage }, end).stage).toBe("over");
  });
});

describe("mediaOf", () => {
  it("does not call a restart of ICE a break while the call goes on", () => {
    expect(mediaOf("checking", "connected")).toBe("connected");
    expect(mediaOf("checking", "interrupted")).toBe("interrupted");
    expect(mediaOf("checking", "none")).toBe("connecting");
    expect(mediaOf("failed", "connected")).toBe("interrupted");
    expect(mediaOf("completed", "interrupted")).toBe("connected");
  });
});

describe("dialable", () => {
  it("takes what people paste", () => {
    expect(["+49 (30) 123-456", "tel:+49-30-1", "sip:bob@example.org;transport=udp", " 102 ", "*41", "bob", "1.2.3"].map(dialable)).toEqual([
      "+4930123456", "+49301", "bob@example.org", "102", "*41", "bob", "123"]);
  });
  it("gives nothing for what cannot be called", () => {
    expect(["", "  ", "two words", "<script>", "a\nb"].map(dialable)).toEqual(["", "", "", "", ""]);
  });
});
