import { describe, expect, it } from "vitest";
import { judge } from "./dead";

const request = (method: string, over = "") =>
  `${method} sip:x@y.invalid;transport=ws SIP/2.0\r\nVia: SIP/2.0/WSS a;branch=z9hG4bK1\r\nv: SIP/2.0/UDP b\r\n ;branch=2\r\nFrom: <sip:b@h>;tag=1\r\n${over || "To: <sip:a@h>;tag=2"}\r\nCall-ID: dead@h\r\nCSeq: 7 ${method}\r\nContact: <sip:b@h>\r\nContent-Length: 3\r\n\r\nv=0`;
const dead = (id: string) => id === "dead@h";

describe("judge", () => {
  it("has a change wait, and answers by what the request brought", () => {
    expect(judge(request("INVITE"), dead)).toEqual({
      over: false,
      reply: "SIP/2.0 491 Request Pending\r\nVia: SIP/2.0/WSS a;branch=z9hG4bK1\r\nv: SIP/2.0/UDP b ;branch=2\r\nFrom: <sip:b@h>;tag=1\r\nTo: <sip:a@h>;tag=2\r\nCall-ID: dead@h\r\nCSeq: 7 INVITE\r\nContent-Length: 0\r\n\r\n",
    });
    expect(judge(request("UPDATE"), dead)?.reply).toMatch(/^SIP\/2.0 491 /);
  });

  it("is there when asked, knows the end, and is silent to ACK", () => {
    expect(judge(request("OPTIONS"), dead)).toMatchObject({ reply: expect.stringMatching(/^SIP\/2.0 200 /), over: false });
    expect(judge(request("BYE"), dead)).toMatchObject({ reply: expect.stringMatching(/^SIP\/2.0 200 /), over: true });
    expect(judge(request("ACK"), dead)).toEqual({ reply: undefined, over: false });
  });

  it("leaves to the stack what is not in a dead dialog", () => {
    expect(judge(request("INVITE"), () => false)).toBeUndefined();
    expect(judge(request("INVITE", "To: <sip:a@h>"), dead)).toBeUndefined(); // no dialog yet
    expect(judge(request("INVITE").replace(/^INVITE [^\r]*/, "SIP/2.0 200 OK"), dead)).toBeUndefined();
    expect(judge("\r\n", dead)).toBeUndefined();
    expect(judge("", dead)).toBeUndefined();
  });
});
