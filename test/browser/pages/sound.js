// What every page of the tests has of sound: a microphone, an ear that keeps what it hears, and the browser's own figures.

// The browser's processing would take a steady tone for noise.
const raw = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

let context;

function audio() {
  context ??= new AudioContext();
  return context;
}

// microphone is the browser's, which plays the tone that it was started with; or a tone of that frequency.
export async function microphone(hz) {
  const device = await navigator.mediaDevices.getUserMedia({ audio: raw }); // also for the right to show addresses
  if (!hz) return device;
  for (const t of device.getTracks()) t.stop();
  const tone = new OscillatorNode(audio(), { frequency: hz });
  const level = new GainNode(audio(), { gain: 0.35 });
  const out = audio().createMediaStreamDestination();
  tone.connect(level).connect(out);
  tone.start();
  await audio().resume();
  return out.stream;
}

// The recorder gives on means over 1/8000 s, by hundreds of milliseconds.
const recorder = `registerProcessor('recorder', class extends AudioWorkletProcessor {
  constructor() { super(); this.step = sampleRate / 8000; this.at = this.sum = this.n = this.full = 0; this.block = new Int16Array(800); }
  process([[channel]]) {
    for (const x of channel ?? []) {
      this.sum += x; this.n++; this.at++;
      if (this.at < this.step) continue;
      this.at -= this.step;
      this.block[this.full++] = Math.max(-1, Math.min(1, this.sum / this.n)) * 32767;
      this.sum = this.n = 0;
      if (this.full < this.block.length) continue;
      this.port.postMessage(this.block.slice());
      this.full = 0;
    }
    return true;
  }
})`;

let loaded;

// Ear keeps what is heard of one track.
export class Ear {
  constructor(track) {
    this.blocks = [];
    this.ready = this.listen(track);
  }

  async listen(track) {
    const stream = new MediaStream([track]);
    const player = new Audio(); // without one Chromium decodes nothing
    player.srcObject = stream;
    player.muted = true;
    player.play().catch((e) => console.error('play:', e.message));
    this.player = player;
    const ctx = audio();
    loaded ??= ctx.audioWorklet.addModule(URL.createObjectURL(new Blob([recorder], { type: 'text/javascript' })));
    await loaded;
    const node = new AudioWorkletNode(ctx, 'recorder', { channelCount: 1, channelCountMode: 'explicit' });
    node.port.onmessage = (e) => this.blocks.push(e.data);
    this.nodes = [ctx.createMediaStreamSource(stream), node];
    this.nodes[0].connect(node).connect(new GainNode(ctx, { gain: 0 })).connect(ctx.destination);
    await ctx.resume();
  }

  // samples are those since the last call: 16 bits, 8 kHz, base64.
  samples() {
    const blocks = this.blocks;
    this.blocks = [];
    let text = '';
    for (const b of blocks) text += String.fromCharCode(...new Uint8Array(b.buffer));
    return btoa(text);
  }
}

// figures is what the browser counts of one connection, and the pair of candidates that it uses.
export async function figures(pc) {
  const all = new Map();
  (await pc.getStats()).forEach((s) => all.set(s.id, s));
  const of = (type, ok = () => true) => [...all.values()].find((s) => s.type === type && ok(s));
  const audio = (s) => (s.kind ?? s.mediaType) === 'audio';
  const transport = of('transport');
  const pair = all.get(transport?.selectedCandidatePairId) ?? of('candidate-pair', (s) => s.selected || (s.nominated && s.state === 'succeeded'));
  const [local, remote] = [all.get(pair?.localCandidateId), all.get(pair?.remoteCandidateId)];
  const inbound = of('inbound-rtp', audio) ?? {};
  const outbound = of('outbound-rtp', audio) ?? {};
  const end = (c) => c && { type: c.candidateType, protocol: c.protocol, relay: c.relayProtocol, tcp: c.tcpType, address: c.address, port: c.port };
  return {
    received: inbound.packetsReceived ?? 0, lost: inbound.packetsLost ?? 0, discarded: inbound.packetsDiscarded ?? 0,
    samples: inbound.totalSamplesReceived ?? 0, concealed: inbound.concealedSamples ?? 0, silent: inbound.silentConcealedSamples ?? 0,
    concealments: inbound.concealmentEvents ?? 0, jitter: inbound.jitter ?? 0,
    delay: inbound.jitterBufferEmittedCount ? inbound.jitterBufferDelay / inbound.jitterBufferEmittedCount : 0,
    buffered: inbound.jitterBufferDelay ?? 0, emitted: inbound.jitterBufferEmittedCount ?? 0,
    sent: outbound.packetsSent ?? 0, ssrc: inbound.ssrc ?? 0, codec: all.get(inbound.codecId)?.mimeType ?? '',
    rtt: of('remote-inbound-rtp', audio)?.roundTripTime ?? pair?.currentRoundTripTime ?? 0,
    local: end(local), remote: end(remote), ice: pc.iceConnectionState, connection: pc.connectionState,
  };
}

// within waits for a promise, but not for ever.
export function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, no) => { timer = setTimeout(() => no(new Error(`no ${what} within ${ms} ms`)), ms); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// latch is a promise with its two ends outside.
export function latch() {
  const l = {};
  l.promise = new Promise((yes, no) => { l.yes = yes; l.no = no; });
  l.promise.catch(() => {});
  return l;
}
