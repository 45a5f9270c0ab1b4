// The phone that this browser is: one SIP user agent over one connection, and its calls. It knows nothing of the screen.

import * as JsSIP from "jssip";
import type { IncomingRTCSessionEvent, RTCSessionEvent, UA } from "jssip/lib/UA";
import type { SipLogin } from "./api";
import { Call, heirs, type Saved } from "./call";
import type { Dialog } from "./leg";
import type { Line, Peer, Purpose } from "./line";
import type { Audio } from "./media";
import { judge } from "./dead";
import { idle, inCall, Wire } from "./wire";
import type { Trouble } from "./words";

/** Link is how far this browser is registered. */
export type Link = "off" | "connecting" | "registering" | "ready" | "refused";

export interface Hooks {
  lines(lines: Line[]): void;
  link(link: Link): void;
  /** down tells for how long, in ms, there has been no connection; 0 when it is back. */
  down(ms: number): void;
  trouble(t: Trouble): void;
  ended(l: Line): void;
  saved(s: Saved[]): void;
}

export interface Options {
  nodes: string[]; // URLs at which SIP is spoken, the page's own first
  /** open gives a connection that is there or on its way already, if there is one. */
  open(url: string): WebSocket | undefined;
  /** reachable says whether the page's own node answers, as Wire asks it. */
  reachable(): Promise<boolean>;
  sip: SipLogin;
  display: string;
  instance: string;
  agent: string;
  pull(): string; // the code that brings a call here
  audio: Audio;
  servers(): Promise<RTCIceServer[]>;
  relayOnly(): boolean;
  autoAnswer(): boolean;
  hooks: Hooks;
}

const registerAgain = 2000; // ms after a REGISTER that failed
const refusedAgain = 30_000; // ms after one that was refused: baton refuses so, too, whose neighbour guesses passwords

export class Phone {
  private readonly ua: UA;
  private readonly wire: Wire;
  private calls = new Map<string, Call>();
  private state: Link = "off";
  private waiting: (() => void)[] = []; // for the connection
  private stopped = false;
  private networkChanged = false;
  private readonly host: string;

  constructor(private readonly o: Options) {
    this.wire = new Wire(o.nodes, (url) => o.open(url) ?? new WebSocket(url, "sip"), () => o.reachable());
    this.wire.ontrouble = (since) => o.hooks.down(since);
    this.wire.intercept = (m) => this.intercept(m);
    this.host = o.sip.uri.replace(/^[^@]*@/, "");
    this.ua = new JsSIP.UA({
      sockets: this.wire as unknown as JsSIP.Socket,
      uri: o.sip.uri, authorization_user: o.sip.login, password: o.sip.password, display_name: o.display || undefined,
      instance_id: o.instance, user_agent: o.agent, register_expires: 300, no_answer_timeout: 120, session_timers: true,
      connection_recovery_min_interval: 1, connection_recovery_max_interval: 1, // JsSIP's own; the wire is quicker
    });
    this.listen();
    window.addEventListener("online", this.online);
    window.addEventListener("offline", this.offline);
    document.addEventListener("visibilitychange", this.seen);
  }

  get link(): Link {
    return this.state;
  }

  start(): void {
    this.setLink("connecting");
    this.ua.start();
  }

  /** stop signs off: calls are ended, the device is away. */
  stop(): void {
    this.quit();
    for (const c of this.calls.values()) c.hangUp();
    this.ua.stop();
  }

  /** abandon leaves without a word and gives what another tab needs to go on with the calls. */
  abandon(): Saved[] {
    const saved = this.saved();
    this.quit();
    for (const c of this.calls.values()) c.abandon();
    this.calls.clear();
    this.wire.disconnect();
    return saved;
  }

  /** dial calls a number. For a pull, call is baton's id of what is brought here. */
  dial(number: string, purpose: Purpose = "call", peer: Peer = { name: "", number }, call?: string): string {
    const c = this.add(new Call(this.parts(), purpose, peer, call));
    this.holdOthers(c);
    void c.dial(this.uri(number));
    return c.line.id;
  }

  /** takeBack continues a call that a page before this one had. */
  takeBack(saved: Saved): string {
    const c = new Call(this.parts(), "resume", saved.peer, saved.call);
    void c.takeBack(saved); // before anybody is told of it: it is not yet saved otherwise
    this.add(c);
    return c.line.id;
  }

  answer(id: string): void {
    const c = this.calls.get(id);
    if (!c) return;
    this.holdOthers(c);
    void c.answer();
  }

  /** decline refuses for all of the user's devices (603), or lets the others ring on (480). */
  decline(id: string, everywhere = true): void {
    this.calls.get(id)?.hangUp(everywhere ? 603 : 480);
  }

  hangUp = (id: string): void => this.calls.get(id)?.hangUp();
  mute = (id: string, on: boolean): void => this.calls.get(id)?.mute(on);
  tone = (id: string, t: string): void => this.calls.get(id)?.tone(t);

  hold(id: string, on: boolean): void {
    const c = this.calls.get(id);
    if (!on && c) this.holdOthers(c);
    c?.hold(on);
  }

  transfer(id: string, number: string): void {
    this.calls.get(id)?.transfer(this.uri(number));
  }

  /** join hands the other side of one call to that of another. */
  join(id: string, other: string): void {
    const second = this.calls.get(other);
    if (second) this.calls.get(id)?.transfer(this.uri(second.line.peer.number), second);
  }

  /** answered is told that baton has answered a request of the page's. */
  answered(): void {
    this.wire.answered();
  }

  connection = (id: string): RTCPeerConnection | undefined => this.calls.get(id)?.pc;
  dialog = (id: string): Dialog | undefined => this.calls.get(id)?.dialog;

  saved(): Saved[] {
    return [...this.calls.values()].map((c) => c.saved).filter((s) => s !== undefined);
  }

  /** uri is what a number or name is called by. */
  private uri(number: string): string {
    return number.includes("@") ? `sip:${number}` : `sip:${encodeURIComponent(number).replace(/%2B/g, "+").replace(/%3B/g, ";")}@${this.host}`;
  }

  private parts() {
    return {
      ua: this.ua, audio: this.o.audio, target: () => this.uri(this.o.pull()),
      configuration: async (): Promise<RTCConfiguration> => ({
        iceServers: await this.o.servers(), bundlePolicy: "max-bundle", iceTransportPolicy: this.o.relayOnly() ? "relay" : "all",
      }),
      ready: () => this.state === "ready",
      straight: () => !this.o.relayOnly(),
      whenReady: () => (this.state === "ready" ? Promise.resolve() : new Promise<void>((ok) => this.waiting.push(ok))),
      changed: () => this.tell(),
      trouble: (t: Trouble) => this.o.hooks.trouble(t),
      over: (c: Call) => {
        this.calls.delete(c.line.id);
        this.tell();
        this.o.hooks.ended(c.line);
      },
    };
  }

  private add(c: Call): Call {
    this.calls.set(c.line.id, c);
    this.tell();
    return c;
  }

  private holdOthers(but: Call): void {
    for (const c of this.calls.values()) if (c !== but && c.line.stage === "talking" && !c.line.held) c.hold(true);
  }

  private tell(): void {
    if (this.stopped) return;
    this.wire.setPace(this.calls.size > 0 ? inCall : idle);
    this.o.hooks.lines([...this.calls.values()].map((c) => c.line));
    this.o.hooks.saved(this.saved());
  }

  private listen(): void {
    this.ua.on("connecting", () => this.state !== "off" && this.setLink("connecting"));
    this.ua.on("connected", () => this.setLink("registering"));
    this.ua.on("disconnected", () => {
      if (this.stopped) return;
      this.setLink("connecting");
      // JsSIP waits a second before it connects anew; a call cannot.
      setTimeout(() => !this.stopped && (this.ua as unknown as { transport: { connect(): void } }).transport.connect(), 0);
    });
    this.ua.on("registered", () => {
      this.setLink("ready");
      const changed = this.networkChanged;
      this.networkChanged = false;
      for (const c of this.calls.values()) c.linkBack(changed);
    });
    this.ua.on("registrationFailed", ({ response }) => {
      if (this.stopped) return;
      const code = (response as { status_code?: number } | null)?.status_code;
      const refused = code === 401 || code === 403 || code === 407;
      if (refused) this.setLink("refused");
      setTimeout(() => !this.stopped && this.ua.isConnected() && !this.ua.isRegistered() && this.ua.register(), refused ? refusedAgain : registerAgain);
    });
    this.ua.on("newRTCSession", (e: RTCSessionEvent) => {
      if ((e.originator as string) === "remote" && !heirs.has(e.session)) this.incoming(e as IncomingRTCSessionEvent);
    });
  }

  /** intercept answers what baton sends in dialogs that this page takes back from one before it. */
  private intercept(message: string): boolean {
    const of = (callID: string) => [...this.calls.values()].find((c) => c.dead === callID);
    let call: Call | undefined;
    const verdict = judge(message, (id) => (call = of(id)) !== undefined);
    if (!verdict) return false;
    if (verdict.reply) this.wire.send(verdict.reply);
    if (verdict.over) call?.hangUp();
    return true;
  }

  private incoming({ session, request }: IncomingRTCSessionEvent): void {
    const from = session.remote_identity;
    const peer = { name: from.display_name ?? "", number: from.uri.user ?? "" };
    const c = new Call(this.parts(), "in", peer);
    c.ring(session);
    this.add(c);
    if (asksToAnswer(request) && this.o.autoAnswer()) {
      // Not within JsSIP's own event, which sends the 180 after it.
      setTimeout(() => {
        this.holdOthers(c);
        void c.answer(true);
      }, 0);
    }
  }

  private setLink(l: Link): void {
    if (this.stopped || l === this.state) return;
    this.state = l;
    this.o.hooks.link(l);
    if (l === "ready") for (const go of this.waiting.splice(0)) go();
  }

  private quit(): void {
    this.stopped = true;
    window.removeEventListener("online", this.online);
    window.removeEventListener("offline", this.offline);
    document.removeEventListener("visibilitychange", this.seen);
  }

  private online = (): void => {
    this.networkChanged = true;
    if (this.wire.isConnected()) this.wire.drop("the network has changed"); // what was open went over the old one
    else this.wire.nudge();
  };

  private offline = (): void => {
    this.networkChanged = true;
    this.wire.drop("no network");
  };

  private seen = (): void => {
    if (document.visibilityState === "visible") this.wire.nudge();
  };
}

/** asksToAnswer says whether a call shall be answered without a hand: baton asks so only where its user has moved a call here by name. */
export function asksToAnswer(request: { getHeader(name: string): unknown }): boolean {
  const header = (name: string) => String(request.getHeader(name) ?? "");
  return /^\s*auto\b/i.test(header("Answer-Mode")) || /answer-after\s*=\s*0\b/i.test(header("Call-Info")) || /alert-autoanswer/i.test(header("Alert-Info"));
}
