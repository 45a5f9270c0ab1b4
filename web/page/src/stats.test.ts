import { describe, expect, it } from "vitest";
import { between, grade, mos, rating, read, Window, type Sample } from "./stats";

// What Chromium gives, shortened.
function report(over: Record<string, Record<string, unknown>> = {}): [string, unknown][] {
  const stats: Record<string, Record<string, unknown>> = {
    T: { type: "transport", selectedCandidatePairId: "P2", srtpCipher: "AEAD_AES_128_GCM" },
    P1: { type: "candidate-pair", localCandidateId: "L1", remoteCandidateId: "R1", nominated: true, state: "succeeded", currentRoundTripTime: 0.5 },
    P2: { type: "candidate-pair", localCandidateId: "L2", remoteCandidateId: "R2", nominated: true, state: "succeeded", currentRoundTripTime: 0.03 },
    L1: { type: "local-candidate", candidateType: "host", protocol: "udp" },
    L2: { type: "local-candidate", candidateType: "prflx", protocol: "tcp" },
    R1: { type: "remote-candidate", address: "10.0.0.1", port: 8443 },
    R2: { type: "remote-candidate", address: "fd00::1", port: 443 },
    C: { type: "codec", mimeType: "audio/opus" },
    I: {
      type: "inbound-rtp", kind: "audio", codecId: "C", packetsReceived: 500, packetsLost: 5, jitter: 0.004, concealedSamples: 960,
      silentConcealedSamples: 480, totalSamplesReceived: 480000, jitterBufferDelay: 20000, jitterBufferEmittedCount: 480000,
    },
    O: { type: "outbound-rtp", kind: "audio", packetsSent: 400 },
    Q: { type: "remote-inbound-rtp", kind: "audio", fractionLost: 0.02, roundTripTime: 0.2, jitter: 0.006 },
    ...over,
  };
  return Object.entries(stats).map(([id, s]) => [id, { id, ...s }]);
}

describe("read", () => {
  it("takes the selected pair, the codec and both directions", () => {
    const s = read(report(), 1)!;
    expect(s).toMatchObject({ received: 500, sent: 400, lost: 5, jitter: 4, rtt: 30, outLoss: 2, outJitter: 6, codec: "opus", cipher: "AEAD_AES_128_GCM" });
    expect(s.pair).toEqual({ way: "TCP", relay: "", local: "prflx", remote: "[fd00::1]:443" });
  });

  it("finds the pair of Firefox, which has no transport", () => {
    const r = report({ T: { type: "other" }, P2: { type: "candidate-pair", localCandidateId: "L2", remoteCandidateId: "R2", selected: true } });
    const s = read(r, 1)!;
    expect(s.pair?.way).toBe("TCP");
    expect(s.rtt).toBe(200); // by RTCP, where the pair does not tell
  });

  it("tells TURN by the local candidate", () => {
    const s = read(report({ L2: { type: "local-candidate", candidateType: "relay", protocol: "udp", relayProtocol: "tls" } }), 1)!;
    expect(s.pair).toMatchObject({ way: "TURN", relay: "tls" });
  });

  it("gives nothing before anything is received", () => {
    expect(read(report({ I: { type: "other" } }), 1)).toBeUndefined();
  });
});

const sample = (over: Partial<Sample>): Sample => ({
  at: 0, received: 0, sent: 0, lost: 0, concealed: 0, silent: 0, samples: 0, jitter: 2, bufferDelay: 0, bufferCount: 0,
  rtt: 20, outLoss: 0, outJitter: 1, codec: "PCMU", pair: undefined, cipher: "", ...over,
});

describe("between", () => {
  it("counts what was lost, made up and held back in between alone", () => {
    const a = sample({ received: 1000, lost: 100, concealed: 5000, silent: 5000, samples: 48000, bufferDelay: 100, bufferCount: 48000 });
    const b = sample({
      at: 5000, received: 1245, lost: 105, concealed: 5000 + 4800, silent: 5000 + 2400, samples: 48000 + 240000,
      bufferDelay: 100 + 0.06 * 240000, bufferCount: 48000 + 240000,
    });
    const q = between(a, b);
    expect(q.lossIn).toBeCloseTo(2);
    expect(q.concealed).toBeCloseTo(1);
    expect(q.buffer).toBeCloseTo(60);
    expect(q.delay).toBeCloseTo(90);
    expect(between({ ...a, codec: "opus" }, { ...b, codec: "opus" }).delay).toBeCloseTo(96.5); // its encoder looks ahead
  });

  it("is bad where nothing comes at all", () => {
    const q = between(sample({ received: 10 }), sample({ at: 5000, received: 10 }));
    expect(q.lossIn).toBe(100);
    expect(grade(q.mos).bars).toBe(0);
  });
});

describe("the E-model", () => {
  // The same figures as the node's: media/quality_test.go holds the formula to G.107.
  it("is the node's", () => {
    expect(mos(rating("PCMU", 0, 0))).toBeCloseTo(4.41, 2);
    expect(mos(rating("PCMU", 0, 101))).toBeCloseTo(4.36, 2);
    expect(mos(rating("pcma", 5, 200))).toBeCloseTo(3.58, 1);
    expect(mos(rating("nothing", 100, 1000))).toBe(1);
  });

  it("falls with loss and delay and never leaves its range", () => {
    let last = 5;
    for (let loss = 0; loss <= 100; loss += 5) {
      const m = mos(rating("opus", loss, 3 * loss));
      expect(m).toBeLessThanOrEqual(last);
      expect(m).toBeGreaterThanOrEqual(1);
      last = m;
    }
  });
});

describe("Window", () => {
  it("forgets what is older than its length, and another stream's figures", () => {
    const w = new Window(5000);
    expect(w.add(sample({ at: 0, received: 0 }))).toBeUndefined();
    w.add(sample({ at: 1000, received: 0, lost: 50 }));
    for (let s = 2; s <= 7; s++) w.add(sample({ at: 1000 * s, received: 50 * (s - 1), lost: 50 }));
    expect(w.add(sample({ at: 8000, received: 350, lost: 50 }))!.lossIn).toBe(0);
    expect(w.add(sample({ at: 9000, received: 3 }))).toBeUndefined();
  });
});
