// Put ahead of a page that is not of the tests: it looks at the page's connections from outside, and has its microphone play a plain tone.
import { figures } from './sound.js';

const devices = navigator.mediaDevices;
if (devices) { // none where the page is no secure context
  const get = devices.getUserMedia.bind(devices);
  devices.getUserMedia = (want) => get(want?.audio
    ? { ...want, audio: { ...want.audio, echoCancellation: false, noiseSuppression: false, autoGainControl: false } } : want);
}

const connections = [];
const Connection = window.RTCPeerConnection;
window.RTCPeerConnection = class extends Connection {
  constructor(...args) {
    super(...args);
    connections.push(this);
    this.addEventListener('track', (e) => listen(this, e.track));
  }
};

let context;

// An analyser holds the last two thirds of a second, and unlike a worklet it needs no script that the page would have to allow.
function listen(pc, track) {
  context ??= new AudioContext();
  context.resume();
  pc.ear = new AnalyserNode(context, { fftSize: 32768 });
  const source = context.createMediaStreamSource(new MediaStream([track]));
  source.connect(pc.ear);
  keep(source);
  note(source);
}

// What all connections give together, as the page plays it: what it has muted is silent here too. Kept by a processor that needs no script either.
let together;
const kept = [];
let missed = 0; // seconds that the page was too busy to keep

function keep(source) {
  if (!together) {
    together = context.createScriptProcessor(4096, 1, 1);
    let due;
    together.onaudioprocess = ({ inputBuffer, playbackTime }) => {
      if (due !== undefined && playbackTime > due + 0.01) missed += playbackTime - due;
      due = playbackTime + inputBuffer.duration;
      const all = inputBuffer.getChannelData(0);
      const step = context.sampleRate / 8000;
      const out = new Int16Array(Math.floor(all.length / step));
      for (let i = 0; i < out.length; i++) {
        const part = all.subarray(Math.floor(i * step), Math.floor((i + 1) * step));
        out[i] = Math.max(-1, Math.min(1, part.reduce((a, b) => a + b, 0) / part.length)) * 32767;
      }
      kept.push(out);
      if (kept.length > 800) kept.shift(); // a minute
    };
    together.connect(context.destination);
  }
  source.connect(together);
}

const coded = (samples) => {
  let text = '';
  for (const b of new Uint8Array(samples.buffer)) text += String.fromCharCode(b);
  return btoa(text);
};

const tones = []; // what was heard: the loudest frequency whenever it was another, and when, in ms since the page's navigation began

function note(source) {
  const quick = new AnalyserNode(context, { fftSize: 1024, smoothingTimeConstant: 0 });
  source.connect(quick);
  const spectrum = new Float32Array(quick.frequencyBinCount);
  setInterval(() => {
    quick.getFloatFrequencyData(spectrum);
    const top = spectrum.reduce((best, loud, i) => (loud > spectrum[best] ? i : best), 0);
    const hz = top * context.sampleRate / quick.fftSize;
    if (spectrum[top] > -45 && tones.at(-1)?.hz !== hz && tones.length < 200) tones.push({ hz, at: performance.now() });
  }, 10);
}

const live = () => connections.filter((pc) => pc.connectionState === 'connected').at(-1);

window.phone = {
  // first is when the page heard a tone first, and when its navigation began: both in ms of the clock.
  first(hz) {
    const tone = tones.find((t) => Math.abs(t.hz - hz) < 50);
    return { began: performance.timeOrigin, heard: tone ? performance.timeOrigin + tone.at : 0 };
  },
  live: () => connections.filter((pc) => pc.connectionState === 'connected').length,
  figures() {
    if (!live()) throw new Error('no connection');
    return figures(live());
  },
  // heard is what was heard last, less than a second of it: 16 bits, 8 kHz, base64.
  heard() {
    const ear = live()?.ear;
    if (!ear) return '';
    const all = new Float32Array(ear.fftSize);
    ear.getFloatTimeDomainData(all);
    const step = context.sampleRate / 8000;
    const out = new Int16Array(Math.floor(all.length / step));
    for (let i = 0; i < out.length; i++) {
      const part = all.subarray(Math.floor(i * step), Math.floor((i + 1) * step));
      out[i] = Math.max(-1, Math.min(1, part.reduce((a, b) => a + b, 0) / part.length)) * 32767;
    }
    return coded(out);
  },
  // played is what the page has played since it was asked last, as heard gives it, and how many ms of it are missing.
  played() {
    const blocks = kept.splice(0);
    const all = new Int16Array(blocks.reduce((n, b) => n + b.length, 0));
    let at = 0;
    for (const b of blocks) {
      all.set(b, at);
      at += b.length;
    }
    const was = missed;
    missed = 0;
    return { sound: coded(all), missed: 1000 * was };
  },
};
