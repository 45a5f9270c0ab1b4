import { Show, type JSX } from "solid-js";
import { useApp } from "./context";
import { Icon, Logo } from "./icons";

/** status is what the header says of the connection. */
function status(app: ReturnType<typeof useApp>): { tone: "good" | "busy" | "bad" | "idle"; text: string } {
  const s = app.state;
  if (s.role === "other") return { tone: "idle", text: s.following ? "In another tab" : "Connecting…" };
  switch (s.link) {
    case "ready":
      return { tone: "good", text: "Ready" };
    case "refused":
      return { tone: "bad", text: "Refused" };
    case "off":
    case "connecting":
    case "registering":
      return s.linkTrouble ? { tone: "bad", text: "Not connected" } : { tone: "busy", text: "Connecting…" };
  }
}

export function Header(): JSX.Element {
  const app = useApp();
  return (
    <header class="top">
      <h1 class="brand"><Logo /><span>baton</span></h1>
      <p class="status" data-tone={status(app).tone} role="status"><span class="dot" />{status(app).text}</p>
      <p class="who">
        <Show when={app.state.me} fallback={app.state.session?.user}>
          {(me) => <><strong>{me().display || me().user}</strong><span class="quiet"> {me().numbers.join(", ")}</span></>}
        </Show>
      </p>
      <div class="top-buttons">
        <button class="round plain" title="Keyboard shortcuts (?)" aria-label="Keyboard shortcuts" onClick={() => app.open("shortcuts")}><Icon name="help" /></button>
        <button class="round plain" title="Settings" aria-label="Settings" onClick={() => app.open("settings")}><Icon name="gear" /></button>
        <button class="plain sign-out" onClick={() => void app.signOut()}>Sign out</button>
      </div>
    </header>
  );
}
