import { expect, test } from "vitest";
import { folded, schematic } from "./schematic";
import type { PadModelDetail } from "../../api/client";

type Layer = PadModelDetail["layers"][number];

const ROLES: Record<string, Layer["role"]> = {
  conv: "convolution",
  relu: "activation",
  norm: "norm",
  maxpool: "pooling",
  globalavg: "pooling",
  flatten: "reshape",
  dense: "dense",
  residual: "block",
};

function layer(name: string, output: number[], parameters = 0): Layer {
  const kind = name.replace(/^.*\./, "").replace(/\d+$/, "");
  return { name, kind, role: ROLES[kind]!, output, parameters, text: name };
}

const QUICKDRAW = [
  layer("conv1", [28, 28, 4], 40),
  layer("relu1", [28, 28, 4]),
  layer("maxpool1", [14, 14, 4]),
  layer("conv2", [14, 14, 8], 296),
  layer("relu2", [14, 14, 8]),
  layer("maxpool2", [7, 7, 8]),
  layer("flatten", [392]),
  layer("dense1", [16], 6288),
  layer("relu3", [16]),
  layer("dense2", [8], 136),
  layer("relu4", [8]),
  layer("dense3", [2], 18),
];

test("the network of 4 and 8 filters is an image, four stacks and three columns of neurons", () => {
  const { columns } = schematic([28, 28, 1], QUICKDRAW, 2);
  expect(columns.map((column) => column.name)).toEqual([
    "input",
    "conv1",
    "maxpool1",
    "conv2",
    "maxpool2",
    "dense1",
    "dense2",
    "dense3",
  ]);
  expect(columns.map((column) => column.tiles.length || column.dots.length)).toEqual([
    1, 4, 4, 8, 8, 16, 8, 2,
  ]);
  expect(columns.reduce((sum, column) => sum + column.parameters, 0)).toBe(6778);
  expect(columns[1]!.then).toEqual(["relu"]);
});

test("nothing overlaps and everything lies inside", () => {
  const wide = [layer("conv1", [28, 28, 128], 9), layer("globalavg", [128]), layer("dense1", [20], 9)];
  for (const [layers, outputs] of [
    [QUICKDRAW, 2],
    [wide, 20],
  ] as const) {
    const { columns, width, height } = schematic([28, 28, 1], layers, outputs);
    columns.forEach(({ box }, k) => {
      expect(box.x).toBeGreaterThanOrEqual(k === 0 ? 0 : columns[k - 1]!.box.x + columns[k - 1]!.box.width);
      expect(box.x + box.width).toBeLessThanOrEqual(width);
      expect(box.y).toBeGreaterThanOrEqual(0);
      expect(box.y + box.height).toBeLessThanOrEqual(height);
    });
  }
});

test("of many neurons the first and the last are drawn, of the answers all", () => {
  const { columns } = schematic([28, 28, 1], [layer("dense1", [128], 9), layer("dense2", [20], 9)], 20);
  const [, hidden, answers] = columns;
  expect(hidden!.dots.map((dot) => dot.unit)).toEqual([
    0, 1, 2, 3, 4, 5, 6, 7, 120, 121, 122, 123, 124, 125, 126, 127,
  ]);
  expect(hidden!.gap).not.toBeNull();
  expect(answers!.dots.map((dot) => dot.unit)).toEqual(Array.from({ length: 20 }, (_, k) => k));
  expect(answers!.gap).toBeNull();
});

test("a block counts as one step with all numbers inside it", () => {
  const steps = folded([
    layer("conv1", [28, 28, 8], 80),
    layer("residual1.body.conv1", [28, 28, 8], 584),
    layer("residual1.body.norm1", [28, 28, 8], 16),
    layer("residual1", [28, 28, 8]),
    layer("relu1", [28, 28, 8]),
    layer("dense1", [10], 130),
  ]);
  expect(steps.map((step) => [step.layer.name, step.parameters, step.then])).toEqual([
    ["conv1", 80, []],
    ["residual1", 600, ["relu"]],
    ["dense1", 130, []],
  ]);
});

test("what follows is known by what it is for, not by its name", () => {
  const unheardOf: Layer = { ...layer("conv1", [8]), name: "new1", kind: "new", role: "activation" };
  expect(folded([layer("conv1", [28, 28, 8], 80), unheardOf]).map((step) => step.then)).toEqual([["new"]]);
});
