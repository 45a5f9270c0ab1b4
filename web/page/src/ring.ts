// How the user is told of an incoming call: a ringtone made here, a notification, the title, vibration; and whether this browser can.

import type { Trouble } from "./words";

const pattern = [0, 0.4] as const; // starts of the two tones of a ring, in seconds
const period = 3; // seconds from ring to ring

/** Bell rings. Browsers give no sound to a page that nobody has touched: blocked tells, and unblock, called in a gesture, cures it. */
export class Bell {
  private context: AudioContext | undefined;
  private gain: GainNode | undefined;
  private timer: ReturnType<typeof setInterval> | undefined;

  constructor(private readonly volume: () => number, private readonly sink: () => string) {}

  /** unblock must be called in a gesture of the user's. */
  unblock(): void {
    this.context ??= make();
    if (this.context?.state === "suspended") void this.context.resume().catch(() => {});
  }

  get canSound(): boolean {
    return this.context?.state === "running" || (navigator.userActivation?.hasBeenActive ?? false);
  }

  start(): void {
    if (this.timer !== undefined) return;
    this.unblock();
    navigator.vibrate?.([400, 200, 400]);
    this.ring();
    this.timer = setInterval(() => {
      navigator.vibrate?.([400, 200, 400]);
      this.ring();
    }, period * 1000);
  }

  stop(): void {
    if (this.timer === undefined) return;
    clearInterval(this.timer);
    this.timer = undefined;
    navigator.vibrate?.(0);
    this.gain?.disconnect();
    this.gain = undefined;
  }

  /** ring sounds once: two soft tones of a fifth, each swelling and fading. */
  ring(): void {
    const c = this.context;
    if (!c || c.state === "closed") return;
    void (c as unknown as { setSinkId?(id: string): Promise<void> }).setSinkId?.(this.sink()).catch(() => {});
    this.gain?.disconnect();
    const out = (this.gain = c.createGain());
    out.gain.value = this.volume() * 0.5;
    out.connect(c.destination);
    for (const start of pattern) for (const f of [587.33, 880]) tone(c, out, c.currentTime + start, f);
  }
}

function make(): AudioContext | undefined {
  try {
    return new AudioContext();
  } catch {
    return undefined;
  }
}

function tone(c: AudioContext, out: AudioNode, at: number, frequency: number): void {
  const o = c.createOscillator();
  const g = c.createGain();
  o.type = "triangle";
  o.frequency.value = frequency;
  g.gain.setValueAtTime(0.0001, at);
  g.gain.exponentialRampToValueAtTime(0.5, at + 0.04);
  g.gain.exponentialRampToValueAtTime(0.0001, at + 0.38);
  o.connect(g).connect(out);
  o.start(at);
  o.stop(at + 0.4);
}

/** Alarm shows an incoming call outside the page: a notification and the title. */
export class Alarm {
  private shown = new Map<string, Notification>();
  private flash: ReturnType<typeof setInterval> | undefined;

  constructor(private readonly title: () => string) {}

  show(id: string, who: string, clicked: () => void): void {
    if (notifications() === "granted" && document.visibilityState === "hidden" && !this.shown.has(id)) {
      try {
        const n = new Notification(`${who} is calling`, { body: "Click to answer in the page.", tag: `baton-${id}`, requireInteraction: true, icon: "/icon.svg" });
        n.onclick = () => {
          window.focus();
          clicked();
          n.close();
        };
        this.shown.set(id, n);
      } catch {
        // Android's Chrome has notifications for service workers alone
      }
    }
    this.flash ??= setInterval(() => {
      document.title = document.title === this.title() ? `☎ ${who} is calling` : this.title();
    }, 900);
  }

  clear(id: string): void {
    this.shown.get(id)?.close();
    this.shown.delete(id);
  }

  calm(): void {
    for (const id of [...this.shown.keys()]) this.clear(id);
    clearInterval(this.flash);
    this.flash = undefined;
    document.title = this.title();
  }
}

export type Permission = "granted" | "denied" | "default" | "unsupported";

export const notifications = (): Permission => ("Notification" in window ? Notification.permission : "unsupported");

/** askNotifications must be called in a gesture of the user's. */
export async function askNotifications(): Promise<Permission> {
  if (!("Notification" in window)) return "unsupported";
  return Notification.requestPermission();
}

/** What ringing needs here. */
export interface Means {
  secure: boolean;
  sound: boolean; // the browser lets the page sound
  notify: Permission;
  wantsNotify: boolean;
  microphone: "granted" | "prompt" | "denied" | "none" | "unknown";
}

/** Hindrance is why this browser cannot ring, or not well, and what cures it. */
export interface Hindrance extends Trouble {
  cure?: "sound" | "notify" | "microphone";
  grave: boolean; // no call can be answered, or nothing is heard of it
}

/** hindrances lists what forbids ringing, the gravest first. */
export function hindrances(m: Means): Hindrance[] {
  const all: Hindrance[] = [];
  if (!m.secure) {
    all.push({
      grave: true, what: "Calls cannot be taken here: the browser gives no microphone to a page without HTTPS.",
      do: "Open this page with https:// in the address.", link: { href: "/ca.crt", text: "Download baton's certificate" },
    });
  } else if (m.microphone === "denied") {
    all.push({ grave: true, what: "Calls cannot be taken here: the microphone is forbidden.", do: "Press the icon left of the address and allow it." });
  } else if (m.microphone === "none") {
    all.push({ grave: true, what: "Calls cannot be taken here: there is no microphone.", do: "Plug one in." });
  } else if (m.microphone === "prompt") {
    all.push({ grave: false, what: "The browser will ask for the microphone when a call comes.", do: "Allow it now, so that answering is one tap.", cure: "microphone" });
  }
  if (!m.sound) {
    all.push({ grave: true, what: "This tab cannot ring yet: browsers let a page sound only after a click or a key in it.", do: "Click anywhere.", cure: "sound" });
  }
  if (m.notify === "default" && m.wantsNotify) {
    all.push({ grave: false, what: "Behind other windows nothing shows that it rings.", do: "Allow notifications.", cure: "notify" });
  } else if (m.notify === "denied" && m.wantsNotify) {
    all.push({ grave: false, what: "Notifications are forbidden: behind other windows a call only sounds.", do: "Press the icon left of the address and allow them." });
  }
  return all.sort((a, b) => Number(b.grave) - Number(a.grave));
}
