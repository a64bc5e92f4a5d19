import { expect, test } from "vitest";
import type { Step } from "../../api/client";
import { cases } from "./reference";
import { changed, nameOf, plane, readSteps, resized, writeSteps } from "./steps";

const named = [
  {
    name: "sobel_x",
    rows: [
      [-1, 0, 1],
      [-2, 0, 2],
      [-1, 0, 1],
    ],
  },
];

test.each(cases)("$name: steps survive their text", ({ steps }) => {
  expect(readSteps(writeSteps(steps, named), named)).toEqual(steps);
});

test("the text is short", () => {
  const steps: Step[] = [
    { kind: "convolve", kernel: named[0]!.rows, border: "none", stride: 1, dilation: 1 },
    { kind: "relu" },
    { kind: "convolve", kernel: [[0.5, 1]], border: "zeros", stride: 2, dilation: 1 },
  ];
  expect(writeSteps(steps, named)).toBe("conv:sobel_x;relu;conv:0.5,1:zeros:2");
});

test.each([
  "",
  "conv",
  "conv:sobel",
  "conv:1,2/3",
  "conv:1,x",
  "conv:1:zero",
  "conv:1:zeros:0",
  "conv:1:zeros:1:1:1",
  "conv:1|2|3|4",
  "pool:most",
  "pool:max:0",
  "relu:1",
  Array(9).fill("relu").join(";"),
])("%s is no chain", (text) => {
  expect(readSteps(text, named)).toBeNull();
});

test("a kernel keeps its middle when its size changes, and its name only with its numbers", () => {
  const [{ rows }] = named as [(typeof named)[0]];
  expect(resized(resized(rows, 5), 3)).toEqual(rows);
  expect(resized(rows, 1)).toEqual([[0]]);
  expect(resized([[[1, 2]]], 3)[0]).toEqual([
    [0, 0],
    [0, 0],
    [0, 0],
  ]);
  expect(nameOf(rows, named)).toBe("sobel_x");
  expect(nameOf(changed(rows, 0, 1, 1, 4), named)).toBeNull();
  expect(plane(changed([[[1, 2]]], 1, 0, 0, 5), 1)).toEqual([[5]]);
});
