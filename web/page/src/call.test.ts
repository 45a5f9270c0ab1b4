import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { RTCSession } from "jssip/lib/RTCSession";
import type { UA } from "jssip/lib/UA";
import { Call, type Parts, type Saved } from "./call";
import type { Audio } from "./media";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Session is as much of JsSIP's as a leg needs. */
class Session {
  did: string[] = [];
  connection = { addEventListener: () => {}, getStats: async () => new Map(this.heard ? [["in", { type: "inbound-rtp", packetsReceived: 1 }]] : []) };
  heard = false;
  established = false;
  _dialog = { id: { call_id: "", local_tag: "l", remote_tag: "r" } };
  private readonly on_ = new Map<string, ((e: unknown) => void)[]>();
  private onHold = false;

  constructor(callID: string) {
    this._dialog.id.call_id = callID;
  }

  on = (event: string, f: (e: unknown) => void) => void this.on_.set(event, [...(this.on_.get(event) ?? []), f]);
  emit = (event: string, e: unknown = {}) => this.on_.get(event)?.forEach((f) => f(e));
  isEstablished = () => this.established;
  isEnded = () => false;
  isOnHold = () => ({ local: this.onHold, remote: false });
  mute = () => void this.did.push("mute");
  unmute = () => void this.did.push("unmute");
  hold = () => this.holding(true);
  unhold = () => this.holding(false);
  terminate = () => {
    this.did.push("terminate");
    this.emit("ended", { originator: "local", message: null, cause: "Terminated" });
  };
  up = () => {
    this.established = true;
    this.emit("sending");
    this.emit("confirmed");
  };

  private holding(on: boolean): boolean {
    this.did.push(on ? "hold" : "unhold");
    this.onHold = on;
    this.emit(on ? "hold" : "unhold", { originator: "local" });
    return true;
  }
}

function rig() {
  const sessions: Session[] = [];
  const lent: { enabled: boolean }[] = [];
  const called: { target: string; headers: string[]; enabled: boolean }[] = [];
  const over: Call[] = [];
  const ua = {
    call: (target: string, o: { extraHeaders: string[] }) => {
      called.push({ target, headers: o.extraHeaders, enabled: lent.at(-1)!.enabled });
      sessions.push(new Session(`call-${sessions.length}`));
      return sessions.at(-1);
    },
  } as unknown as UA;
  const audio = {
    borrow: async () => {
      const track = { enabled: true };
      lent.push(track);
      return { getTracks: () => [track] };
    },
    giveBack: () => {},
    play: () => () => {},
  } as unknown as Audio;
  const parts: Parts = {
    ua, audio, target: () => "sip:*40@baton", configuration: async () => ({}), ready: () => true, straight: () => false, whenReady: async () => {}, changed: () => {}, trouble: () => {},
    over: (c) => over.push(c),
  };
  return { parts, sessions, called, over };
}

const settle = () => vi.advanceTimersByTimeAsync(0);
const peer = { name: "Bob", number: "102" };
const kept: Saved = { dialog: { callID: "old", localTag: "a", remoteTag: "b" }, peer, answered: 1000, muted: false, held: false, call: undefined, at: 0 };

async function talking() {
  const r = rig();
  const call = new Call(r.parts, "call", peer);
  await call.dial("sip:102@baton");
  r.sessions[0]!.up();
  return { ...r, call };
}

async function takenBack(saved: Saved) {
  const r = rig();
  const call = new Call(r.parts, "resume", peer);
  void call.takeBack(saved);
  await settle();
  return { ...r, call };
}

test("a call is taken back by Replaces, with the time since when it was answered", async () => {
  const { call, called, sessions } = await takenBack(kept);
  expect(called[0]).toEqual({ target: "sip:*40@baton", headers: ["Replaces: old;to-tag=b;from-tag=a"], enabled: true });
  expect(call.dead).toBe("old");
  sessions[0]!.up();
  expect([call.line.stage, call.line.answered, call.dead]).toEqual(["talking", 1000, undefined]);
  expect(sessions[0]!.did).toEqual([]);
});

test("a call that was on hold or muted is so when it is taken back, and sends nothing before", async () => {
  const { call, called, sessions } = await takenBack({ ...kept, held: true, muted: true });
  expect(called[0]!.enabled).toBe(false);
  expect(call.saved).toMatchObject({ held: true, muted: true, answered: 1000 }); // loaded anew once more before it is back
  sessions[0]!.up();
  expect(sessions[0]!.did).toEqual(["mute", "hold"]);
  expect([call.line.held, call.line.muted]).toEqual([true, true]);
  expect(call.saved).toMatchObject({ held: true, muted: true, dialog: { callID: "call-0" } });
});

test("what is told by a tone alone is tried again: baton has not noticed yet that the old page is gone", async () => {
  const { call, called, sessions } = await takenBack(kept);
  sessions[0]!.emit("sdp", { originator: "remote", type: "answer", sdp: "v=0\r\na=sendonly\r\n" });
  sessions[0]!.up();
  expect([call.line.stage, sessions[0]!.did]).toEqual(["calling", ["terminate"]]);
  await vi.advanceTimersByTimeAsync(500);
  expect(called).toHaveLength(2);
  sessions[1]!.up();
  expect(call.line.stage).toBe("talking");
});

test("a call that baton does not know any more is not asked for again", async () => {
  const { call, called, sessions, over } = await takenBack(kept);
  sessions[0]!.emit("failed", { originator: "remote", message: { status_code: 481, getHeader: () => undefined, reason_phrase: "" }, cause: "SIP Failure Code" });
  await vi.advanceTimersByTimeAsync(5000);
  expect([call.line.stage, called.length, over.length]).toEqual(["over", 1, 1]);
});

test("hung up while the microphone is asked for, it does not call", async () => {
  const { parts, called, over } = rig();
  const call = new Call(parts, "call", peer);
  void call.dial("sip:102@baton");
  call.hangUp();
  await settle();
  expect([called.length, over.length, call.line.stage]).toEqual([0, 1, "over"]);
});

test("a dialog that was lost is taken over once its heir is heard, muted and held as before from the first packet on", async () => {
  const { call, sessions, called } = await talking();
  const old = sessions[0]!;
  call.mute(true);
  call.hold(true);
  (old as unknown as { terminate(o: object): void }).terminate({ cause: "Dialog Error" });
  await settle();
  expect(called[1]).toMatchObject({ headers: ["Replaces: call-0;to-tag=r;from-tag=l"], enabled: false });
  sessions[1]!.up();
  expect(sessions[1]!.did.slice(0, 2)).toEqual(["mute", "hold"]);
  expect(call.session).toBe(old as unknown as RTCSession);
  sessions[1]!.heard = true;
  await vi.advanceTimersByTimeAsync(100);
  expect(call.session).toBe(sessions[1] as unknown as RTCSession);
  expect([call.line.stage, call.line.held, call.line.muted, old.did.at(-1)]).toEqual(["talking", true, true, "terminate"]);
});

test("an heir follows what was pressed while it was not heard yet", async () => {
  const { call, sessions } = await talking();
  (sessions[0] as unknown as { terminate(o: object): void }).terminate({ cause: "Dialog Error" });
  await settle();
  sessions[1]!.up();
  call.hold(true);
  sessions[1]!.heard = true;
  await vi.advanceTimersByTimeAsync(100);
  expect(sessions[1]!.did).toContain("hold");
  expect([call.line.held, call.session]).toEqual([true, sessions[1]]);
});
