import { describe, expect, it } from "vitest";
import { clock, duration, ended, heard, initials, list, mediaPath, microphone, millis, moved, percent, privacy, signingIn, socket, status, way, when } from "./words";
import type { MoveReport } from "./api";

const report = (over: Partial<MoveReport>): MoveReport => ({
  call: "k3f9aaaa", user: "alice", from: "yealink-t46", to: "chromium", switch_ms: 84.3, ring_ms: 0, answer_to_media: 20, held_ms: 0, overlap_ms: 30,
  far: { gap_ms: 24, lost: 0 }, near: { gap_ms: 20, lost: 0 }, ...over,
});

describe("times and figures", () => {
  it("counts as a clock does", () => {
    expect([0, 59.9, 65, 3599, 3661, -3].map(clock)).toEqual(["0:00", "0:59", "1:05", "59:59", "1:01:01", "0:00"]);
    expect([0, 59, 60, 65, 3660].map(duration)).toEqual(["0 s", "59 s", "1 min", "1 min 5 s", "1 h 1 min"]);
  });

  it("names the day as far as it needs one", () => {
    const now = new Date(2026, 10, 26, 0, 10);
    expect(when(new Date(2026, 10, 26, 0, 5), now)).toBe("00:05");
    expect(when(new Date(2026, 10, 25, 23, 59), now)).toBe("yesterday 23:59");
    expect(when(new Date(2026, 10, 22, 9, 5), now)).toMatch(/09:05$/);
    expect(when(new Date(2025, 10, 22, 9, 5), now)).toContain("2025");
  });

  it("is no more exact than of use", () => {
    expect([undefined, 0.5, 9.96, 84.3, 1234, 12345].map(millis)).toEqual(["–", "0.5 ms", "10.0 ms", "84 ms", "1.2 s", "12 s"]);
    expect([undefined, 0, 0.04, 1.26, 33.3].map(percent)).toEqual(["–", "0 %", "0.0 %", "1.3 %", "33 %"]);
  });

  it("takes initials of people, not of numbers", () => {
    expect(["Carol Jones", "bob", "102", "Ólafur  von Ås", ""].map(initials)).toEqual(["CJ", "B", "", "ÓÅ", ""]);
    expect(list(["a", "b", "c"])).toBe("a, b and c");
  });
});

describe("moves", () => {
  const move = { at: "", user: "alice", from: "yealink-t46", to: "chromium", how: "pull", report: report({}) };

  it("are told with their figures", () => {
    expect(moved(move, "chromium", "Bob")).toBe(
      "Moved from yealink-t46 to this browser in 84 ms. Longest pause for Bob: 24 ms (too short to hear), nothing was lost.");
  });

  it("that failed say that nothing has changed", () => {
    expect(moved({ ...move, error: "dial desk: 486 Busy Here" }, "x", "Bob")).toContain("486 Busy Here. The call has stayed where it was.");
  });

  it("of a page that was loaded anew are told as such", () => {
    expect(moved({ ...move, from: "chrome", to: "chrome", how: "replaces" }, "chrome", "Bob")).toMatch(/^Taken back by this browser/);
  });

  it("do not hide what was lost", () => {
    expect(heard(report({ far: { gap_ms: 300, lost: 2 }, near: { gap_ms: 20, lost: 1 } }), "Bob")).toBe("Longest pause for Bob: 300 ms (to be heard), 3 packets were lost.");
    expect(heard(report({ far: { gap_ms: 0, lost: 1 } }), "Bob")).toBe("1 packet was lost.");
  });
});

describe("troubles", () => {
  const end = { cause: "Busy", mine: false, established: false };

  it("say what happened and what to do", () => {
    expect(ended({ ...end, code: 486 }, "Bob")?.what).toBe("Bob is busy.");
    expect(ended({ ...end, code: 480 }, "Bob")?.do).toMatch(/later/);
    expect(ended({ ...end, code: 404 }, "*40")?.what).toMatch(/no live call/);
    expect(ended({ ...end, cause: "User Denied Media Access" }, "Bob")?.do).toMatch(/allow the microphone/);
    expect(ended({ ...end, code: 418, cause: "SIP Failure Code", reason: "I'm a teapot" }, "Bob")?.what).toContain("teapot");
  });

  it("are none where somebody just hung up, or the call went on elsewhere", () => {
    expect(ended({ ...end, mine: true }, "Bob")).toBeUndefined();
    expect(ended({ ...end, established: true }, "Bob")).toBeUndefined();
    expect(ended({ ...end, cause: "Canceled" }, "Bob")).toBeUndefined();
    expect(ended({ ...end, code: 487, cause: "Canceled", reason: "Call completed elsewhere" }, "Bob")).toBeUndefined();
    expect(status(487, "Bob")).toBeUndefined();
  });

  it("lead to the certificate where that may be it", () => {
    expect(socket(true, true).link?.href).toBe("/ca.crt");
    expect(socket(false, true).link).toBeUndefined();
    expect(socket(false, false).what).toMatch(/network/);
    expect(signingIn(0, "", 0).link?.href).toBe("/ca.crt");
    expect(signingIn(429, "", 30).do).toContain("30 s");
    expect(microphone("Insecure").do).toContain("https");
  });
});

describe("mediaPath", () => {
  it("says which way the sound goes, and why not straight", () => {
    expect(mediaPath("direct", undefined).short).toBe("direct");
    expect(mediaPath("relay", "the call is on hold").long).toBe("The sound goes through baton: the call is on hold.");
    expect(mediaPath("relay", undefined).long).toBe("The sound goes through baton.");
  });
});

describe("privacy", () => {
  it("never claims more than is so", () => {
    for (const far of [undefined, "", "none", "sdes", "dtls"]) {
      const p = privacy("dtls", far, "Bob");
      expect(p.short).not.toMatch(/end-to-end/);
      expect(p.long).toContain("not end-to-end encrypted");
    }
    expect(privacy("dtls", "none", "Bob").short).toBe("encrypted to baton, open from there");
    expect(privacy("dtls", "sdes", "Bob").short).toBe("encrypted on both legs, relayed");
    expect(privacy("none", "dtls", "Bob").short).toBe("not encrypted");
  });
});

describe("ways", () => {
  it("are named honestly", () => {
    expect(way({ way: "UDP", relay: "", local: "host", remote: "" }).short).toBe("UDP");
    expect(way({ way: "TURN", relay: "tls", local: "relay", remote: "" })).toEqual({
      short: "TURN (TLS)", long: "through baton's TURN server, hidden in TLS, because nothing else gets through here" });
  });
});
