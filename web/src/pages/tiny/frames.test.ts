import { expect, test } from "vitest";
import { animation, evaluate, trainingStep } from "./frames";
import { backward, count, forward, placeOf, random, value, type Seen } from "./network";
import reference from "./reference.json";
import type { Frame, Parameters, Picture, Place, Shape } from "./types";

interface Case {
  name: string;
  shape: Shape;
  parameters: Parameters;
  picture: Picture;
}

const CASES: Case[] = reference.map((made) => ({
  name: made.name,
  shape: made.shape as Shape,
  parameters: Float64Array.from(made.parameters),
  picture: { pixels: Float64Array.from(made.pixels), label: made.label as 0 | 1 },
}));
for (const { shape } of CASES.filter((_, at) => at % 5 === 0)) {
  for (let seed = 0; seed < 20; seed++) {
    const draw = random(seed);
    // Sizes up to some hundreds, so that the scores leave the range in which exponentials are taken as they are.
    const size = 10 ** (4 * draw() - 2);
    CASES.push({
      name: `drawn ${seed}, ${count(shape)} numbers`,
      shape,
      parameters: Float64Array.from({ length: count(shape) }, () => size * (2 * draw() - 1)),
      picture: { pixels: Float64Array.from({ length: 25 }, draw), label: draw() < 0.5 ? 0 : 1 },
    });
  }
}

const NINE = [0, 1, 2, 3, 4, 5, 6, 7, 8];

/** Every place of a pass, written down independently of the frames. */
function placesOfPass(shape: Shape): Place[] {
  const filters = Array.from({ length: shape.filters }, (_, f) => f);
  return [
    ...Array.from({ length: 25 }, (_, at) => `pixel:${at}`),
    ...Array.from({ length: count(shape) }, (_, at) => placeOf(at, shape)),
    ...(shape.inARow ? NINE.flatMap((p) => [`first:${p}`, `relu:${p}`]) : []),
    ...filters.flatMap((f) => NINE.map((p) => `map:${f}:${p}`)),
    ...filters.flatMap((f) => [0, 1, 2, 3].flatMap((i) => [`pooled:${f}:${i}`, `input:${f}:${i}`])),
    ...["score", "exponential", "probability"].flatMap((kind) => [`${kind}:0`, `${kind}:1`]),
    "total",
  ];
}

function placesOfStep(shape: Shape): Place[] {
  const filters = Array.from({ length: shape.filters }, (_, f) => f);
  const parameters = Array.from({ length: count(shape) }, (_, at) => placeOf(at, shape));
  return [
    ...placesOfPass(shape),
    ...["target:0", "target:1", "rate", "error", "delta:score:0", "delta:score:1"],
    ...filters.flatMap((f) => NINE.map((p) => `delta:map:${f}:${p}`)),
    ...filters.flatMap((f) => [0, 1, 2, 3].map((i) => `delta:pooled:${f}:${i}`)),
    ...(shape.inARow ? NINE.flatMap((p) => [`slope:${p}`, `delta:relu:${p}`, `delta:first:${p}`]) : []),
    ...parameters.flatMap((place) => [`gradient:${place}`, `new:${place}`]),
  ];
}

/** What is wrong with a film; collected, as thousands of `expect` are slow. */
function faults(frames: Frame[], seen: Seen, wanted: Place[]): string[] {
  const found: string[] = [];
  const demand = (right: boolean, what: string) => right || found.push(what);
  let before: ReadonlySet<Place> = new Set();
  frames.forEach((frame, at) => {
    const made = new Set(at === 0 ? frame.known : frame.to.filter((place) => place === "shift"));
    for (const sum of frame.sums) {
      for (const { factors, product, border } of sum.terms) {
        for (const { place, value: factor } of factors) {
          demand(factor === value(place, seen), `${place} is ${factor}`);
          demand(before.has(place) || made.has(place), `${place} is used before it is known`);
          demand(frame.from.includes(place) || frame.to.includes(place), `${place} does not light up`);
        }
        const multiplied = factors.reduce((all, factor) => all * factor.value, 1);
        demand(product === (border ? 0 : multiplied), `a product of ${sum.place}`);
      }
      demand(sum.result === evaluate(sum), `${sum.place} is not its sum`);
      demand(sum.result === value(sum.place, seen), `${sum.place} is not its number`);
      demand(
        frame.to.includes(sum.place) && frame.known.has(sum.place),
        `${sum.place} does not become known`,
      );
      made.add(sum.place);
    }
    for (const place of before) demand(frame.known.has(place), `${place} is forgotten`);
    before = frame.known;
  });
  const known = [...before].filter((place) => place !== "border" && place !== "shift");
  expect(known.sort()).toEqual(wanted.sort());
  return found;
}

test.each(CASES)(
  "$name: each sum of the animation is its number, exactly",
  ({ shape, parameters, picture }) => {
    const pass = forward(shape, parameters, picture.pixels);
    const frames = animation(shape, parameters, pass);
    expect(frames.length).toBe(shape.inARow ? 26 : 13 * shape.filters + 3);
    expect(faults(frames, { shape, parameters, pass }, placesOfPass(shape))).toEqual([]);
  },
);

test.each(CASES)(
  "$name: each sum of the training step is its number, exactly",
  ({ shape, parameters, picture }) => {
    const pass = forward(shape, parameters, picture.pixels);
    const step = {
      backward: backward(shape, parameters, pass, picture.label),
      label: picture.label,
      rate: 0.05,
    };
    const frames = trainingStep(shape, parameters, picture, step.rate);
    expect(faults(frames, { shape, parameters, pass, step }, placesOfStep(shape))).toEqual([]);
  },
);

test("the films tell their story in this order", () => {
  const { shape, parameters, picture } = CASES[0]!;
  const pass = forward(shape, parameters, picture.pixels);
  const kinds = (frames: Frame[]) => frames.map((frame) => frame.kind).join(" ");
  const nine = (kind: string) => NINE.map(() => kind).join(" ");
  expect(kinds(animation(shape, parameters, pass))).toBe(
    `${nine("convolve")} pool pool pool pool score score softmax`,
  );
  expect(kinds(trainingStep(shape, parameters, picture, 0.05))).toBe(
    `convolve pool score softmax error delta gradient gradient delta delta ${nine("gradient")} update update update`,
  );
});

test("a pooling has four candidates and one winner, the first of equals", () => {
  const blank = CASES.find((made) => made.name.startsWith("blank"))!;
  const pass = forward(blank.shape, blank.parameters, blank.picture.pixels);
  for (const { sums } of animation(blank.shape, blank.parameters, pass).filter(
    ({ kind }) => kind === "pool",
  )) {
    expect(sums[0]!.terms.map((term) => term.winner ?? false)).toEqual([true, false, false, false]);
  }
});

test("evaluate follows the words of a sum", () => {
  const term = (product: number, minus = false) => ({ factors: [], product, minus });
  const terms = [term(3), term(5, true)];
  expect(evaluate({ how: "sum", terms })).toBe(-2);
  expect(evaluate({ how: "relu", terms })).toBe(0);
  expect(evaluate({ how: "largest", terms })).toBe(5);
  expect(evaluate({ how: "exponential", terms })).toBe(Math.exp(-2));
  expect(evaluate({ how: "share", terms })).toBe(0.6);
  expect(evaluate({ how: "logarithm", terms: [term(0.5)] })).toBe(-Math.log(0.5));
});
