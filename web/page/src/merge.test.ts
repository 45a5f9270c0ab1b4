import { describe, expect, it } from "vitest";
import type { Call, Device, Leg } from "./api";
import { newLine, step, type Line } from "./line";
import { conversations, inCall, isThis, lastMove, missedSince, onDevice, targets } from "./merge";

const devices: Device[] = [
  { index: 1, name: "yealink-t46", kind: "desk phone", here: true },
  { index: 2, name: "chrome", kind: "browser", here: true, instance: "<urn:uuid:0A1B>" },
  { index: 3, name: "linphone", kind: "softphone", here: false },
];
const here = devices[1];
const leg = (index: number, state = "up"): Leg => ({ id: `l${index}`, device: devices[index - 1]!.name, index, state });
const call = (id: string, mine: Leg[], far = "102", over: Partial<Call> = {}): Call => ({
  id, state: "up", started: "2026-11-26T10:00:00Z", answered: "2026-11-26T10:00:05Z", moves: [],
  seats: [
    { user: "alice", number: "101", name: "Alice", legs: mine, empty: mine.length === 0 },
    { user: far, number: far, name: "", legs: [{ id: "f", device: "kitchen", index: 1, state: "up" }] },
  ],
  ...over,
});
const talking = (id: string, number: string, over: Partial<Line> = {}): Line =>
  ({ ...step(step(newLine(id, "call", { name: "", number }, 0), { type: "sent" }), { type: "up", at: 1 }), ...over });

describe("conversations", () => {
  it("puts a line to its call by the peer, whatever the order", () => {
    const all = conversations([call("a", [leg(2)], "102"), call("b", [leg(2)], "103")], [talking("x", "103"), talking("y", "102")], "alice", here);
    expect(all.map((c) => [c.key, c.line?.id, c.place])).toEqual([["a", "y", "here"], ["b", "x", "here"]]);
  });

  it("puts a line whose peer is shown otherwise to the call that is left", () => {
    const all = conversations([call("a", [leg(2)], "102"), call("b", [leg(2)], "103")], [talking("x", "0049103"), talking("y", "102")], "alice", here);
    expect(all.map((c) => [c.key, c.line?.id])).toEqual([["a", "y"], ["b", "x"]]);
  });

  it("never gives a call of another device a line that only looks like it", () => {
    const all = conversations([call("a", [leg(1)], "102")], [talking("x", "102")], "alice", here);
    expect(all.map((c) => [c.key, c.place, c.line?.id])).toEqual([["x", "here", "x"], ["a", "elsewhere", undefined]]);
  });

  it("shows a call that is being brought here as elsewhere until it is here", () => {
    const pull = { ...newLine("p", "pull", { name: "", number: "*40" }, 0, "a"), stage: "calling" as const };
    const [c] = conversations([call("a", [leg(1), leg(2, "ringing")])], [pull], "alice", here);
    expect(c).toMatchObject({ place: "elsewhere", moving: true, line: { id: "p" }, peer: { number: "102" } });
    const [d] = conversations([call("a", [leg(2)])], [{ ...pull, stage: "talking" }], "alice", here);
    expect(d).toMatchObject({ place: "here", moving: false });
  });

  it("tells what is on this browser by baton's word but not in this page", () => {
    expect(conversations([call("a", [leg(2)])], [], "alice", here)[0]).toMatchObject({ place: "elsewhere", line: undefined });
  });

  it("tells an empty seat, a ringing one, and leaves out what has ended", () => {
    const rings = call("b", [leg(1, "ringing")]);
    rings.seats[0]!.empty = true; // as baton says it while nobody has answered
    const all = conversations([call("a", []), rings, call("c", [leg(1)], "102", { state: "ending" })], [], "alice", here);
    expect(all.map((c) => [c.key, c.place])).toEqual([["b", "ringing"], ["a", "nowhere"]]);
  });

  it("shows lines that baton does not list yet, and none that are over", () => {
    const over = step(talking("z", "105"), { type: "end", end: { cause: "Terminated", mine: true, established: true } });
    const ring = newLine("i", "in", { name: "Carol", number: "104" }, 0);
    expect(conversations([], [over, talking("x", "102"), ring], "alice", here).map((c) => c.key)).toEqual(["i", "x"]);
  });

  it("takes the seat on this device when one calls oneself", () => {
    const self = call("a", [leg(1)]);
    self.seats[1] = { user: "alice", number: "101", name: "Alice", legs: [leg(2)] };
    expect(conversations([self], [talking("x", "101")], "alice", here)[0]).toMatchObject({ place: "here", holder: { index: 2 } });
  });

  it("leaves transfers out of what has moved", () => {
    const move = { at: "", user: "alice", from: "a", to: "b", how: "pull" };
    expect(lastMove(call("a", [leg(2)], "102", { moves: [move, { ...move, to: "", how: "transfer" }, { ...move, user: "bob" }] }), "alice")).toEqual(move);
  });

  it("bears lists that are null, as Go writes empty ones", () => {
    const c = call("a", [leg(1)]);
    c.seats[1]!.legs = null;
    expect(conversations([{ ...c, moves: null }], [], "alice", here)).toHaveLength(1);
    expect(lastMove({ ...c, moves: null }, "alice")).toBeUndefined();
  });
});

describe("devices", () => {
  it("without a number are known by their names", () => {
    const [a, b]: [Device, Device] = [{ ...devices[0]!, index: 0 }, { ...devices[2]!, index: 0, here: true }];
    const l = { ...leg(1), index: 0 };
    expect([onDevice(l, a), onDevice(l, b), onDevice(l, undefined)]).toEqual([true, false, false]);
  });

  it("know this browser by its instance", () => {
    expect(devices.map((d) => isThis(d, "0a1b"))).toEqual([false, true, false]);
  });
  it("can be moved to unless they have the call", () => {
    const [c] = conversations([call("a", [leg(1)])], [], "alice", here);
    expect(targets(c!, devices, here).map((d) => d.index)).toEqual([3]);
    expect(inCall(devices[0]!, [c!])?.key).toBe("a");
    expect(inCall(devices[2]!, [c!])).toBeUndefined();
  });
});

describe("missedSince", () => {
  it("counts missed calls newer than what was seen", () => {
    const h = [{ time: "2026-11-26T10:00:00Z", kind: "missed" }, { time: "2026-11-26T09:00:00Z", kind: "missed" }, { time: "2026-11-26T11:00:00Z", kind: "in" }];
    expect(missedSince(h, undefined)).toBe(2);
    expect(missedSince(h, "2026-11-26T09:30:00Z")).toBe(1);
    expect(missedSince(h, "2026-11-26T10:00:00Z")).toBe(0);
  });
});
