// A second connection of a call's leg, straight to the page on the other side, past baton (docs/direct.md). The one to baton stands all the while
// and carries the call whenever this one does not: what goes wrong here costs nothing but what it would have saved.
//
//	none ──invite, offer──▶ trying ──the other is heard──▶ heard ──alone──▶ alone
//	  ▲                       │                              │                │ home, or nothing is heard any more
//	  │◀──────────────────────┘                              ▼                ▼
//	  └──a second after that is heard which comes by baton── returning ◀──────┘
//
// In heard, both ways are sent by and the straight one is played. In alone, nothing is sent by baton. In returning, baton's is sent by again, and
// the straight one is played and sent by until the other is heard by baton.

/** Message is what the page and baton tell each other of it, as the body of an INFO of that type. */
export interface Message {
  say: "can" | "invite" | "offer" | "answer" | "heard" | "alone" | "home" | "broken";
  id?: string;
  sdp?: string;
  why?: string;
}

export const messageType = "application/vnd.baton.peer+json";

/** readMessage reads such a body; undefined if it is none. */
export function readMessage(body: string): Message | undefined {
  try {
    const m = JSON.parse(body) as Message;
    return typeof m === "object" && m !== null && typeof m.say === "string" ? m : undefined;
  } catch {
    return undefined;
  }
}

export type Stage = "none" | "trying" | "heard" | "alone" | "returning";

/** Parts is what the second connection needs of the leg that it belongs to. */
export interface Parts {
  standing(): RTCPeerConnection | undefined; // that to baton
  tell(m: Message): void;
  play(stream: MediaStream): () => void; // until what it gives is called
  changed(): void; // direct has
}

const look = 20; // ms between looks whether something is heard, while that decides what is played
const lookOn = 250; // ms, while it is only to be found out that it has ended
const silent = 1500; // ms without a packet after which the way is taken to be broken
const linger = 1000; // ms that the other is still sent to after it is heard by baton: it may not have heard this page so yet
const longest = 15_000; // ms that a try or a return may take, whatever baton says
const gathering = 1000; // ms that this browser may look for its own addresses

/** audioOnly says whether a description is of one audio and nothing else: no page of ours makes another. */
export const audioOnly = (sdp: string): boolean => (sdp.match(/^m=/gm) ?? []).length === 1 && /^m=audio /m.test(sdp);

export class Peer {
  stage: Stage = "none";
  pc: RTCPeerConnection | undefined;

  private id = "";
  private stopPlaying: (() => void) | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private since = 0; // of the stage
  private sounds = new Map<RTCRtpReceiver, { last: number | undefined; at: number; moved: boolean }>();
  private sending = true; // by baton, as it shall be
  private settling = false;

  constructor(private readonly parts: Parts) {}

  /** direct says whether what is played here comes straight from the other browser. */
  get direct(): boolean {
    return this.stage === "heard" || this.stage === "alone";
  }

  /** announce tells baton that this page can, and what it has. */
  announce(): void {
    this.parts.tell(this.stage === "none" || this.stage === "returning" ? { say: "can" } : { say: "can", id: this.id });
  }

  /** take does what baton says. */
  take(m: Message): void {
    if (m.say === "invite" && m.id) void this.begin(m.id);
    else if (m.say === "offer" && m.id && m.sdp) void this.begin(m.id, m.sdp);
    else if (m.id !== this.id || this.stage === "none") return;
    else if (m.say === "answer" && m.sdp) void this.answered(m.sdp);
    else if (m.say === "alone" && this.stage === "heard") {
      this.enter("alone");
      this.send(false);
    } else if (m.say === "home") this.goHome();
  }

  /** leave goes back to baton's connection before the page does something for which baton needs the sound. */
  leave(): void {
    if (this.stage === "none" || this.stage === "returning") return;
    this.parts.tell({ say: "home", id: this.id });
    this.goHome();
  }

  /** replace has another microphone. */
  replace(track: MediaStreamTrack): void {
    void this.pc?.getSenders()[0]?.replaceTrack(track);
  }

  /** close ends it with its leg. */
  close(): void {
    clearTimeout(this.timer);
    this.drop();
    this.stage = "none";
  }

  /** begin makes the connection: with an offer of this page's, or as the answer to one. */
  private async begin(id: string, offer?: string): Promise<void> {
    if (this.stage !== "none") this.finish();
    const track = this.parts.standing()?.getSenders().find((s) => s.track?.kind === "audio")?.track;
    this.id = id;
    if (!track || (offer !== undefined && !audioOnly(offer))) return this.broken(track ? "the offer is not of audio" : "there is no microphone");
    const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    this.pc = pc;
    this.enter("trying");
    pc.addEventListener("track", (e) => {
      if (pc !== this.pc || e.track.kind !== "audio") return;
      e.track.enabled = false; // it is decoded, and heard when that is sure to sound
      this.stopPlaying = this.parts.play(new MediaStream([e.track]));
      this.lookSoon(look);
    });
    pc.addEventListener("connectionstatechange", () => {
      if (pc !== this.pc) return;
      if (pc.connectionState === "failed" || pc.connectionState === "disconnected" || pc.connectionState === "closed") {
        if (this.stage === "returning") this.looked();
        else this.broken(`the connection is ${pc.connectionState}`);
      }
    });
    try {
      pc.addTrack(track);
      if (offer !== undefined) await pc.setRemoteDescription({ type: "offer", sdp: offer });
      await pc.setLocalDescription(offer === undefined ? await pc.createOffer() : await pc.createAnswer());
      await gathered(pc);
      const sdp = pc.localDescription?.sdp;
      if (pc === this.pc && sdp) this.parts.tell({ say: offer === undefined ? "offer" : "answer", id, sdp });
    } catch (e) {
      if (pc === this.pc) this.broken(String(e));
    }
  }

  private async answered(sdp: string): Promise<void> {
    const pc = this.pc;
    if (this.stage !== "trying" || pc?.signalingState !== "have-local-offer") return;
    if (!audioOnly(sdp)) return this.broken("the answer is not of audio");
    try {
      await pc.setRemoteDescription({ type: "answer", sdp });
    } catch (e) {
      if (pc === this.pc) this.broken(String(e));
    }
  }

  private enter(stage: Stage): void {
    const was = this.direct;
    this.stage = stage;
    this.since = performance.now();
    if (this.direct !== was) this.parts.changed();
    this.lookSoon(stage === "trying" || stage === "returning" ? look : lookOn);
  }

  private lookSoon(ms: number): void {
    clearTimeout(this.timer);
    if (this.stage !== "none") this.timer = setTimeout(() => this.looked(), ms);
  }

  /** looked does what is due by what is heard now. */
  private looked(): void {
    const long = performance.now() - this.since;
    const straight = this.hears(this.pc);
    switch (this.stage) {
      case "trying":
        if (straight.moved) {
          this.playStraight(true);
          this.enter("heard");
          this.parts.tell({ say: "heard", id: this.id });
          return;
        }
        if (long > longest) return this.broken("nothing is heard");
        return this.lookSoon(look);
      case "heard":
      case "alone":
        if (straight.quiet > silent) return this.broken("nothing is heard any more");
        return this.lookSoon(lookOn);
      case "returning": {
        const home = this.hears(this.parts.standing());
        if (home.moved) this.playStraight(false);
        if ((home.moved && long > linger) || long > longest) return this.finish();
        if (straight.quiet > silent / 4) this.playStraight(false); // there is nothing to wait with
        return this.lookSoon(look);
      }
    }
  }

  /** hears says whether sound has come by a connection since this stage began, and for how many ms there has been none. */
  private hears(pc: RTCPeerConnection | undefined): { moved: boolean; quiet: number } {
    const now = performance.now();
    const r = audioReceiver(pc);
    if (!r) return { moved: false, quiet: now - this.since };
    const last = r.getSynchronizationSources()[0]?.rtpTimestamp;
    let s = this.sounds.get(r);
    if (!s) this.sounds.set(r, (s = { last, at: now, moved: this.stage === "trying" && last !== undefined }));
    if (last !== undefined && last !== s.last) {
      s.moved = true;
      s.last = last;
      s.at = now;
    }
    return { moved: s.moved, quiet: now - s.at };
  }

  private playStraight(on: boolean): void {
    const one = audioReceiver(this.pc)?.track;
    const other = audioReceiver(this.parts.standing())?.track;
    if (one) one.enabled = on;
    if (other) other.enabled = !on;
  }

  /** broken goes back to baton's connection and says why. */
  private broken(why: string): void {
    this.parts.tell({ say: "broken", id: this.id, why });
    this.goHome();
  }

  private goHome(): void {
    if (this.stage === "returning" || this.stage === "none") return;
    this.send(true);
    if (!this.direct) return this.finish();
    this.sounds.clear(); // what was heard by baton before tells nothing
    const standing = this.parts.standing();
    this.enter("returning");
    this.hears(standing); // from here on
    this.hears(this.pc);
  }

  /** finish ends the connection and plays what comes by baton. */
  private finish(): void {
    this.playStraight(false);
    this.send(true);
    this.drop();
    this.enter("none");
  }

  private drop(): void {
    clearTimeout(this.timer);
    this.stopPlaying?.();
    this.stopPlaying = undefined;
    const pc = this.pc;
    this.pc = undefined;
    pc?.close();
    this.sounds.clear();
  }

  /** send has the microphone sent by baton's connection, or not. Its track stays where it is, so that mute and hold are as ever. */
  private send(on: boolean): void {
    this.sending = on;
    if (!this.settling) void this.settle();
  }

  private async settle(): Promise<void> {
    this.settling = true;
    for (let tries = 0; tries < 50; tries++) {
      const on = this.sending;
      const sender = this.parts.standing()?.getSenders().find((s) => s.track?.kind === "audio");
      const p = sender?.getParameters();
      const encoding = p?.encodings?.[0];
      if (!sender || !p || !encoding || (encoding.active ?? true) === on) {
        if (on === this.sending) break;
        continue;
      }
      encoding.active = on;
      await sender.setParameters(p).catch(() => new Promise((r) => setTimeout(r, 20)));
    }
    this.settling = false;
  }
}

const audioReceiver = (pc: RTCPeerConnection | undefined): RTCRtpReceiver | undefined =>
  pc?.getReceivers?.().find((r) => r.track.kind === "audio");

/** gathered waits until the browser has found its addresses, for a while. */
function gathered(pc: RTCPeerConnection): Promise<void> {
  if (pc.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      resolve();
    };
    const timer = setTimeout(done, gathering);
    pc.addEventListener("icegatheringstatechange", () => pc.iceGatheringState === "complete" && done());
  });
}
