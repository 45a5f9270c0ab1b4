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
const hopeless = 60_000; // after so long without success it is tried less often
const seldom = 2500;
const another = 1200; // a try that has not come through by then gets a second one beside it
const stale = 4000; // and is given up then

/** Wire tries as long as it is wanted; where several tries are under way the first to open is taken. */
export class Wire {
  via_transport: string;
  readonly sip_uri: string;

  // JsSIP's, set by its Transport.
  onconnect: () => void = () => {};
  ondisconnect: (error: boolean, code?: number, reason?: string) => void = () => {};
  ondata: (data: string) => void = () => {};

  /** intercept takes a message before the SIP stack sees it; true = it is dealt with. */
  intercept: (message: string) => boolean = () => false;

  /** trouble is told when tries keep failing: how long nothing has stood, in ms; 0 when it stands again. */
  ontrouble: (since: number) => void = () => {};

  private socket: WebSocket | undefined; // the open one
  private tries = new Map<WebSocket, number>(); // started at
  private wanted = false;
  private failed = 0;
  private downSince = 0;
  private next: ReturnType<typeof setTimeout> | undefined;
  private watch: ReturnType<typeof setTimeout> | undefined;
  private pinged = 0; // when the ping was sent that is not answered
  private obeys = false; // this server answers pings
  private pace = idle;

  constructor(readonly url: string, private readonly open: (url: string) => WebSocket = (u) => new WebSocket(u, "sip")) {
    const u = new URL(url);
    this.via_transport = u.protocol === "wss:" ? "WSS" : "WS";
    this.sip_uri = `sip:${u.host};transport=ws`;
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
    this.failed = 0;
    this.try();
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
    this.failed = 0;
    this.giveUp();
    this.try();
  }

  /** drop gives the open connection up, as if it had broken: its network is known to be gone. */
  drop(why: string): void {
    if (this.socket) this.lost(this.socket, 1006, why);
  }

  setPace(p: Pace): void {
    if (p === this.pace) return;
    this.pace = p;
    if (this.isConnected()) this.ping();
  }

  private try(): void {
    clearTimeout(this.next);
    if (!this.wanted || this.isConnected()) return;
    const now = Date.now();
    for (const [s, started] of this.tries) if (now - started > stale) this.forget(s);
    if (this.tries.size < 2) this.start(now);
    this.next = setTimeout(() => this.try(), another);
  }

  private start(now: number): void {
    let s: WebSocket;
    try {
      s = this.open(this.url);
    } catch {
      this.failedTry();
      return;
    }
    this.tries.set(s, now);
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
    const wait = Date.now() - this.downSince > hopeless ? seldom : again[Math.min(this.failed, again.length - 1)]!;
    this.failed++;
    clearTimeout(this.next);
    this.next = setTimeout(() => this.try(), wait);
  }

  private opened(s: WebSocket): void {
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
