import { expect, test } from "vitest";
import { continues, extend, outline, type Stroke } from "./strokes";

function recorded(points: number[], side: number): string[] {
  const calls: string[] = [];
  const note =
    (name: string) =>
    (...values: number[]) =>
      void calls.push(`${name} ${values.join(" ")}`);
  outline({ moveTo: note("M"), lineTo: note("L"), quadraticCurveTo: note("Q") }, points, side);
  return calls;
}

test("a stroke begins and ends where the pen did, whatever its length", () => {
  expect(recorded([0, 0, 1, 0.5], 100)).toEqual(["M 0 0", "L 100 50"]);
  expect(recorded([0, 0, 0.5, 0, 0.5, 1], 10)).toEqual(["M 0 0", "Q 5 0 5 5", "L 5 10"]);
});

test("curves join in the middles between neighbouring points", () => {
  expect(recorded([0, 0, 0.2, 0.4, 0.6, 0.4, 1, 0], 10)).toEqual([
    "M 0 0",
    "Q 2 4 4 4",
    "Q 6 4 8 2",
    "L 10 0",
  ]);
});

test("points that lie on top of one another are kept once", () => {
  const stroke: Stroke = { tool: "pen", points: [] };
  expect(extend(stroke, 0.5, 0.5)).toBe(true);
  expect(extend(stroke, 0.5005, 0.5005)).toBe(false);
  expect(extend(stroke, 0.51, 0.5)).toBe(true);
  expect(stroke.points).toEqual([0.5, 0.5, 0.51, 0.5]);
});

test("a drawing continues another only with the very same strokes", () => {
  const [a, b]: Stroke[] = [
    { tool: "pen", points: [0, 0] },
    { tool: "pen", points: [0, 0] },
  ];
  expect(continues([a!, b!], [a!])).toBe(true);
  expect(continues([a!], [])).toBe(true);
  expect(continues([b!], [a!])).toBe(false);
  expect(continues([], [a!])).toBe(false);
});
