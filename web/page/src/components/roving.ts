// One stop of the Tab key for a group of buttons, the arrow keys within it (WAI-ARIA, roving tabindex).

/** roving makes the buttons in an element one stop; columns is how many stand side by side, 0 = all in one row. */
export function roving(el: HTMLElement, columns = 0): void {
  const items = () => [...el.querySelectorAll<HTMLButtonElement>("[data-rove]")].filter((b) => !b.disabled && b.offsetParent !== null);
  let chosen: HTMLButtonElement | undefined; // by who uses the keyboard; until then it is the first that can be pressed
  const tidy = () => {
    const all = items();
    const current = all.find((b) => b === chosen) ?? all[0];
    for (const b of el.querySelectorAll<HTMLButtonElement>("[data-rove]")) b.tabIndex = b === current ? 0 : -1;
  };
  const go = (to: HTMLButtonElement | undefined) => {
    if (!to) return;
    for (const b of items()) b.tabIndex = b === to ? 0 : -1;
    to.focus();
  };
  el.addEventListener("keydown", (e) => {
    const all = items();
    const at = all.indexOf(document.activeElement as HTMLButtonElement);
    if (at < 0 || e.altKey || e.ctrlKey || e.metaKey) return;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns || 1, ArrowUp: -(columns || 1) }[e.key];
    const to = e.key === "Home" ? all[0] : e.key === "End" ? all.at(-1) : step === undefined ? undefined : all[at + step];
    if (step === undefined && e.key !== "Home" && e.key !== "End") return;
    e.preventDefault();
    e.stopPropagation();
    go(to);
  });
  el.addEventListener("focusin", (e) => {
    const b = (e.target as HTMLElement).closest<HTMLButtonElement>("[data-rove]");
    if (!b) return;
    chosen = b;
    for (const o of items()) o.tabIndex = o === b ? 0 : -1;
  });
  new MutationObserver(tidy).observe(el, { childList: true, subtree: true, attributes: true, attributeFilter: ["disabled"] });
  queueMicrotask(tidy);
}
