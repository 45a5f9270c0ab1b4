// What the pages with a SIP library have in common: calls by number, whose states can be waited for.
import { Ear, figures, within } from './sound.js';

const order = ['new', 'ringing', 'up', 'over'];

// Call is one call of a page: its library's session, its state, and its ear.
export class Call {
  constructor(session, from) {
    Object.assign(this, { session, from, state: 'new', cause: '', waiting: [], changes: [] });
  }

  // to brings the call further; nothing brings it back.
  to(state, cause = '') {
    if (order.indexOf(state) <= order.indexOf(this.state)) return;
    Object.assign(this, { state, cause });
    for (const look of this.waiting.splice(0)) look();
  }

  // until waits for a state; a call that is over comes to no other.
  async until(state, ms) {
    const end = Date.now() + ms;
    while (order.indexOf(this.state) < order.indexOf(state)) {
      await within(end - Date.now(), `"${state}" of the call, which is ${this.state}`, new Promise((yes) => this.waiting.push(yes)));
    }
    if (this.state === 'over' && state !== 'over') throw new Error(`the call is over: ${this.cause}`);
  }

  // media takes the call's connection, as soon as there is one.
  media(pc) {
    this.pc = pc;
    pc.addEventListener('track', (e) => { this.ear = new Ear(e.track); });
    const note = (text) => this.changes.push(`${Math.round(performance.now() - begun)} ms ${text}`);
    const begun = performance.now();
    pc.addEventListener('iceconnectionstatechange', () => note(pc.iceConnectionState));
    pc.addEventListener('icecandidate', (e) => note(e.candidate ? e.candidate.candidate : 'all gathered'));
    pc.addEventListener('icecandidateerror', (e) => note(`error ${e.errorCode} ${e.url} ${e.errorText}`));
  }
}

// Calls are those of a page, and what its phone can do with any library.
export class Calls {
  constructor() { Object.assign(this, { list: [], expecting: [] }); }

  add(call) {
    this.list.push(call);
    call.id = this.list.length;
    return call;
  }

  of(id) {
    const call = this.list[id - 1];
    if (!call) throw new Error(`no call ${id}`);
    return call;
  }

  // came takes an incoming call, for which somebody may be waiting.
  came(call) {
    this.add(call).incoming = true;
    for (const look of this.expecting.splice(0)) look();
  }

  // incoming waits for a call that was not told of yet.
  async incoming(ms) {
    const end = Date.now() + ms;
    for (;;) {
      const call = this.list.find((c) => c.incoming && !c.told);
      if (call) {
        call.told = true;
        return { id: call.id, from: call.from };
      }
      await within(end - Date.now(), 'incoming call', new Promise((yes) => this.expecting.push(yes)));
    }
  }

  phone(more) {
    return {
      incoming: (ms) => this.incoming(ms),
      until: (id, state, ms) => this.of(id).until(state, ms),
      state: (id) => { const { state, cause, changes } = this.of(id); return { state, cause, changes }; },
      figures: (id) => figures(this.of(id).pc),
      descriptions: (id) => ({ local: this.of(id).pc.localDescription?.sdp, remote: this.of(id).pc.remoteDescription?.sdp }),
      heard: async (id) => {
        const { ear } = this.of(id);
        if (!ear) throw new Error(`call ${id} has no sound`);
        await ear.ready;
        return ear.samples();
      },
      ...more,
    };
  }
}
