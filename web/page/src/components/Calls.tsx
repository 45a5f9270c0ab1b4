import { createMemo, createSignal, createUniqueId, For, onCleanup, onMount, Show, type JSX } from "solid-js";
import type { Device } from "../api";
import { lastMove, onDevice, targets, type Conversation } from "../merge";
import { clock, initials, moved } from "../words";
import { useApp } from "./context";
import { Icon, kindIcon, type IconName } from "./icons";
import { Keys } from "./Keypad";
import { Quality } from "./Quality";
import { roving } from "./roving";

const nameOf = (c: Conversation) => c.peer.name || c.peer.number || "somebody";

/** Calls are all conversations of the user, on whatever device. */
export function Calls(): JSX.Element {
  const app = useApp();
  const all = createMemo(() => app.conversations().filter((c) => !(c.line?.stage === "incoming" && !c.line.auto)));
  const keys = createMemo(() => all().map((c) => c.key).join(" "));
  const list = createMemo(() => (keys() === "" ? [] : keys().split(" "))); // a card lives as long as its conversation
  return (
    <section class="calls" aria-labelledby="calls-title">
      <h2 id="calls-title" class="unseen">My calls</h2>
      <For each={list()} fallback={<Nothing />}>
        {(key) => <Show when={all().find((c) => c.key === key)}>{(c) => <Card c={c()} />}</Show>}
      </For>
    </section>
  );
}

function Nothing(): JSX.Element {
  const app = useApp();
  return (
    <div class="card nothing">
      <span class="nothing-icon"><Icon name="phone" size={28} /></span>
      <Show when={app.state.loaded || app.state.link === "ready"} fallback={<p class="quiet">Looking for your calls…</p>}>
        <p><strong>No calls right now</strong></p>
        <p class="quiet">A call on any of your devices appears here, and one tap brings it to this browser.</p>
      </Show>
    </div>
  );
}

/** says is the line under the name: what the call is doing, and where. */
function says(c: Conversation, here: Device | undefined): string {
  const l = c.line;
  if (l?.purpose === "pull" && l.stage !== "talking") return `Bringing it here from ${c.holder?.device ?? "your other device"}…`;
  if (l?.purpose === "resume" && l.stage !== "talking") return "Taking the call back…";
  if (l) {
    switch (l.stage) {
      case "asking":
        return "Asking for the microphone…";
      case "calling":
        return "Calling…";
      case "ringing":
        return "It rings there…";
      case "incoming":
      case "answering":
        return "Answering…";
      case "over":
        return "Ended";
      case "talking":
        if (l.transfer === "asked") return "Transferring…";
        if (l.held) return "On hold: they hear a tone, not you";
        if (l.heldByPeer) return "They have put you on hold";
        if (l.media === "connecting" || l.media === "none") return "Connecting the sound…";
        if (l.media === "interrupted") return "The network is gone; finding a new way…";
        return "On this browser";
    }
  }
  switch (c.place) {
    case "ringing":
      return "It rings on your other devices";
    case "nowhere":
      return "You have left; the other side waits";
    default:
      if (c.holder && onDevice(c.holder, here)) return "On this browser, but not in this tab";
      return `On ${c.holder?.device ?? "another device"}${c.holder?.held ? ", on hold" : ""}`;
  }
}

function Card(props: { c: Conversation }): JSX.Element {
  const app = useApp();
  const id = createUniqueId();
  const c = () => props.c;
  const line = () => c().line;
  const here = () => c().place === "here" && app.state.role === "device";
  const coming = () => line()?.purpose === "pull" && line()?.stage !== "talking";
  const [panel, setPanel] = createSignal<"" | "keys" | "transfer">("");
  const toggle = (p: "keys" | "transfer") => setPanel(panel() === p ? "" : p);
  const since = () => c().since;
  const move = () => lastMove(c().call, app.state.session?.user ?? "");
  const trouble = () => line()?.stage === "talking" && line()?.media === "interrupted";

  return (
    <article class="card call" data-place={c().place} data-held={line()?.held === true} data-trouble={trouble()} aria-labelledby={id} data-call={c().call?.id}>
      <div class="call-head">
        <span class="avatar" aria-hidden="true">{initials(c().peer.name) || <Icon name="phone" size={20} />}</span>
        <div class="call-who">
          <h3 id={id}>{nameOf(c())}</h3>
          <p>
            <Show when={c().peer.number && c().peer.number !== nameOf(c())}><span class="quiet">{c().peer.number} · </span></Show>
            <span aria-live="polite">{says(c(), app.here())}</span>
          </p>
        </div>
        <Show when={since()}>{(s) => <time class="timer" aria-label="Talking for">{clock((app.state.now - s()) / 1000)}</time>}</Show>
      </div>

      <Show when={c().place === "elsewhere" || c().place === "nowhere"}>
        <div class="elsewhere">
          <Show when={app.state.role === "device"}>
            <button class="primary big" data-bring disabled={coming() || app.state.moving[c().key] !== undefined} onClick={() => app.bring(c())}>
              <Icon name="here" />{coming() ? "Coming…" : c().place === "nowhere" ? "Come back here" : "Move here"}
            </button>
          </Show>
          <button class="quiet-danger big" onClick={() => app.hangUp(c())}><Icon name="down" />{coming() ? "Cancel" : "Hang up"}</button>
        </div>
      </Show>

      <Show when={here() && !coming() && line()}>
        {(l) => <Controls c={c()} line={l()} panel={panel()} toggle={toggle} />}
      </Show>

      <Show when={panel() === "keys" && line()}>
        {(l) => (
          <div class="panel tones" onKeyDown={(e) => tone(e, (t) => app.tone(l().id, t))}>
            <output aria-label="Tones sent">{l().tones || "Tones for menus and mailboxes"}</output>
            <Keys label="Tones" press={(k) => app.tone(l().id, k)} />
          </div>
        )}
      </Show>
      <Show when={panel() === "transfer" && line()}>{(l) => <Transfer c={c()} id={l().id} done={() => setPanel("")} />}</Show>

      <Show when={c().call && c().call!.state === "up" && !coming()}><MoveTo c={c()} /></Show>
      <Show when={move()}>
        {(m) => <p class="moved" data-failed={m().error !== undefined && m().error !== ""} role="status">{moved(m(), app.here()?.name ?? "", nameOf(c()))}</p>}
      </Show>
      <Show when={since()}><Quality c={c()} /></Show>
    </article>
  );
}

/** tone sends what is typed while the keys are open. */
function tone(e: KeyboardEvent, send: (t: string) => void): void {
  if (!/^[0-9*#]$/.test(e.key) || e.ctrlKey || e.metaKey || e.altKey) return;
  e.preventDefault();
  e.stopPropagation();
  send(e.key);
}

function Controls(props: { c: Conversation; line: NonNullable<Conversation["line"]>; panel: string; toggle: (p: "keys" | "transfer") => void }): JSX.Element {
  const app = useApp();
  const l = () => props.line;
  const up = () => l().stage === "talking";
  return (
    <div class="controls" role="toolbar" aria-label={`Call with ${nameOf(props.c)}`} ref={(el) => roving(el)}>
      <Control icon={l().muted ? "micOff" : "mic"} label={l().muted ? "Unmute" : "Mute"} pressed={l().muted} disabled={!up()} act={() => app.mute(l().id, !l().muted)} name="mute" />
      <Control icon={l().held ? "play" : "pause"} label={l().held ? "Resume" : "Hold"} pressed={l().held} disabled={!up()} act={() => app.hold(l().id, !l().held)} name="hold" />
      <Control icon="keys" label="Keys" pressed={props.panel === "keys"} disabled={!up()} act={() => props.toggle("keys")} name="keys" />
      <Control icon="transfer" label="Transfer" pressed={props.panel === "transfer"} disabled={!up()} act={() => props.toggle("transfer")} name="transfer" />
      <Control icon="leave" label="Leave" disabled={!up() || !props.c.call} act={() => app.leave(props.c)} name="leave" title="Leave; the call stays open for your other devices" />
      <Control icon="down" label={up() ? "Hang up" : "Cancel"} danger act={() => app.hangUp(props.c)} name="end" />
    </div>
  );
}

function Control(props: { icon: IconName; label: string; name: string; act: () => void; pressed?: boolean; disabled?: boolean; danger?: boolean; title?: string }): JSX.Element {
  return (
    <button
      data-rove data-act={props.name} class="control" classList={{ danger: props.danger === true }} title={props.title} disabled={props.disabled}
      aria-pressed={props.pressed} onClick={() => props.act()}
    >
      <span class="control-icon"><Icon name={props.icon} /></span>
      <span>{props.label}</span>
    </button>
  );
}

/** MoveTo has a button for each device that can have the call. */
function MoveTo(props: { c: Conversation }): JSX.Element {
  const app = useApp();
  const all = () => targets(props.c, app.state.devices, app.here());
  const to = () => all().filter((d) => d.here);
  const moving = () => (props.c.call ? app.state.moving[props.c.call.id] : undefined);
  return (
    <Show when={to().length > 0} fallback={<Show when={all().length > 0}><p class="quiet small">Your other devices are away: the call cannot be moved to them now.</p></Show>}>
      <div class="move-to" role="group" aria-label={`Move the call with ${nameOf(props.c)} to`}>
        <span class="quiet">Move to</span>
        <For each={to()}>
          {(d) => (
            <button
              class="chip" data-move={d.name} disabled={moving() !== undefined} title={`Move the call to ${d.name}`}
              onClick={() => app.move(props.c, d)}
            >
              <Icon name={kindIcon(d.kind)} size={18} />
              <span>{moving() === d.name ? `Moving to ${d.name}…` : d.name}</span>
              <Icon name="away" size={16} />
            </button>
          )}
        </For>
      </div>
    </Show>
  );
}

/** Transfer hands the other side to somebody else: at once, after a word, or to a second call. */
function Transfer(props: { c: Conversation; id: string; done: () => void }): JSX.Element {
  const app = useApp();
  const [number, setNumber] = createSignal("");
  const field = createUniqueId();
  let input!: HTMLInputElement;
  onMount(() => input.focus());
  const others = () => app.conversations().filter((o) => o.line && o.line.id !== props.id && o.line.stage === "talking");
  const send = (e: Event) => {
    e.preventDefault();
    if (number().trim() === "") return;
    app.transfer(props.id, number());
    props.done();
  };
  return (
    <form class="panel transfer" onSubmit={send} onKeyDown={(e) => e.key === "Escape" && (e.stopPropagation(), props.done())}>
      <label for={field}>Hand {nameOf(props.c)} over to</label>
      <div class="with-button">
        <input id={field} ref={input} inputmode="tel" autocomplete="off" autocapitalize="none" placeholder="Number or name" value={number()} onInput={(e) => setNumber(e.currentTarget.value)} />
        <button class="primary" disabled={number().trim() === ""}>Transfer</button>
      </div>
      <div class="panel-row">
        <button type="button" class="small-button" disabled={number().trim() === ""} onClick={() => app.consult(number())}>Ask first</button>
        <For each={others()}>
          {(o) => (
            <button type="button" class="small-button strong" onClick={() => (app.join(props.id, o.line!.id), props.done())}>
              Connect with {nameOf(o)}
            </button>
          )}
        </For>
        <button type="button" class="small-button" onClick={() => props.done()}>Cancel</button>
      </div>
    </form>
  );
}

/** Incoming calls stand above everything until they are answered, declined, or gone. */
export function Incoming(): JSX.Element {
  const app = useApp();
  const ids = createMemo(() => app.incoming().map((l) => l.id).join(" "));
  return (
    <For each={ids() === "" ? [] : ids().split(" ")}>
      {(id) => <Show when={app.incoming().find((l) => l.id === id)}>{(l) => <Ring id={id} name={l().peer.name} number={l().peer.number} />}</Show>}
    </For>
  );
}

function Ring(props: { id: string; name: string; number: string }): JSX.Element {
  const app = useApp();
  const title = createUniqueId();
  let answer!: HTMLButtonElement;
  const before = document.activeElement as HTMLElement | null;
  onMount(() => {
    // Somebody who types goes on typing; the shortcut answers all the same.
    if (!(before instanceof HTMLInputElement)) answer.focus();
  });
  onCleanup(() => before?.isConnected && document.activeElement === document.body && before.focus());
  return (
    <section class="incoming" role="alertdialog" aria-labelledby={title} aria-describedby={`${title}-d`}>
      <span class="avatar ringing" aria-hidden="true">{initials(props.name) || <Icon name="phone" />}</span>
      <div class="call-who">
        <h2 id={title}>{props.name || props.number}</h2>
        <p id={`${title}-d`}>{props.name ? `${props.number} · ` : ""}is calling</p>
      </div>
      <div class="incoming-buttons">
        <button class="answer big" ref={answer} data-act="answer" onClick={() => app.answer(props.id)}><Icon name="phone" />Answer</button>
        <button class="danger big" data-act="decline" onClick={() => app.decline(props.id)}><Icon name="down" />Decline</button>
        <button class="plain" onClick={() => app.decline(props.id, false)}>Not here</button>
      </div>
    </section>
  );
}
