// Microphone and speaker: one microphone for all calls of the page, which survives a headset being pulled and plugged in again.
// What a call is given is a clone of its own, so that muting one call leaves another as it is.

import { microphone as micTrouble, type Trouble } from "./words";

export interface Choice {
  microphone: string;
  microphoneLabel: string;
  speaker: string;
  speakerLabel: string;
}

export interface Device {
  id: string;
  label: string;
}

/** Notice is what happened to a device by itself, for the screen. */
export interface Notice {
  kind: "gone" | "back";
  what: "microphone" | "speaker";
  label: string;
}

/** MediaError is a microphone that cannot be had, in words. */
export class MediaError extends Error {
  constructor(readonly trouble: Trouble, readonly kind: string) {
    super(trouble.what);
  }
}

/** User is who has been given the microphone: it puts another track where the first one was. */
export interface User {
  replace(track: MediaStreamTrack): void;
}

/** canListen says whether this page may ask for a microphone at all. */
export const canListen = (): boolean => window.isSecureContext && !!navigator.mediaDevices?.getUserMedia;

export class Audio {
  private source: MediaStreamTrack | undefined;
  private opening: Promise<MediaStreamTrack> | undefined;
  private users = new Map<User, MediaStreamTrack>();
  private players = new Set<HTMLAudioElement>();
  private fallback = false; // the chosen microphone is gone and another is in use
  private sinkFallback = false;

  /** onnotice is told when a device goes or comes back, onchange when the lists may have changed, onblocked when sound may not play. */
  onnotice: (n: Notice) => void = () => {};
  onchange: () => void = () => {};
  onblocked: (blocked: boolean) => void = () => {};

  constructor(private choice: () => Choice) {
    navigator.mediaDevices?.addEventListener?.("devicechange", () => void this.changed());
  }

  /** borrow gives a track of the microphone to a user, which must give it back. */
  async borrow(user: User): Promise<MediaStream> {
    const source = await this.open();
    const track = source.clone();
    this.users.set(user, track);
    return new MediaStream([track]);
  }

  /** giveBack stops a user's track, and with the last one the microphone itself. */
  giveBack(user: User): void {
    this.users.get(user)?.stop();
    this.users.delete(user);
    if (this.users.size === 0) this.close();
  }

  /** warm opens the microphone for who is about to borrow it; after ms it is closed if nobody has. */
  async warm(ms: number): Promise<void> {
    await this.open().catch(() => {}); // who borrows it learns why
    setTimeout(() => this.users.size === 0 && this.close(), ms);
  }

  /** ask has the browser ask for the microphone, so that it knows before a call comes. */
  async ask(): Promise<void> {
    await this.open();
    if (this.users.size === 0) this.close();
    this.onchange();
  }

  /** rechoose takes the devices that are chosen now, in mid-call too. */
  async rechoose(): Promise<void> {
    this.fallback = false;
    this.sinkFallback = false;
    if (this.users.size > 0) await this.reopen();
    for (const p of this.players) await this.route(p);
  }

  /** devices lists what can be chosen; without permission the browser gives no names. */
  async devices(): Promise<{ microphones: Device[]; speakers: Device[]; named: boolean }> {
    const all = (await navigator.mediaDevices?.enumerateDevices?.().catch(() => [])) ?? [];
    const of = (kind: MediaDeviceKind) =>
      all.filter((d) => d.kind === kind && d.deviceId !== "" && d.deviceId !== "default" && d.deviceId !== "communications")
        .map((d, i) => ({ id: d.deviceId, label: d.label || `${kind === "audioinput" ? "Microphone" : "Speaker"} ${i + 1}` }));
    return { microphones: of("audioinput"), speakers: of("audiooutput"), named: all.some((d) => d.label !== "") };
  }

  /** canChooseSpeaker says whether the browser lets the page choose (setSinkId). */
  canChooseSpeaker = (): boolean => "setSinkId" in HTMLMediaElement.prototype;

  /** play plays a stream until the function it gives is called. */
  play(stream: MediaStream): () => void {
    const p = document.createElement("audio");
    p.autoplay = true;
    p.srcObject = stream;
    this.players.add(p);
    void this.route(p).then(() => this.start(p));
    return () => {
      p.pause();
      p.srcObject = null;
      this.players.delete(p);
    };
  }

  /** unblock tries again what the browser did not let play; it must be called in a gesture of the user's. */
  unblock(): void {
    for (const p of this.players) if (p.paused) void this.start(p);
  }

  private async start(p: HTMLAudioElement): Promise<void> {
    try {
      await p.play();
      this.onblocked([...this.players].some((q) => q.paused));
    } catch (e) {
      if ((e as DOMException).name === "NotAllowedError" && this.players.has(p)) this.onblocked(true);
    }
  }

  private async route(p: HTMLAudioElement): Promise<void> {
    if (!this.canChooseSpeaker()) return;
    const id = this.sinkFallback ? "" : this.choice().speaker;
    try {
      if (p.sinkId !== id) await p.setSinkId(id);
    } catch {
      if (p.sinkId !== "") await p.setSinkId("").catch(() => {});
    }
  }

  private open(): Promise<MediaStreamTrack> {
    if (this.source?.readyState === "live") return Promise.resolve(this.source);
    this.opening ??= this.acquire().finally(() => (this.opening = undefined));
    return this.opening;
  }

  private async acquire(): Promise<MediaStreamTrack> {
    if (!canListen()) throw new MediaError(micTrouble("Insecure"), "Insecure");
    const id = this.choice().microphone;
    const wanted = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
    let stream: MediaStream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: id && !this.fallback ? { ...wanted, deviceId: { exact: id } } : wanted });
    } catch (e) {
      const name = (e as DOMException).name;
      if (id && !this.fallback && (name === "OverconstrainedError" || name === "NotFoundError")) {
        this.fallback = true; // the one that was chosen is not plugged in
        this.onnotice({ kind: "gone", what: "microphone", label: this.choice().microphoneLabel });
        return this.acquire();
      }
      throw new MediaError(micTrouble(name), name);
    }
    const track = stream.getAudioTracks()[0]!;
    track.addEventListener("ended", () => {
      if (track === this.source) void this.pulled();
    });
    this.source = track;
    return track;
  }

  private close(): void {
    this.source?.stop();
    this.source = undefined;
  }

  /** pulled is called when the microphone in use has gone: calls go on with another. */
  private async pulled(): Promise<void> {
    this.fallback = this.choice().microphone !== "";
    this.onnotice({ kind: "gone", what: "microphone", label: this.choice().microphoneLabel });
    if (this.users.size > 0) await this.reopen();
  }

  private async reopen(): Promise<void> {
    const old = this.source;
    this.source = undefined;
    try {
      const source = await this.open();
      for (const [user, was] of this.users) {
        const track = source.clone();
        track.enabled = was.enabled;
        this.users.set(user, track);
        user.replace(track);
        was.stop();
      }
    } catch {
      // none is left: the calls go on, silent, until devicechange brings one
    }
    if (old !== this.source) old?.stop();
  }

  /** changed looks after what was plugged in or pulled. */
  private async changed(): Promise<void> {
    this.onchange();
    const { microphones, speakers } = await this.devices();
    const c = this.choice();
    const has = (list: Device[], id: string) => list.some((d) => d.id === id);
    if (this.fallback && c.microphone && has(microphones, c.microphone)) {
      this.fallback = false;
      this.onnotice({ kind: "back", what: "microphone", label: c.microphoneLabel });
      if (this.users.size > 0) await this.reopen();
    } else if (this.users.size > 0 && this.source?.readyState !== "live") {
      await this.reopen();
    }
    if (!c.speaker) return;
    const gone = !has(speakers, c.speaker);
    if (gone === this.sinkFallback) return;
    this.sinkFallback = gone;
    this.onnotice({ kind: gone ? "gone" : "back", what: "speaker", label: c.speakerLabel });
    for (const p of this.players) await this.route(p);
  }
}
