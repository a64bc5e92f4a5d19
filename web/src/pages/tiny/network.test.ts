import { expect, test } from "vitest";
import {
  accuracy,
  answer,
  backward,
  count,
  forward,
  initial,
  loss,
  parameterOf,
  placeOf,
  random,
  slices,
  value,
} from "./network";
import reference from "./reference.json";
import type { Parameters, Pass, Picture, Shape } from "./types";

export const SHAPES: Shape[] = [
  ...([1, 2, 3, 4] as const).map((filters) => ({ filters, inARow: false })),
  { filters: 1, inARow: true },
];

function near(ours: Iterable<number>, theirs: readonly number[], what: string): void {
  const values = [...ours];
  expect(values.length, what).toBe(theirs.length);
  values.forEach((value, at) => {
    const bound = 1e-12 * Math.max(1, Math.abs(theirs[at]!));
    expect(Math.abs(value - theirs[at]!), `${what} ${at}`).toBeLessThanOrEqual(bound);
  });
}

function flat(parts: readonly Float64Array[]): number[] {
  return parts.flatMap((part) => [...part]);
}

test.each(reference)("$name: every number is PyTorch's", (reference) => {
  const shape = reference.shape as Shape;
  const label = reference.label as 0 | 1;
  const parameters = Float64Array.from(reference.parameters);
  const pass = forward(shape, parameters, Float64Array.from(reference.pixels));
  near(flat(pass.maps), reference.maps, "map");
  near(flat(pass.pooled), reference.pooled, "pooled");
  near(pass.scores, reference.scores, "score");
  near(pass.probabilities, reference.probabilities, "probability");
  expect(pass.first === null).toBe(reference.first === null);
  if (pass.first && reference.first) {
    near(pass.first.map, reference.first.map, "first map");
    near(pass.first.relu, reference.first.relu, "relu");
  }
  const step = backward(shape, parameters, pass, label);
  near([step.loss], [reference.loss], "loss");
  near(step.gradients, reference.gradients, "gradient");
  const after = parameters.map((number, at) => number - reference.rate * step.gradients[at]!);
  near(after, reference.after, "after");
  const picture = { pixels: pass.pixels, label };
  near([loss(shape, after, [picture])], [reference.lossAfter], "loss after");
});

function drawn(shape: Shape, seed: number): { parameters: Parameters; picture: Picture } {
  const draw = random(seed);
  return {
    parameters: Float64Array.from({ length: count(shape) }, () => 2 * draw() - 1),
    picture: { pixels: Float64Array.from({ length: 25 }, draw), label: draw() < 0.5 ? 0 : 1 },
  };
}

/** Far enough from every kink of relu and maximum that a difference of 1e-6 does not cross it. */
function smooth(pass: Pass): boolean {
  const rivals = pass.pooled.every((pooled, f) =>
    pooled.every((largest, i) => {
      const winner = pass.winners[f]![i]!;
      return [...pass.maps[f]!].every((cell, at) => at === winner || Math.abs(largest - cell) > 1e-4);
    }),
  );
  return rivals && (pass.first === null || pass.first.map.every((cell) => Math.abs(cell) > 1e-4));
}

test.each(SHAPES)("finite differences agree, $filters filters, in a row $inARow", (shape) => {
  let tried = 0;
  for (let seed = 0; tried < 20; seed++) {
    const { parameters, picture } = drawn(shape, seed);
    const pass = forward(shape, parameters, picture.pixels);
    if (!smooth(pass)) continue;
    tried++;
    const { gradients } = backward(shape, parameters, pass, picture.label);
    const step = 1e-6;
    for (let at = 0; at < parameters.length; at++) {
      const kept = parameters[at]!;
      parameters[at] = kept + step;
      const above = loss(shape, parameters, [picture]);
      parameters[at] = kept - step;
      const below = loss(shape, parameters, [picture]);
      parameters[at] = kept;
      expect(Math.abs((above - below) / (2 * step) - gradients[at]!)).toBeLessThan(1e-8);
    }
  }
});

test("the counts of numbers, and where they stand", () => {
  expect(SHAPES.map(count)).toEqual([19, 36, 53, 70, 28]);
  expect(slices(SHAPES[4]!)).toEqual({ filters: 0, second: 9, weights: 18, biases: 26, count: 28 });
  for (const shape of SHAPES) {
    const places = Array.from({ length: count(shape) }, (_, at) => placeOf(at, shape));
    expect(new Set(places).size).toBe(count(shape));
    expect(places.map((place) => parameterOf(place, shape))).toEqual(places.map((_, at) => at));
  }
  for (const place of [
    "filter:1:0",
    "filter:0:9",
    "second:0",
    "weight:2:0",
    "weight:0:4",
    "bias:2",
    "score:0",
    "",
  ]) {
    expect(parameterOf(place, SHAPES[0]!), place).toBeNull();
  }
});

test("a place's value is the number that stands there", () => {
  const shape = SHAPES[1]!;
  const { parameters, picture } = drawn(shape, 3);
  const pass = forward(shape, parameters, picture.pixels);
  const seen = { shape, parameters, pass };
  expect(value("filter:1:4", seen)).toBe(parameters[13]);
  expect(value("weight:1:7", seen)).toBe(parameters[18 + 15]);
  expect(value("map:1:8", seen)).toBe(pass.maps[1]![8]);
  expect(value("input:1:2", seen)).toBe(pass.pooled[1]![2]);
  expect(value("probability:1", seen)).toBe(pass.probabilities[1]);
  for (const place of ["map:2:0", "relu:0", "error", "delta:score:0", "nothing", "pixel:25"]) {
    expect(value(place, seen), place).toBeNull();
  }
  expect(value("score:0", { ...seen, pass: null })).toBeNull();
  const step = {
    backward: backward(shape, parameters, pass, picture.label),
    label: picture.label,
    rate: 0.5,
  };
  expect(value("error", { ...seen, step })).toBe(step.backward.loss);
  expect(value(`target:${picture.label}`, { ...seen, step })).toBe(1);
  expect(value("new:bias:1", { ...seen, step })).toBe(parameters[35]! - 0.5 * step.backward.gradients[35]!);
});

test("starting numbers lie within PyTorch's bounds, use them, and are a function of the seed", () => {
  for (const shape of SHAPES) {
    const { weights } = slices(shape);
    const many = Array.from({ length: 200 }, (_, seed) => initial(shape, seed));
    const largest = (from: number, to?: number) =>
      Math.max(...many.flatMap((numbers) => [...numbers.slice(from, to)].map(Math.abs)));
    const dense = 1 / Math.sqrt(4 * shape.filters);
    expect(largest(0, weights)).toBeLessThanOrEqual(1 / 3);
    expect(largest(0, weights)).toBeGreaterThan(0.99 / 3);
    expect(largest(weights)).toBeLessThanOrEqual(dense);
    expect(largest(weights)).toBeGreaterThan(0.99 * dense);
    expect(initial(shape, 7)).toEqual(many[7]);
    expect(initial(shape, 8)).not.toEqual(many[7]);
  }
});

test("the largest numbers that can be typed give no NaN", () => {
  for (const size of [1e3, 1e6]) {
    const { parameters, picture } = drawn(SHAPES[0]!, 1);
    const large = parameters.map((number) => number * size);
    const pass = forward(SHAPES[0]!, large, picture.pixels);
    expect(pass.probabilities[0] + pass.probabilities[1]).toBeCloseTo(1, 14);
    const wrong = answer(pass) === 0 ? 1 : 0;
    const step = backward(SHAPES[0]!, large, pass, wrong);
    expect(step.loss).toBeCloseTo(Math.abs(pass.scores[0] - pass.scores[1]), 6);
    expect(step.gradients.every(Number.isFinite)).toBe(true);
  }
});

test("accuracy is the share of right answers", () => {
  const shape = SHAPES[0]!;
  const { parameters, picture } = drawn(shape, 5);
  const said = answer(forward(shape, parameters, picture.pixels));
  const right = { ...picture, label: said };
  const wrong = { ...picture, label: said === 0 ? (1 as const) : (0 as const) };
  expect(accuracy(shape, parameters, [right, wrong, right, right])).toBe(0.75);
});
