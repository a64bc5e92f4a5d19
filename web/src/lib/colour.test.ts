import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { PALETTES, css, grey, inkOn, luminance, mix, signed } from "./colour";

const tokens = readFileSync(new URL("../styles/tokens.css", import.meta.url), "utf8");

function token(name: string, dark: boolean): number[] {
  const part = tokens.split('[data-theme="dark"]')[dark ? 1 : 0]!;
  const hex = new RegExp(`--${name}: #([0-9a-f]{6})`).exec(part)![1]!;
  return [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

test("the palettes are the tokens of the style sheet", () => {
  for (const dark of [false, true]) {
    const palette = PALETTES[dark ? "dark" : "light"];
    for (const name of ["ground", "ink", "negative", "positive"] as const) {
      expect([...palette[name]]).toEqual(token(name, dark));
    }
  }
});

test("zero is the ground, the ends are blue and red, beyond them nothing changes", () => {
  const palette = PALETTES.light;
  expect(signed(0, 2, palette)).toEqual(palette.ground);
  expect(signed(-2, 2, palette)).toEqual(palette.negative);
  expect(signed(5, 2, palette)).toEqual(palette.positive);
  expect(signed(1, 0, palette)).toEqual(palette.ground);
  expect(signed(NaN, 1, palette)).toEqual(palette.ground);
});

test("pixels are grey, ink counts from paper", () => {
  expect(grey(1)).toEqual([255, 255, 255]);
  expect(grey(1, true)).toEqual([0, 0, 0]);
  expect(grey(-3)).toEqual([0, 0, 0]);
});

test("ink is chosen for contrast", () => {
  expect(inkOn([255, 255, 255])).toBe("#000000");
  expect(inkOn([20, 20, 20])).toBe("#ffffff");
  expect(luminance([255, 255, 255])).toBeCloseTo(1);
  expect(css(mix([0, 0, 0], [200, 100, 50], 0.5))).toBe("rgb(100 50 25)");
});
