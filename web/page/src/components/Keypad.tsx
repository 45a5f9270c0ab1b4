import { For, onCleanup, type JSX } from "solid-js";
import { dialable } from "../line";
import { useApp } from "./context";
import { Icon } from "./icons";
import { roving } from "./roving";

const keys: [string, string][] = [
  ["1", ""], ["2", "ABC"], ["3", "DEF"], ["4", "GHI"], ["5", "JKL"], ["6", "MNO"], ["7", "PQRS"], ["8", "TUV"], ["9", "WXYZ"], ["*", ""], ["0", "+"], ["#", ""],
];
const names: Record<string, string> = { "*": "star", "#": "hash" };
const long = 500; // ms

/** Keys are the twelve keys; a long press on 0 is a plus where plus is given. */
export function Keys(props: { press: (key: string) => void; plus?: () => void; label: string }): JSX.Element {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let wasLong = false;
  const down = (key: string) => {
    wasLong = false;
    if (key === "0" && props.plus) timer = setTimeout(() => ((wasLong = true), props.plus!()), long);
  };
  const up = () => clearTimeout(timer);
  onCleanup(up);
  return (
    <div class="keys" role="group" aria-label={props.label} ref={(el) => roving(el, 3)}>
      <For each={keys}>
        {([key, letters]) => (
          <button
            type="button" data-rove class="key" aria-label={names[key] ?? (key === "0" && props.plus ? "0, hold for plus" : undefined)}
            onPointerDown={() => down(key)} onPointerUp={up} onPointerLeave={up} onContextMenu={(e) => e.preventDefault()}
            onClick={() => (wasLong ? (wasLong = false) : props.press(key))}
          >
            <span>{key}</span><small>{key === "0" && !props.plus ? "" : letters}</small>
          </button>
        )}
      </For>
    </div>
  );
}

/** Keypad is where a number is typed, pasted or tapped, and called. */
export function Keypad(): JSX.Element {
  const app = useApp();
  const call = (e?: Event) => {
    e?.preventDefault();
    if (app.state.number.trim() === "") app.type(app.redial());
    else if (app.dial(app.state.number)) document.getElementById("main")?.focus(); // the next keys are for the call
  };
  const paste = (e: ClipboardEvent) => {
    const number = dialable(e.clipboardData?.getData("text") ?? "");
    if (number === "") return;
    e.preventDefault();
    app.type(number);
  };
  return (
    <section class="card keypad" aria-labelledby="keypad-title">
      <h2 id="keypad-title" class="unseen">Call a number</h2>
      <form onSubmit={call}>
        <div class="number">
          <label class="unseen" for="number">Number or name</label>
          <input
            id="number" inputmode="tel" autocomplete="off" autocapitalize="none" spellcheck={false} placeholder="Number or name" enterkeyhint="go"
            value={app.state.number} onInput={(e) => app.type(e.currentTarget.value)} onPaste={paste}
          />
          <button type="button" class="round plain" aria-label="Delete the last digit" disabled={app.state.number === ""} onClick={() => app.type(app.state.number.slice(0, -1))}>
            <Icon name="back" />
          </button>
        </div>
        <Keys label="Keypad" press={(k) => app.type(app.state.number + k)} plus={() => app.type(`${app.state.number}+`)} />
        <button class="primary wide call-button" disabled={app.state.role !== "device"}>
          <Icon name="phone" />{app.state.number.trim() === "" && app.redial() !== "" ? `Call ${app.redial()} again` : "Call"}
        </button>
      </form>
    </section>
  );
}
