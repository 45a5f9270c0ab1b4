import { expect, test } from "vitest";
import { asksToAnswer } from "./phone";

const request = (headers: Record<string, string>) => ({ getHeader: (name: string) => headers[name] });

test.each([
  [{}, false],
  [{ "Answer-Mode": "Auto" }, true],
  [{ "Answer-Mode": "Manual" }, false],
  [{ "Call-Info": "<sip:baton>; answer-after=0" }, true],
  [{ "Call-Info": "<sip:baton>; answer-after=05" }, false],
  [{ "Alert-Info": "<http://x>;info=alert-autoanswer" }, true],
  [{ "Alert-Info": "<urn:alert:source:internal>" }, false],
])("%j asks to answer by itself: %s", (headers, want) => expect(asksToAnswer(request(headers as Record<string, string>))).toBe(want));
