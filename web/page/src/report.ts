// What this page tells the node of the calls of its own device, so that others see it too: figures of what is heard here (docs/quality.md).

import type { Heard, MyReport } from "./api";
import type { Dialog } from "./leg";
import type { Quality, Sample } from "./stats";

/**
 * reportOf is what the node is told of a call: what is heard of late, and what it has told of what is sent. A figure that the browser does not
 * give is left out.
 */
export function reportOf(dialog: Dialog, s: Sample, q: Quality): MyReport {
  const hears: Heard = { packets: s.received, lost: s.lost, loss_percent: tenth(q.lossIn), jitter_ms: tenth(s.jitter), concealed_percent: tenth(q.concealed) };
  if (s.codec) hears.codec = s.codec;
  if (q.buffer !== undefined) hears.buffer_ms = tenth(q.buffer);
  const report: MyReport = { call_id: dialog.callID, local_tag: dialog.localTag, remote_tag: dialog.remoteTag, hears };
  if (s.rtt !== undefined) report.rtt_ms = tenth(s.rtt);
  if (s.outLoss !== undefined) {
    report.says = { packets: s.sent, loss_percent: tenth(s.outLoss) };
    if (s.outJitter !== undefined) report.says.jitter_ms = tenth(s.outJitter);
  }
  return report;
}

/** tenth rounds, and keeps a figure in the range that the node believes. */
const tenth = (v: number): number => Math.round(Math.min(Math.max(v, 0), 10_000) * 10) / 10;

const every = 5000; // ms between two reports of a call
const slowest = 60_000; // ms, where the node does not take them

/** Reporter tells the node of each call, now and then, as long as it is measured. */
export class Reporter {
  private calls = new Map<string, { next: number; pause: number }>();

  constructor(private readonly send: (r: MyReport) => Promise<unknown>) {}

  /** tell sends a report of a call if one is due. at is the time, in ms, by the clock that the sample has. */
  tell(id: string, dialog: Dialog | undefined, s: Sample, q: Quality | undefined): void {
    if (!dialog || !q) return;
    const c = this.calls.get(id) ?? { next: 0, pause: every };
    if (s.at < c.next) return;
    c.next = s.at + c.pause;
    this.calls.set(id, c);
    this.send(reportOf(dialog, s, q)).then(
      () => (c.pause = every),
      () => (c.pause = Math.min(2 * c.pause, slowest)), // an older node, or another one's call: it is no reason to press
    );
  }

  /** forget is for a call that is not measured any more. */
  forget(id: string): void {
    this.calls.delete(id);
  }
}
