// The connection for SIP: a WebSocket (RFC 7118) that connects anew by itself and notices within a second or two that it is dead.
// It is a JsSIP.Socket. JsSIP's own reconnecting waits whole seconds and notices nothing, so this never tells it of a try that failed.

/** Pace is how closely the connection is watched: in a call a dead one must be noticed at once. */
export interface Pace {
  every: number; // ms between pings
  patience: number; // ms until a ping must be answered
}

export const idle: Pace = { every: 20_000, patience: 5000 };
export const inCall: Pace = { every: 600, patience: 1800 };

const ping = "\r\n\r\n"; // RFC 5626 §4.4.1, answered by one CRLF
const pong = "\r\n";

const again = [0, 200, 400, 800]; // ms before the next try; the last one repeats
const another = 800; // the page's node is asked so soon whether it answers at all
const elsewhere = 400; // and so soon where that is at another node
export const stale = 3000; // a try is given up then

// After some thirty failures within minutes Chromium has every WebSocket wait for up to five seconds. Firefox goes on connecting one that was
// given up, and has six connections to a node in all: new ones wait for the old ones' SYNs, which come seconds apart by then. So a node
// that is silent is tried once at a time, and after a while hardly at all, until it answers something else, which can be given up truly.
const eager = 3000; // ms after which it is tried so
const seldom = 2500; // between tries at a node that answers, but not to them
const blind = 30_000; // between tries at one that does not answer
const blindElsewhere = 5000; // where there are others, which are not asked

/** sockets are the URLs at which SIP is spoken: that of the node which the page has come from, then those of the others that it names. */
export function sockets(page: { protocol: string; host: string }, path: string, nodes: string[] = []): string[] {
  const own = new URL(`${page.protocol === "https:" ? "wss:" : "ws:"}//${page.host}${path}`);
  const others = nodes.filter((n) => URL.canParse(n) && new URL(n).protocol === own.protocol).map((n) => new URL(n).href);
  return [...new Set([own.href, ...others])];
}

/**
 * Wire tries as long as it is wanted, the nodes in turn, beginning with the one where it was last; where several tries are under way
 * the first to open is taken.
 */
export class Wire {
  via_transport: string;

  // JsSIP's, set by its Transport.
  onconnect: () => void = () => {};
  ondisconnect: (error: boolean, code?: number, reason?: string) => void = () => {};
  ondata: (data: string) => void = () => {};

  /** intercept takes a message before the SIP stack sees it; true = it is dealt with. */
  intercept: (message: string) => boolean = () => false;

  /** trouble is told when tries keep failing: how long nothing has stood, in ms; 0 when it stands again. */
  ontrouble: (since: number) => void = () => {};

  private socket: WebSocket | undefined; // the open one
  private tries = new Map<WebSocket, { at: number; node: number }>(); // at = when it was started
  private node = 0; // at which of the URLs it is, or was last
  private turn = 0; // which of them is tried next
  private wanted = false;
  private failed = 0;
  private downSince = 0;
  private eagerSince = 0;
  private begun = 0; // when the last try was
  private there = false; // the page's node has answered when it was asked last
  private heardOf = 0; // when it did
  private next: ReturnType<typeof setTimeout> | undefined;
  private watch: ReturnType<typeof setTimeout> | undefined;
  private pinged = 0; // when the ping was sent that is not answered
  private obeys = false; // this server answers pings
  private pace = idle;

  /** reachable asks the page's node for something else than a WebSocket, and takes no longer than a try may; it is asked again meanwhile. */
  constructor(
    private readonly urls: string[], private readonly open: (url: string) => WebSocket = (u) => new WebSocket(u, "sip"),
    private readonly reachable: () => Promise<boolean> = async () => false,
  ) {
    this.via_transport = this.url.startsWith("wss:") ? "WSS" : "WS";
  }

  get url(): string {
    return this.urls[this.node]!;
  }

  get sip_uri(): string {
    return `sip:${new URL(this.url).host};transport=ws`;
  }

  isConnected(): boolean {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  isConnecting(): boolean {
    return this.wanted && !this.isConnected();
  }

  connect(): void {
    if (this.isConnected()) return;
    if (!this.wanted || this.downSince === 0) this.downSince = Date.now();
    this.wanted = true;
    this.hurry();
  }

  disconnect(): void {
    this.wanted = false;
    clearTimeout(this.next);
    clearTimeout(this.watch);
    this.giveUp();
    const s = this.socket;
    this.socket = undefined;
    if (s) silence(s).close();
  }

  send(message: string): boolean {
    if (!this.isConnected()) return false;
    this.socket!.send(message);
    return true;
  }

  /** nudge has it look at once: the network has come back, or the page is seen again. */
  nudge(): void {
    if (!this.wanted) return;
    if (this.isConnected()) {
      this.ping();
      return;
    }
    this.giveUp();
    this.hurry();
  }

  /** drop gives the open connection up, as if it had broken: its network is known to be gone. */
  drop(why: string): void {
    if (this.socket) this.lost(this.socket, 1006, why);
  }

  /** answered is told that the page's node has answered some other request, which is news where it has been silent. */
  answered(): void {
    if (this.wanted && !this.isConnected() && Date.now() - this.eagerSince >= eager) this.seen(true);
  }

  setPace(p: Pace): void {
    if (p === this.pace) return;
    this.pace = p;
    if (this.isConnected()) this.ping();
  }

  private hurry(): void {
    this.failed = 0;
    this.turn = this.node;
    this.eagerSince = Date.now();
    this.there = false;
    this.try();
  }

  private try(): void {
    clearTimeout(this.next);
    if (!this.wanted || this.isConnected()) return;
    const now = Date.now();
    for (const [s, t] of this.tries) {
      if (now - t.at <= stale) continue;
      this.forget(s);
      this.ontrouble(now - this.downSince);
    }
    const several = this.urls.length > 1;
    const due = now - this.eagerSince < eager || now - this.begun >= (several ? blindElsewhere : blind);
    if (due && ![...this.tries.values()].some((t) => t.node === this.turn)) this.start(now);
    else void this.look();
    this.next = setTimeout(() => this.try(), several ? elsewhere : another);
  }

  /** look tries when the page's node has begun to answer, and now and then as long as it does. */
  private async look(): Promise<void> {
    const asked = Date.now();
    const there = await this.reachable();
    if (there || asked > this.heardOf) this.seen(there);
  }

  private seen(there: boolean): void {
    const was = this.there;
    this.there = there;
    if (!there) return;
    this.heardOf = Date.now();
    if (this.wanted && !this.isConnected() && (!was || Date.now() - this.begun >= seldom)) {
      this.turn = 0;
      this.start(Date.now());
    }
  }

  private start(now: number): void {
    let s: WebSocket;
    const node = this.turn;
    this.turn = (node + 1) % this.urls.length;
    this.begun = now;
    try {
      s = this.open(this.urls[node]!);
    } catch {
      this.failedTry();
      return;
    }
    this.tries.set(s, { at: now, node });
    s.binaryType = "arraybuffer";
    s.onopen = () => this.opened(s);
    s.onerror = () => {}; // a close follows
    s.onclose = () => {
      if (this.tries.delete(s)) this.failedTry();
    };
    // One that was opened before it was wanted; JsSIP does not expect it to be there at once.
    if (s.readyState === WebSocket.OPEN) queueMicrotask(() => this.tries.has(s) && this.opened(s));
  }

  private failedTry(): void {
    this.ontrouble(Date.now() - this.downSince);
    if (this.tries.size > 0) return;
    const wait = again[Math.min(this.failed, again.length - 1)]!;
    this.failed++;
    clearTimeout(this.next);
    this.next = setTimeout(() => this.try(), wait);
  }

  private opened(s: WebSocket): void {
    this.node = this.tries.get(s)!.node;
    this.tries.delete(s);
    this.giveUp();
    clearTimeout(this.next);
    this.socket = s;
    this.failed = 0;
    this.downSince = 0;
    this.pinged = 0;
    this.obeys = false;
    s.onclose = (e) => this.lost(s, e.code, e.reason);
    s.onmessage = (e) => this.received(e.data);
    this.ontrouble(0);
    this.onconnect();
    this.ping();
  }

  private received(data: string | ArrayBuffer): void {
    this.pinged = 0;
    if (data === pong) {
      this.obeys = true;
      return;
    }
    if (typeof data === "string" && this.intercept(data)) return;
    this.ondata(data as string); // JsSIP takes binary ones too
  }

  private ping(): void {
    clearTimeout(this.watch);
    if (!this.isConnected()) return;
    const now = Date.now();
    const due = this.pinged > 0 && this.obeys && now - this.pinged >= this.pace.patience;
    if (due) {
      this.lost(this.socket!, 1006, "no answer");
      return;
    }
    if (this.pinged === 0) this.pinged = now;
    this.socket!.send(ping);
    this.watch = setTimeout(() => this.ping(), Math.min(this.pace.every, this.pace.patience));
  }

  private lost(s: WebSocket, code: number, reason: string): void {
    if (s !== this.socket) return;
    this.socket = undefined;
    clearTimeout(this.watch);
    silence(s).close();
    this.wanted = false; // until JsSIP, which is told now, wants it again
    this.ondisconnect(true, code, reason);
  }

  private giveUp(): void {
    for (const s of this.tries.keys()) this.forget(s);
  }

  private forget(s: WebSocket): void {
    this.tries.delete(s);
    silence(s).close();
  }
}

function silence(s: WebSocket): WebSocket {
  s.onopen = s.onclose = s.onmessage = null;
  s.onerror = () => {};
  return s;
}
