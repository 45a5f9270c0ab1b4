import { For, Show, type JSX } from "solid-js";
import type { Leg, Way } from "../api";
import type { Conversation } from "../merge";
import { grade } from "../stats";
import { endToEnd, mediaPath, millis, percent, privacy, way } from "../words";
import { useApp } from "./context";
import { Icon } from "./icons";

/** Bars show a MOS as the strength of a signal is shown. */
export function Bars(props: { mos: number }): JSX.Element {
  return (
    <span class="bars" data-bars={grade(props.mos).bars} aria-hidden="true">
      <span /><span /><span /><span />
    </span>
  );
}

interface Row {
  what: string;
  in: string;
  out: string;
}

/** Quality is the live meter of a call: what this browser measures, and what baton says of the far side's phone. */
export function Quality(props: { c: Conversation }): JSX.Element {
  const app = useApp();
  const meter = () => (props.c.line ? app.state.meters[props.c.line.id] : undefined);
  const far = (): Leg | undefined => props.c.call?.seats.find((s) => s !== props.c.mine)?.legs?.[0];
  const own = (): Leg | undefined => props.c.holder;
  const whom = () => props.c.peer.name || props.c.peer.number;
  const ways = () => props.c.call?.ways ?? [];
  const hears = () => ways().find((w) => w.to === app.state.session?.user);
  const heard = () => ways().find((w) => w.from === app.state.session?.user);
  const told = (): string => {
    const h = far()?.report?.hears;
    const figures = h ? [["loss", percent(h.loss_percent)], ["jitter", millis(h.jitter_ms)], ["held in its jitter buffer", millis(h.buffer_ms)]] : [];
    return figures.filter(([, v]) => v !== "–").map(([what, v]) => `${what} ${v}`).join(", ");
  };
  const direct = () => props.c.line?.direct === true;
  const privy = () => direct() ? endToEnd(whom()) : (meter() ? privacy("dtls", far()?.secure, whom()) : own()?.secure ? privacy(own()!.secure, far()?.secure, whom()) : undefined);
  const path = () => direct() ? mediaPath("direct", undefined) : (props.c.call?.media ? mediaPath(props.c.call.media, props.c.call.media_why) : undefined);
  const held = () => props.c.line?.held === true || props.c.holder?.held === true;
  const mos = () => held() ? undefined : meter()?.quality?.mos ?? own()?.out_quality?.mos ?? hears()?.mos;

  const browser = (): Row[] => {
    const m = meter();
    const q = m?.quality;
    if (!m) return [];
    return [
      { what: "Loss", in: percent(q?.lossIn), out: percent(m.sample.outLoss) },
      { what: "Jitter", in: millis(m.sample.jitter), out: millis(m.sample.outJitter) },
      { what: "Made up by the browser", in: percent(q?.concealed), out: "–" },
      { what: "Held in the jitter buffer", in: millis(q?.buffer), out: "–" },
    ];
  };
  const node = (l: Leg | undefined): Row[] =>
    l?.stats
      ? [
          { what: "Loss", in: percent(l.stats.in.loss_percent), out: l.stats.reported ? percent(l.stats.out.loss_percent) : "–" },
          { what: "Jitter", in: millis(l.stats.in.jitter_ms), out: l.stats.reported ? millis(l.stats.out.jitter_ms) : "–" },
          { what: "MOS", in: l.in_quality ? l.in_quality.mos.toFixed(1) : "–", out: l.out_quality ? l.out_quality.mos.toFixed(1) : "–" },
        ]
      : [];

  return (
    <details class="quality">
      <summary>
        <Show when={mos()} fallback={<><Bars mos={0} /><span>{held() ? "On hold" : "Quality: not measured yet"}</span></>}>
          {(v) => <><Bars mos={v()} /><span>Sound is {grade(v()).word}</span><span class="quiet">MOS {v().toFixed(1)}</span></>}
        </Show>
        <Show when={meter()?.sample.pair}>{(p) => <span class="tag">{way(p()).short}</span>}</Show>
        <Show when={path()}>{(p) => <span class="tag" title={p().long}>{p().short}</span>}</Show>
        <Show when={privy()}>{(p) => <span class="tag"><Icon name={p().short.startsWith("not") ? "warn" : "lock"} size={13} />{p().short}</span>}</Show>
      </summary>
      <div class="figures-table">
        <Show when={meter()}>
          {(m) => (
            <>
              <Table caption={direct() ? `Between this browser and ${whom()}'s` : "Between this browser and baton"} first="You hear" second="You are heard" rows={browser()} />
              <dl>
                <div><dt>Round trip</dt><dd>{millis(m().sample.rtt)}</dd></div>
                <div><dt>Codec</dt><dd>{m().sample.codec || "–"}</dd></div>
                <div><dt>Audio goes</dt><dd>{m().sample.pair ? way(m().sample.pair!, app.state.settings.relayOnly).long : "…"}</dd></div>
              </dl>
            </>
          )}
        </Show>
        <Show when={privy()}>
          {(p) => <dl><div><dt>Encryption</dt><dd>{p().long}<Show when={meter()?.sample.cipher}>{(c) => ` Cipher here: ${c()}.`}</Show></dd></div></dl>}
        </Show>
        <Show when={path()}>{(p) => <dl><div><dt>Path</dt><dd>{p().long}</dd></div></dl>}</Show>
        <Show when={!meter() && own()?.stats}>
          <Table caption={`Between ${own()!.device} and baton`} first="You are heard" second="You hear" rows={node(own())} />
        </Show>
        <Show when={far()?.stats}>
          <Table caption={`Between baton and ${whom()}'s phone`} first={`${whom()} says`} second={`${whom()} hears`} rows={node(far())} />
        </Show>
        <Show when={told()}>{(t) => <dl><div><dt>{whom()}'s device reports</dt><dd>{t()}</dd></div></dl>}</Show>
        <Show when={hears() || heard()}>
          <dl>
            <Show when={hears()}>{(w) => <div><dt>Their mouth to your ear</dt><dd data-way="hears">{estimated(w())}</dd></div>}</Show>
            <Show when={heard()}>{(w) => <div><dt>Your mouth to their ear</dt><dd data-way="heard">{estimated(w())}</dd></div>}</Show>
          </dl>
        </Show>
        <p class="quiet small">MOS is an estimate from 1 (bad) to 4.5; loss and sound made up are those of the last five seconds in this browser.</p>
      </div>
    </details>
  );
}

/** estimated says how long sound takes, and whose figures that rests on. */
const estimated = (w: Way): string =>
  `${millis(w.delay_ms)}, MOS ${w.mos.toFixed(1)}${w.by === "device" ? ", as the device that hears reports" : w.by === "node" ? ", as baton measures" : ""}`;

function Table(props: { caption: string; first: string; second: string; rows: Row[] }): JSX.Element {
  return (
    <table>
      <caption>{props.caption}</caption>
      <thead><tr><td /><th scope="col">{props.first}</th><th scope="col">{props.second}</th></tr></thead>
      <tbody>
        <For each={props.rows}>{(r) => <tr><th scope="row">{r.what}</th><td>{r.in}</td><td>{r.out}</td></tr>}</For>
      </tbody>
    </table>
  );
}
