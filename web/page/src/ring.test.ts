import { describe, expect, it } from "vitest";
import { hindrances, type Means } from "./ring";

const fine: Means = { secure: true, sound: true, notify: "granted", wantsNotify: true, microphone: "granted" };

describe("hindrances", () => {
  it("are none where all is allowed", () => {
    expect(hindrances(fine)).toEqual([]);
    expect(hindrances({ ...fine, notify: "default", wantsNotify: false })).toEqual([]);
    expect(hindrances({ ...fine, notify: "unsupported", microphone: "unknown" })).toEqual([]);
  });

  it("tell each reason once, with what to do, the gravest first", () => {
    const all = hindrances({ ...fine, sound: false, notify: "default", microphone: "prompt" });
    expect(all.map((h) => [h.grave, h.cure])).toEqual([[true, "sound"], [false, "microphone"], [false, "notify"]]);
    for (const h of all) expect(h.do).toBeTruthy();
  });

  it("do not offer what a page cannot cure", () => {
    for (const m of [{ ...fine, microphone: "denied" }, { ...fine, microphone: "none" }, { ...fine, secure: false, microphone: "denied" }] as Means[]) {
      expect(hindrances(m)).toHaveLength(1);
      expect(hindrances(m)[0]).toMatchObject({ grave: true });
      expect(hindrances(m)[0]!.cure).toBeUndefined();
    }
  });
});
