// A softphone of SIP.js, as somebody else than baton would write one.
import { Inviter, Registerer, RegistererState, SessionState, UserAgent, Web } from 'sip.js';
import { Call, Calls } from './calls.js';
import { latch, microphone, within } from './sound.js';

const calls = new Calls();
let agent, registerer, mic;

function take(session, from) {
  const call = new Call(session, from);
  session.delegate = {
    onSessionDescriptionHandler: (handler) => call.media(handler.peerConnection),
    onBye: (bye) => { call.why = 'BYE ' + (bye.request.getHeader('Reason') ?? ''); },
  };
  session.stateChange.addListener((state) => {
    if (state === SessionState.Establishing) call.to('ringing');
    if (state === SessionState.Established) call.to('up');
    if (state === SessionState.Terminated) call.to('over', call.why ?? 'terminated');
  });
  return call;
}

// change sends an INVITE within the call and waits for its answer.
const change = (id, { hold = false, restart = false }) => within(8000, 'answer to a re-INVITE', new Promise((yes, no) => {
  const { session } = calls.of(id);
  session.sessionDescriptionHandlerOptionsReInvite = { ...session.sessionDescriptionHandlerOptionsReInvite, hold, offerOptions: { iceRestart: restart } };
  session.invite({ requestDelegate: { onAccept: () => yes(), onReject: (r) => no(new Error('re-INVITE: ' + r.message.statusCode)) } }).catch(no);
}));

window.phone = calls.phone({
  async register(s) {
    mic = await microphone(s.tone);
    agent = new UserAgent({
      uri: UserAgent.makeURI(s.uri), transportOptions: { server: s.ws }, userAgentString: s.agent ?? 'SIP.js',
      authorizationUsername: s.login ?? s.uri.replace(/^sip:|@.*/g, ''), authorizationPassword: s.password,
      instanceId: s.instance, logBuiltinEnabled: !!s.trace,
      sessionDescriptionHandlerFactory: Web.defaultSessionDescriptionHandlerFactory(async () => mic.clone()),
      sessionDescriptionHandlerFactoryOptions: { iceGatheringTimeout: 300, peerConnectionConfiguration: { iceServers: s.ice ?? [] } },
      delegate: { onInvite: (invitation) => calls.came(take(invitation, invitation.remoteIdentity.uri.user)) },
    });
    await agent.start();
    registerer = new Registerer(agent, { expires: 600 });
    const registered = latch();
    registerer.stateChange.addListener((state) => state === RegistererState.Registered && registered.yes());
    await registerer.register({ requestDelegate: { onReject: (r) => registered.no(new Error('not registered: ' + r.message.statusCode)) } });
    await within(8000, 'registration', registered.promise);
  },
  registered: () => registerer.state === RegistererState.Registered,
  async unregister() {
    await registerer.unregister();
    await agent.stop();
  },
  async call(target) {
    const session = new Inviter(agent, UserAgent.makeURI(target));
    const call = calls.add(take(session, target));
    await session.invite({ requestDelegate: { onReject: (r) => { call.why = String(r.message.statusCode); } } });
    return call.id;
  },
  answer: (id) => calls.of(id).session.accept(),
  async hangup(id) {
    const { session } = calls.of(id);
    if (session.state === SessionState.Established) await session.bye();
    else await session.cancel();
  },
  decline: (id) => calls.of(id).session.reject({ statusCode: 486 }),
  dtmf: (id, tones) => calls.of(id).session.sessionDescriptionHandler.sendDtmf(tones, { duration: 160, interToneGap: 100 }),
  hold: (id) => change(id, { hold: true }),
  unhold: (id) => change(id, {}),
  renegotiate: (id, restart) => change(id, { restart: !!restart }),
  transfer: (id, target) => within(10000, 'answer to REFER', new Promise((yes, no) => {
    calls.of(id).session.refer(UserAgent.makeURI(target), { requestDelegate: { onAccept: () => yes('accepted'), onReject: (r) => no(new Error('REFER: ' + r.message.statusCode)) } });
  })),
});
