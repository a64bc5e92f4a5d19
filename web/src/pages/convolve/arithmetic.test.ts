import { expect, test } from "vitest";
import { agrees, at, digitsOf, reckon } from "./arithmetic";
import { prepared } from "./picture";
import { cases } from "./reference";
import { geometry } from "./windows";

test.each(cases)(
  "$name: every number of every step is the sum of the shown products",
  ({ pixels, full, steps, results }) => {
    let input = prepared(pixels, "colour", full);
    steps.forEach((step, index) => {
      const shape = geometry(step, input.height, input.width)!;
      const output = results[index]!;
      for (let y = 0; y < output.height; y++) {
        for (let x = 0; x < output.width; x++) {
          for (let channel = 0; channel < output.channels; channel++) {
            const reckoning = reckon(step, shape, input, channel, y, x);
            expect(agrees(reckoning, at(output, y, x, channel))).toBe(true);
            const products = reckoning.channels.flatMap((each) =>
              each.terms.map((term) => term.value * term.weight),
            );
            expect(reckoning.sum).toBeCloseTo(
              products.reduce((a, b) => a + b, 0),
              9,
            );
          }
        }
      }
      input = output;
    });
  },
);

test("a wrong number is noticed", () => {
  const { pixels, steps, results } = cases.find((each) => each.name === "plain")!;
  const reckoning = reckon(steps[0]!, geometry(steps[0]!, pixels.height, pixels.width)!, pixels, 0, 1, 1);
  const given = at(results[0]!, 1, 1, 0);
  expect(agrees(reckoning, given)).toBe(true);
  expect(agrees(reckoning, given + 0.001)).toBe(false);
});

test("the first of equal numbers wins", () => {
  const flat = { height: 2, width: 2, channels: 1, values: Float64Array.of(3, 7, 7, 1) };
  const step = { kind: "pool", pool: "max", size: 2, stride: 2 } as const;
  expect(reckon(step, geometry(step, 2, 2)!, flat, 0, 0, 0).winner).toMatchObject({
    row: 0,
    column: 1,
    value: 7,
  });
});

test("whole numbers are shown whole, small ones with more digits", () => {
  expect(digitsOf([1, -200])).toBe(0);
  expect(digitsOf([0.25, 0.5])).toBe(3);
  expect(digitsOf([12.5])).toBe(2);
});
