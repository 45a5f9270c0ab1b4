// What baton says of my calls and what this browser knows of its own lines, brought together: one card for each conversation.

import type { Call, Device, Leg, Move, Seat } from "./api";
import type { Line, Peer } from "./line";

/** Place is where my side of a conversation is. */
export type Place = "here" | "elsewhere" | "nowhere" | "ringing";

export interface Conversation {
  key: string;
  call: Call | undefined;
  line: Line | undefined;
  mine: Seat | undefined;
  holder: Leg | undefined; // the leg that holds my seat
  peer: Peer;
  place: Place;
  moving: boolean;
  since: number | undefined; // ms, when the conversation was answered
}

/** isThis says whether a device of baton's is this browser. */
export const isThis = (d: Device, instance: string): boolean => !!d.instance && d.instance.toLowerCase().includes(instance.toLowerCase());

/** thisDevice finds this browser among my devices. */
export const thisDevice = (devices: Device[], instance: string): Device | undefined => devices.find((d) => isThis(d, instance));

const seats = (c: Call) => c.seats ?? [];
const legs = (s: Seat | undefined) => s?.legs ?? [];
const alive = (l: Leg) => l.state === "up" || l.state === "answered";

/** mySeat is the user's own place; of two (one calls oneself) the one on this device. */
export function mySeat(c: Call, user: string, device: Device | undefined): Seat | undefined {
  const own = seats(c).filter((s) => s.user === user);
  return own.find((s) => legs(s).some((l) => onDevice(l, device))) ?? own[0];
}

/** onDevice says whether a leg is on a device: by its number, or by name where one of both has no number (a tenth device). */
export const onDevice = (l: Leg, d: Device | undefined): boolean =>
  d !== undefined && (l.index > 0 && d.index > 0 ? l.index === d.index : l.device === d.name);

/** farPeer is who is on the other side. */
export function farPeer(c: Call, mine: Seat | undefined): Peer {
  const far = seats(c).find((s) => s !== mine);
  return { name: far?.name || far?.user || "", number: far?.number || far?.user || "" };
}

/** conversations brings both lists together. A line belongs to the call it was made for, else to one on this device with the same peer. */
export function conversations(calls: Call[], lines: Line[], user: string, device: Device | undefined): Conversation[] {
  const left = lines.filter((l) => l.stage !== "over");
  const take = (want: (l: Line) => boolean): Line | undefined => {
    const i = left.findIndex(want);
    return i < 0 ? undefined : left.splice(i, 1)[0];
  };
  const known = new Map<string, Line | undefined>(calls.map((c) => [c.id, take((l) => l.call === c.id)]));
  const here = (c: Call) => legs(mySeat(c, user, device)).some((l) => onDevice(l, device));
  for (const same of [true, false]) {
    for (const c of calls) {
      if (known.get(c.id) || !here(c)) continue;
      const peer = farPeer(c, mySeat(c, user, device));
      known.set(c.id, take((l) => l.call === undefined && (!same || samePeer(l.peer, peer))));
    }
  }
  const all = calls.filter((c) => c.state !== "ended" && c.state !== "ending").map((c) => conversation(c, known.get(c.id), user, device));
  for (const l of [...left]) all.push(alone(l));
  return all.sort((a, b) => rank(a) - rank(b));
}

/** samePeer compares as far as a From header tells: numbers, else names. */
function samePeer(a: Peer, b: Peer): boolean {
  const bare = (n: string) => n.replace(/@.*$/, "");
  return bare(a.number) === bare(b.number) || (a.name !== "" && a.name === b.name);
}

const rank = (c: Conversation): number => (c.line?.stage === "incoming" ? 0 : c.place === "here" ? 1 : c.place === "ringing" ? 2 : 3);

function conversation(c: Call, line: Line | undefined, user: string, device: Device | undefined): Conversation {
  const mine = mySeat(c, user, device);
  const holder = legs(mine).find(alive);
  return {
    key: c.id, call: c, line, mine, holder, peer: farPeer(c, mine), place: place(mine, holder, line, device),
    moving: holder !== undefined && legs(mine).some((l) => l !== holder && !l.listens && !alive(l)),
    since: c.answered ? Date.parse(c.answered) : line?.answered,
  };
}

function place(mine: Seat | undefined, holder: Leg | undefined, line: Line | undefined, device: Device | undefined): Place {
  if (line && line.purpose !== "pull" && line.purpose !== "resume") return "here";
  if (line?.stage === "talking") return "here";
  if (holder) return onDevice(holder, device) && line ? "here" : "elsewhere";
  if (legs(mine).length > 0) return "ringing"; // baton calls such a seat empty: nobody holds it yet
  return "nowhere";
}

function alone(l: Line): Conversation {
  return { key: l.id, call: undefined, line: l, mine: undefined, holder: undefined, peer: l.peer, place: "here", moving: false, since: l.answered };
}

/** lastMove is the newest move of my side, done or failed. A transfer stands among the moves too, to no device of mine. */
export function lastMove(c: Call | undefined, user: string): Move | undefined {
  return (c?.moves ?? []).filter((m) => m.user === user && m.to !== "").at(-1);
}

/** targets are the devices that a conversation can be moved to: all of mine but the one that has it, and this browser. */
export function targets(c: Conversation, devices: Device[], here: Device | undefined): Device[] {
  return devices.filter((d) => d !== here && !(c.holder && onDevice(c.holder, d)));
}

/** inCall says which of my devices has which call. */
export function inCall(d: Device, all: Conversation[]): Conversation | undefined {
  return all.find((c) => c.holder !== undefined && onDevice(c.holder, d));
}

/** missedSince counts the missed calls of a history that are newer than a time. */
export function missedSince(history: { time: string; kind: string }[], seen: string | undefined): number {
  const from = seen ? Date.parse(seen) : 0;
  return history.filter((h) => h.kind === "missed" && Date.parse(h.time) > from).length;
}
