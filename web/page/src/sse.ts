// Server-sent events read with fetch, because EventSource cannot send an Authorization header.

/** One event of a stream. */
export interface ServerEvent {
  event: string;
  data: string;
  id: string;
}

/** Parser cuts a text stream into events (HTML Living Standard §9.2.6). It knows nothing about connections. */
export class Parser {
  /** What the server has asked to wait before a new connection, in milliseconds. */
  retry: number | undefined;
  private rest = "";
  private event = "";
  private data: string[] = [];
  private id = "";
  private started = false;

  /** push takes what has arrived and gives the events that are complete with it. */
  push(chunk: string): ServerEvent[] {
    this.rest += chunk;
    if (!this.started && this.rest !== "") {
      this.started = true;
      if (this.rest.startsWith("\uFEFF")) this.rest = this.rest.slice(1);
    }
    const events: ServerEvent[] = [];
    for (let line = this.next(); line !== undefined; line = this.next()) {
      const e = this.take(line);
      if (e) events.push(e);
    }
    return events;
  }

  /** next cuts the next whole line off; a CR at the end may be half of a CRLF, so it waits. */
  private next(): string | undefined {
    const end = this.rest.search(/[\r\n]/);
    if (end < 0) return undefined;
    if (this.rest[end] === "\r" && end + 1 === this.rest.length) return undefined;
    const width = this.rest.startsWith("\r\n", end) ? 2 : 1;
    const line = this.rest.slice(0, end);
    this.rest = this.rest.slice(end + width);
    return line;
  }

  private take(line: string): ServerEvent | undefined {
    if (line === "") return this.dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return undefined; // a comment, which keeps the connection alive
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    switch (field) {
      case "event":
        this.event = value;
        break;
      case "data":
        this.data.push(value);
        break;
      case "id":
        if (!value.includes("\0")) this.id = value;
        break;
      case "retry":
        if (/^\d+$/.test(value)) this.retry = Number(value);
        break;
    }
    return undefined;
  }

  private dispatch(): ServerEvent | undefined {
    const e = { event: this.event || "message", data: this.data.join("\n"), id: this.id };
    const empty = this.data.length === 0;
    this.event = "";
    this.data = [];
    return empty ? undefined : e;
  }
}
