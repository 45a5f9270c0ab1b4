// Everything that is put into words: times, figures, and what went wrong with what to do about it.

import type { Move, MoveReport } from "./api";
import type { Pair } from "./stats";

/** Trouble is something that went wrong, in words. */
export interface Trouble {
  what: string;
  do?: string;
  link?: { href: string; text: string };
}

const certificate = { href: "/ca.crt", text: "Download baton's certificate" };

/** clock is a duration in seconds as 1:05 or 1:01:05. */
export function clock(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  const two = (n: number) => String(n).padStart(2, "0");
  const hours = Math.floor(s / 3600);
  const minutes = Math.floor(s / 60) % 60;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(s % 60)}` : `${minutes}:${two(s % 60)}`;
}

/** duration is a duration in seconds in words. */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return s % 60 === 0 ? `${Math.floor(s / 60)} min` : `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
}

/** when is a time as one reads it in a list: today by the clock, then by the day. */
export function when(time: Date, now: Date): string {
  const day = (d: Date) => new Date(d.getFullYear(), d.getMonth(), d.getDate()).getTime();
  const days = Math.round((day(now) - day(time)) / 86_400_000);
  const hm = `${String(time.getHours()).padStart(2, "0")}:${String(time.getMinutes()).padStart(2, "0")}`;
  if (days === 0) return hm;
  if (days === 1) return `yesterday ${hm}`;
  if (days > 1 && days < 7) return `${time.toLocaleDateString(undefined, { weekday: "short" })} ${hm}`;
  return `${time.toLocaleDateString(undefined, { day: "numeric", month: "short", ...(time.getFullYear() === now.getFullYear() ? {} : { year: "numeric" }) })} ${hm}`;
}

/** millis is a time in milliseconds, as exact as it is of use. */
export function millis(v: number | undefined): string {
  if (v === undefined || !Number.isFinite(v)) return "–";
  return v >= 10_000 ? `${(v / 1000).toFixed(0)} s` : v >= 1000 ? `${(v / 1000).toFixed(1)} s` : v >= 10 ? `${Math.round(v)} ms` : `${v.toFixed(1)} ms`;
}

export function percent(v: number | undefined): string {
  if (v === undefined || !Number.isFinite(v)) return "–";
  return v === 0 ? "0 %" : v < 10 ? `${v.toFixed(1)} %` : `${Math.round(v)} %`;
}

/** initials are one or two letters for a person, or nothing for a number. */
export function initials(name: string): string {
  const words = name.trim().split(/\s+/).filter((w) => /^\p{L}/u.test(w));
  const first = words[0], last = words.length > 1 ? words.at(-1) : undefined;
  return ([...(first ?? "")][0] ?? "").toUpperCase() + ([...(last ?? "")][0] ?? "").toUpperCase();
}

/** list joins words as a sentence does. */
export function list(words: string[]): string {
  return words.length < 2 ? (words[0] ?? "") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/** moved tells a move with its figures. Here is the name of this browser's device. */
export function moved(m: Move, here: string, far: string): string {
  const name = (device: string) => (device === here ? "this browser" : device);
  if (m.error) return `The move to ${name(m.to)} did not work: ${m.error}. The call has stayed where it was.`;
  if (m.from === m.to) return `Taken back by ${name(m.to)} after it was loaded anew or had lost its connection.${m.report ? ` ${heard(m.report, far)}` : ""}`;
  const head = m.from ? `Moved from ${name(m.from)} to ${name(m.to)}` : `Brought to ${name(m.to)}`;
  return m.report ? `${head} in ${millis(m.report.switch_ms)}. ${heard(m.report, far)}` : `${head}.`;
}

/** heard tells what both sides have noticed of a move. A packet holds 20 ms, so that a gap of 20 is none. */
export function heard(r: MoveReport, far: string): string {
  const lost = r.far.lost + r.near.lost;
  const losses = lost === 0 ? "nothing was lost" : `${lost} packet${lost === 1 ? " was" : "s were"} lost`;
  const gap = r.far.gap_ms;
  if (gap <= 0) return `${upper(losses)}.`;
  const notice = gap <= 45 ? "too short to hear" : gap <= 120 ? "hardly to be heard" : "to be heard";
  return `Longest pause for ${far}: ${millis(gap)} (${notice}), ${losses}.`;
}

const upper = (s: string) => s.charAt(0).toUpperCase() + s.slice(1);

/** way tells how the audio gets to baton; chosen says that the user wants it only through TURN. */
export function way(p: Pair, chosen = false): { short: string; long: string } {
  switch (p.way) {
    case "UDP":
      return { short: "UDP", long: "directly to baton over UDP" };
    case "TCP":
      return { short: "TCP", long: "directly to baton over TCP, because UDP does not get through here" };
    case "TURN":
      return {
        short: p.relay ? `TURN (${p.relay.toUpperCase()})` : "TURN",
        long: `through baton's TURN server${p.relay === "tls" ? ", hidden in TLS" : ""}, ${chosen ? "as the settings want it" : "because nothing else gets through here"}`,
      };
  }
}

/** mediaPath says how the sound of a call goes, and why it is relayed. */
export function mediaPath(media: string, why: string | undefined): { short: string; long: string } {
  if (media === "direct") return { short: "direct", long: "The sound goes straight between the two devices, past baton." };
  return { short: "relayed", long: `The sound goes through baton${why ? `: ${why}` : ""}.` };
}

/** endToEnd is the privacy of a call that goes straight between two browsers. */
export const endToEnd = (whom: string): { short: string; long: string } => ({
  short: "end-to-end encrypted",
  long: `DTLS-SRTP from this browser straight to ${whom}'s: the sound does not pass baton, which has only passed on the keys' fingerprints.`,
});

/** privacy says who could listen, by how both legs are encrypted (none, sdes, dtls; undefined = not known). It is not end to end where
 * baton relays: it decrypts what it relays. */
export function privacy(own: string | undefined, far: string | undefined, whom: string): { short: string; long: string } {
  const name = (s: string | undefined) => (s === "dtls" ? "DTLS-SRTP" : s === "sdes" ? "SRTP" : "");
  const end = "It is not end-to-end encrypted: baton decrypts what it relays, and who runs baton could listen.";
  if (own === "none") {
    return { short: "not encrypted", long: `Between your device and baton the sound is not encrypted: who is in that network can listen.` };
  }
  if (far === "none") {
    return {
      short: "encrypted to baton, open from there",
      long: `${name(own)} from your device to baton; from there to ${whom}'s phone it is not encrypted. ${end}`,
    };
  }
  if (far === undefined || far === "") return { short: "encrypted to baton, relayed", long: `${name(own)} from your device to baton, which relays it to ${whom}. ${end}` };
  return { short: "encrypted on both legs, relayed", long: `${name(own)} from your device to baton, ${name(far)} from baton to ${whom}'s phone. ${end}` };
}

/** ended says in words why a call of this browser came to its end; undefined where nothing need be said. */
export function ended(end: { code?: number | undefined; cause: string; reason?: string | undefined; mine: boolean; established: boolean }, whom: string): Trouble | undefined {
  if (end.mine || end.established || /completed elsewhere/i.test(end.reason ?? "")) return undefined;
  const byCode = end.code === undefined ? undefined : status(end.code, whom);
  if (byCode) return byCode;
  switch (end.cause) {
    case "Canceled":
    case "Terminated":
      return undefined;
    case "User Denied Media Access":
      return microphone("NotAllowedError");
    case "Connection Error":
      return { what: "The connection to baton broke before the call was set up.", do: "It comes back by itself. Then call again." };
    case "Request Timeout":
      return { what: "baton did not answer.", do: "Call again; if it happens again, ask whoever runs baton to look at baton doctor." };
    case "WebRTC Error":
    case "Bad Media Description":
    case "Incompatible SDP":
    case "Missing SDP":
      return { what: "This browser and baton found no way to talk to each other.", do: "Update the browser, and try another one." };
    case "RTP Timeout":
      return { what: "The audio did not get through the network.", do: "Settings → Network → only through TURN may help here." };
  }
  return { what: `The call came to nothing: ${end.reason || end.cause}.` };
}

/** status puts a SIP failure into words. */
export function status(code: number, whom: string): Trouble | undefined {
  switch (code) {
    case 401:
    case 407:
    case 403:
      return { what: `baton does not let this browser call ${whom}.`, do: "Sign out and in again." };
    case 404:
    case 604:
      return whom.startsWith("*")
        ? { what: "There is no live call to bring here." }
        : { what: `${whom} is not known here.`, do: "Look at the number. baton connects its own users only." };
    case 408:
      return { what: `${whom} did not answer.` };
    case 410:
    case 480:
      return { what: `${whom} cannot be reached now.`, do: "None of their devices is on. Try again later." };
    case 484:
      return { what: `${whom} is not a whole number.` };
    case 486:
    case 600:
      return { what: `${whom} is busy.` };
    case 487:
      return undefined;
    case 488:
    case 606:
      return { what: `${whom}'s phone and this browser have no codec in common.`, do: "Switch on PCMA, PCMU, G.722 or opus at that phone." };
    case 491:
      return { what: "A move of this call is under way already." };
    case 603:
      return { what: `${whom} has declined.` };
    case 481:
      return { what: "That call is over." };
    case 429:
    case 503:
      return { what: "baton has too much to do just now.", do: "Try again in a moment." };
    case 500:
    case 504:
      return { what: `baton failed to connect the call (${code}).`, do: "Try again; the log of baton has the reason." };
  }
  return undefined;
}

/** microphone tells why there is no microphone, by the name of what getUserMedia throws. */
export function microphone(name: string): Trouble {
  switch (name) {
    case "NotAllowedError":
    case "SecurityError":
      return { what: "The browser does not let this page use the microphone.", do: "Press the icon left of the address and allow the microphone, then try again." };
    case "NotFoundError":
      return { what: "There is no microphone.", do: "Plug one in; it is taken as soon as it is there." };
    case "NotReadableError":
    case "AbortError":
      return { what: "The microphone cannot be opened.", do: "Another program may hold it. Close that, or choose another microphone in the settings." };
    case "OverconstrainedError":
      return { what: "The microphone that was chosen is not there.", do: "Choose another one in the settings." };
    case "Insecure":
      return { what: "The browser gives no microphone to a page without HTTPS.", do: "Open this page with https:// in the address.", link: certificate };
  }
  return { what: `The microphone cannot be used (${name}).`, do: "Try another one in the settings, or another browser." };
}

/** socket tells why there is no connection for calls. Reached says whether the page's own server still answers plain requests. */
export function socket(reached: boolean, online: boolean): Trouble {
  if (!online) return { what: "There is no network.", do: "A call goes on by itself when the network is back." };
  if (reached) {
    return {
      what: "The browser refuses the connection for calls, though baton answers.",
      do: "Most often the certificate is not trusted: install it and open this page anew. Else something between here and baton stops WebSockets.",
      link: certificate,
    };
  }
  return { what: "baton does not answer.", do: "The page keeps trying, and a call goes on by itself when it is back." };
}

/** signingIn tells why signing in did not work. */
export function signingIn(code: number, text: string, wait: number): Trouble {
  switch (code) {
    case 0:
      return { what: "baton does not answer.", do: "Look whether the network is there. If the browser has warned of this page, trust baton's certificate first.", link: certificate };
    case 401:
      return { what: "Name or password is wrong.", do: "It is the name or number and the password that a phone would be given, as baton user add has printed them." };
    case 429:
      return { what: "Too many tries.", do: wait > 0 ? `Wait ${duration(wait)}, then try again.` : "Wait a moment, then try again." };
  }
  return { what: `Signing in did not work: ${text}.` };
}

/** failed puts an answer of the API into words. */
export function failed(doing: string, code: number, text: string): Trouble {
  if (code === 0) return { what: `${doing} did not work: baton does not answer.`, do: "Try again when the connection is back." };
  return { what: `${doing} did not work: ${text.replace(/\.$/, "")}.` };
}
