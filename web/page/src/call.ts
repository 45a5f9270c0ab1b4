// A call of this browser: a line for the screen and the leg that carries it. When another leg takes over (after a lost dialog, or
// because baton asks for it) the old one is kept until the new one is heard.

import type { UA } from "jssip/lib/UA";
import type { RTCSession } from "jssip/lib/RTCSession";
import { Leg, replaces, type Dialog } from "./leg";
import { newLine, step, type End, type Event, type Line, type Peer, type Purpose } from "./line";
import { MediaError, type Audio } from "./media";
import type { Trouble } from "./words";

/** Parts is what a call needs of the phone that it belongs to. */
export interface Parts {
  ua: UA;
  audio: Audio;
  /** target is what is dialled to take a call back. */
  target(): string;
  configuration(): Promise<RTCConfiguration>;
  ready(): boolean;
  /** straight says whether sound may go past baton, to another browser. */
  straight(): boolean;
  whenReady(): Promise<void>;
  changed(c: Call): void;
  trouble(t: Trouble): void;
  over(c: Call): void;
}

/** Saved is what a page needs to take its live call back after a reload. */
export interface Saved {
  dialog: Dialog;
  peer: Peer;
  answered: number;
  muted: boolean;
  held: boolean;
  call: string | undefined;
  at: number; // ms, when it was last known to live
}

const anotherTry = 400; // ms
const tries = 12; // of taking a call back
const sessionTimersExpires = 1800; // s, as baton asks itself; JsSIP would say 90, which a node may find too short (422)

export class Call {
  line: Line;
  private leg: Leg | undefined;
  private next: Leg | undefined; // it takes over when it is heard
  private from: Saved | undefined; // what is taken back
  private tried = 0;
  private taking = false;
  private replacing = false; // a dialog that shall take the place of this one is being begun
  private isLost = false; // baton does not know the dialog any more
  private gone = false;

  constructor(private readonly parts: Parts, purpose: Purpose, peer: Peer, call?: string) {
    this.line = newLine(crypto.getRandomValues(new Uint32Array(2)).join(""), purpose, peer, Date.now(), call);
  }

  /** pc is the connection by which the other side is heard: to baton, or straight. */
  get pc(): RTCPeerConnection | undefined {
    return this.leg?.carrier;
  }

  get session(): RTCSession | undefined {
    return this.leg?.session;
  }

  /** dialog is that of the leg which carries the call, once it is up. */
  get dialog(): Dialog | undefined {
    return this.leg?.up ? this.leg.dialog : undefined;
  }

  /** saved is undefined as long as there is nothing to take back. */
  get saved(): Saved | undefined {
    const dialog = this.leg?.up ? this.leg.dialog : this.from?.dialog;
    if (!dialog || this.line.stage === "over") return undefined;
    const { peer, answered, call } = this.line;
    const { muted, held } = this.from ?? this.line; // what is taken back is as it was, once it is
    return { dialog, peer, answered: this.from?.answered ?? answered ?? Date.now(), muted, held, call, at: Date.now() };
  }

  /** dead is the Call-ID of the dialog that is to be taken back, until it is. */
  get dead(): string | undefined {
    return this.from?.dialog.callID;
  }

  /** dial asks for the microphone and then calls. */
  async dial(target: string, headers: string[] = []): Promise<void> {
    const leg = await this.connect(target, headers);
    if (leg) this.leg = leg;
  }

  /** takeBack continues a call whose dialog another page of this browser had (RFC 3891). */
  async takeBack(saved: Saved): Promise<void> {
    this.from = saved;
    if (this.taking) return;
    this.taking = true;
    this.tried++;
    await this.dial(this.parts.target(), [replaces(saved.dialog)]);
    this.taking = false;
  }

  /** ring takes a call that comes in. */
  ring(session: RTCSession): void {
    const leg: Leg = new Leg(session, this.parts.audio, this.parts.ready, this.parts.straight, this.events(() => leg));
    this.leg = leg;
  }

  async answer(auto = false): Promise<void> {
    if (this.line.stage !== "incoming" || !this.leg) return;
    this.line = { ...this.line, auto };
    this.step({ type: "answer" });
    await this.accept(this.leg);
  }

  hangUp(code?: number): void {
    this.from = undefined;
    this.next?.hangUp();
    if (this.leg) this.leg.hangUp(code);
    else this.end({ cause: "Canceled", mine: true, established: false }); // it still asks for the microphone
  }

  mute(on: boolean): void {
    this.leg?.mute(on);
    this.step({ type: "mute", on });
  }

  hold(on: boolean): void {
    if (this.line.held !== on && this.leg?.up && !this.leg.hold(on)) setTimeout(() => this.line.held !== on && this.leg?.hold(on), 500);
  }

  tone(t: string): void {
    try {
      this.leg?.tone(t);
      this.step({ type: "tone", tone: t });
    } catch {
      // it is not up yet
    }
  }

  /** transfer hands the other side to another number; with a second call of this browser to the one who is talked to in it. */
  transfer(target: string, second?: Call): void {
    const session = this.leg?.session;
    if (!session || !this.leg?.up) return;
    const d = second?.leg?.dialog;
    const query = d ? `?Replaces=${encodeURIComponent(`${d.callID};to-tag=${d.remoteTag};from-tag=${d.localTag}`)}` : "";
    this.step({ type: "transfer", transfer: "asked" });
    const failed = (code?: number) => {
      this.step({ type: "transfer", transfer: "failed" });
      this.parts.trouble({ what: `The transfer came to nothing${code ? ` (${code})` : ""}. You still have the call.` });
    };
    session.refer(target + query, {
      eventHandlers: {
        requestFailed: ({ response }: { response?: { status_code: number } }) => failed(response?.status_code),
        failed: ({ status_line }: { status_line: { status_code: number } }) => failed(status_line.status_code),
        accepted: () => setTimeout(() => this.hangUp(), 1500), // baton ends it by itself, as a rule
      },
    });
  }

  linkBack(networkChanged: boolean): void {
    this.leg?.linkBack(networkChanged);
    this.next?.linkBack(networkChanged);
    if (this.from && !this.leg && this.line.stage !== "over") void this.takeBack(this.from);
  }

  abandon(): void {
    this.gone = true;
    this.leg?.abandon();
    this.next?.abandon();
  }

  private step(e: Event): void {
    const line = step(this.line, e);
    if (line === this.line) return;
    this.line = line;
    this.parts.changed(this);
  }

  private end(end: End): void {
    if (this.gone) return;
    this.gone = true;
    this.step({ type: "end", end });
    this.parts.over(this);
  }

  /** connect makes a leg that calls. It is none if the call has ended while the microphone was asked for. */
  private async connect(target: string, headers: string[]): Promise<Leg | undefined> {
    const holder = { replace: (t: MediaStreamTrack) => leg?.replace(t) };
    let leg: Leg | undefined;
    let stream: MediaStream, pcConfig: RTCConfiguration;
    try {
      // What is taken back waits for the connection; the microphone is opened meanwhile.
      [stream, pcConfig] = await Promise.all([this.parts.audio.borrow(holder), this.parts.configuration(), this.from && this.parts.whenReady()]);
    } catch (e) {
      this.noMicrophone(e);
      return undefined;
    }
    if (this.line.stage === "over" || this.gone) {
      this.parts.audio.giveBack(holder);
      return undefined;
    }
    this.hush(stream);
    try {
      const session = this.parts.ua.call(target, { mediaStream: stream, pcConfig, extraHeaders: headers, sessionTimersExpires });
      leg = new Leg(session, this.parts.audio, this.parts.ready, this.parts.straight, this.events(() => leg), holder);
    } catch {
      this.parts.audio.giveBack(holder);
      this.parts.trouble({ what: "That cannot be called.", do: "Type a number or a name." });
      this.end({ cause: "Canceled", mine: true, established: false });
    }
    return leg;
  }

  /** accept answers a leg that was called. */
  private async accept(leg: Leg): Promise<void> {
    try {
      const [mediaStream, pcConfig] = await Promise.all([this.parts.audio.borrow(leg), this.parts.configuration()]);
      if (leg.session.isEnded()) return this.parts.audio.giveBack(leg);
      this.hush(mediaStream);
      leg.session.answer({ mediaStream, pcConfig, sessionTimersExpires });
      if (leg.session.connection) leg.attach(leg.session.connection);
    } catch (e) {
      leg.hangUp(480);
      this.noMicrophone(e);
    }
  }

  /** hush keeps a new leg of a call that is muted or held silent from its first packet on. */
  private hush(stream: MediaStream): void {
    const { muted, held } = this.from ?? this.line;
    if (muted || held) for (const t of stream.getTracks()) t.enabled = false;
  }

  private noMicrophone(e: unknown): void {
    this.parts.trouble(e instanceof MediaError ? e.trouble : { what: `The call could not be made: ${String(e)}.` });
    this.end({ cause: "Canceled", mine: true, established: false });
  }

  /** events has the line follow a leg, as long as it is the call's own. */
  private events(leg: () => Leg | undefined) {
    const own = () => leg() === this.leg || this.leg === undefined;
    const only = (f: () => void) => own() && f();
    return {
      sent: () => only(() => this.step({ type: "sent" })),
      ringing: () => only(() => this.step({ type: "ringing" })),
      up: () => (own() ? this.up(leg()!) : void this.succeed(leg()!)),
      hold: (by: "me" | "peer", on: boolean) => only(() => this.step({ type: "hold", by, on })),
      peer: (peer: Peer) => only(() => peer.number !== "" && this.step({ type: "peer", peer })),
      media: (media: Line["media"]) => only(() => this.step({ type: "media", media })),
      direct: (on: boolean) => only(() => this.step({ type: "direct", on })),
      lost: () => only(() => this.lost()),
      spent: () => only(() => this.renew()),
      heir: (s: RTCSession) => this.inherit(s),
      end: (e: End) => this.legEnded(leg(), e),
    };
  }

  private up(leg: Leg): void {
    if (this.from && leg.toneOnly) {
      leg.hangUp(); // "the call is on this device already": baton has not yet noticed that the old page is gone
      return;
    }
    const from = this.from;
    this.from = undefined;
    this.step({ type: "up", at: from?.answered ?? Date.now() });
    if (from?.muted) this.mute(true);
    if (from?.held) this.hold(true);
    this.parts.changed(this);
  }

  private legEnded(leg: Leg | undefined, e: End): void {
    if (leg !== undefined && leg === this.next) {
      this.next = undefined;
      if (this.isLost) this.giveUp(e);
      else if (this.leg?.over) this.end(e);
      return;
    }
    if (leg !== this.leg && this.leg !== undefined) return;
    if (this.next) return; // its heir goes on
    this.leg = undefined;
    if (this.from && this.tried < tries && e.code !== 481 && e.code !== 404 && e.code !== 603) void this.again();
    else this.end(e);
  }

  private async again(): Promise<void> {
    await new Promise((r) => setTimeout(r, anotherTry));
    if (this.from && !this.leg && !this.gone) await this.takeBack(this.from);
  }

  /** lost takes the call back from a node that has forgotten the dialog, but perhaps not the call. */
  private lost(): void {
    const saved = this.saved;
    const old = this.leg;
    if (!saved || !old || this.next) return;
    this.isLost = true;
    this.replace(saved.dialog);
  }

  /** renew has a new dialog take the place of one whose PeerConnection is of no use any more; it is tried again if that comes to nothing. */
  private renew(): void {
    const saved = this.saved;
    if (saved && this.leg && !this.next) this.replace(saved.dialog);
  }

  private replace(dialog: Dialog): void {
    if (this.replacing) return;
    this.replacing = true;
    void this.connect(this.parts.target(), [replaces(dialog)]).then((leg) => {
      this.replacing = false;
      if (leg) this.next = leg;
    });
  }

  /** giveUp ends a call that baton does not know any more. */
  private giveUp(e: End): void {
    const old = this.leg;
    this.leg = undefined;
    this.parts.trouble({ what: "The call was lost: baton does not know it any more.", do: "It may have been started anew. Call again." });
    this.end(e);
    old?.hangUp();
  }

  /** inherit answers a dialog that shall take this one's place. */
  private inherit(session: RTCSession): void {
    const heir: Leg = new Leg(session, this.parts.audio, this.parts.ready, this.parts.straight, this.events(() => heir));
    this.next = heir;
    heirs.add(session);
    // JsSIP has not yet told baton that it rings; answered only then.
    setTimeout(() => void this.accept(heir), 0);
  }

  /** succeed has the new leg take over once it is heard; until then the old one goes on. */
  private async succeed(leg: Leg): Promise<void> {
    leg.mute(this.line.muted);
    if (this.line.held) leg.hold(true);
    await leg.heard();
    if (leg !== this.next) return;
    const old = this.leg;
    this.leg = leg;
    this.next = undefined;
    this.isLost = false;
    leg.mute(this.line.muted); // it may have changed meanwhile
    if (leg.held !== this.line.held) leg.hold(this.line.held);
    this.step({ type: "media", media: leg.media });
    this.step({ type: "direct", on: leg.second.direct });
    this.parts.changed(this);
    old?.hangUp();
  }
}

/** heirs are sessions that a call has taken as its own, so that they ring nowhere. */
export const heirs = new WeakSet<RTCSession>();
