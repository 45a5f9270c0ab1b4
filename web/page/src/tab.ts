// One tab of this browser is the device: it holds a lock (Web Locks). The others show it, become it when it is closed, and can ask it
// to give way. Where a browser has no locks every tab is the device.

import type { Saved } from "./call";

export type Role = "waiting" | "device" | "other";

type Message = { type: "give"; for: string } | { type: "given"; to: string; saved: Saved[] } | { type: "signed-out" };

export interface TabHooks {
  role(r: Role): void;
  /** become is called when this tab is the device now; inherit with the calls that another tab has given it. */
  become(): void;
  inherit(saved: Saved[]): void;
  /** give has the tab stop being the device and tells what it was doing. */
  give(): Saved[];
  signedOut(): void;
}

const name = "baton.device";
const patience = 1500; // ms that a tab which is asked may take; a frozen one never answers

export class Tab {
  private readonly id = crypto.getRandomValues(new Uint32Array(2)).join("");
  private readonly channel = typeof BroadcastChannel === "undefined" ? undefined : new BroadcastChannel(name);
  private release: (() => void) | undefined;
  private waiting: AbortController | undefined;
  private inherited: Saved[] = [];
  private stopped = false;
  private asking: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly hooks: TabHooks) {
    if (this.channel) this.channel.onmessage = (e: MessageEvent<Message>) => this.heard(e.data);
  }

  /** start takes the lock if it is free, else waits for it. */
  start(): void {
    if (!navigator.locks) {
      this.hooks.role("device");
      this.hooks.become();
      return;
    }
    void navigator.locks.query().then((q) => {
      if (!this.stopped && !this.release && q.held?.some((l) => l.name === name)) this.hooks.role("other");
    }, () => {});
    this.request(false);
  }

  /** takeOver makes this tab the device, whatever the one does that is. */
  takeOver(): void {
    this.channel?.postMessage({ type: "give", for: this.id } satisfies Message);
    this.asking = setTimeout(() => this.steal(), this.channel ? patience : 0);
  }

  /** leave gives the lock back, because the page goes: by itself the browser would do so only a while later. */
  leave(): void {
    this.stopped = true;
    this.release?.();
  }

  /** stop gives the lock back; the others learn if the user has signed out. */
  stop(signedOut: boolean): void {
    this.stopped = true;
    if (signedOut) this.channel?.postMessage({ type: "signed-out" } satisfies Message);
    clearTimeout(this.asking);
    this.waiting?.abort();
    this.release?.();
    this.release = undefined;
    this.channel?.close();
  }

  private request(steal: boolean): void {
    const mine = (this.waiting = new AbortController());
    const options: LockOptions = steal ? { steal: true } : { signal: mine.signal };
    navigator.locks
      .request(name, options, () => new Promise<void>((release) => {
        if (this.stopped) return release();
        clearTimeout(this.asking);
        this.release = release;
        this.hooks.role("device");
        this.hooks.become();
        this.hooks.inherit(this.inherited.splice(0));
      }))
      .catch(() => mine === this.waiting && this.lost());
  }

  private steal(): void {
    if (this.release || this.stopped) return;
    this.waiting?.abort();
    this.request(true);
  }

  /** lost is called when another tab has stolen the lock, because this one did not answer; or when waiting was given up. */
  private lost(): void {
    if (!this.release || this.stopped) return;
    this.release = undefined;
    this.hooks.give();
    this.hooks.role("other");
    this.request(false);
  }

  private heard(m: Message): void {
    switch (m.type) {
      case "give":
        if (!this.release) return;
        this.channel?.postMessage({ type: "given", to: m.for, saved: this.hooks.give() } satisfies Message);
        this.release();
        this.release = undefined;
        this.hooks.role("other");
        // Behind the tab that has asked, which waits for the lock already.
        setTimeout(() => !this.stopped && this.request(false), 500);
        return;
      case "given":
        if (m.to !== this.id) return;
        clearTimeout(this.asking);
        if (this.release) return this.hooks.inherit(m.saved); // the lock was quicker than the word
        this.inherited = m.saved;
        this.steal(); // a third tab may stand before this one
        return;
      case "signed-out":
        this.hooks.signedOut();
    }
  }
}
