import { For, onCleanup, Show, type JSX } from "solid-js";
import type { App as Model, State } from "../store";
import { Calls, Incoming } from "./Calls";
import { AppContext, useApp } from "./context";
import { Devices } from "./Devices";
import { SettingsDialog, ShortcutsDialog } from "./Dialogs";
import { Header } from "./Header";
import { History, Missed } from "./History";
import { Icon, type IconName } from "./icons";
import { Keypad } from "./Keypad";
import { Notices, Ringing } from "./Notices";
import { shortcut } from "./shortcuts";
import { SignIn } from "./SignIn";

export function App(props: { app: Model }): JSX.Element {
  const app = props.app;
  const onKey = (e: KeyboardEvent) => shortcut(app, e);
  document.addEventListener("keydown", onKey);
  onCleanup(() => document.removeEventListener("keydown", onKey));
  return (
    <AppContext.Provider value={app}>
      <Show when={app.state.session} fallback={<SignIn />}>
        <a class="skip" href="#main">To the calls</a>
        <Header />
        <Incoming />
        <Notices />
        <main id="main" class="layout" data-view={app.state.view} tabIndex={-1}>
          <div class="column main-column"><Calls /><Ringing /><Devices /></div>
          <div class="column side-column"><Keypad /><History /></div>
        </main>
        <Tabs />
        <SettingsDialog />
        <ShortcutsDialog />
      </Show>
    </AppContext.Provider>
  );
}

const views: [State["view"], string, IconName][] = [["calls", "Calls", "phone"], ["keypad", "Keypad", "keys"], ["history", "History", "clock"]];

/** Tabs choose what a small screen shows; a large one shows all. */
function Tabs(): JSX.Element {
  const app = useApp();
  return (
    <nav class="tabs" aria-label="Parts of the page">
      <For each={views}>
        {([view, text, icon]) => (
          <button aria-current={app.state.view === view ? "page" : undefined} onClick={() => app.show(view)}>
            <span class="tab-icon"><Icon name={icon} /><Show when={view === "history"}><Missed /></Show></span>
            <span>{text}</span>
          </button>
        )}
      </For>
    </nav>
  );
}
