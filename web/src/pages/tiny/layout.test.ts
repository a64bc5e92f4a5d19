import { expect, test } from "vitest";
import { animation, trainingStep } from "./frames";
import { layout, litIn, outlines, relations, window } from "./layout";
import { count, forward, initial, parameterOf } from "./network";
import type { Shape } from "./types";

const SHAPES: Shape[] = [
  { filters: 1, inARow: false },
  { filters: 2, inARow: false },
  { filters: 3, inARow: false },
  { filters: 4, inARow: false },
  { filters: 1, inARow: true },
];
const EACH = SHAPES.flatMap((shape) => [false, true].map((narrow) => ({ shape, narrow })));

test.each(EACH)("every learnt number of $shape has one box, narrow: $narrow", ({ shape, narrow }) => {
  const found = [...layout(shape, narrow).boxes.keys()].map((place) => parameterOf(place, shape));
  const indices = found.filter((at) => at !== null).sort((one, other) => one - other);
  expect(indices).toEqual([...Array(count(shape)).keys()]);
});

test.each(EACH)("no two boxes of $shape overlap and all lie inside, narrow: $narrow", ({ shape, narrow }) => {
  const { boxes, width, height } = layout(shape, narrow);
  const all = [...boxes.entries()];
  for (const [place, box] of all) {
    expect(box.x, place).toBeGreaterThanOrEqual(0);
    expect(box.y, place).toBeGreaterThanOrEqual(0);
    expect(box.x + box.width, place).toBeLessThanOrEqual(width);
    expect(box.y + box.height, place).toBeLessThanOrEqual(height);
    for (const [other, { x, y, width, height }] of all) {
      if (place >= other) continue;
      const apart =
        box.x + box.width <= x + 0.01 ||
        x + width <= box.x + 0.01 ||
        box.y + box.height <= y + 0.01 ||
        y + height <= box.y + 0.01;
      expect(apart, `${place} and ${other}`).toBe(true);
    }
  }
});

test.each(EACH)("cells of $shape are large enough to be touched, narrow: $narrow", ({ shape, narrow }) => {
  for (const [place, box] of layout(shape, narrow).boxes) {
    if (place.startsWith("probability")) continue;
    expect(Math.min(box.width, box.height), place).toBeGreaterThanOrEqual(narrow ? 26 : 21);
  }
});

test.each(SHAPES)("what feeds a number of %o is fed by nothing that is not in the figure", (shape) => {
  const { boxes } = layout(shape, false);
  for (const place of boxes.keys()) {
    const { from, to } = relations(place, shape);
    for (const other of [...from, ...to]) expect(boxes.has(other), `${place}: ${other}`).toBe(true);
    const direct = place.startsWith("weight") || place.startsWith("input");
    if (direct) continue;
    // going forwards and coming back meet
    for (const next of to) expect(relations(next, shape).from, `${place} to ${next}`).toContain(place);
  }
});

test("a map's cell is fed by its nine pixels and the filter, and goes where the pooling looks", () => {
  const { from, to } = relations("map:0:4", SHAPES[0]!);
  expect(from.slice(0, 9)).toEqual([6, 7, 8, 11, 12, 13, 16, 17, 18].map((at) => `pixel:${at}`));
  expect(from).toHaveLength(18);
  expect(to).toEqual(["pooled:0:0", "pooled:0:1", "pooled:0:2", "pooled:0:3"]);
  expect(relations("map:0:0", SHAPES[0]!).to).toEqual(["pooled:0:0"]);
});

test("in a row the border of zeros has no place", () => {
  const { from } = relations("map:0:0", SHAPES[4]!);
  expect(from.filter((place) => place.startsWith("relu"))).toEqual(["relu:0", "relu:1", "relu:3", "relu:4"]);
});

test("a window is drawn as one where its places fill a rectangle", () => {
  const { boxes } = layout(SHAPES[0]!, false);
  const places = [0, 1, 2, 5, 6, 7, 10, 11, 12].map((at) => `pixel:${at}`);
  const first = boxes.get("pixel:0")!;
  expect(window(places, boxes)).toMatchObject({
    x: first.x,
    y: first.y,
    width: 3 * first.width,
    height: 3 * first.height,
  });
  expect(window(["pixel:0", "pixel:6"], boxes)).toBeNull();
  expect(window([], boxes)).toBeNull();
});

test.each(SHAPES)("every moment of %o lights up something, each place once", (shape) => {
  const { boxes } = layout(shape, false);
  const parameters = initial(shape, 3);
  const pixels = Float64Array.from({ length: 25 }, (_, at) => (at % 4) / 3);
  const frames = [
    ...animation(shape, parameters, forward(shape, parameters, pixels)),
    ...trainingStep(shape, parameters, { pixels, label: 0 }, 0.1),
  ];
  for (const { kind, from, to } of frames) {
    const found = outlines(litIn({ from, to, at: null }, boxes), boxes);
    const keys = found.map((outline) => outline.key);
    expect(new Set(keys).size).toBe(keys.length);
    expect(keys.length, kind).toBeGreaterThan(0);
  }
});

test("a place that is looked at is not also outlined as going in or coming out", () => {
  const { boxes } = layout(SHAPES[0]!, false);
  const lit = litIn({ from: ["delta:map:0:1", "map:0:2"], to: ["new:filter:0:1"], at: "map:0:1" }, boxes);
  expect([...lit.at]).toEqual(["map:0:1"]);
  expect([...lit.from]).toEqual(["map:0:2"]);
  expect([...lit.to]).toEqual(["filter:0:1"]);
});
