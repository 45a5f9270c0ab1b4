// What a call sounds like in this browser: figures out of getStats, and the E-model on them (docs/measure.md, as in the node's
// media package). Pure functions over reports; nothing here holds a connection.

/** Sample is one reading of a PeerConnection's counters. */
export interface Sample {
  at: number; // ms
  received: number;
  sent: number;
  lost: number;
  concealed: number; // samples made up by the browser
  silent: number; // of these, silence (DTX and the far side's pauses)
  samples: number; // samples played
  jitter: number; // ms
  bufferDelay: number; // seconds × samples, grows
  bufferCount: number;
  rtt: number | undefined; // ms
  outLoss: number | undefined; // percent, as baton reports it
  outJitter: number | undefined; // ms
  codec: string;
  pair: Pair | undefined;
  cipher: string;
}

/** Pair is the way the audio takes: the nominated candidate pair. */
export interface Pair {
  way: "UDP" | "TCP" | "TURN";
  /** How this browser reaches the TURN server, where one is used: udp, tcp or tls. */
  relay: string;
  local: string; // candidate type
  remote: string; // address:port of baton
}

/** Quality is what the meter shows: over the last seconds, not over the whole call. */
export interface Quality {
  mos: number;
  lossIn: number; // percent
  lossOut: number | undefined;
  jitter: number; // ms
  rtt: number | undefined; // ms
  buffer: number | undefined; // ms, what the jitter buffer held packets back of late
  concealed: number; // percent of the played sound
  delay: number; // ms, one way from baton to the ear, as estimated
}

type Stat = Record<string, unknown> & { id: string; type: string };

const num = (v: unknown): number | undefined => (typeof v === "number" && Number.isFinite(v) ? v : undefined);
const ms = (v: unknown): number | undefined => (num(v) === undefined ? undefined : (v as number) * 1000);
const str = (v: unknown): string => (typeof v === "string" ? v : "");

/** read takes what the meter needs out of a report; undefined as long as nothing is received. */
export function read(report: Iterable<[string, unknown]>, at: number): Sample | undefined {
  const all = new Map<string, Stat>();
  for (const [id, s] of report) all.set(id, s as Stat);
  const of = (type: string) => [...all.values()].filter((s) => s.type === type && (s["kind"] ?? "audio") === "audio");
  const inbound = of("inbound-rtp")[0];
  if (!inbound) return undefined;
  const remote = of("remote-inbound-rtp")[0];
  const outbound = of("outbound-rtp")[0];
  const transport = [...all.values()].find((s) => s.type === "transport");
  const pair = nominated(all, transport);
  const fraction = num(remote?.["fractionLost"]);
  return {
    at,
    received: num(inbound["packetsReceived"]) ?? 0,
    sent: num(outbound?.["packetsSent"]) ?? 0,
    lost: Math.max(num(inbound["packetsLost"]) ?? 0, 0),
    concealed: num(inbound["concealedSamples"]) ?? 0,
    silent: num(inbound["silentConcealedSamples"]) ?? 0,
    samples: num(inbound["totalSamplesReceived"]) ?? 0,
    jitter: ms(inbound["jitter"]) ?? 0,
    bufferDelay: num(inbound["jitterBufferDelay"]) ?? 0,
    bufferCount: num(inbound["jitterBufferEmittedCount"]) ?? 0,
    rtt: ms(pair?.["currentRoundTripTime"]) ?? ms(remote?.["roundTripTime"]),
    outLoss: fraction === undefined ? undefined : fraction * 100,
    outJitter: ms(remote?.["jitter"]),
    codec: str(all.get(str(inbound["codecId"]))?.["mimeType"]).replace(/^audio\//i, ""),
    pair: pair && describe(all, pair),
    cipher: str(transport?.["srtpCipher"]),
  };
}

/** nominated finds the pair in use: by the transport (Chromium) or by its own flag (Firefox). */
function nominated(all: Map<string, Stat>, transport: Stat | undefined): Stat | undefined {
  const chosen = all.get(str(transport?.["selectedCandidatePairId"]));
  if (chosen) return chosen;
  const pairs = [...all.values()].filter((s) => s.type === "candidate-pair");
  return pairs.find((s) => s["selected"] === true) ?? pairs.find((s) => s["nominated"] === true && s["state"] === "succeeded");
}

function describe(all: Map<string, Stat>, pair: Stat): Pair {
  const local = all.get(str(pair["localCandidateId"]));
  const remote = all.get(str(pair["remoteCandidateId"]));
  const kind = str(local?.["candidateType"]);
  const protocol = str(local?.["protocol"]).toLowerCase();
  const address = str(remote?.["address"]) || str(remote?.["ip"]);
  return {
    way: kind === "relay" ? "TURN" : protocol === "tcp" ? "TCP" : "UDP",
    relay: kind === "relay" ? str(local?.["relayProtocol"]) : "",
    local: kind,
    remote: address && `${address.includes(":") ? `[${address}]` : address}:${num(remote?.["port"]) ?? "?"}`,
  };
}

/** between is the quality from one sample to a later one of the same connection. */
export function between(a: Sample, b: Sample): Quality {
  const received = Math.max(b.received - a.received, 0);
  const lost = Math.max(b.lost - a.lost, 0);
  const lossIn = received + lost === 0 ? (b.at - a.at > 1000 ? 100 : 0) : (100 * lost) / (received + lost);
  const samples = Math.max(b.samples - a.samples, 0);
  const made = Math.max(b.concealed - b.silent - (a.concealed - a.silent), 0);
  const emitted = b.bufferCount - a.bufferCount;
  const buffer = emitted > 0 ? ((b.bufferDelay - a.bufferDelay) / emitted) * 1000 : undefined;
  const delay = (b.rtt ?? 0) / 2 + (buffer ?? 4 * b.jitter) + packet + (lookAhead[b.codec.toUpperCase()] ?? 0);
  return {
    mos: mos(rating(b.codec, lossIn, delay)),
    lossIn, lossOut: b.outLoss, jitter: b.jitter, rtt: b.rtt, buffer,
    concealed: samples === 0 ? 0 : (100 * made) / samples,
    delay,
  };
}

const packet = 20; // ms of sound in a packet, as it waits to be full

/** How many ms of what follows a frame a codec waits for, as the node has it. */
const lookAhead: Record<string, number> = { G722: 1.5, OPUS: 6.5 };

/** What a codec costs by itself (Ie) and how well it bears random loss (Bpl): ITU-T G.113, and as the node assumes for the others. */
const impairments: Record<string, [number, number]> = { PCMU: [0, 25.1], PCMA: [0, 25.1], G722: [0, 15], OPUS: [0, 20] };

/** rating is R of ITU-T G.107 with all but delay (ms), codec and loss (percent) at its defaults. */
export function rating(codec: string, loss: number, delay: number): number {
  const [ie, bpl] = impairments[codec.toUpperCase()] ?? [10, 10];
  const id = 0.024 * delay + 0.11 * Math.max(0, delay - 177.3);
  const eff = ie + ((95 - ie) * loss) / (loss + bpl);
  return Math.max(0, 93.2 - id - eff);
}

/** mos is G.107 Annex B: 1 (bad) to 4.5. */
export function mos(r: number): number {
  if (r <= 0) return 1;
  if (r >= 100) return 4.5;
  return Math.max(1, 1 + 0.035 * r + 7e-6 * r * (r - 60) * (100 - r));
}

/** grade puts a MOS into a word and 0 to 4 bars (G.107 Annex B, table B.1). */
export function grade(mos: number): { bars: number; word: string } {
  if (mos >= 4.03) return { bars: 4, word: "very good" };
  if (mos >= 3.6) return { bars: 3, word: "good" };
  if (mos >= 3.1) return { bars: 2, word: "fair" };
  if (mos >= 2.58) return { bars: 1, word: "poor" };
  return { bars: 0, word: "bad" };
}

/** Window keeps the samples of the last seconds and gives the quality over them. */
export class Window {
  private samples: Sample[] = [];

  constructor(private readonly ms = 5000) {}

  add(s: Sample): Quality | undefined {
    const last = this.samples.at(-1);
    if (last && s.received < last.received) this.samples = []; // another stream
    this.samples.push(s);
    while (this.samples.length > 2 && s.at - this.samples[0]!.at > this.ms) this.samples.shift();
    return this.samples.length < 2 ? undefined : between(this.samples[0]!, s);
  }
}
