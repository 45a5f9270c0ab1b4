// Dialogs of a page that is gone. After a reload baton may still send requests in them, to this page, whose SIP stack knows nothing of
// them and would say 481: that would end the call which this page is just about to take back.

/** Verdict is what becomes of a message: an answer to send, nothing (it is swallowed), and whether it was a BYE. */
export interface Verdict {
  reply: string | undefined;
  over: boolean;
}

/** judge answers a request in a dialog that is to be taken back; undefined = the message is for the SIP stack. */
export function judge(message: string, isDead: (callID: string) => boolean): Verdict | undefined {
  const head = message.slice(0, Math.max(message.indexOf("\r\n\r\n"), 0) || message.length).split("\r\n");
  const method = /^([A-Z]+) \S+ SIP\/2\.0$/.exec(head[0] ?? "")?.[1];
  if (!method) return undefined;
  const headers = unfold(head.slice(1));
  const value = (names: RegExp) => headers.find((h) => names.test(h))?.replace(/^[^:]*:\s*/, "").trim() ?? "";
  if (!/;\s*tag=/i.test(value(/^(to|t)\s*:/i)) || !isDead(value(/^(call-id|i)\s*:/i))) return undefined;
  switch (method) {
    case "ACK":
      return { reply: undefined, over: false };
    case "BYE":
      return { reply: response("200 OK", headers), over: true };
    case "OPTIONS": // "are you there"
      return { reply: response("200 OK", headers), over: false };
  }
  // A change has to wait (RFC 3261 §14.2): by then the call is in another dialog.
  return { reply: response("491 Request Pending", headers), over: false };
}

function unfold(lines: string[]): string[] {
  const all: string[] = [];
  for (const l of lines) {
    if (/^[ \t]/.test(l) && all.length > 0) all[all.length - 1] += ` ${l.trim()}`;
    else all.push(l);
  }
  return all;
}

function response(status: string, headers: string[]): string {
  const kept = headers.filter((h) => /^(via|v|from|f|to|t|call-id|i|cseq)\s*:/i.test(h));
  return `SIP/2.0 ${status}\r\n${kept.join("\r\n")}\r\nContent-Length: 0\r\n\r\n`;
}
