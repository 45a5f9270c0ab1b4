// A leg is one SIP dialog of this browser with its PeerConnection. JsSIP speaks SIP; what is added here is that nothing but a hang-up
// ends a call that stands: a lost connection, failed ICE or a request that was never answered are repaired.

import type { RTCSession } from "jssip/lib/RTCSession";
import type { IncomingRequest, IncomingResponse } from "jssip/lib/SIPMessage";
import type { Audio, User } from "./media";
import { mediaOf, type End, type Media, type Peer } from "./line";
import { messageType, Peer as Second, readMessage, type Message } from "./peer";

/** Dialog names a dialog as a Replaces header does (RFC 3891). */
export interface Dialog {
  callID: string;
  localTag: string;
  remoteTag: string;
}

/** replaces is the header that takes a dialog's place: baton's own tag is the to-tag. */
export const replaces = (d: Dialog): string => `Replaces: ${d.callID};to-tag=${d.remoteTag};from-tag=${d.localTag}`;

/** Events is what a leg tells the call that it belongs to. */
export interface Events {
  sent(): void;
  ringing(): void;
  up(): void;
  hold(by: "me" | "peer", on: boolean): void;
  peer(p: Peer): void;
  media(m: Media): void;
  /** direct says whether the sound comes straight from the other browser. */
  direct(on: boolean): void;
  /** lost: baton knows this dialog no more, though nobody has hung up. */
  lost(): void;
  /** spent: its PeerConnection will carry nothing any more, whatever becomes of ICE. */
  spent(): void;
  end(e: End): void;
  /** heir: baton has a new dialog take this one's place. */
  heir(s: RTCSession): void;
}

/** What JsSIP has and its types leave out. */
interface Inside {
  _dialog?: { id: { call_id: string; local_tag: string; remote_tag: string } };
  _localHold: boolean;
  _onunhold(by: "local"): void;
  sendRequest(method: string, o: { extraHeaders: string[]; body: string; eventHandlers: Record<string, () => void> }): void;
  terminate(o?: { cause?: string; status_code?: number; reason_phrase?: string }): void;
}

const settle = 1000; // ms that ICE may be disconnected before it is restarted
const retry = 2500; // ms that a restart may take before the next
const renewal = 5000; // ms that a new PeerConnection may take before the next
const heardPatience = 3000; // ms that a new leg may stay silent before it is taken as heard

export class Leg implements User {
  pc: RTCPeerConnection | undefined;
  media: Media = "none";
  /** up says that the dialog is confirmed. */
  up = false;
  /** sendOnly says that the other side's answer takes nothing from here: baton plays a tone and no call. */
  toneOnly = false;

  over = false;

  /** second is its connection straight to the other browser, where there is one. */
  readonly second: Second;

  private letGo = false; // what ends now is meant to end
  private stopPlaying: (() => void) | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private wantsRestart = false;
  private failed = false; // its ICE has, once
  private reoffered = 0;

  /** mic is who has borrowed the microphone for this leg, where that is not the leg itself. straight says whether sound may go past baton. */
  constructor(
    readonly session: RTCSession, private readonly audio: Audio, private readonly ready: () => boolean, private readonly straight: () => boolean,
    private readonly on: Events, private readonly mic?: User,
  ) {
    this.second = new Second({
      standing: () => this.pc, tell: (m) => this.say(m), play: (stream) => this.audio.play(stream), changed: () => this.on.direct(this.second.direct),
    });
    this.shield();
    this.listen();
    if (session.connection) this.attach(session.connection);
  }

  get dialog(): Dialog | undefined {
    const id = (this.session as unknown as Inside)._dialog?.id;
    return id && { callID: id.call_id, localTag: id.local_tag, remoteTag: id.remote_tag };
  }

  /** attach takes the PeerConnection, as soon as there is one. */
  attach(pc: RTCPeerConnection): void {
    this.pc = pc;
    pc.addEventListener("track", (e) => {
      this.stopPlaying?.();
      this.stopPlaying = this.audio.play(new MediaStream([e.track]));
    });
    pc.addEventListener("iceconnectionstatechange", () => this.iceChanged());
  }

  /** heard waits for the first packet of the other side's audio. */
  async heard(): Promise<void> {
    for (const until = Date.now() + heardPatience; Date.now() < until && !this.over; ) {
      const stats = await this.pc?.getStats().catch(() => undefined);
      for (const s of stats?.values() ?? []) if (s.type === "inbound-rtp" && s.packetsReceived > 0) return;
      await new Promise((r) => setTimeout(r, 40));
    }
  }

  replace(track: MediaStreamTrack): void {
    const sender = this.pc?.getSenders().find((s) => s.track?.kind === "audio") ?? this.pc?.getSenders()[0];
    void sender?.replaceTrack(track);
    this.second.replace(track);
  }

  /** carrier is the connection by which the other side is heard. */
  get carrier(): RTCPeerConnection | undefined {
    return this.second.direct ? this.second.pc : this.pc;
  }

  /** held says whether it is held from here. */
  get held(): boolean {
    return this.session.isOnHold().local;
  }

  hold(on: boolean): boolean {
    this.second.leave();
    return on ? this.session.hold() : this.session.unhold();
  }

  mute(on: boolean): void {
    if (on) this.session.mute({ audio: true });
    else this.session.unmute({ audio: true });
  }

  tone(t: string): void {
    const way = this.second.direct ? "INFO" : "RFC2833"; // in the sound it would not come to baton
    this.session.sendDTMF(t, { transportType: way as never, duration: 120, interToneGap: 70 });
  }

  /** hangUp ends the leg by the request that its state asks for: CANCEL, a refusal, or BYE. */
  hangUp(code?: number): void {
    if (this.over) return;
    this.letGo = true;
    try {
      this.session.terminate(code === undefined ? {} : { status_code: code });
    } catch {
      this.ended({ cause: "Terminated", mine: true, established: false });
    }
  }

  /** abandon leaves the dialog without a word, for another tab of this browser to take over. */
  abandon(): void {
    this.over = true;
    clearTimeout(this.timer);
    this.pc?.close();
    this.cleanUp();
  }

  /** linkBack is called when the connection for SIP stands again. */
  linkBack(networkChanged: boolean): void {
    if (!this.up || this.over) return;
    this.announce();
    const before = this.reoffered;
    if (this.wantsRestart || networkChanged || this.media !== "connected") {
      this.restart();
      return;
    }
    // Nothing is broken. The dialog is refreshed all the same, unless baton does it first: it must learn the new connection, and a
    // session timer's refresh may have been lost.
    setTimeout(() => {
      if (!this.over && this.reoffered === before && this.ready()) this.session.renegotiate();
    }, 1500);
  }

  /** restart finds a new path for the audio (ICE restart, RFC 8445 §2.4), again and again until there is one. */
  restart(): void {
    clearTimeout(this.timer);
    if (!this.up || this.over) return;
    if (!this.ready()) {
      this.wantsRestart = true;
      return;
    }
    this.wantsRestart = false;
    if (this.spent) {
      this.timer = setTimeout(() => this.restart(), renewal);
      this.on.spent();
      return;
    }
    const begun = this.session.renegotiate({ rtcOfferConstraints: { iceRestart: true } });
    this.timer = setTimeout(() => {
      if (this.media !== "connected") this.restart();
    }, begun ? retry : 300);
  }

  /** A PeerConnection of Firefox whose ICE has failed, after half a minute without a network, connects again and sends nothing any more. */
  private get spent(): boolean {
    return this.failed && firefox() || (this.pc?.getSenders().some((s) => s.transport?.state === "failed") ?? false);
  }

  private iceChanged(): void {
    const state = this.pc!.iceConnectionState;
    const media = mediaOf(state, this.media);
    if (media !== this.media) {
      this.media = media;
      this.on.media(media);
    }
    clearTimeout(this.timer);
    if (state === "disconnected") this.timer = setTimeout(() => this.restart(), settle);
    if (state === "failed") {
      this.failed = true;
      this.restart();
    }
  }

  /** shield has JsSIP repair instead of ending: it hangs up by itself on causes that are none for an established call. */
  private shield(): void {
    const inside = this.session as unknown as Inside;
    const terminate = inside.terminate.bind(this.session);
    inside.terminate = (o = {}) => {
      if (this.letGo || !this.session.isEstablished()) return terminate(o);
      switch (o.cause) {
        case undefined: // a new dialog has taken this one's place, and is not heard yet
          return;
        case "Dialog Error":
          this.on.lost();
          return;
        case "RTP Timeout": // ICE has failed, which JsSIP hears of first
          this.failed = true;
          this.restart();
          return;
        case "Connection Error":
        case "Request Timeout":
          this.wantsRestart = true;
          return;
        case "WebRTC Error":
          if (o.reason_phrase === "Hold Failed") {
            inside._localHold = false;
            inside._onunhold("local");
          }
          return;
      }
      this.letGo = true;
      terminate(o);
    };
  }

  private listen(): void {
    const s = this.session;
    s.on("sending", () => this.on.sent());
    s.on("icecandidate", ({ ready }) => ready()); // baton is ICE-lite: it needs none of our candidates to answer our checks
    s.on("progress", ({ response }: { response?: IncomingResponse }) => response && this.on.ringing());
    s.on("accepted", ({ response }: { response?: IncomingResponse }) => this.identify(response));
    s.on("confirmed", () => {
      this.up = true;
      this.on.up();
      this.announce();
    });
    s.on("sdp", ({ originator, type, sdp }) => {
      if ((originator as string) === "remote" && type === "answer") this.toneOnly = /^a=(sendonly|inactive)\r?$/m.test(sdp);
    });
    s.on("hold", ({ originator }) => this.on.hold((originator as string) === "local" ? "me" : "peer", true));
    s.on("unhold", ({ originator }) => this.on.hold((originator as string) === "local" ? "me" : "peer", false));
    s.on("reinvite", ({ request }) => {
      this.reoffered++;
      this.identify(request);
    });
    s.on("newInfo", ({ originator, info }: { originator: string; info: { contentType: string; body: string } }) => {
      const m = originator === "remote" && info.contentType.startsWith(messageType) ? readMessage(info.body) : undefined;
      if (m && !this.over && ((this.straight() && stopsSending()) || m.say === "home")) this.second.take(m);
    });
    s.on("update", ({ request }) => this.identify(request));
    s.on("replaces", (e) => e.accept((heir: RTCSession) => this.on.heir(heir)));
    for (const event of ["ended", "failed"] as const) {
      s.on(event, ({ originator, message, cause }) => {
        const m = message as (IncomingResponse & { status_code?: number }) | null;
        this.ended({
          cause, code: m?.status_code, reason: reasonOf(m), mine: (originator as string) === "local" && this.letGo, established: event === "ended",
        });
      });
    }
  }

  /** announce tells baton that this page can talk straight to another. */
  private announce(): void {
    if (this.straight() && stopsSending()) this.second.announce();
  }

  /** say tells baton something of the second connection. Whether that arrives is nothing to the call: what is lost is said again by announce. */
  private say(m: Message): void {
    if (!this.up || this.over) return;
    const nothing = () => {};
    (this.session as unknown as Inside).sendRequest("INFO", {
      extraHeaders: [`Content-Type: ${messageType}`], body: JSON.stringify(m),
      eventHandlers: { onSuccessResponse: nothing, onErrorResponse: nothing, onTransportError: nothing, onRequestTimeout: nothing, onDialogError: nothing },
    });
  }

  /** identify reads who is on the other side now (RFC 3325, 4916): a transfer changes it. */
  private identify(m: IncomingRequest | IncomingResponse | undefined): void {
    const asserted = m?.getHeader("P-Asserted-Identity") as string | undefined;
    const peer = asserted === undefined ? undefined : identity(asserted);
    if (peer) this.on.peer(peer);
  }

  private ended(e: End): void {
    if (this.over) return;
    this.over = true;
    clearTimeout(this.timer);
    this.cleanUp();
    this.on.end(e);
  }

  private cleanUp(): void {
    this.second.close();
    this.stopPlaying?.();
    this.stopPlaying = undefined;
    this.audio.giveBack(this.mic ?? this);
  }
}

const firefox = (): boolean => /\bFirefox\//.test(navigator.userAgent);

/** stopsSending says whether the browser sends nothing where an encoding is not active: Firefox 153 goes on. */
const stopsSending = (): boolean => !firefox();

/** reasonOf is the text of a Reason header, else the reason phrase. */
function reasonOf(m: (IncomingResponse & { reason_phrase?: string }) | null): string | undefined {
  const text = (m?.getHeader("Reason") as string | undefined)?.match(/text="?([^";]*)"?/i)?.[1];
  return text ?? m?.reason_phrase;
}

/** identity reads a name-addr as P-Asserted-Identity has it. */
export function identity(header: string): Peer | undefined {
  const m = /^\s*(?:"((?:[^"\\]|\\.)*)"|([^<"]*?))?\s*<(?:sips?|tel):([^@;>?]+)/i.exec(header);
  if (!m) return undefined;
  const name = (m[1]?.replace(/\\(.)/g, "$1") ?? m[2] ?? "").trim();
  let number = m[3]!;
  try {
    number = decodeURIComponent(number);
  } catch {
    // not escaped as it should be: shown as it came
  }
  return { name, number };
}
