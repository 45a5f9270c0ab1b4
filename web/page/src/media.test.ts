// The browser's devices cannot be pulled in a test, so they are made up here: what getUserMedia and enumerateDevices would say.
import { beforeEach, describe, expect, it, vi } from "vitest";
import { Audio, MediaError, type Notice } from "./media";

class Track extends EventTarget {
  readyState = "live";
  enabled = true;
  clones: Track[] = [];
  constructor(readonly device: string) {
    super();
  }
  clone() {
    const t = new Track(this.device);
    this.clones.push(t);
    return t;
  }
  stop() {
    this.readyState = "ended";
  }
  /** pull is what the browser does to a track whose device has gone. */
  pull() {
    this.readyState = "ended";
    this.dispatchEvent(new Event("ended"));
  }
}

let plugged: string[];
let opened: Track[];
let refuse = "";
let media: EventTarget;
const choice = { microphone: "headset", microphoneLabel: "Headset", speaker: "", speakerLabel: "" };

beforeEach(() => {
  plugged = ["builtin", "headset"];
  opened = [];
  refuse = "";
  choice.microphone = "headset";
  media = Object.assign(new EventTarget(), {
    getUserMedia: async ({ audio }: { audio: { deviceId?: { exact: string } } }) => {
      const id = audio.deviceId?.exact ?? plugged[0];
      if (refuse) throw Object.assign(new Error(), { name: refuse });
      if (!id || !plugged.includes(id)) throw Object.assign(new Error(), { name: audio.deviceId ? "OverconstrainedError" : "NotFoundError" });
      const t = new Track(id);
      opened.push(t);
      return { getAudioTracks: () => [t] };
    },
    enumerateDevices: async () => plugged.map((deviceId) => ({ deviceId, label: deviceId, kind: "audioinput" })),
  });
  vi.stubGlobal("navigator", { mediaDevices: media });
  vi.stubGlobal("window", { isSecureContext: true });
  vi.stubGlobal("MediaStream", class { constructor(readonly tracks: Track[]) {} });
});

const user = () => {
  const u = { tracks: [] as Track[], replace: (t: unknown) => u.tracks.push(t as Track) };
  return u;
};
const lent = (s: MediaStream) => (s as unknown as { tracks: Track[] }).tracks[0]!;
const soon = () => new Promise((r) => setTimeout(r, 5));

describe("Audio", () => {
  it("opens the microphone once for all calls, each with a track of its own, and closes it with the last", async () => {
    const a = new Audio(() => choice);
    const [u, v] = [user(), user()];
    const [s, t] = await Promise.all([a.borrow(u), a.borrow(v)]);
    expect(opened.map((o) => o.device)).toEqual(["headset"]);
    expect(lent(s)).not.toBe(lent(t));
    a.giveBack(u);
    expect([lent(s).readyState, opened[0]!.readyState]).toEqual(["ended", "live"]);
    a.giveBack(v);
    expect(opened[0]!.readyState).toBe("ended");
  });

  it("goes on with the default when the headset is pulled, says so, and takes it again when it is back", async () => {
    const a = new Audio(() => choice);
    const said: Notice[] = [];
    a.onnotice = (n) => said.push(n);
    const u = user();
    lent(await a.borrow(u)).enabled = false; // muted
    plugged = ["builtin"];
    opened[0]!.pull();
    media.dispatchEvent(new Event("devicechange"));
    await soon();
    expect(u.tracks.at(-1)).toMatchObject({ device: "builtin", enabled: false }); // muted it stays
    plugged = ["builtin", "headset"];
    media.dispatchEvent(new Event("devicechange"));
    await soon();
    expect(u.tracks.at(-1)).toMatchObject({ device: "headset", enabled: false });
    expect(said.map((n) => `${n.label} ${n.kind}`)).toEqual(["Headset gone", "Headset back"]);
    expect(opened.filter((t) => t.readyState === "live")).toHaveLength(1);
  });

  it("uses the default when the chosen one is not plugged in at the call's begin", async () => {
    plugged = ["builtin"];
    const a = new Audio(() => choice);
    expect(lent(await a.borrow(user())).device).toBe("builtin");
  });

  it("keeps a call that has lost its only microphone, and gives it the next one", async () => {
    choice.microphone = "";
    plugged = ["builtin"];
    const a = new Audio(() => choice);
    const u = user();
    await a.borrow(u);
    plugged = [];
    opened[0]!.pull();
    await soon();
    expect(u.tracks).toEqual([]);
    plugged = ["usb"];
    media.dispatchEvent(new Event("devicechange"));
    await soon();
    expect(u.tracks.at(-1)?.device).toBe("usb");
  });

  it("tells in words why there is none", async () => {
    refuse = "NotAllowedError";
    await expect(new Audio(() => choice).borrow(user())).rejects.toMatchObject({ kind: "NotAllowedError", trouble: { do: expect.stringContaining("allow") } });
    vi.stubGlobal("window", { isSecureContext: false });
    await expect(new Audio(() => choice).borrow(user())).rejects.toBeInstanceOf(MediaError);
  });
});
