import { expect, test } from "vitest";
import { PALETTES, mix, signed } from "../../lib/colour";
import { pixels } from "./atlas";

const numbers = {
  height: 2,
  width: 2,
  channels: 3,
  values: Float64Array.from([0, 1, -2, 0, 2, -2, 0, 0, 2, 0, -1, 2]),
};

const colour = (pixel: number) => [pixel & 255, (pixel >> 8) & 255, (pixel >> 16) & 255];

test("maps lie beside one another in the colours of their numbers", () => {
  for (const palette of [PALETTES.light, PALETTES.dark]) {
    const drawn = [...pixels(numbers, 3, 2, "signed", palette)].map(colour);
    const expected = [0, 0, 1, 2, -2, -2, 0, 0, 0, -1, 2, 2].map((value) => signed(value, 2, palette));
    drawn.forEach((pixel, k) => {
      pixel.forEach((level, channel) =>
        expect(Math.abs(level - expected[k]![channel]!)).toBeLessThanOrEqual(2),
      );
    });
  }
});

test("only as many maps as asked, and nothing but the ground where all is zero", () => {
  expect(pixels(numbers, 1, 2, "signed", PALETTES.light).length).toBe(4);
  const blank = { ...numbers, values: new Float64Array(12) };
  const ground = PALETTES.light.ground;
  expect([...pixels(blank, 3, 0, "signed", PALETTES.light)].map(colour)).toEqual(Array(12).fill([...ground]));
});

test("ink goes from the paper's colour to the ink's", () => {
  const sheet = { height: 1, width: 3, channels: 1, values: Float64Array.from([0, 255, 51]) };
  const { ground, ink } = PALETTES.dark;
  expect([...pixels(sheet, 1, 255, "ink", PALETTES.dark)].map(colour)).toEqual([
    [...ground],
    [...ink],
    [...mix(ground, ink, 0.2)],
  ]);
});
