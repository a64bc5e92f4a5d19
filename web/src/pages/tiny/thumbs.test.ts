import { expect, test } from "vitest";
import { thumbsOf } from "./thumbs";
import type { Picture } from "./types";

const pictures = ([0, 1, 1, 0, 1] as const).map((label): Picture => ({
  label,
  pixels: new Float64Array(25),
}));

test("images are numbered within their class and keep their place in the set", () => {
  const thumbs = thumbsOf(pictures, [false, true], 3);
  expect(thumbs.map(({ index, number }) => [index, number])).toEqual([
    [0, 1],
    [1, 1],
    [2, 2],
    [3, 2],
    [4, 3],
  ]);
  expect(thumbs.map(({ wrong }) => wrong)).toEqual([false, true, false, false, false]);
  expect(thumbs.filter(({ chosen }) => chosen).map(({ index }) => index)).toEqual([3]);
});

test("those of one class", () => {
  expect(thumbsOf(pictures, [], null, 0).map(({ index, number }) => [index, number])).toEqual([
    [0, 1],
    [3, 2],
  ]);
});
