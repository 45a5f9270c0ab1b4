// What this browser remembers by itself: choices, who is signed in, and which device it is. All of it is in localStorage.

import type { Me, Session } from "./api";

export interface Settings {
  theme: "auto" | "light" | "dark";
  microphone: string; // deviceId, "" = the system's default
  microphoneLabel: string;
  speaker: string;
  speakerLabel: string;
  autoAnswer: boolean; // when the user moves a call here
  shortcuts: boolean;
  relayOnly: boolean; // audio through TURN alone
  ringVolume: number; // 0 to 1
  notify: boolean;
}

export const defaults: Settings = {
  theme: "auto", microphone: "", microphoneLabel: "", speaker: "", speakerLabel: "", autoAnswer: true, shortcuts: true, relayOnly: false,
  ringVolume: 0.6, notify: true,
};

/** Ice is what reaches baton's TURN server, and until when (ms). */
export interface Ice {
  servers: RTCIceServer[];
  until: number;
}

/** Box is a value kept under a key of a Storage; what is unreadable counts as absent. */
export class Box<T> {
  constructor(private readonly key: string, private readonly storage: () => Storage) {}

  get(): T | undefined {
    try {
      const text = this.storage().getItem(this.key);
      return text === null ? undefined : (JSON.parse(text) as T);
    } catch {
      return undefined;
    }
  }

  set(value: T | undefined): void {
    try {
      if (value === undefined) this.storage().removeItem(this.key);
      else this.storage().setItem(this.key, JSON.stringify(value));
    } catch {
      // full or forbidden: the page works on without memory
    }
  }
}

const local = () => localStorage;

export const sessionBox = new Box<Session>("baton.session", local);
// What baton has told of the user, for a page that is loaded anew: it need not wait for that again to be a phone.
export const meBox = new Box<{ login: string; me: Me; ice?: Ice | undefined }>("baton.me", local);
export const seenBox = new Box<string>("baton.history.seen", local);
export const lastDialled = new Box<string>("baton.dialled", local);
// Whether the page that this tab had before was the device.
export const leftBox = new Box<boolean>("baton.left", () => sessionStorage);
const settingsBox = new Box<Partial<Settings>>("baton.settings", local);
const instanceBox = new Box<string>("baton.instance", local);

export const loadSettings = (): Settings => ({ ...defaults, ...settingsBox.get() });
export const saveSettings = (s: Settings): void => settingsBox.set(s);

/** instance is the UUID by which baton knows this browser again (RFC 5626), made once. */
export function instance(): string {
  let id = instanceBox.get();
  if (!id) {
    id = typeof crypto.randomUUID === "function" ? crypto.randomUUID() : uuid();
    instanceBox.set(id);
  }
  return id;
}

/** uuid is a random UUID (RFC 9562 §5.4) where crypto.randomUUID is missing: it is on pages without HTTPS. */
function uuid(): string {
  const b = crypto.getRandomValues(new Uint8Array(16));
  b[6] = (b[6]! & 0x0f) | 0x40;
  b[8] = (b[8]! & 0x3f) | 0x80;
  const hex = [...b].map((v) => v.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** product is the browser's name and version for the User-Agent header, of which baton makes the device's name. */
export function product(ua: string): string {
  for (const [pattern, name] of [
    [/\bEdg(?:A|iOS)?\/(\d+)/, "Edge"], [/\bOPR\/(\d+)/, "Opera"], [/\bFirefox\/(\d+)/, "Firefox"], [/\bFxiOS\/(\d+)/, "Firefox"],
    [/\bCriOS\/(\d+)/, "Chrome"], [/\b(?:Headless)?Chrome\/(\d+)/, "Chrome"], [/\bVersion\/(\d+).*Safari\//, "Safari"],
  ] as const) {
    const m = pattern.exec(ua);
    if (m) return `${name}/${m[1]}`;
  }
  return "Browser/0";
}
