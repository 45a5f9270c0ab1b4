import { For, Show, type JSX } from "solid-js";
import type { Device } from "../api";
import { inCall } from "../merge";
import { when } from "../words";
import { useApp } from "./context";
import { Icon, kindIcon } from "./icons";

/** Devices are all of the user's, with what each is doing. */
export function Devices(): JSX.Element {
  const app = useApp();
  const says = (d: Device): string => {
    const c = inCall(d, app.conversations());
    if (c) return `In a call with ${c.peer.name || c.peer.number}`;
    if (d.here) return "Here";
    const since = d.since ? ` since ${when(new Date(d.since), new Date(app.state.now))}` : "";
    return `Away${since}`;
  };
  return (
    <section class="card devices" aria-labelledby="devices-title">
      <h2 id="devices-title">My devices</h2>
      <Show when={app.state.devices.length > 0} fallback={<p class="quiet empty">{app.state.loaded ? "No device has registered yet." : "…"}</p>}>
        <ul class="rows">
          <For each={app.state.devices}>
            {(d) => (
              <li class="row" data-here={d.here}>
                <span class="device-icon"><Icon name={kindIcon(d.kind)} /></span>
                <span class="row-text">
                  <strong>{d.name}<Show when={d === app.here()}><span class="tag">this browser</span></Show></strong>
                  <small>{d.kind}{d.index > 0 ? ` · number ${d.index}` : ""}</small>
                </span>
                <span class="presence" data-here={d.here} data-busy={inCall(d, app.conversations()) !== undefined}><span class="dot" />{says(d)}</span>
              </li>
            )}
          </For>
        </ul>
      </Show>
    </section>
  );
}
