import { createSignal, onMount, Show, type JSX } from "solid-js";
import { useApp } from "./context";
import { Icon, Logo } from "./icons";

/** SignIn asks for what a phone would be given. */
export function SignIn(): JSX.Element {
  const app = useApp();
  const [user, setUser] = createSignal("");
  const [password, setPassword] = createSignal("");
  const [shown, setShown] = createSignal(false);
  let name!: HTMLInputElement;
  onMount(() => name.focus());
  const submit = (e: SubmitEvent) => {
    e.preventDefault();
    void app.signIn(user(), password()).then(() => setPassword(""));
  };
  return (
    <main class="sign-in">
      <form class="card" onSubmit={submit} aria-labelledby="sign-in-title">
        <div class="brand"><Logo /><span>baton</span></div>
        <h1 id="sign-in-title">Your call follows you</h1>
        <p class="quiet">Sign in with the name or number and the password that your phones have.</p>
        <label for="user">Name or number</label>
        <input id="user" ref={name} autocomplete="username" autocapitalize="none" spellcheck={false} required value={user()} onInput={(e) => setUser(e.currentTarget.value)} />
        <label for="password">SIP password</label>
        <div class="with-button">
          <input id="password" type={shown() ? "text" : "password"} autocomplete="current-password" required value={password()} onInput={(e) => setPassword(e.currentTarget.value)} />
          <button type="button" class="plain" aria-pressed={shown()} onClick={() => setShown(!shown())}>{shown() ? "Hide" : "Show"}</button>
        </div>
        <div role="alert">
          <Show when={app.state.signInTrouble}>
            {(t) => (
              <p class="trouble">
                <Icon name="warn" size={18} />
                <span>
                  <strong>{t().what}</strong> {t().do} <Show when={t().link}>{(l) => <a href={l().href}>{l().text}</a>}</Show>
                </span>
              </p>
            )}
          </Show>
        </div>
        <button class="primary wide" disabled={app.state.signingIn}>{app.state.signingIn ? "Signing in…" : "Sign in"}</button>
        <p class="quiet small">
          The password itself is not kept in this browser. Did the browser warn of this page? <a href="/ca.crt">Download baton's certificate</a> and trust it once.
        </p>
      </form>
    </main>
  );
}
