import { expect, test } from "vitest";
import { besides } from "./term";

const SCREEN = { width: 390, height: 800 };
const SENTENCE = { width: 300, height: 60 };

test("a sentence is below its word, and above where the screen ends", () => {
  expect(besides({ left: 20, top: 100, bottom: 120 }, SENTENCE, SCREEN)).toEqual({ left: 20, top: 126 });
  expect(besides({ left: 20, top: 760, bottom: 780 }, SENTENCE, SCREEN)).toEqual({ left: 20, top: 694 });
});

test("it never leaves the screen sideways", () => {
  expect(besides({ left: 350, top: 100, bottom: 120 }, SENTENCE, SCREEN).left).toBe(82);
  expect(besides({ left: -30, top: 100, bottom: 120 }, SENTENCE, SCREEN).left).toBe(8);
  expect(besides({ left: 350, top: 100, bottom: 120 }, { width: 500, height: 60 }, SCREEN).left).toBe(8);
});

test("where there is no room at all it is below", () => {
  expect(besides({ left: 20, top: 20, bottom: 780 }, SENTENCE, SCREEN).top).toBe(786);
});
