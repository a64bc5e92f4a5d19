import { expect, test } from "vitest";
import { flipTest, turned } from "./flips";
import { answer, forward, initial } from "./network";
import sets from "./sets.json";
import { Training } from "./training";
import type { Picture, Shape } from "./types";

const ONE: Shape = { filters: 1, inARow: false };
const TRAIN: Picture[] = sets[0]!.train.map(({ label, pixels }) => ({
  label: label as 0 | 1,
  pixels: Float64Array.from(pixels, (byte) => byte / 255),
}));

test("a turned pixel goes to the other end, the image stays as it is", () => {
  const pixels = Float64Array.from({ length: 25 }, (_, at) => at / 24);
  expect(turned(pixels, 0)[0]).toBe(1);
  expect(turned(pixels, 11)[11]).toBe(1);
  expect(turned(pixels, 12)[12]).toBe(0);
  expect(turned(pixels, 24)[24]).toBe(0);
  expect(pixels[24]).toBe(1);
  expect(turned(pixels, 3).filter((value, at) => value !== pixels[at]).length).toBe(1);
});

test("every flip is what the network says to the turned image; some flips turn a trained one's answer", () => {
  const training = new Training(ONE, 0, TRAIN, []);
  training.run(Infinity, { loss: 0.05, epoch: 500 });
  let turns = 0;
  for (const parameters of [initial(ONE, 4), training.parameters]) {
    for (const { pixels } of TRAIN) {
      const test = flipTest(ONE, parameters, pixels);
      expect(test.answer).toBe(answer(forward(ONE, parameters, pixels)));
      test.flips.forEach((flip, pixel) => {
        const pass = forward(ONE, parameters, turned(pixels, pixel));
        expect(flip).toEqual({
          probability: pass.probabilities[test.answer],
          turns: answer(pass) !== test.answer,
        });
        if (parameters === training.parameters && flip.turns) turns++;
      });
    }
  }
  expect(turns).toBeGreaterThan(0);
});
