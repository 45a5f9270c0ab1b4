// A stateless SIP proxy over WebSocket for two pages that call each other: enough to try the page's phone with real audio, no more.

import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer, type WebSocket } from "ws";

export interface Registered {
  user: string;
  instance: string;
  agent: string;
}

export class Switch {
  private readonly server = new WebSocketServer({ noServer: true, handleProtocols: () => "sip" });
  private readonly byUser = new Map<string, WebSocket>();
  private readonly byContact = new Map<string, WebSocket>();
  private readonly registered = new Map<WebSocket, Registered>();
  private readonly replies = new Map<string, WebSocket>(); // by branch
  private readonly parties = new Map<string, string[]>(); // contacts by Call-ID, so that a Replaces finds the other one

  constructor(private readonly changed: () => void, private readonly aliases: Record<string, string>) {
    this.server.on("connection", (s) => {
      s.on("message", (m) => this.receive(s, String(m)));
      s.on("close", () => {
        this.registered.delete(s);
        for (const map of [this.byUser, this.byContact]) for (const [k, v] of map) if (v === s) map.delete(k);
        this.changed();
      });
    });
  }

  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    this.server.handleUpgrade(request, socket, head, (s) => this.server.emit("connection", s, request));
  }

  devices = (): Registered[] => [...this.registered.values()];

  /** cut closes all connections, as a restart does. */
  cut(): void {
    for (const s of this.server.clients) s.terminate();
  }

  private receive(from: WebSocket, text: string): void {
    if (text === "\r\n\r\n") return from.send("\r\n");
    if (text.trim() === "") return;
    const first = text.slice(0, text.indexOf("\r\n"));
    if (first.startsWith("SIP/2.0")) return this.response(text);
    const [method, uri] = first.split(" ") as [string, string];
    if (method === "REGISTER") return this.register(from, text);
    const user = /sip:([^@;>]+)/.exec(uri)?.[1] ?? "";
    const replaced = /^Replaces: *([^;\r]+)/im.exec(text)?.[1];
    const other = this.parties.get(replaced ?? "")?.map((c) => this.byContact.get(c)).find((s) => s && s !== from);
    const to = other || this.byContact.get(user) || this.byUser.get(this.aliases[user] ?? user);
    const branch = /Via:[^\r]*branch=([^;\r]+)/i.exec(text)?.[1] ?? "";
    if (!to) {
      if (method !== "ACK") this.answer(from, text, this.aliases[user] ? "480 Temporarily Unavailable" : "404 Not Found");
      return;
    }
    const own = `z9hG4bKp${branch}`;
    this.replies.set(own, from);
    const contact = this.contactOf(to);
    if (method === "INVITE" && !/^To:[^\r]*tag=/im.test(text)) this.parties.set(/^Call-ID: *([^\r]+)/im.exec(text)?.[1] ?? "", [contact ?? "", this.contactOf(from)]);
    const target = this.byContact.has(user) ? uri : `sip:${contact}@x.invalid;transport=ws`;
    const rest = text.slice(first.length + 2);
    to.send(`${method} ${target} SIP/2.0\r\nVia: SIP/2.0/WS switch.invalid;branch=${own}\r\n${rest}`);
  }

  private contactOf = (s: WebSocket): string => [...this.byContact].find(([, t]) => t === s)?.[0] ?? "";

  private response(text: string): void {
    const via = /^Via:[^\r]*branch=([^;\r]+)[^\r]*\r\n/im.exec(text);
    if (via) this.replies.get(via[1]!)?.send(text.replace(via[0], ""));
  }

  private register(from: WebSocket, text: string): void {
    const user = /^To:[^\r]*sip:([^@;>]+)/im.exec(text)?.[1] ?? "";
    const contact = /^Contact: *([^\r]+)/im.exec(text)?.[1] ?? "";
    const gone = /^Expires: *0\r/im.test(text);
    if (gone) {
      this.byUser.delete(user);
      this.registered.delete(from);
    } else {
      this.byUser.set(user, from);
      this.byContact.set(/sip:([^@;>]+)/.exec(contact)?.[1] ?? "", from);
      this.registered.set(from, { user, instance: /sip\.instance="([^"]+)"/.exec(contact)?.[1] ?? "", agent: /^User-Agent: *([^\r]+)/im.exec(text)?.[1] ?? "" });
    }
    this.answer(from, text, "200 OK", gone ? "" : `Contact: ${contact.replace(/;expires=\d+/, "")};expires=300\r\n`);
    this.changed();
  }

  private answer(to: WebSocket, request: string, status: string, more = ""): void {
    const keep = request.split("\r\n").filter((l) => /^(via|from|call-id|cseq):/i.test(l));
    const toLine = request.split("\r\n").find((l) => /^to:/i.test(l)) ?? "";
    to.send(`SIP/2.0 ${status}\r\n${keep.join("\r\n")}\r\n${toLine}${toLine.includes("tag=") ? "" : ";tag=switch"}\r\n${more}Content-Length: 0\r\n\r\n`);
  }
}
