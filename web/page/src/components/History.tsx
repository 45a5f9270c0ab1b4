import { For, Show, type JSX } from "solid-js";
import type { Past } from "../api";
import { missedSince } from "../merge";
import { duration, when } from "../words";
import { useApp } from "./context";
import { Icon } from "./icons";

const words = { out: "You called", in: "Called you", missed: "Missed" };

/** Missed is the number of missed calls not seen yet, as a badge. */
export function Missed(): JSX.Element {
  const app = useApp();
  const n = () => missedSince(app.state.history, app.state.seen);
  return <Show when={n() > 0}><span class="badge">{n()}<span class="unseen"> missed</span></span></Show>;
}

export function History(): JSX.Element {
  const app = useApp();
  const line = (h: Past) => [words[h.kind], when(new Date(h.time), new Date(app.state.now)), h.kind !== "missed" && h.duration ? duration(h.duration) : ""].filter((w) => w !== "").join(" · ");
  return (
    <section class="card history" aria-labelledby="history-title" onFocusIn={() => app.seeHistory()} onPointerEnter={() => app.seeHistory()}>
      <h2 id="history-title">History <Missed /></h2>
      <Show when={app.state.history.length > 0} fallback={<p class="quiet empty">{app.state.loaded ? "No calls yet." : "…"}</p>}>
        <ul class="rows">
          <For each={app.state.history}>
            {(h) => (
              <li>
                <button class="row" data-kind={h.kind} disabled={app.state.role !== "device"} onClick={() => app.dial(h.peer)}>
                  <Icon name={h.kind} size={18} class="kind" />
                  <span class="row-text">
                    <strong>{h.name || h.peer}</strong>
                    <small>{line(h)}</small>
                  </span>
                  <span class="unseen">Call {h.name || h.peer} back</span>
                  <Icon name="phone" size={18} class="go" />
                </button>
              </li>
            )}
          </For>
        </ul>
        <Show when={app.state.olderHistory}><button class="plain wide" onClick={() => void app.olderHistory()}>Older calls</button></Show>
      </Show>
    </section>
  );
}
