import { expect, test } from "vitest";
import { read } from "../../lib/numbers";
import { animation, trainingStep } from "./frames";
import { forward, initial, random } from "./network";
import type { Shape, Sum } from "./types";
import { inCell, written } from "./written";

const SHAPES: Shape[] = [
  { filters: 1, inARow: false },
  { filters: 2, inARow: false },
  { filters: 4, inARow: false },
  { filters: 1, inARow: true },
];

function sums(shape: Shape, seed: number): Sum[] {
  const draw = random(seed);
  const parameters = initial(shape, seed).map((value) => 3 * value);
  const pixels = Float64Array.from({ length: 25 }, () => Math.max(0, 1.6 * draw() - 0.6));
  const pass = forward(shape, parameters, pixels);
  const frames = [
    ...animation(shape, parameters, pass),
    ...trainingStep(shape, parameters, { pixels, label: 1 }, 0.1),
  ];
  return frames.flatMap((frame) => frame.sums);
}

test.each(SHAPES)("what is shown adds up to what is shown, %o", (shape) => {
  for (let seed = 0; seed < 20; seed++) {
    for (const sum of sums(shape, seed)) {
      if (sum.how !== "sum") continue;
      const { terms, result } = written(sum);
      const added = terms.reduce((all, term) => all + (term.minus ? -1 : 1) * read(term.product)!, 0);
      const digits = result.split(".")[1]!.length;
      expect(Math.abs(added - read(result)!), sum.place).toBeLessThanOrEqual(0.5 * 10 ** -digits + 1e-9);
      expect(Math.abs(read(result)! - sum.result)).toBeLessThanOrEqual(0.5 * 10 ** -digits + 1e-9);
    }
  }
});

test("the winner of a pooling reads as its result", () => {
  for (const sum of sums(SHAPES[0]!, 5)) {
    if (sum.how !== "largest") continue;
    const { terms, result } = written(sum);
    expect(read(terms.find((term) => term.winner)!.product)).toBe(read(result));
    for (const term of terms) expect(read(term.product)!).toBeLessThanOrEqual(read(result)!);
  }
});

test("a cell's number stays short", () => {
  expect([0, -0.5, 9.994, -9.999, 99.96, -1234, -2e30, NaN].map(inCell)).toEqual([
    "0.00",
    "−0.50",
    "9.99",
    "−10.0",
    "100",
    "−1234",
    "−2e30",
    "NaN",
  ]);
});
