import { createEffect, For, onCleanup, Show, type JSX, type ParentProps } from "solid-js";
import type { Settings } from "../settings";
import { notifications } from "../ring";
import { useApp } from "./context";
import { Icon } from "./icons";

/** Modal is a dialog of the browser's own: it keeps the focus, and Escape closes it. */
function Modal(props: ParentProps<{ name: "settings" | "shortcuts"; title: string }>): JSX.Element {
  const app = useApp();
  let dialog!: HTMLDialogElement;
  createEffect(() => {
    const open = app.state.dialog === props.name;
    if (open && !dialog.open) dialog.showModal();
    if (!open && dialog.open) dialog.close();
  });
  onCleanup(() => dialog.open && dialog.close());
  return (
    <dialog
      ref={dialog} aria-labelledby={`${props.name}-title`} onClose={() => app.state.dialog === props.name && app.open(undefined)}
      onClick={(e) => e.target === dialog && app.open(undefined)}
    >
      <div class="dialog-body">
        <div class="dialog-head">
          <h2 id={`${props.name}-title`}>{props.title}</h2>
          <button class="round plain" aria-label="Close" onClick={() => app.open(undefined)}><Icon name="close" /></button>
        </div>
        <Show when={app.state.dialog === props.name}>{props.children}</Show>
      </div>
    </dialog>
  );
}

export function SettingsDialog(): JSX.Element {
  const app = useApp();
  const s = () => app.state.settings;
  const named = () => app.state.media.named;
  return (
    <Modal name="settings" title="Settings">
      <fieldset>
        <legend>Sound</legend>
        <Choice
          label="Microphone" value={s().microphone} options={app.state.media.microphones} known={s().microphoneLabel}
          choose={(id, label) => app.change({ microphone: id, microphoneLabel: label })}
        />
        <Show
          when={app.audio.canChooseSpeaker()}
          fallback={<p class="quiet small">This browser plays calls on the system's speaker: it lets no page choose another.</p>}
        >
          <Choice
            label="Speaker or headset" value={s().speaker} options={app.state.media.speakers} known={s().speakerLabel}
            choose={(id, label) => app.change({ speaker: id, speakerLabel: label })}
          />
        </Show>
        <Show when={!named()}>
          <p class="quiet small">The browser tells the names of devices only to a page that may use the microphone. <button class="small-button" onClick={() => void app.allowMicrophone()}>Allow it</button></p>
        </Show>
        <div class="field">
          <label for="ring-volume">Ringtone</label>
          <div class="with-button">
            <input id="ring-volume" type="range" min="0" max="1" step="0.1" value={s().ringVolume} onInput={(e) => app.change({ ringVolume: Number(e.currentTarget.value) })} />
            <button class="small-button" onClick={() => app.tryBell()}>Try it</button>
          </div>
        </div>
      </fieldset>
      <fieldset>
        <legend>Calls</legend>
        <Switch label="Answer by itself when I move a call here" hint="Only calls that you send to this browser by name; others always ring." on={s().autoAnswer} set={(autoAnswer) => app.change({ autoAnswer })} />
        <Switch
          label="Notify me of calls behind other windows" hint={notifications() === "denied" ? "The browser forbids it: press the icon left of the address." : undefined}
          on={s().notify} set={(notify) => { app.change({ notify }); if (notify) void app.allowNotifications(); }}
        />
        <Switch label="Keyboard shortcuts" hint="Single letters such as m for mute." on={s().shortcuts} set={(shortcuts) => app.change({ shortcuts })} />
      </fieldset>
      <fieldset>
        <legend>Network</legend>
        <Switch label="Audio only through TURN over TLS" hint="For networks that let nothing but web pages through; it is found by itself as a rule." on={s().relayOnly} set={(relayOnly) => app.change({ relayOnly })} />
      </fieldset>
      <fieldset>
        <legend>Appearance</legend>
        <div class="segments" role="radiogroup" aria-label="Appearance">
          <For each={[["auto", "As the system"], ["light", "Light"], ["dark", "Dark"]] as [Settings["theme"], string][]}>
            {([value, text]) => (
              <label><input type="radio" name="theme" value={value} checked={s().theme === value} onChange={() => app.change({ theme: value })} /><span>{text}</span></label>
            )}
          </For>
        </div>
      </fieldset>
      <p class="quiet small about">
        Signed in as {app.state.me?.display || app.state.session?.user} · baton {app.state.me?.node.version} · <a href="/ca.crt">baton's certificate</a>
      </p>
      <button class="quiet-danger wide" onClick={() => void app.signOut()}>Sign out of this browser</button>
    </Modal>
  );
}

function Choice(props: { label: string; value: string; options: { id: string; label: string }[]; known: string; choose: (id: string, label: string) => void }): JSX.Element {
  const id = `choice-${props.label.toLowerCase().replace(/\W+/g, "-")}`;
  const missing = () => props.value !== "" && !props.options.some((o) => o.id === props.value);
  return (
    <div class="field">
      <label for={id}>{props.label}</label>
      <select id={id} onChange={(e) => props.choose(e.currentTarget.value, e.currentTarget.selectedOptions[0]?.text ?? "")}>
        <option value="" selected={props.value === ""}>The system's default</option>
        <For each={props.options}>{(o) => <option value={o.id} selected={o.id === props.value}>{o.label}</option>}</For>
        <Show when={missing()}><option value={props.value} selected>{props.known || "The chosen one"} (not plugged in)</option></Show>
      </select>
    </div>
  );
}

function Switch(props: { label: string; hint?: string | undefined; on: boolean; set: (on: boolean) => void }): JSX.Element {
  return (
    <label class="switch">
      <span><span>{props.label}</span><Show when={props.hint}><small class="quiet">{props.hint}</small></Show></span>
      <input type="checkbox" role="switch" checked={props.on} onChange={(e) => props.set(e.currentTarget.checked)} />
      <span class="track" aria-hidden="true" />
    </label>
  );
}

export const shortcuts: [string, string][] = [
  ["a", "Answer"], ["d", "Decline"], ["e", "Hang up"], ["m", "Mute or unmute"], ["h", "Hold or resume"], ["k", "Keys for tones"], ["t", "Transfer"], ["l", "Leave; the call stays open"],
  ["b", "Bring a call here"], ["v", "Move to another device"], ["/", "To the number field"], ["0–9 * #", "Type a number"], ["?", "This list"],
];

export function ShortcutsDialog(): JSX.Element {
  const app = useApp();
  return (
    <Modal name="shortcuts" title="Keyboard">
      <Show when={!app.state.settings.shortcuts}><p class="quiet">Shortcuts are switched off in the settings.</p></Show>
      <dl class="shortcuts">
        <For each={shortcuts}>{([key, what]) => <div><dt><kbd>{key}</kbd></dt><dd>{what}</dd></div>}</For>
      </dl>
      <p class="quiet small">Tab goes from part to part; within the keypad and a call's buttons the arrow keys do. Enter and Space press.</p>
    </Modal>
  );
}
