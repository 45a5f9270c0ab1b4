// A make-believe node for looking at the page: the API with invented devices, calls and history, and a switch for real calls between two
// pages. Scenes are set by POST /dev/scene; nothing of this is in the build.

import type { IncomingMessage, ServerResponse } from "node:http";
import type { Plugin } from "vite";
import { Switch } from "./switch";

const people: Record<string, { display: string; number: string }> = {
  alice: { display: "Alice Andersson", number: "101" }, bob: { display: "Bob Baker", number: "102" },
};
const aliases = Object.fromEntries(Object.entries(people).flatMap(([user, p]) => [[user, user], [p.number, user]]));

interface Scene {
  devices?: object[];
  calls?: object[];
  history?: object[];
  leave?: string; // error of leaving
}

const ago = (minutes: number) => new Date(Date.now() - minutes * 60_000).toISOString();

const usual: Scene = {
  devices: [
    { index: 1, name: "yealink-t46", kind: "desk phone", here: true, since: ago(600), ringless: true },
    { index: 2, name: "linphone", kind: "softphone", here: false, since: ago(95), reason: "connection closed" },
  ],
  calls: [],
  history: [
    { time: ago(12), kind: "missed", peer: "103", name: "Carol Jones" },
    { time: ago(64), kind: "out", peer: "102", name: "Bob Baker", duration: 184 },
    { time: ago(260), kind: "in", peer: "104", name: "Dmitri Ivanov", duration: 1312 },
    { time: ago(60 * 26), kind: "missed", peer: "102", name: "Bob Baker" },
    { time: ago(60 * 75), kind: "out", peer: "105", name: "", duration: 7 },
  ],
};

export function fixtures(): Plugin {
  let scene: Scene = usual;
  const streams = new Set<{ user: string; r: ServerResponse }>();
  const tell = () => streams.forEach((s) => send(s.r, s.user));
  const sip = new Switch(() => tell(), aliases);

  const devices = (user: string) => [
    ...(user === "alice" ? scene.devices ?? usual.devices! : []),
    ...sip.devices().filter((d) => d.user === user).map((d, i) => ({
      index: 5 + i, name: d.agent.split("/")[0]!.toLowerCase(), kind: "browser", here: true, since: ago(0), instance: d.instance, user_agent: d.agent,
    })),
  ];
  const send = (r: ServerResponse, user: string) => {
    for (const [event, data] of [["devices", devices(user)], ["calls", user === "alice" ? scene.calls ?? [] : []], ["history", scene.history ?? []]] as const) r.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  };

  const api = async (q: IncomingMessage, r: ServerResponse) => {
    const url = new URL(q.url!, "http://x");
    const path = url.pathname.replace("/api/v1", "");
    const json = (status: number, body?: unknown) => {
      r.writeHead(status, { "Content-Type": "application/json" });
      r.end(body === undefined ? "" : JSON.stringify(body));
    };
    if (q.method === "POST" && path === "/session") {
      const { user, password } = JSON.parse(await body(q)) as { user: string; password: string };
      const name = aliases[user];
      if (!name || password === "wrong") return json(401, { error: "wrong user or password" });
      return json(200, { token: name, expires: ago(-1e4), user: name, sip: { uri: `sip:${name}@baton.test`, login: name, password: "x" } });
    }
    const user = (q.headers.authorization ?? "").replace("Bearer ", "");
    const p = people[user];
    if (!p) return json(401, { error: "no such session" });
    switch (`${q.method} ${path}`) {
      case "GET /me":
        return json(200, {
          user, display: p.display, numbers: [p.number], domain: "baton.test", realm: "baton", node: { version: "dev" }, nodes: [],
          sip: { uri: `sip:${user}@baton.test`, ws: "/sip" }, codes: { pull: "*40", push: "*41" },
        });
      case "GET /me/ice":
        return json(200, { ice_servers: [], until: ago(-60) });
      case "GET /me/devices":
        return json(200, devices(user));
      case "GET /me/calls":
        return json(200, user === "alice" ? scene.calls ?? [] : []);
      case "GET /me/history":
        return json(200, url.searchParams.has("before") ? [] : scene.history ?? []);
      case "GET /me/events": {
        r.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
        r.write("retry: 500\n\n");
        const s = { user, r };
        streams.add(s);
        send(r, user);
        q.on("close", () => streams.delete(s));
        return;
      }
      case "POST /me/moves":
        await new Promise((ok) => setTimeout(ok, 700));
        return json(486, { error: "dial linphone: 486 Busy Here" });
      case "DELETE /session":
        return json(204);
    }
    return path.endsWith("/end") || path.endsWith("/leave") ? json(204) : json(404, { error: "no such thing" });
  };

  const use = (server: { middlewares: { use(f: (q: IncomingMessage, r: ServerResponse, next: () => void) => void): void }; httpServer: unknown }) => {
    server.middlewares.use((q, r, next) => {
      if (q.url!.startsWith("/api/v1/")) void api(q, r);
      else if (q.url === "/healthz") r.end("ok");
      else if (q.url === "/dev/cut") {
        sip.cut();
        r.end();
      } else if (q.url === "/dev/scene") {
        void body(q).then((b) => {
          scene = { ...usual, ...(JSON.parse(b || "{}") as Scene) };
          tell();
          r.end();
        });
      } else {
        // As the node serves it.
        r.setHeader("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'");
        next();
      }
    });
    (server.httpServer as { on(e: string, f: (q: IncomingMessage, s: import("node:stream").Duplex, h: Buffer) => void): void }).on("upgrade", (q, s, h) => {
      if (q.url === "/sip") sip.upgrade(q, s, h);
    });
  };
  return { name: "fixtures", configurePreviewServer: use as never, configureServer: use as never };
}

function body(q: IncomingMessage): Promise<string> {
  return new Promise((ok) => {
    let text = "";
    q.on("data", (d: Buffer) => (text += d.toString()));
    q.on("end", () => ok(text));
  });
}
