import { expect, test } from "vitest";
import { identity, replaces } from "./leg";

test("a dialog is named with baton's own tag as the to-tag", () => {
  expect(replaces({ callID: "c", localTag: "mine", remoteTag: "theirs" })).toBe("Replaces: c;to-tag=theirs;from-tag=mine");
});

test.each([
  ['"Bob \\"B\\" Jones" <sip:102@baton.example>', "Bob \"B\" Jones", "102"],
  ["Bob <sips:102@baton.example;user=phone>", "Bob", "102"],
  ["<tel:+49301234>", "", "+49301234"],
  ["<sip:%2B49301234@baton.example>;tag=x", "", "+49301234"],
  ["<sip:50%@baton.example>", "", "50%"], // not escaped as it should be
])("who %s is", (header, name, number) => expect(identity(header)).toEqual({ name, number }));

test("what is no name-addr is nobody", () => expect(identity("sip:102@baton.example")).toBeUndefined());
