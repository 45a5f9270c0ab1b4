import { afterEach, beforeEach, describe, expect, it, test, vi } from "vitest";
import { audioOnly, Peer, readMessage, type Message } from "./peer";

const sdp = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=sendrecv\r\n";

/** Connection is as much of a PeerConnection as there has to be. sound has it deliver a packet. */
class Connection extends EventTarget {
  iceGatheringState = "complete";
  connectionState = "new";
  signalingState = "stable";
  localDescription: { sdp: string } | null = null;
  remote: string | undefined;
  closed = false;
  track = { kind: "audio", enabled: true };
  parameters = { transactionId: "1", encodings: [{ active: true as boolean | undefined }] };
  sets = 0;
  refuse = 0;
  mine: unknown = undefined;
  private ts: number | undefined;

  receiver = { track: this.track, getSynchronizationSources: () => (this.ts === undefined ? [] : [{ rtpTimestamp: this.ts }]) };
  sender = {
    track: { kind: "audio" },
    getParameters: () => structuredClone(this.parameters),
    setParameters: async (p: Connection["parameters"]) => {
      this.sets++;
      if (this.refuse-- > 0) throw new Error("InvalidModificationError");
      this.parameters = p;
    },
    replaceTrack: async (t: unknown) => void (this.mine = t),
  };

  constructor() {
    super();
    made.push(this);
  }

  getReceivers = () => [this.receiver];
  getSenders = () => [this.sender];
  addTrack = (t: unknown) => void (this.mine = t);
  createOffer = async () => ({ type: "offer", sdp });
  createAnswer = async () => ({ type: "answer", sdp });
  setLocalDescription = async (d: { type: string; sdp: string }) => {
    this.localDescription = d;
    this.signalingState = d.type === "offer" ? "have-local-offer" : "stable";
  };
  setRemoteDescription = async (d: { sdp: string }) => {
    this.remote = d.sdp;
    this.signalingState = "stable";
    this.dispatchEvent(Object.assign(new Event("track"), { track: this.track }));
  };
  close = () => {
    this.closed = true;
    this.connectionState = "closed";
  };
  becomes(state: string): void {
    this.connectionState = state;
    this.dispatchEvent(new Event("connectionstatechange"));
  }
  sound(): void {
    this.ts = (this.ts ?? 0) + 960;
  }
}

let made: Connection[] = [];
const talking = new Set<Connection>();
let clock: ReturnType<typeof setInterval>;

beforeEach(() => {
  vi.useFakeTimers();
  made = [];
  talking.clear();
  vi.stubGlobal("RTCPeerConnection", Connection);
  vi.stubGlobal("MediaStream", class {});
  clock = setInterval(() => talking.forEach((c) => c.sound()), 20);
});
afterEach(() => {
  clearInterval(clock);
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

const pass = (ms = 0) => vi.advanceTimersByTimeAsync(ms);

function rig() {
  const standing = new Connection();
  talking.add(standing);
  const said: Message[] = [];
  const changes: boolean[] = [];
  let playing = 0;
  const peer: Peer = new Peer({
    standing: () => standing as unknown as RTCPeerConnection, tell: (m) => said.push(m), play: () => (playing++, () => playing--),
    changed: () => changes.push(peer.direct),
  });
  return { peer, standing, said, changes, playing: () => playing, sends: () => standing.parameters.encodings[0]!.active };
}

/** alone has it talk straight. */
async function alone(r: ReturnType<typeof rig>): Promise<Connection> {
  r.peer.take({ say: "invite", id: "x1" });
  await pass();
  r.peer.take({ say: "answer", id: "x1", sdp });
  await pass();
  const pc = made.at(-1)!;
  talking.add(pc);
  await pass(100);
  expect(r.peer.stage).toBe("heard");
  r.peer.take({ say: "alone", id: "x1" });
  await pass(20);
  return pc;
}

test.each([
  [sdp, true],
  [`${sdp}m=video 9 UDP/TLS/RTP/SAVPF 96\r\n`, false],
  ["v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n", false],
  ["", false],
])("%j is of audio alone: %s", (text, want) => expect(audioOnly(text)).toBe(want));

test.each([["{", undefined], ["null", undefined], ["3", undefined], ['{"say":1}', undefined], ['{"say":"home","id":"a"}', { say: "home", id: "a" }]])(
  "%s is read as %j", (text, want) => expect(readMessage(text)).toEqual(want),
);

describe("stepping out", () => {
  it("plays what comes straight when it sounds, and goes on sending by baton until both are said to hear each other", async () => {
    const r = rig();
    r.peer.take({ say: "invite", id: "x1" });
    await pass();
    expect(r.said).toEqual([{ say: "offer", id: "x1", sdp }]);
    const pc = made[1]!;
    expect(pc.mine).toBe(r.standing.sender.track);
    r.peer.take({ say: "answer", id: "x1", sdp });
    await pass(500);
    expect([r.peer.stage, r.standing.track.enabled, pc.track.enabled]).toEqual(["trying", true, false]);
    talking.add(pc);
    await pass(60);
    expect([r.peer.stage, r.standing.track.enabled, pc.track.enabled, r.sends()]).toEqual(["heard", false, true, true]);
    expect(r.said.at(-1)).toEqual({ say: "heard", id: "x1" });
    await pass(5000);
    expect(r.sends()).toBe(true);
    r.peer.take({ say: "alone", id: "x1" });
    await pass(20);
    expect([r.peer.stage, r.sends(), r.changes]).toEqual(["alone", false, [true]]);
  });

  it("answers an offer", async () => {
    const r = rig();
    r.peer.take({ say: "offer", id: "x2", sdp });
    await pass();
    expect(r.said).toEqual([{ say: "answer", id: "x2", sdp }]);
  });

  it("takes no video, and nothing of another connection than its own", async () => {
    const r = rig();
    r.peer.take({ say: "offer", id: "x3", sdp: `${sdp}m=video 9 RTP/AVP 1\r\n` });
    await pass();
    expect([r.said, made.length]).toEqual([[{ say: "broken", id: "x3", why: "the offer is not of audio" }], 1]);
    const pc = await alone(r);
    r.peer.take({ say: "home", id: "another" });
    await pass(20);
    expect([r.peer.stage, pc.closed]).toEqual(["alone", false]);
  });

  it("comes to nothing without a trace when it fails, or when nothing is ever heard", async () => {
    const r = rig();
    r.peer.take({ say: "invite", id: "x1" });
    await pass();
    made[1]!.becomes("failed");
    expect([r.peer.stage, r.said.at(-1), made[1]!.closed, r.standing.track.enabled, r.standing.sets]).toEqual(
      ["none", { say: "broken", id: "x1", why: "the connection is failed" }, true, true, 0],
    );
    r.peer.take({ say: "invite", id: "x2" });
    await pass();
    r.peer.take({ say: "answer", id: "x2", sdp });
    await pass(16_000);
    expect([r.peer.stage, r.said.at(-1), r.playing()]).toEqual(["none", { say: "broken", id: "x2", why: "nothing is heard" }, 0]);
  });
});

describe("stepping in", () => {
  it("sends by baton at once, and plays what comes straight until the other is heard by baton", async () => {
    const r = rig();
    const pc = await alone(r);
    talking.delete(r.standing); // as the other page is alone, too
    await pass(1000);
    r.peer.take({ say: "home", id: "x1" });
    await pass();
    expect([r.peer.stage, r.sends(), pc.closed]).toEqual(["returning", true, false]);
    await pass(300);
    expect([r.standing.track.enabled, pc.track.enabled]).toEqual([false, true]);
    talking.add(r.standing);
    await pass(60);
    expect([r.standing.track.enabled, pc.track.enabled, pc.closed]).toEqual([true, false, false]);
    await pass(1200);
    expect([r.peer.stage, pc.closed, r.playing(), r.changes]).toEqual(["none", true, 0, [true, false]]);
  });

  it("is by itself when nothing comes straight any more, or the connection fails", async () => {
    for (const how of ["silence", "failed", "disconnected"]) {
      const r = rig();
      const pc = await alone(r);
      if (how === "silence") talking.delete(pc);
      else pc.becomes(how);
      await pass(how === "silence" ? 2000 : 20);
      expect([how, r.peer.stage, r.sends(), r.said.at(-1)!.say]).toEqual([how, "returning", true, "broken"]);
      talking.delete(pc);
      await pass(500);
      expect(r.standing.track.enabled).toBe(true);
      await pass(16_000);
      expect([r.peer.stage, pc.closed]).toEqual(["none", true]);
    }
  });

  it("tries again to be sent by baton when the browser refuses it", async () => {
    const r = rig();
    await alone(r);
    r.standing.refuse = 3;
    r.peer.leave();
    await pass(200);
    expect([r.said.at(-1), r.sends()]).toEqual([{ say: "home", id: "x1" }, true]);
  });

  it("is overtaken by the next connection", async () => {
    const r = rig();
    const pc = await alone(r);
    r.peer.take({ say: "home", id: "x1" });
    r.peer.take({ say: "invite", id: "x2" });
    await pass();
    expect([pc.closed, r.peer.stage, r.said.at(-1)!.id, r.sends()]).toEqual([true, "trying", "x2", true]);
  });
});

describe("besides", () => {
  it("a new microphone is sent straight, too", async () => {
    const r = rig();
    const pc = await alone(r);
    const track = { kind: "audio" };
    r.peer.replace(track as MediaStreamTrack);
    expect(pc.mine).toBe(track);
  });

  it("what stands is told again with what the page can", async () => {
    const r = rig();
    r.peer.announce();
    await alone(r);
    r.peer.announce();
    expect([r.said[0], r.said.at(-1)]).toEqual([{ say: "can" }, { say: "can", id: "x1" }]);
  });

  it("ends with its leg", async () => {
    const r = rig();
    const pc = await alone(r);
    r.peer.close();
    await pass(5000);
    expect([pc.closed, r.playing(), r.said.length]).toEqual([true, 0, 2]);
  });
});
