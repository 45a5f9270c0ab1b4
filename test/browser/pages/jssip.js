// A softphone of JsSIP, as somebody else than baton would write one.
import JsSIP from 'jssip';
import { Call, Calls } from './calls.js';
import { latch, microphone, within } from './sound.js';

const calls = new Calls();
let ua, settings, mic;

// options are for a call's connection: the microphone's tracks are its own, since they end with it.
function options() {
  return { mediaStream: mic.clone(), pcConfig: { iceServers: settings.ice ?? [], iceTransportPolicy: settings.policy ?? 'all' }, ...(settings.call ?? {}) };
}

// events are what tells a call of its session.
const events = (call) => ({
  peerconnection: (e) => call.media(e.peerconnection),
  icecandidate: (e) => e.ready(), // the node needs no address of ours
  progress: () => call.to('ringing'),
  confirmed: () => call.to('up'),
  ended: (e) => call.to('over', why(e)),
  failed: (e) => call.to('over', why(e)),
});

function came(session, request) {
  const call = new Call(session, session.remote_identity.uri.user);
  for (const [name, f] of Object.entries(events(call))) session.on(name, f);
  calls.came(call);
  if (settings.ringless && /^auto$/i.test(request.getHeader('Answer-Mode') ?? '')) session.answer(options());
}

const why = (e) => [e.originator, e.message?.status_code ?? e.message?.method ?? '', e.cause].filter(Boolean).join(' ');

// done is a promise that a library keeps by calling back.
const done = (what, begin) => within(8000, what, new Promise((yes) => begin(yes)));

window.phone = calls.phone({
  async register(...given) {
    const s = settings = Object.assign({}, ...given);
    if (s.trace) JsSIP.debug.enable('JsSIP:*');
    mic = await microphone(s.tone);
    ua = new JsSIP.UA({
      sockets: [new JsSIP.WebSocketInterface(s.ws)], uri: s.uri, password: s.password, authorization_user: s.login ?? null,
      instance_id: s.instance ?? null, user_agent: s.agent ?? 'JsSIP', register_expires: 600, session_timers: false,
      connection_recovery_min_interval: 1, connection_recovery_max_interval: 2,
    });
    ua.on('newRTCSession', ({ session, originator, request }) => {
      if (originator === 'remote') came(session, request);
    });
    const registered = latch();
    ua.on('registered', registered.yes);
    ua.on('registrationFailed', (e) => registered.no(new Error('not registered: ' + why(e))));
    ua.on('disconnected', (e) => registered.no(new Error(`the socket: ${e.code} ${e.reason}`)));
    ua.start();
    await within(8000, 'registration', registered.promise);
  },
  registered: () => ua.isRegistered(),
  async unregister() {
    await done('end of the registration', (yes) => { ua.on('unregistered', yes); ua.unregister(); });
    ua.stop();
  },
  call(target, extra = {}) {
    const call = calls.add(new Call(null, target));
    call.session = ua.call(target, { ...options(), eventHandlers: events(call), ...extra });
    return call.id;
  },
  // dialog is by what an INVITE with Replaces names the call, as its other side sees it (RFC 3891 §3).
  dialog(id) {
    const { _dialog: d } = calls.of(id).session;
    return `${d.id.call_id};to-tag=${d.id.remote_tag};from-tag=${d.id.local_tag}`;
  },
  answer: (id) => calls.of(id).session.answer(options()),
  hangup: (id) => calls.of(id).session.terminate(),
  decline: (id) => calls.of(id).session.terminate({ status_code: 486 }),
  dtmf: (id, tones) => calls.of(id).session.sendDTMF(tones, { transportType: JsSIP.C.DTMF_TRANSPORT.RFC2833, duration: 160, interToneGap: 100 }),
  hold: (id) => done('hold', (yes) => calls.of(id).session.hold({}, yes)),
  unhold: (id) => done('end of hold', (yes) => calls.of(id).session.unhold({}, yes)),
  renegotiate: (id, restart) => done('renegotiation', (yes) => calls.of(id).session.renegotiate({ rtcOfferConstraints: { iceRestart: !!restart } }, yes)),
  transfer: (id, target) => within(10000, 'answer to REFER', new Promise((yes, no) => {
    calls.of(id).session.refer(target, { eventHandlers: {
      requestFailed: (e) => no(new Error('REFER: ' + e.cause)), accepted: () => yes('accepted'), failed: (e) => no(new Error('transfer: ' + e.status_line?.status_code)),
    } });
  })),
});
