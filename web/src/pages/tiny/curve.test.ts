import { expect, test } from "vitest";
import { axis, thinned } from "./curve";

test("an axis ends at a round number and has a few ticks", () => {
  expect(axis(0.93)).toEqual({ end: 1, ticks: [0, 0.25, 0.5, 0.75, 1] });
  expect(axis(1000, true).ticks).toEqual([0, 250, 500, 750, 1000]);
  expect(axis(0, true).end).toBe(12);
  for (const most of [0.01, 0.7, 3, 17, 999, 12345, NaN, Infinity]) {
    const { end, ticks } = axis(most, true);
    if (Number.isFinite(most)) expect(end).toBeGreaterThanOrEqual(most);
    expect(ticks.length).toBeGreaterThanOrEqual(3);
    expect(ticks.length).toBeLessThanOrEqual(6);
    expect(ticks.every(Number.isInteger)).toBe(true);
  }
});

test("a short line keeps all its points", () => {
  expect(thinned(4, (at) => at, 10)).toEqual([0, 1, 2, 3]);
});

test("a long line keeps its ends and its peaks", () => {
  const values = Array.from({ length: 5000 }, (_, at) => (at === 2711 ? 9 : at === 333 ? -9 : Math.sin(at)));
  const kept = thinned(values.length, (at) => values[at]!, 100);
  expect(kept.length).toBeLessThanOrEqual(202);
  expect(kept[0]).toBe(0);
  expect(kept.at(-1)).toBe(4999);
  expect(kept).toContain(2711);
  expect(kept).toContain(333);
  expect(kept).toEqual([...kept].sort((one, other) => one - other));
});
