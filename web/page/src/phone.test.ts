// The phone with JsSIP itself, against a node of real WebSockets that says yes to everything. Only the PeerConnection is made up.
import { afterEach, beforeEach, describe, expect, it, test, vi } from "vitest";
import type { AddressInfo } from "node:net";
import WebSocket, { WebSocketServer, type WebSocket as Peer } from "ws";
import type { Saved } from "./call";
import type { Line } from "./line";
import type { Audio } from "./media";
import { asksToAnswer, Phone, type Link, type Options } from "./phone";

const request = (headers: Record<string, string>) => ({ getHeader: (name: string) => headers[name] });

test.each([
  [{}, false],
  [{ "Answer-Mode": "Auto" }, true],
  [{ "Answer-Mode": "Manual" }, false],
  [{ "Call-Info": "<sip:baton>; answer-after=0" }, true],
  [{ "Call-Info": "<sip:baton>; answer-after=05" }, false],
  [{ "Alert-Info": "<http://x>;info=alert-autoanswer" }, true],
  [{ "Alert-Info": "<urn:alert:source:internal>" }, false],
])("%j asks to answer by itself: %s", (headers, want) => expect(asksToAnswer(request(headers as Record<string, string>))).toBe(want));

const sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 127.0.0.1\r\na=sendrecv\r\n";

/** Connection is as much of a PeerConnection as JsSIP needs. */
class Connection extends EventTarget {
  iceGatheringState = "complete";
  iceConnectionState = "new";
  signalingState = "stable";
  localDescription: { sdp: string } | null = null;
  restarts = 0;
  addTrack = () => {};
  dtls = "connected";
  getSenders = () => [{ track: null, transport: { state: this.dtls }, replaceTrack: () => {} }];
  getStats = async () => new Map([["in", { type: "inbound-rtp", packetsReceived: 1 }]]);
  close = () => {};
  createOffer = async (o?: { iceRestart?: boolean }) => {
    if (o?.iceRestart) this.restarts++;
    return { type: "offer", sdp };
  };
  setLocalDescription = async (d: { sdp: string }) => void (this.localDescription = d);
  setRemoteDescription = async () => {};

  ice(state: string): void {
    this.iceConnectionState = state;
    this.dispatchEvent(new Event("iceconnectionstatechange"));
  }
}

const cleanups: (() => void)[] = [];
const connections: Connection[] = [];
beforeEach(() => {
  connections.length = 0;
  const RTCPeerConnection = class extends Connection {
    constructor() {
      super();
      connections.push(this);
    }
  };
  Object.assign(globalThis, {
    WebSocket, RTCPeerConnection, MediaStream: class {}, RTCSessionDescription: class { constructor(d: object) { Object.assign(this, d); } }, window: Object.assign(new EventTarget(), { RTCPeerConnection }),
    document: Object.assign(new EventTarget(), { visibilityState: "visible" }),
  });
  vi.stubGlobal("navigator", { userAgent: "Chrome/140" });
});
afterEach(() => {
  cleanups.splice(0).forEach((f) => f());
  vi.unstubAllGlobals();
});

/** node is one that a phone registers with and calls through. Got has what it was sent, less ACK and REGISTER; said the bodies of INFO. */
async function node(port = 0) {
  const ws = new WebSocketServer({ port, host: "127.0.0.1", handleProtocols: () => "sip" });
  await new Promise((r) => ws.once("listening", r));
  const got: string[] = [];
  const said: string[] = [];
  const registered: number[] = [];
  ws.on("connection", (c) => c.on("message", (m) => {
    const text = String(m);
    if (text === "\r\n\r\n") return c.send("\r\n");
    const method = text.slice(0, text.indexOf(" "));
    if (method === "REGISTER") registered.push(Date.now());
    else if (method === "INFO") said.push(text.slice(text.indexOf("\r\n\r\n") + 4));
    else if (method !== "ACK") got.push(text);
    if (method !== "ACK" && !text.startsWith("SIP/2.0")) c.send(ok(text, method === "INVITE"));
  }));
  const stop = () => {
    ws.clients.forEach((c) => c.terminate());
    ws.close();
  };
  cleanups.push(stop);
  return { url: `ws://127.0.0.1:${(ws.address() as AddressInfo).port}/sip`, got, said, registered, stop, kick: () => ws.clients.forEach((c) => c.terminate()), send: (m: string) => ws.clients.forEach((c: Peer) => c.send(m)) };
}

/** ok answers a request as baton does that says yes. */
function ok(request: string, withSDP: boolean): string {
  const kept = request.split("\r\n").filter((h) => /^(Via|From|To|Call-ID|CSeq):/i.test(h)).map((h) => (/^To:/i.test(h) && !/;tag=/.test(h) ? `${h};tag=baton` : h));
  const contact = /^REGISTER/.test(request) ? /^Contact:.*$/m.exec(request)![0] : "Contact: <sip:baton@127.0.0.1;transport=ws>";
  const body = withSDP ? `Content-Type: application/sdp\r\nContent-Length: ${sdp.length}\r\n\r\n${sdp}` : "Content-Length: 0\r\n\r\n";
  return `SIP/2.0 200 OK\r\n${kept.join("\r\n")}\r\n${contact}\r\n${body}`;
}

/** phone makes one, and keeps what it tells. */
function phone(nodes: string[], more: Partial<Options> = {}) {
  const told = { lines: [] as Line[], links: [] as Link[], ended: [] as Line[], saved: [] as Saved[] };
  const track = { kind: "audio", enabled: true, stop: () => {} };
  const stream = { getTracks: () => [track], getAudioTracks: () => [track], getVideoTracks: () => [] };
  const audio = { borrow: async () => stream, giveBack: () => {}, play: () => () => {} } as unknown as Audio;
  const p = new Phone({
    nodes, open: () => undefined, reachable: async () => false, sip: { uri: "sip:alice@baton.example", login: "alice", password: "secret" }, display: "Alice",
    instance: "00000000-0000-4000-8000-000000000001", agent: "test", pull: () => "*40", audio, servers: async () => [], relayOnly: () => false,
    autoAnswer: () => false,
    hooks: {
      lines: (l) => (told.lines = l), link: (l) => told.links.push(l), down: () => {}, trouble: () => {}, ended: (l) => told.ended.push(l),
      saved: (s) => (told.saved = s),
    },
    ...more,
  });
  cleanups.push(() => p.abandon());
  return { p, told };
}

const until = (f: () => boolean, ms = 5000) => vi.waitFor(() => expect(f()).toBe(true), { timeout: ms, interval: 5 });
const method = (m: string) => m.slice(0, m.indexOf(" "));
const header = (m: string, name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(m)?.[1];

async function ready(nodes: string[], more: Partial<Options> = {}) {
  const made = phone(nodes, more);
  made.p.start();
  await until(() => made.p.link === "ready");
  return made;
}

async function talking(n: Awaited<ReturnType<typeof node>>, nodes = [n.url], more: Partial<Options> = {}) {
  const made = await ready(nodes, more);
  const id = made.p.dial("102");
  await until(() => made.told.lines[0]?.stage === "talking");
  return { ...made, id };
}

describe("straight to another page", () => {
  it("is what a page says that it can, also when its connection is back", async () => {
    const n = await node();
    await talking(n);
    await until(() => n.said.length === 1);
    n.kick();
    await until(() => n.said.length === 2);
    expect(n.said).toEqual(['{"say":"can"}', '{"say":"can"}']);
  });

  it("is not for who wants all sound to go through the node's TURN server", async () => {
    const n = await node();
    await talking(n, [n.url], { relayOnly: () => true });
    connections[0]!.ice("connected");
    n.kick();
    await until(() => n.registered.length === 2 && n.got.length > 1);
    expect(n.said).toEqual([]);
  });

  it("is not for Firefox, which cannot leave off sending to the node", async () => {
    vi.stubGlobal("navigator", { userAgent: "Mozilla/5.0 Gecko/20100101 Firefox/153.0" });
    const n = await node();
    await talking(n);
    connections[0]!.ice("connected");
    n.kick();
    await until(() => n.registered.length === 2 && n.got.length > 1);
    expect(n.said).toEqual([]);
  });

  it("begins when the node asks for it, and says why where it cannot", async () => {
    const n = await node();
    await talking(n);
    await until(() => n.got.length === 1);
    const [call, from, to] = [header(n.got[0]!, "Call-ID"), header(n.got[0]!, "From"), header(n.got[0]!, "To")];
    const body = '{"say":"invite","id":"x1"}';
    n.send(`INFO sip:alice@baton.example SIP/2.0\r\nVia: SIP/2.0/WS b;branch=z9hG4bKi\r\nFrom: ${to};tag=baton\r\nTo: ${from}\r\nCall-ID: ${call}\r\nCSeq: 7 INFO\r\n` +
      `Content-Type: application/vnd.baton.peer+json\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    await until(() => n.said.length === 2);
    expect(JSON.parse(n.said[1]!)).toEqual({ say: "broken", id: "x1", why: "there is no microphone" });
  });
});

describe("the connection", () => {
  it("is registered again within a second after it broke, and the call's dialog is refreshed over it", async () => {
    const n = await node();
    const { told, id } = await talking(n);
    connections[0]!.ice("connected");
    const known = n.got.length;
    const broke = Date.now();
    n.kick();
    await until(() => n.registered.length === 2);
    expect(n.registered[1]! - broke).toBeLessThan(1000);
    expect(told.lines.map((l) => [l.id, l.stage])).toEqual([[id, "talking"]]);
    await until(() => n.got.length > known);
    expect([method(n.got[known]!), connections[0]!.restarts]).toEqual(["INVITE", 0]);
  });

  it("has ICE restarted at once where its sound is interrupted too", async () => {
    const n = await node();
    await talking(n);
    connections[0]!.ice("connected");
    connections[0]!.ice("disconnected");
    n.kick();
    const broke = Date.now();
    await until(() => connections[0]!.restarts === 1);
    expect(Date.now() - broke).toBeLessThan(1000);
  });

  it.each([["DTLS has failed with ICE", "Chrome/140", "failed"], ["ICE has failed in Firefox", "Firefox/140.0", "connected"]])("has the call taken to a new PeerConnection where %s", async (_, userAgent, dtls) => {
    vi.stubGlobal("navigator", { userAgent });
    const n = await node();
    const { told, id } = await talking(n);
    const first = /^Call-ID: (.*)$/m.exec(n.got[0]!)![1]!;
    connections[0]!.ice("connected");
    connections[0]!.dtls = dtls;
    connections[0]!.ice("failed");
    await until(() => connections.length === 2);
    await until(() => n.got.some((m) => method(m) === "INVITE" && (header(m, "Replaces") ?? "").startsWith(`${first};to-tag=baton;from-tag=`)));
    expect(connections[0]!.restarts).toBe(0);
    await until(() => n.got.some((m) => method(m) === "BYE" && header(m, "Call-ID")!.trim() === first));
    expect(told.lines.map((l) => [l.id, l.stage])).toEqual([[id, "talking"]]);
    expect(told.ended).toEqual([]);
  });

  it("is made to another node within a second when its own is gone, with the call", async () => {
    const [own, other] = [await node(), await node()];
    const { p, told, id } = await talking(own, [own.url, other.url]);
    connections[0]!.ice("connected");
    const gone = Date.now();
    own.stop();
    await until(() => other.registered.length === 1);
    expect(other.registered[0]! - gone).toBeLessThan(1000);
    await until(() => other.got.some((m) => method(m) === "INVITE")); // the dialog goes on there
    expect(told.lines.map((l) => [l.id, l.stage])).toEqual([[id, "talking"]]);
    p.hangUp(id);
    await until(() => other.got.some((m) => method(m) === "BYE"));
  });
});

describe("after a reload", () => {
  const kept = (callID: string, more: Partial<Saved> = {}): Saved => ({
    dialog: { callID, localTag: "mine", remoteTag: "baton" }, peer: { name: "Bob", number: "102" }, answered: 1000, muted: false, held: false, call: undefined, at: 0, ...more,
  });
  const inOld = (m: string, callID: string) =>
    `${m} sip:alice@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/WS 127.0.0.1;branch=z9hG4bK${m}\r\nFrom: <sip:102@baton.example>;tag=baton\r\nTo: <sip:alice@baton.example>;tag=mine\r\n` +
    `Call-ID: ${callID}\r\nCSeq: 7 ${m}\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n`;

  it("takes each of its calls back by Replaces as soon as it is registered, as they were", async () => {
    const n = await node();
    const { p, told } = phone([n.url]);
    p.takeBack(kept("one", { held: true }));
    p.takeBack(kept("two"));
    expect(told.saved.map((s) => s.dialog.callID)).toEqual(["one", "two"]); // loaded anew once more they are still known
    p.start();
    await until(() => told.lines.length === 2 && told.lines.every((l) => l.stage === "talking"));
    const invites = n.got.filter((m) => method(m) === "INVITE" && header(m, "Replaces"));
    expect(invites.map((m) => header(m, "Replaces")!.split(";")[0]).sort()).toEqual(["one", "two"]);
    expect(told.lines.map((l) => l.answered)).toEqual([1000, 1000]);
    await until(() => told.lines[0]!.held);
    expect(told.lines[1]!.held).toBe(false);
    expect(told.saved.map((s) => s.dialog.callID)).not.toContain("one"); // but the new dialogs
  });

  it("answers for a dialog that it has not taken back yet, and lets it go when the other side hangs up", async () => {
    const n = await node();
    let servers: (s: RTCIceServer[]) => void = () => {};
    const { p, told } = phone([n.url], { servers: () => new Promise((yes) => (servers = yes)) }); // it takes its time
    p.takeBack(kept("one"));
    p.start();
    await until(() => p.link === "ready");
    n.send(inOld("OPTIONS", "one"));
    n.send(inOld("BYE", "one"));
    await until(() => told.ended.length === 1 && n.got.length === 2);
    expect(n.got.map((m) => [m.split("\r\n")[0], header(m, "CSeq")])).toEqual([["SIP/2.0 200 OK", "7 OPTIONS"], ["SIP/2.0 200 OK", "7 BYE"]]);
    servers([]);
    await new Promise((r) => setTimeout(r, 100));
    expect([told.lines, n.got.filter((m) => method(m) === "INVITE")]).toEqual([[], []]);
  });
});

describe("several calls", () => {
  it("has one that is talked in, the others on hold", async () => {
    const n = await node();
    const { p, told, id } = await talking(n);
    const second = p.dial("103");
    const state = () => Object.fromEntries(told.lines.map((l) => [l.id, `${l.stage}${l.held ? " held" : ""}`]));
    await until(() => state()[second] === "talking" && state()[id] === "talking held");
    p.hold(id, false);
    await until(() => state()[second] === "talking held" && state()[id] === "talking");
    expect(told.saved.map((s) => [s.peer.number, s.held])).toEqual([["102", false], ["103", true]]);
    p.hangUp(id);
    await until(() => told.ended.length === 1);
    expect(state()).toEqual({ [second]: "talking held" });
  });

  it("are handed to another tab without a word", async () => {
    const n = await node();
    const { p, told } = await talking(n);
    p.dial("103");
    await until(() => told.lines.length === 2 && told.lines.every((l) => l.stage === "talking"));
    await new Promise((r) => setTimeout(r, 100));
    const known = n.got.length;
    expect(p.abandon().map((s) => s.peer.number)).toEqual(["102", "103"]);
    await new Promise((r) => setTimeout(r, 200));
    expect(n.got.slice(known)).toEqual([]);
  });
});
