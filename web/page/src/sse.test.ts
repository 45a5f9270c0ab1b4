import { describe, expect, it } from "vitest";
import { Parser } from "./sse";

describe("Parser", () => {
  it("reads events, their names and several lines of data", () => {
    const p = new Parser();
    expect(p.push("event: calls\ndata: [1,\ndata: 2]\n\ndata: x\n\n")).toEqual([
      { event: "calls", data: "[1,\n2]", id: "" },
      { event: "message", data: "x", id: "" },
    ]);
  });

  it("reads the same whatever the pieces are", () => {
    const text = "retry: 500\r\n: hello\r\nevent: devices\r\nid: 7\r\ndata: {\"a\":\"é\"}\r\n\r\nevent:history\rdata:[]\r\rdata\n\n";
    const whole = new Parser().push(text);
    for (let size = 1; size < text.length; size++) {
      const p = new Parser();
      const events = [];
      for (let i = 0; i < text.length; i += size) events.push(...p.push(text.slice(i, i + size)));
      expect(events).toEqual(whole);
      expect(p.retry).toBe(500);
    }
    expect(whole.map((e) => [e.event, e.data])).toEqual([["devices", '{"a":"é"}'], ["history", "[]"], ["message", ""]]);
  });

  it("gives nothing for comments, unknown fields and events without data", () => {
    const p = new Parser();
    expect(p.push(": 15 s\n\nevent: calls\n\nfoo: bar\n\n")).toEqual([]);
    expect(p.push("data: 1\n\n")[0]?.event).toBe("message"); // the name of the empty event is forgotten
  });

  it("leaves a byte order mark out, and a wrong retry", () => {
    const p = new Parser();
    expect(p.push("\uFEFFdata: 1\nretry: soon\n\n")).toHaveLength(1);
    expect(p.retry).toBeUndefined();
  });
});
