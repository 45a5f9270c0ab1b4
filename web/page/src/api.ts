// The HTTP API of the node as a user sees it (docs/openapi.yaml). It knows nothing about SIP or the screen.

import { Parser, type ServerEvent } from "./sse";

export interface SipLogin {
  uri: string;
  login: string;
  password: string;
}

/** Session is what signing in gives; it is kept in localStorage, the person's password is not. */
export interface Session {
  token: string;
  expires: string;
  user: string;
  sip: SipLogin;
}

export interface Me {
  user: string;
  display?: string;
  numbers: string[];
  domain: string;
  realm: string;
  node: { version: string };
  nodes?: string[]; // missing in what was kept of a node before it named them
  sip: { uri: string; ws: string };
  codes: { pull: string; push: string };
}

export interface Device {
  index: number;
  name: string;
  kind: string;
  key?: string;
  here: boolean;
  ringless?: boolean;
  since?: string;
  reason?: string;
  user_agent?: string;
  registered?: string;
  instance?: string;
}

export interface Quality {
  mos: number;
  r?: number;
  loss_percent: number;
  delay_ms: number;
}

export interface Traffic {
  codec?: string;
  packets: number;
  lost: number;
  loss_percent: number;
  jitter_ms: number;
}

export interface LegStats {
  rtt_ms?: number;
  packet_ms?: number;
  in: Traffic;
  out: Traffic;
  reported?: boolean;
}

/** Heard is one direction of a device's audio as the one who hears it tells it; what it does not tell is missing. */
export interface Heard {
  codec?: string;
  packets?: number;
  lost?: number;
  loss_percent?: number;
  discarded_percent?: number;
  jitter_ms?: number;
  buffer_ms?: number;
  concealed_percent?: number;
  mos?: number;
}

/** Report is what a device itself has told of its audio. */
export interface Report {
  at: string;
  rtt_ms?: number;
  hears: Heard;
  says?: Heard;
}

/** MyReport is what this page tells of a call of its own, named by its SIP dialog. */
export interface MyReport extends Omit<Report, "at"> {
  call_id: string;
  local_tag: string;
  remote_tag: string;
}

export interface Leg {
  id: string;
  device: string;
  index: number;
  state: string;
  held?: boolean;
  listens?: boolean;
  codecs?: string[];
  stats?: LegStats;
  report?: Report;
  in_quality?: Quality;
  out_quality?: Quality;
  secure?: string; // how its audio is encrypted: none, sdes, dtls
  via?: string; // which way its audio reaches the node: udp (also from a TURN relay), tcp
}

export interface Seat {
  user: string;
  number: string;
  name: string;
  empty?: boolean;
  legs: Leg[] | null;
}

export interface Gap {
  gap_ms: number;
  lost: number;
}

/** MoveReport holds the figures of one move, times in milliseconds. Far is what the far side received, near what the user's devices did. */
export interface MoveReport {
  call: string;
  user: string;
  from: string;
  to: string;
  switch_ms: number;
  ring_ms: number;
  answer_to_media: number;
  held_ms: number;
  overlap_ms: number;
  far: Gap;
  near: Gap;
}

export interface Move {
  at: string;
  user: string;
  from: string;
  to: string;
  how: string;
  who?: string;
  error?: string;
  report?: MoveReport;
}

export interface Way extends Quality {
  from: string;
  to: string;
  by?: string; // node or device: who has measured what is heard
}

export interface Call {
  id: string;
  state: string;
  started: string;
  answered?: string;
  seats: Seat[];
  moves: Move[] | null;
  ways?: Way[];
  media?: string; // direct: straight between the devices; relay: through the node
  media_why?: string; // why it is relayed
}

export interface Past {
  time: string;
  kind: "out" | "in" | "missed";
  peer: string;
  name?: string;
  duration?: number; // seconds
  call?: string;
  text?: string; // what became of it, if it was not simply answered and ended
}

/** ApiError is an answer that is not 2xx, or none at all (status 0). */
export class ApiError extends Error {
  readonly status: number;
  /** Seconds that the node asks to wait (Retry-After). */
  readonly wait: number;

  constructor(status: number, message: string, wait = 0) {
    super(message);
    this.status = status;
    this.wait = wait;
  }
}

const base = "/api/v1";
const patience = 5000; // ms for the answer to a question; what waits longer is in the way of a new connection when the network is back

/** request sends one request; body is sent as JSON. */
export async function request<T>(
  method: string, path: string, token?: string, body?: unknown, signal?: AbortSignal, answered: () => void = () => {},
): Promise<T> {
  const headers: Record<string, string> = {};
  if (token) headers["Authorization"] = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(base + path, {
      method, headers, body: body === undefined ? null : JSON.stringify(body),
      credentials: "omit", cache: "no-store", redirect: "error", signal: signal ?? null,
    });
  } catch (e) {
    if (signal?.aborted) throw e;
    throw new ApiError(0, "baton does not answer");
  }
  answered();
  if (!response.ok) throw await failure(response);
  const text = await response.text();
  return (text === "" ? undefined : JSON.parse(text)) as T;
}

async function failure(response: Response): Promise<ApiError> {
  let text = response.statusText || `HTTP ${response.status}`;
  try {
    const body = (await response.json()) as { error?: unknown };
    if (typeof body.error === "string" && body.error !== "") text = body.error;
  } catch {
    // no JSON: a proxy has answered
  }
  return new ApiError(response.status, text, Number(response.headers.get("Retry-After")) || 0);
}

/** signIn gives a session for a name or number and the SIP password. */
export const signIn = (user: string, password: string, device: string) =>
  request<Session>("POST", "/session", undefined, { user, password, device });

/** Client speaks for one session. */
export class Client {
  private following: AbortController | undefined; // the stream that stands

  /** answered is told whenever baton has answered. */
  constructor(private readonly token: string, private readonly answered: () => void = () => {}) {}

  me = () => this.get<Me>("/me");
  ice = () => this.get<{ ice_servers: RTCIceServer[] | null; until?: string }>("/me/ice");
  devices = () => this.get<Device[] | null>("/me/devices");
  calls = () => this.get<Call[] | null>("/me/calls");
  history = (n = 50, before?: string) =>
    this.get<Past[] | null>(`/me/history?n=${n}${before ? `&before=${encodeURIComponent(before)}` : ""}`);
  move = (call: string, device: string) => this.post<MoveReport>("/me/moves", { call, device });
  end = (call: string) => this.post<void>(`/me/calls/${encodeURIComponent(call)}/end`);
  leave = (call: string) => this.post<void>(`/me/calls/${encodeURIComponent(call)}/leave`);
  rejoin = (call: string) => this.post<void>(`/me/calls/${encodeURIComponent(call)}/rejoin`);
  report = (r: MyReport) => this.post<void>("/me/reports", r);
  signOut = () => request<void>("DELETE", "/session", this.token);

  /**
   * follow reads the node's events until the signal aborts, and connects anew when the stream breaks. Up says when a stream stands
   * and when it does not; refused that the session is no more.
   */
  async follow(on: { event: (e: ServerEvent) => void; up: (up: boolean) => void; refused: () => void }, signal: AbortSignal): Promise<void> {
    let retry = 500;
    while (!signal.aborted) {
      let wait = 0;
      try {
        const parser = new Parser();
        for await (const chunk of this.stream(signal, () => on.up(true))) {
          for (const e of parser.push(chunk)) on.event(e);
          retry = parser.retry ?? retry;
        }
      } catch (e) {
        if (signal.aborted) return;
        if (e instanceof ApiError && e.status === 401) return on.refused();
        if (e instanceof ApiError && e.status === 429) wait = 1000 * e.wait;
      }
      if (signal.aborted) return;
      on.up(false);
      await pause(Math.max(retry, wait), signal);
    }
  }

  /** renew has the events come over a new connection: the one that stands may be of a network that was gone, and seem to live for a minute. */
  renew(): void {
    this.following?.abort();
  }

  /** stream yields the text of the event stream; one that says nothing for 40 s (a comment comes every 15) is given up. */
  private async *stream(signal: AbortSignal, opened: () => void): AsyncGenerator<string> {
    const silent = (this.following = new AbortController());
    let timer = setTimeout(() => silent.abort(), patience);
    const online = () => silent.abort(); // a stream of the old network may seem to live for minutes
    window.addEventListener("online", online);
    const both = AbortSignal.any([signal, silent.signal]);
    try {
      const response = await fetch(`${base}/me/events`, {
        headers: { Authorization: `Bearer ${this.token}`, Accept: "text/event-stream" }, credentials: "omit", cache: "no-store", signal: both,
      });
      this.answered();
      if (!response.ok) throw await failure(response);
      opened();
      clearTimeout(timer);
      timer = setTimeout(() => silent.abort(), silence);
      const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        clearTimeout(timer);
        timer = setTimeout(() => silent.abort(), silence);
        yield value;
      }
    } finally {
      clearTimeout(timer);
      window.removeEventListener("online", online);
    }
  }

  private async get<T>(path: string): Promise<T> {
    const late = AbortSignal.timeout(patience);
    try {
      return await request<T>("GET", path, this.token, undefined, late, this.answered);
    } catch (e) {
      throw late.aborted ? new ApiError(0, "baton does not answer") : e;
    }
  }

  private post = <T>(path: string, body?: unknown) => request<T>("POST", path, this.token, body ?? {}, undefined, this.answered);
}

const silence = 40_000;

/** pause waits, and no longer than until the signal aborts or the network comes back. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      window.removeEventListener("online", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
    window.addEventListener("online", done);
  });
}
