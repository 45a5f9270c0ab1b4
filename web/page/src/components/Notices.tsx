import { For, Show, type JSX } from "solid-js";
import type { Hindrance } from "../ring";
import type { Trouble } from "../words";
import { useApp } from "./context";
import { Icon } from "./icons";

/** Words shows a trouble: what, what to do, and a link. */
function Words(props: { t: Trouble }): JSX.Element {
  return (
    <span class="words">
      <strong>{props.t.what}</strong> {props.t.do} <Show when={props.t.link}>{(l) => <a href={l().href}>{l().text}</a>}</Show>
    </span>
  );
}

/** Notices holds what is wrong now and what has just happened. */
export function Notices(): JSX.Element {
  const app = useApp();
  return (
    <div class="notices">
      <div role="alert">
        <Show when={app.state.linkTrouble}>
          {(t) => <div class="notice" data-tone="bad"><Icon name="warn" size={20} /><Words t={t()} /></div>}
        </Show>
        <For each={app.state.notices.filter((n) => n.grave)}>{(n) => <Said n={n} />}</For>
      </div>
      <div role="status">
        <For each={app.state.notices.filter((n) => !n.grave)}>{(n) => <Said n={n} />}</For>
        <Show when={app.state.role === "other"}>
          <div class="notice" data-tone="info">
            <Icon name="browser" size={20} />
            <span class="words"><strong>Another tab is your phone.</strong> This one shows your calls and can move them.</span>
            <button class="small-button" onClick={() => app.takeOver()}>Use this tab</button>
          </div>
        </Show>
        <Show when={app.state.soundBlocked}>
          <div class="notice" data-tone="bad">
            <Icon name="warn" size={20} /><span class="words"><strong>The browser does not let this page sound yet.</strong></span>
            <button class="small-button" onClick={() => app.unblock()}>Hear the call</button>
          </div>
        </Show>
      </div>
    </div>
  );
}

function Said(props: { n: Trouble & { id: number; grave: boolean } }): JSX.Element {
  const app = useApp();
  return (
    <div class="notice" data-tone={props.n.grave ? "bad" : "info"}>
      <Icon name={props.n.grave ? "warn" : "check"} size={20} />
      <Words t={props.n} />
      <button class="round plain tiny" aria-label="Dismiss" onClick={() => app.dismiss(props.n.id)}><Icon name="close" size={16} /></button>
    </div>
  );
}

/** Ringing says why this browser cannot ring, and cures what a tap can cure. */
export function Ringing(): JSX.Element {
  const app = useApp();
  const cure = (h: Hindrance): { text: string; act: () => void } | undefined => {
    switch (h.cure) {
      case "sound":
        return { text: "Turn sound on", act: () => app.unblock() };
      case "notify":
        return { text: "Allow notifications", act: () => void app.allowNotifications() };
      case "microphone":
        return { text: "Allow the microphone", act: () => void app.allowMicrophone() };
    }
    return undefined;
  };
  return (
    <Show when={app.hindrances().length > 0}>
      <section class="card hindrances" data-grave={app.hindrances().some((h) => h.grave)} aria-labelledby="ringing-title">
        <h2 id="ringing-title"><Icon name="bell" size={18} />{app.hindrances().some((h) => h.grave) ? "Cannot ring here" : "Ringing here"}</h2>
        <ul>
          <For each={app.hindrances()}>
            {(h) => (
              <li data-grave={h.grave}>
                <Words t={h} />
                <Show when={cure(h)}>{(c) => <button class="small-button" onClick={() => c().act()}>{c().text}</button>}</Show>
              </li>
            )}
          </For>
        </ul>
      </section>
    </Show>
  );
}
