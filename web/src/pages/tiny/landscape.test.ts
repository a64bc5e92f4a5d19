import { expect, test } from "vitest";
import { contour, fit, holds, landscape, levels, middleOf, path, scaleOf, widest } from "./landscape";
import { initial, loss } from "./network";
import sets from "./sets.json";
import { Training } from "./training";
import type { Picture, Shape } from "./types";

const ONE: Shape = { filters: 1, inARow: false };
const TRAIN: Picture[] = sets[0]!.train.map(({ label, pixels }) => ({
  label: label as 0 | 1,
  pixels: Float64Array.from(pixels, (byte) => byte / 255),
}));

test("each cell is the error with the two numbers of its middle", () => {
  const parameters = initial(ONE, 1);
  const kept = parameters.slice();
  const work = landscape(ONE, parameters, TRAIN, 4, 10, { a: 0.5, b: -1, half: 2 }, 4);
  const rows: number[] = [];
  let done = work.next();
  for (; !done.done; done = work.next()) rows.push(done.value);
  expect(rows).toEqual([1, 2, 3, 4]);
  expect(parameters).toEqual(kept);
  expect([0, 1, 2, 3].map((at) => middleOf(at, 4, 0.5, 2))).toEqual([-1, 0, 1, 2]);
  for (const [row, b] of [-2.5, -1.5, -0.5, 0.5].entries()) {
    for (const [column, a] of [-1, 0, 1, 2].entries()) {
      const tried = parameters.slice();
      [tried[4], tried[10]] = [a, b];
      expect(done.value[4 * row + column]).toBe(loss(ONE, tried, TRAIN));
    }
  }
});

test("the path has the start, the present and the end, however long it is", () => {
  const training = new Training(ONE, 0, TRAIN, []);
  for (let at = 0; at < 100; at++) training.runEpoch();
  training.scrub(37);
  const whole = path(training, 2, 9);
  expect(whole.moments).toEqual(Array.from({ length: 101 }, (_, at) => at));
  expect(whole.a[50]).toBe(training.at(50).parameters[2]);
  expect(whole.b[50]).toBe(training.at(50).parameters[9]);
  const thin = path(training, 2, 9, 11);
  expect(thin.moments).toEqual([0, 10, 20, 30, 37, 40, 50, 60, 70, 80, 90, 100]);
  expect(path(new Training(ONE, 0, TRAIN, []), 0, 1).moments).toEqual([0]);
});

test("the fitted piece holds the whole path", () => {
  const points = { a: Float64Array.of(-3, 4.2, NaN), b: Float64Array.of(0, 0.1, 3) };
  const extent = fit(points);
  expect(extent).toEqual({ a: 0.5, b: 1.5, half: 6 });
  expect(holds(extent, points)).toBe(true);
  expect(holds({ ...extent, half: 3 }, points)).toBe(false);
  expect(fit({ a: new Float64Array(), b: Float64Array.of(NaN) })).toEqual({ a: 0, b: 0, half: 1.5 });
});

test("contour lines run where the field has their level", () => {
  const cells = 40;
  const at = (column: number, row: number) => Math.exp((column + 2 * row) / 20);
  const field = Float64Array.from({ length: cells * cells }, (_, cell) =>
    at((cell % cells) + 0.5, Math.floor(cell / cells) + 0.5),
  );
  const lines = contour(field, cells, 5);
  expect(lines.length).toBeGreaterThan(40);
  expect(lines.length % 4).toBe(0);
  for (let k = 0; k < lines.length; k += 2) expect(at(lines[k]!, lines[k + 1]!)).toBeCloseTo(5, 10);
  expect(contour(field, cells, 1000)).toEqual([]);
});

test("a training that left all bounds is looked for where it set out", () => {
  const points = { a: Float64Array.of(0.2, -3, 1e300, NaN), b: Float64Array.of(0.1, 4, -1e308, Infinity) };
  const extent = fit(points);
  expect(extent.half).toBeLessThan(10);
  expect(holds(extent, points)).toBe(true);
});

test("the two widest are those that moved most from the start", () => {
  const training = new Training(ONE, 0, TRAIN, []);
  training.edit(new Map([[7, 0]]));
  const start = training.parameters.slice();
  training.runEpoch();
  training.edit(
    new Map([
      [3, start[3]! - 5],
      [12, start[12]! + 4],
    ]),
  );
  expect(widest(training)).toEqual([3, 12]);
});

test("the scale has round ends around the field, and some ten levels between them", () => {
  expect(scaleOf(Float64Array.of(0.03, 0.7, NaN, Infinity))).toEqual({ low: 0.02, high: 1 });
  expect(scaleOf(Float64Array.of(0.5, 0.6))).toEqual({ low: 0.5, high: 5 });
  expect(scaleOf(Float64Array.of(0, 1e6))).toEqual({ low: 0.0001, high: 1000 });
  expect(scaleOf(new Float64Array())).toEqual({ low: 200, high: 1000 });
  for (const scale of [
    { low: 0.5, high: 5 },
    { low: 0.02, high: 1 },
    { low: 0.0001, high: 1000 },
  ]) {
    const lines = levels(scale);
    expect(lines.length).toBeGreaterThan(5);
    expect(lines.length).toBeLessThan(18);
    expect(lines[0]).toBeGreaterThan(scale.low);
    expect(lines.at(-1)).toBeLessThan(scale.high);
  }
});
