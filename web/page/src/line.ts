// A line is one call of this browser as the screen shows it: a plain value, and the one function that changes it.
//
//	asking ──sent──▶ calling ──ringing──▶ ringing ──up──▶ talking ──end──▶ over
//	                    └───────────────up────────────────▶│
//	incoming ──answer──▶ answering ──────up────────────────┘
//
// Every stage may end; what has ended changes no more.

export type Stage = "asking" | "calling" | "ringing" | "incoming" | "answering" | "talking" | "over";

/** Media is how the audio's own connection is, which breaks and comes back without the call's end. */
export type Media = "none" | "connecting" | "connected" | "interrupted";

/** Purpose is why the line is there: dialled, come in, brought here, taken back after a reload, or asked before a transfer. */
export type Purpose = "call" | "in" | "pull" | "resume" | "consult";

export interface Peer {
  name: string;
  number: string;
}

export interface End {
  cause: string;
  code?: number | undefined;
  reason?: string | undefined;
  mine: boolean; // this browser's user has hung up
  established: boolean;
}

export interface Line {
  id: string;
  purpose: Purpose;
  stage: Stage;
  peer: Peer;
  began: number; // ms
  answered: number | undefined; // ms, when talking began here
  muted: boolean;
  held: boolean; // by this browser
  heldByPeer: boolean;
  media: Media;
  direct: boolean; // its sound comes straight from the other browser
  auto: boolean; // it answers by itself
  call: string | undefined; // baton's id of it, where it is known from the start
  tones: string; // the digits sent, for the screen
  transfer: "" | "asked" | "failed";
  end: End | undefined;
}

export type Event =
  | { type: "sent" }
  | { type: "ringing" }
  | { type: "answer" }
  | { type: "up"; at: number }
  | { type: "end"; end: End }
  | { type: "hold"; by: "me" | "peer"; on: boolean }
  | { type: "mute"; on: boolean }
  | { type: "media"; media: Media }
  | { type: "direct"; on: boolean }
  | { type: "peer"; peer: Peer }
  | { type: "tone"; tone: string }
  | { type: "transfer"; transfer: Line["transfer"] };

export function newLine(id: string, purpose: Purpose, peer: Peer, now: number, call?: string): Line {
  return {
    id, purpose, stage: purpose === "in" ? "incoming" : "asking", peer, began: now, answered: undefined, muted: false, held: false,
    heldByPeer: false, media: "none", direct: false, auto: false, call, tones: "", transfer: "", end: undefined,
  };
}

const next: Record<Stage, Partial<Record<Event["type"], Stage>>> = {
  asking: { sent: "calling", end: "over" },
  calling: { ringing: "ringing", up: "talking", end: "over" },
  ringing: { up: "talking", end: "over" },
  incoming: { answer: "answering", end: "over" },
  answering: { up: "talking", end: "over" },
  talking: { end: "over" },
  over: {},
};

/** step gives the line after an event; the same one if the event has no place in its stage. */
export function step(l: Line, e: Event): Line {
  if (l.stage === "over") return l;
  const stage = next[l.stage][e.type];
  switch (e.type) {
    case "sent":
    case "ringing":
    case "answer":
      return stage ? { ...l, stage } : l;
    case "up":
      return stage ? { ...l, stage, answered: e.at } : l;
    case "end":
      return { ...l, stage: "over", end: { ...e.end, established: l.stage === "talking" } };
    case "hold":
      return e.by === "me" ? { ...l, held: e.on } : { ...l, heldByPeer: e.on };
    case "mute":
      return { ...l, muted: e.on };
    case "media":
      return { ...l, media: e.media };
    case "direct":
      return l.direct === e.on ? l : { ...l, direct: e.on };
    case "peer":
      return { ...l, peer: e.peer };
    case "tone":
      return { ...l, tones: (l.tones + e.tone).slice(-32) };
    case "transfer":
      return { ...l, transfer: e.transfer };
  }
}

/** media puts the state of a PeerConnection's ICE into what the screen shows. */
export function mediaOf(state: RTCIceConnectionState, was: Media): Media {
  switch (state) {
    case "connected":
    case "completed":
      return "connected";
    case "disconnected":
    case "failed":
      return "interrupted";
    case "new":
    case "checking": // also after an ICE restart, while the old path may still carry the call
      return was === "interrupted" ? "interrupted" : was === "connected" ? "connected" : "connecting";
    case "closed":
      return "none";
  }
}

/** dialable is what is left of a text that somebody has typed or pasted as a number: a name, digits, star, hash and plus. */
export function dialable(text: string): string {
  let t = text.trim().replace(/^(tel|sips?):/i, "").replace(/[;?].*$/, "");
  if (/^[\d\s()./*#+–-]+$/.test(t)) t = t.replace(/[\s()./–-]/g, "");
  return /^[A-Za-z0-9_.!~*'()&=+$,;?/#%@:-]+$/.test(t) ? t : "";
}
