// One end of a call without a server: the test carries the descriptions from page to page.
import { Ear, figures, microphone, within } from './sound.js';

const pc = new RTCPeerConnection();
let ear;
pc.ontrack = (e) => { ear = new Ear(e.track); };

async function gathered() {
  const done = new Promise((yes) => {
    const look = () => pc.iceGatheringState === 'complete' && yes();
    pc.onicegatheringstatechange = look;
    look();
  });
  await within(5000, 'end of gathering', done);
  return pc.localDescription.sdp;
}

async function speak(hz) {
  const stream = await microphone(hz);
  for (const t of stream.getTracks()) pc.addTrack(t, stream);
}

window.phone = {
  async offer(hz) {
    await speak(hz);
    await pc.setLocalDescription();
    return gathered();
  },
  async answer(sdp, hz) {
    await pc.setRemoteDescription({ type: 'offer', sdp });
    await speak(hz);
    await pc.setLocalDescription();
    return gathered();
  },
  accept: (sdp) => pc.setRemoteDescription({ type: 'answer', sdp }),
  connected: (ms) => within(ms, 'connection', new Promise((yes) => {
    const look = () => pc.connectionState === 'connected' && yes(pc.connectionState);
    pc.onconnectionstatechange = look;
    look();
  })),
  figures: () => figures(pc),
  async heard() { await ear.ready; return ear.samples(); },
};
