import { expect, test } from "vitest";
import { SHOWN, bars, ranked } from "./order";

const answers = (entries: Record<string, number>) =>
  Object.entries(entries).map(([name, probability]) => ({ name, probability }));

test("few classes keep their places", () => {
  const { bars: shown, others } = bars(["apple", "banana"], answers({ banana: 0.9, apple: 0.1 }), []);
  expect(shown).toEqual([
    { name: "apple", probability: 0.1, rank: 0 },
    { name: "banana", probability: 0.9, rank: 1 },
  ]);
  expect(others).toBeNull();
});

test("of many classes the best are shown, the rest is their sum, and all makes one", () => {
  const classes = Array.from({ length: 20 }, (_, k) => `class ${k}`);
  const total = (20 * 21) / 2;
  const given = answers(Object.fromEntries(classes.map((name, k) => [name, (k + 1) / total])));
  const { bars: shown, others } = bars(classes, given, []);
  expect(shown.length).toBe(SHOWN);
  expect(shown.find((bar) => bar.name === "class 19")!.rank).toBe(0);
  expect(shown.map((bar) => bar.rank).sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  expect(shown.reduce((sum, bar) => sum + bar.probability, others!)).toBeCloseTo(1);
});

test("without a margin the order is exact, with one it is calm", () => {
  const probability = new Map([
    ["a", 0.3],
    ["b", 0.32],
    ["c", 0.38],
  ]);
  expect(ranked(["a", "b", "c"], probability)).toEqual(["c", "b", "a"]);
  expect(ranked(["a", "b", "c"], probability, 0.03)).toEqual(["c", "a", "b"]);
  expect(ranked([], probability, 0.03)).toEqual(["c", "a", "b"]);
});

test("names that are gone are forgotten", () => {
  expect(
    ranked(
      ["x", "b"],
      new Map([
        ["b", 0.1],
        ["a", 0.9],
      ]),
    ),
  ).toEqual(["a", "b"]);
});
