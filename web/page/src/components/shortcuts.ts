// Shortcuts of the keyboard: single keys, as long as nothing else takes what is typed.

import type { App } from "../store";

const click = (selector: string): boolean => {
  const b = [...document.querySelectorAll<HTMLButtonElement>(selector)].find((e) => !e.disabled && e.offsetParent !== null);
  b?.click();
  return b !== undefined;
};

const focus = (selector: string): boolean => {
  const e = [...document.querySelectorAll<HTMLElement>(selector)].find((f) => !(f as HTMLButtonElement).disabled && f.offsetParent !== null);
  e?.focus();
  return e !== undefined;
};

const typing = (t: EventTarget | null): boolean =>
  t instanceof HTMLTextAreaElement || t instanceof HTMLSelectElement || (t instanceof HTMLInputElement && t.type !== "checkbox" && t.type !== "radio");

/** shortcut acts on a key press of the whole page. */
export function shortcut(app: App, e: KeyboardEvent): void {
  if (e.defaultPrevented || e.ctrlKey || e.metaKey || e.altKey || e.repeat || !app.state.session || app.state.dialog) return;
  if (typing(e.target) || !app.state.settings.shortcuts) return;
  if (run(app, e.key)) e.preventDefault();
}

function run(app: App, key: string): boolean {
  const incoming = app.incoming()[0];
  switch (key) {
    case "a":
      return incoming !== undefined && (app.answer(incoming.id), true);
    case "d":
      return incoming !== undefined && (app.decline(incoming.id), true);
    case "e":
      return click('.call[data-place="here"][data-held="false"] [data-act="end"]') || click('.call[data-place="here"] [data-act="end"]');
    case "m":
      return click('.call[data-held="false"] [data-act="mute"]') || click('[data-act="mute"]');
    case "h":
      return click('.call[data-held="false"] [data-act="hold"]') || click('[data-act="hold"]');
    case "k":
      return click('.call[data-held="false"] [data-act="keys"]') && focus(".tones [data-rove]");
    case "t":
      return click('.call[data-held="false"] [data-act="transfer"]') || click('[data-act="transfer"]');
    case "l":
      return click('[data-act="leave"]');
    case "b":
      return click("[data-bring]");
    case "v":
      return focus("[data-move]");
    case "/":
      app.show("keypad");
      return focus("#number");
    case "?":
      app.open("shortcuts");
      return true;
  }
  if (/^[0-9*#+]$/.test(key)) {
    app.show("keypad");
    app.type(app.state.number + key);
    return focus("#number");
  }
  return false;
}
