// The state of the page, and everything that can be done in it. Components read the state and call the actions; they hold nothing.

import { createStore, produce, reconcile, type SetStoreFunction } from "solid-js/store";
import { ApiError, Client, signIn, type Call, type Device, type Me, type Past, type Session } from "./api";
import { conversations, thisDevice, type Conversation } from "./merge";
import type { Saved } from "./call";
import { dialable, type Line } from "./line";
import { Audio, canListen, MediaError, type Device as MediaDevice } from "./media";
import { Phone, type Link } from "./phone";
import { Alarm, askNotifications, Bell, hindrances, notifications, type Hindrance, type Means } from "./ring";
import { Box, instance, lastDialled, leftBox, loadSettings, meBox, product, saveSettings, seenBox, sessionBox, type Ice, type Settings } from "./settings";
import { Reporter } from "./report";
import { read, Window as QualityWindow, type Quality, type Sample } from "./stats";
import { Tab, type Role } from "./tab";
import { sockets, stale } from "./wire";
import * as words from "./words";
import type { Trouble } from "./words";

export interface Notice extends Trouble {
  id: number;
  grave: boolean;
}

export interface Meter {
  sample: Sample;
  quality: Quality | undefined;
}

export interface State {
  session: Session | undefined;
  signingIn: boolean;
  signInTrouble: Trouble | undefined;
  me: Me | undefined;
  role: Role;
  link: Link;
  linkTrouble: Trouble | undefined;
  following: boolean; // the node's events arrive
  loaded: boolean;
  devices: Device[];
  calls: Call[];
  history: Past[];
  olderHistory: boolean; // there may be more
  lines: Line[];
  meters: Record<string, Meter>;
  moving: Record<string, string>; // call → name of the device that it is on its way to
  notices: Notice[];
  soundBlocked: boolean;
  means: Means;
  media: { microphones: MediaDevice[]; speakers: MediaDevice[]; named: boolean };
  settings: Settings;
  seen: string | undefined; // the newest missed call that was seen
  now: number;
  view: "calls" | "keypad" | "history";
  dialog: "settings" | "shortcuts" | undefined;
  number: string; // in the field of the keypad
}

// The live calls of the tab that is the device, for the tab that is it next: the same one after a reload, or another one.
const liveBox = new Box<Saved[]>("baton.live", () => localStorage);
const liveFor = 20_000; // ms for which a call is taken back
const earlyFor = 3000; // ms that a connection is kept for which this tab may have no use
const lookAgain = 3000; // ms between looks at baton's own figures while there is a call
const expectFor = 15_000; // ms in which a call that was asked to come here is answered by itself

export class App {
  readonly state: State;
  readonly audio: Audio;
  readonly instance = instance();
  readonly agent = product(navigator.userAgent);

  private readonly set: SetStoreFunction<State>;
  private readonly bell: Bell;
  private readonly alarm: Alarm;
  private client: Client | undefined;
  private phone: Phone | undefined;
  private tab: Tab | undefined;
  private following: AbortController | undefined;
  private windows = new Map<string, QualityWindow>();
  private readonly reporter = new Reporter((r) => this.client?.report(r) ?? Promise.resolve());
  private ice: Ice | undefined;
  private early: WebSocket | undefined; // opened before this tab is known to be the device
  private pending: Saved[] = []; // to be taken back as soon as the phone is ready
  private wasReady = false; // the phone was registered, and so has had a connection before this one
  private expecting = 0; // until when a call that comes in is one that was asked for
  private asking: Promise<Me | undefined> | undefined;
  private notice = 0;
  private lookedAt = 0;

  constructor() {
    const settings = loadSettings();
    [this.state, this.set] = createStore<State>({
      session: sessionBox.get(), signingIn: false, signInTrouble: undefined, me: undefined, role: "waiting", link: "off", linkTrouble: undefined,
      following: false, loaded: false, devices: [], calls: [], history: [], olderHistory: true, lines: [], meters: {}, moving: {}, notices: [],
      soundBlocked: false, means: { secure: canListen(), sound: false, notify: notifications(), wantsNotify: settings.notify, microphone: "unknown" },
      media: { microphones: [], speakers: [], named: false }, settings, seen: seenBox.get(), now: Date.now(), view: "calls", dialog: undefined, number: "",
    });
    this.audio = new Audio(() => this.state.settings);
    this.bell = new Bell(() => this.state.settings.ringVolume, () => this.state.settings.speaker);
    this.alarm = new Alarm(() => this.title());
    this.listen();
  }

  /** start goes on where an earlier page of this browser was signed in. */
  start(): void {
    this.theme();
    if (this.state.session) this.bell.unblock(); // a page that was reloaded may sound without a gesture
    void this.look();
    if (this.state.session) this.begin(this.state.session);
    setInterval(() => this.tick(), 1000);
  }

  // What is shown.

  here = (): Device | undefined => thisDevice(this.state.devices, this.instance);
  conversations = (): Conversation[] => conversations(this.state.calls, this.state.lines, this.state.session?.user ?? "", this.here());
  hindrances = (): Hindrance[] => (this.state.role === "device" ? hindrances(this.state.means) : []);
  active = (): Line | undefined => {
    const up = this.state.lines.filter((l) => l.stage !== "over" && l.stage !== "incoming");
    return up.find((l) => !l.held) ?? up[0];
  };
  incoming = (): Line[] => this.state.lines.filter((l) => l.stage === "incoming" && !l.auto);

  // Signing in and out.

  async signIn(user: string, password: string): Promise<void> {
    this.unblock();
    this.set({ signingIn: true, signInTrouble: undefined });
    try {
      const session = await signIn(user.trim(), password, this.agent);
      sessionBox.set(session);
      this.set({ session });
      this.begin(session);
    } catch (e) {
      const a = e instanceof ApiError ? e : new ApiError(-1, String(e));
      this.set({ signInTrouble: words.signingIn(a.status, a.message, a.wait) });
    } finally {
      this.set({ signingIn: false });
    }
  }

  /** resume goes on with a session that is kept, if there is none yet. */
  private resume(): void {
    const session = this.state.session || this.state.signingIn ? undefined : sessionBox.get();
    if (!session) return;
    this.set({ session, signInTrouble: undefined });
    this.begin(session);
  }

  async signOut(): Promise<void> {
    const client = this.client;
    this.end(undefined, true);
    await client?.signOut().catch(() => {}); // its credentials are of no use to anybody: they are forgotten here
  }

  private begin(session: Session): void {
    this.client = new Client(session.token, () => this.phone?.answered());
    const kept = meBox.get();
    if (kept?.login === session.sip.login) {
      this.set({ me: kept.me });
      this.ice = kept.ice;
      if (leftBox.get() && this.live().length > 0) this.hurry(kept.me);
    }
    leftBox.set(undefined);
    this.attend();
    this.tab = new Tab({
      role: (role) => {
        this.set({ role });
        this.attend();
      },
      become: () => void this.becomeDevice(session),
      inherit: (saved) => this.takeBack(saved),
      give: () => this.give(),
      signedOut: () => this.end(undefined, false),
    });
    this.tab.start();
  }

  /** attend follows baton's events in the tab that is the device and in those that are seen: a browser has six connections to a host. */
  private attend(): void {
    const wanted = this.client !== undefined && (this.state.role === "device" || document.visibilityState === "visible");
    if (wanted === (this.following !== undefined)) return;
    if (!wanted) {
      this.following?.abort();
      this.following = undefined;
      this.set({ following: false });
      return;
    }
    this.following = new AbortController();
    void this.client!.follow({
      event: (e) => this.event(e.event, e.data),
      up: (up) => {
        this.set({ following: up });
        if (up) setTimeout(() => void this.learn(), this.state.me ? 2000 : 0); // the lists come by themselves
      },
      refused: () => this.refused(),
    }, this.following.signal);
  }

  /** refused is called when baton does not know this session any more. */
  private refused(): void {
    this.end({ what: "Your sign-in has ended.", do: "It was revoked, the password was changed, or it was not used for a month. Sign in again." }, false);
  }

  private end(trouble: Trouble | undefined, tellOthers: boolean): void {
    this.following?.abort();
    this.following = undefined;
    this.phone?.stop();
    this.tab?.stop(tellOthers);
    this.phone = this.tab = this.client = undefined;
    this.ice = undefined;
    this.opened("")?.close();
    sessionBox.set(undefined);
    meBox.set(undefined);
    liveBox.set(undefined);
    lastDialled.set(undefined);
    this.bell.stop();
    this.set({
      session: undefined, me: undefined, role: "waiting", link: "off", linkTrouble: undefined, following: false, loaded: false, devices: [], calls: [],
      history: [], lines: [], meters: {}, moving: {}, notices: [], dialog: undefined, signInTrouble: trouble,
    });
    this.alarm.calm();
  }

  // Being the device.

  private async becomeDevice(session: Session): Promise<void> {
    const me = await this.known();
    if (!me || this.phone || this.state.session !== session && this.state.session?.token !== session.token) return;
    this.wasReady = false;
    const phone = (this.phone = new Phone({
      nodes: socketsOf(me), open: (url) => this.opened(url), reachable: () => reached(stale),
      sip: { ...session.sip }, display: me.display ?? "", instance: this.instance, agent: `${this.agent} baton`, pull: () => (this.state.me ?? me).codes.pull,
      audio: this.audio, servers: () => this.servers(), relayOnly: () => this.state.settings.relayOnly,
      autoAnswer: () => this.state.settings.autoAnswer || Date.now() < this.expecting,
      hooks: {
        lines: (lines) => this.lines(lines),
        link: (link) => this.linked(link),
        down: (ms) => void this.down(ms),
        trouble: (t) => this.say(t, true),
        ended: (l) => this.ended(l),
        saved: (s) => liveBox.set(s.length > 0 ? s : undefined),
      },
    }));
    // Before it registers: baton may speak in the old dialogs as soon as it has.
    this.takeBack(this.live());
    phone.start();
  }

  /** live are the calls of a page before this one that can be taken back. */
  private live = (): Saved[] => (liveBox.get() ?? []).filter((s) => Date.now() - s.at < liveFor);

  /** hurry opens connection and microphone for a call that waits to be taken back, while the browser takes its time to say that this tab is the device. */
  private hurry(me: Me): void {
    void this.audio.warm(earlyFor);
    try {
      const s = (this.early = new WebSocket(socketsOf(me)[0]!, "sip"));
      setTimeout(() => this.early === s && this.opened("")?.close(), earlyFor);
    } catch {
      // it is tried again by the phone
    }
  }

  /** opened gives the early connection away, if it is to there and has not failed. */
  private opened(url: string): WebSocket | undefined {
    const s = this.early;
    this.early = undefined;
    if (s && s.readyState <= WebSocket.OPEN && (url === "" || s.url === new URL(url).href)) return s;
    s?.close();
    return undefined;
  }

  /** known waits for what baton tells of the user: without it there is no phone. */
  private known(): Promise<Me | undefined> {
    this.asking ??= this.ask().finally(() => (this.asking = undefined));
    return this.asking;
  }

  private async ask(): Promise<Me | undefined> {
    for (let wait = 300; this.client; wait = Math.min(wait * 2, 3000)) {
      if (this.state.me) return this.state.me;
      try {
        await this.learn(true);
      } catch (e) {
        if (e instanceof ApiError && e.status === 401) return void this.refused();
        await new Promise((r) => setTimeout(r, wait));
      }
    }
    return undefined;
  }

  /** learn asks what there is to know of the user, which may have changed since it was kept. */
  private async learn(must = false): Promise<void> {
    const client = this.client;
    const login = this.state.session?.sip.login;
    if (!client || !login) return;
    try {
      const me = await client.me();
      if (client !== this.client) return;
      this.set({ me });
      meBox.set({ login, me, ice: this.ice });
    } catch (e) {
      if (must) throw e;
    }
  }

  private give(): Saved[] {
    const saved = this.phone?.abandon() ?? [];
    this.phone = undefined;
    liveBox.set(undefined);
    this.bell.stop();
    this.set({ lines: [], meters: {}, link: "off", linkTrouble: undefined });
    return saved;
  }

  takeOver(): void {
    this.tab?.takeOver();
  }

  private takeBack(saved: Saved[]): void {
    this.pending.push(...saved);
    if (this.phone) for (const s of this.pending.splice(0)) this.phone.takeBack(s);
  }

  private linked(link: Link): void {
    this.set({ link });
    if (link === "ready") {
      this.set({ linkTrouble: undefined });
      if (this.wasReady) this.client?.renew();
      this.wasReady = true;
    }
    if (link === "refused") {
      void this.client?.me().then(
        () => this.say({ what: "baton does not let this browser register.", do: "Sign out and in again." }, true),
        (e) => e instanceof ApiError && e.status === 401 && this.refused(),
      );
    }
  }

  /** down finds out why there is no connection, once it has not come back for a while. */
  private async down(ms: number): Promise<void> {
    if (ms === 0) this.set({ linkTrouble: undefined });
    if (ms === 0 || (ms < 2000 && navigator.onLine)) return;
    const there = navigator.onLine && (await reached(1500));
    if (this.state.link !== "ready") this.set({ linkTrouble: words.socket(there, navigator.onLine) });
  }

  private async servers(): Promise<RTCIceServer[]> {
    if (this.ice && this.ice.until > Date.now()) return this.ice.servers;
    try {
      const got = await withTimeout(this.client!.ice(), 1500);
      const until = got.until ? Date.parse(got.until) - 60_000 : Date.now() + 300_000;
      this.ice = { servers: got.ice_servers ?? [], until };
      const kept = meBox.get();
      if (kept && kept.login === this.state.session?.sip.login) meBox.set({ ...kept, ice: this.ice });
    } catch {
      return this.ice?.servers ?? []; // the call does without TURN
    }
    return this.ice.servers;
  }

  // What comes from baton.

  private event(name: string, data: string): void {
    let v: unknown;
    try {
      v = JSON.parse(data);
    } catch {
      return;
    }
    if (name === "history" && !Array.isArray(v)) {
      void this.refreshHistory();
      return;
    }
    if (!Array.isArray(v)) return;
    this.set({ loaded: true });
    if (name === "calls") this.gotCalls(v as Call[]);
    if (name === "devices") this.set("devices", reconcile(v as Device[], { key: "name" }));
    if (name === "history") this.gotHistory(v as Past[]);
  }

  private gotCalls(calls: Call[]): void {
    this.set("calls", reconcile(calls, { key: "id" }));
  }

  private gotHistory(history: Past[]): void {
    if (this.state.history.length <= history.length) this.set("history", reconcile(history, { key: "time" }));
    else this.set("history", (old) => [...history, ...old.filter((o) => o.time < (history.at(-1)?.time ?? o.time))]); // older ones were asked for
    if (this.state.history.length < 50) this.set({ olderHistory: false });
    if (this.state.view === "history") this.seeHistory();
  }

  private async refreshHistory(): Promise<void> {
    const history = await this.client?.history(50).catch(() => undefined);
    if (history) {
      this.set({ olderHistory: history.length >= 50 });
      this.gotHistory(history);
    }
  }

  async olderHistory(): Promise<void> {
    const older = (await this.client?.history(50, this.state.history.at(-1)?.time).catch(() => undefined)) ?? [];
    this.set("history", (h) => [...h, ...older.filter((o) => !h.some((p) => p.time === o.time && p.peer === o.peer))]);
    this.set({ olderHistory: older.length >= 50 });
  }

  seeHistory(): void {
    const seen = this.state.history[0]?.time;
    if (!seen || seen === this.state.seen) return;
    seenBox.set(seen);
    this.set({ seen });
  }

  // What can be done with calls.

  /** dial calls; false = it did not come to that, and why has been said. */
  dial(text: string): boolean {
    const number = dialable(text);
    if (number === "") {
      this.say({ what: "That cannot be called.", do: "Type a number or a name." }, true);
      return false;
    }
    if (!this.phone || this.state.link !== "ready") {
      this.say(this.state.linkTrouble ?? { what: "This browser is not connected yet.", do: "Try again in a moment." }, true);
      return false;
    }
    lastDialled.set(number);
    this.phone.dial(number, "call", this.peer(number));
    this.set({ number: "", view: "calls" });
    return true;
  }

  /** peer is a number with the name that the history knows for it. */
  private peer(number: string): { name: string; number: string } {
    return { number, name: this.state.history.find((h) => h.peer === number && h.name)?.name ?? "" };
  }

  redial = (): string => lastDialled.get() ?? "";

  answer = (id: string): void => this.phone?.answer(id);
  decline = (id: string, everywhere = true): void => this.phone?.decline(id, everywhere);
  mute = (id: string, on: boolean): void => this.phone?.mute(id, on);
  hold = (id: string, on: boolean): void => this.phone?.hold(id, on);
  tone = (id: string, t: string): void => this.phone?.tone(id, t);
  join = (id: string, other: string): void => this.phone?.join(id, other);

  transfer(id: string, text: string): void {
    const number = dialable(text);
    if (number === "") this.say({ what: "That is no number to transfer to." }, true);
    else this.phone?.transfer(id, number);
  }

  /** consult calls somebody before a transfer; the call to be transferred is held meanwhile. */
  consult(text: string): void {
    const number = dialable(text);
    if (number !== "") this.phone?.dial(number, "consult", this.peer(number));
  }

  hangUp(c: Conversation): void {
    const unborn = c.line?.purpose === "resume" && c.line.stage !== "talking"; // baton has it still, on the page before this one
    const [line, id] = [c.line?.id, c.call?.id];
    if (line) this.phone?.hangUp(line);
    if (id && (!line || unborn)) void this.doing("Hanging up", () => this.client!.end(id));
  }

  leave(c: Conversation): void {
    if (c.call) void this.doing("Leaving", () => this.client!.leave(c.call!.id));
  }

  /** bring moves a call to this browser. The pull code means the one live call; of several the API tells which. */
  bring(c: Conversation): void {
    if (!c.call) return;
    if (!this.phone || this.state.link !== "ready") {
      this.say(this.state.linkTrouble ?? { what: "This browser is not connected yet.", do: "Try again in a moment." }, true);
      return;
    }
    const live = this.state.calls.filter((k) => k.state === "up" || k.state === "setup");
    const here = this.here();
    if (live.length > 1 && here && c.place !== "nowhere") {
      this.expecting = Date.now() + expectFor;
      this.move(c, here);
      return;
    }
    this.phone.dial(this.state.me!.codes.pull, "pull", c.peer, c.call.id);
  }

  move(c: Conversation, to: Device): void {
    const id = c.call?.id;
    if (!id || this.state.moving[id]) return;
    this.set("moving", id, to.name);
    void this.doing(`The move to ${to === this.here() ? "this browser" : to.name}`, () => this.client!.move(id, to.index > 0 ? String(to.index) : to.name))
      .finally(() => this.set("moving", produce((m) => delete m[id])));
  }

  private async doing(what: string, f: () => Promise<unknown>): Promise<void> {
    try {
      await f();
    } catch (e) {
      if (e instanceof ApiError && e.status === 401) return this.refused();
      const a = e instanceof ApiError ? e : new ApiError(-1, String(e));
      this.say(words.failed(what, a.status, a.message), true);
    }
  }

  // What the phone tells.

  private lines(lines: Line[]): void {
    this.set("lines", reconcile(lines, { key: "id" }));
    const ringing = this.incoming();
    if (ringing.length === 0) {
      this.bell.stop();
      this.alarm.calm();
      return;
    }
    if (!this.state.lines.some((l) => l.stage === "talking")) this.bell.start();
    for (const l of ringing) this.alarm.show(l.id, l.peer.name || l.peer.number, () => this.set({ view: "calls" }));
  }

  private ended(l: Line): void {
    this.alarm.clear(l.id);
    this.windows.delete(l.id);
    this.set("meters", produce((m) => delete m[l.id]));
    const trouble = l.end && words.ended(l.end, l.purpose === "pull" || l.purpose === "resume" ? "*" : l.peer.name || l.peer.number);
    if (trouble && l.purpose !== "in") this.say(trouble, true);
  }

  // Notices.

  say(t: Trouble, grave = false): void {
    if (this.state.notices.some((n) => n.what === t.what)) return;
    const id = ++this.notice;
    this.set("notices", (n) => [...n.slice(-2), { ...t, id, grave }]);
    setTimeout(() => this.dismiss(id), grave ? 15_000 : 8000);
  }

  dismiss = (id: number): void => this.set("notices", (n) => n.filter((m) => m.id !== id));

  // The browser's part: sound, permissions, settings.

  /** unblock is called in every gesture of the user's until the browser lets the page sound. */
  unblock(): void {
    this.bell.unblock();
    this.audio.unblock();
    setTimeout(() => void this.look(), 100);
  }

  async allowNotifications(): Promise<void> {
    await askNotifications();
    await this.look();
  }

  async allowMicrophone(): Promise<void> {
    try {
      await this.audio.ask();
    } catch (e) {
      if (e instanceof MediaError) this.say(e.trouble, true);
    }
    await this.look();
  }

  tryBell(): void {
    this.bell.unblock();
    this.bell.ring();
  }

  change(s: Partial<Settings>): void {
    this.set("settings", s);
    saveSettings({ ...this.state.settings });
    if ("theme" in s) this.theme();
    if ("microphone" in s || "speaker" in s) void this.audio.rechoose();
    if ("notify" in s) void this.look();
  }

  /** look sees what this browser can do now. */
  private async look(): Promise<void> {
    const media = await this.audio.devices();
    const query = async () => {
      try {
        return (await navigator.permissions.query({ name: "microphone" as PermissionName })).state;
      } catch {
        return "unknown" as const;
      }
    };
    const permission = await query();
    const none = canListen() && permission !== "prompt" && media.named && media.microphones.length === 0 && !(await hasInput());
    this.set({
      media,
      means: {
        secure: canListen(), sound: this.bell.canSound, notify: notifications(), wantsNotify: this.state.settings.notify,
        microphone: none ? "none" : permission,
      },
    });
  }

  private theme(): void {
    const t = this.state.settings.theme;
    if (t === "auto") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = t;
  }

  private title(): string {
    const l = this.active();
    return l?.stage === "talking" ? `${l.peer.name || l.peer.number} · baton` : "baton";
  }

  private listen(): void {
    this.audio.onblocked = (soundBlocked) => this.set({ soundBlocked });
    this.audio.onchange = () => void this.look();
    this.audio.onnotice = (n) => {
      const label = n.label || `The ${n.what}`;
      this.say(n.kind === "gone" ? { what: `${label} is gone: the default ${n.what} is used.`, do: "It is taken again when it is back." } : { what: `${label} is back and in use.` });
    };
    for (const gesture of ["pointerdown", "keydown"]) {
      document.addEventListener(gesture, () => (!this.state.means.sound || this.state.soundBlocked) && this.unblock(), { capture: true });
    }
    document.addEventListener("visibilitychange", () => this.attend());
    window.addEventListener("pagehide", () => {
      const saved = this.phone?.saved();
      if (saved?.length) liveBox.set(saved);
      if (this.phone) leftBox.set(true);
      this.tab?.leave();
    });
    // One that the browser has kept and shows again has lost all its connections.
    window.addEventListener("pageshow", (e) => e.persisted && location.reload());
    window.addEventListener("storage", (e) => {
      if (e.key === "baton.settings") {
        this.set("settings", loadSettings());
        this.theme();
      }
      // Somebody has signed in in another tab, which shall be the device.
      if (e.key === "baton.session" && e.newValue !== null) setTimeout(() => this.resume(), 1000);
      if (e.key === "baton.history.seen") this.set({ seen: seenBox.get() });
    });
    void navigator.permissions?.query({ name: "microphone" as PermissionName }).then((p) => (p.onchange = () => void this.look()), () => {});
  }

  private tick(): void {
    this.set({ now: Date.now() });
    if (this.state.lines.length === 0 && this.state.calls.length === 0) return;
    document.title = this.incoming().length > 0 ? document.title : this.title();
    void this.measure();
    const now = Date.now();
    if (this.following && !this.state.following && this.state.calls.length > 0 && now - this.lookedAt > lookAgain) {
      this.lookedAt = now;
      void this.client?.calls().then((c) => this.gotCalls(c ?? []), () => {});
    }
    const saved = this.phone?.saved() ?? [];
    if (saved.length > 0) liveBox.set(saved);
  }

  private async measure(): Promise<void> {
    for (const l of this.state.lines) {
      if (l.stage !== "talking" || l.held) {
        this.windows.delete(l.id); // a call on hold is silent, not bad
        this.reporter.forget(l.id);
        continue;
      }
      const report = await this.phone?.connection(l.id)?.getStats().catch(() => undefined);
      const sample = report && read(report as unknown as Iterable<[string, unknown]>, performance.now());
      if (!sample) continue;
      const w = this.windows.get(l.id) ?? new QualityWindow();
      this.windows.set(l.id, w);
      const quality = w.add(sample);
      this.set("meters", l.id, (was) => ({ sample, quality: quality ?? was?.quality }));
      this.reporter.tell(l.id, this.phone?.dialog(l.id), sample, quality);
    }
  }

  // The screen.

  show = (view: State["view"]): void => {
    this.set({ view });
    if (view === "history") this.seeHistory();
  };
  open = (dialog: State["dialog"]): void => this.set({ dialog });
  type = (number: string): void => this.set({ number });
}

/** reached says whether the node that the page has come from answers within ms. */
const reached = (ms: number): Promise<boolean> =>
  fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(ms) }).then((r) => r.status < 500, () => false);

const socketsOf = (me: Me): string[] => sockets(location, me.sip.ws, me.nodes);

async function hasInput(): Promise<boolean> {
  const all = (await navigator.mediaDevices?.enumerateDevices?.().catch(() => [])) ?? [];
  return all.some((d) => d.kind === "audioinput");
}

function withTimeout<T>(p: Promise<T>, ms: number): Promise<T> {
  return Promise.race([p, new Promise<T>((_, no) => setTimeout(() => no(new Error("too late")), ms))]);
}
