import { expect, test } from "vitest";
import { tiles } from "./tiles";

test("few maps are large, many are smaller, and all have a place", () => {
  for (const [count, side, wide, high, scale] of [
    [4, 28, 750, 150, 4],
    [8, 14, 750, 150, 6],
    [24, 28, 750, 150, 2],
    [48, 14, 750, 150, 3],
    [1, 224, 750, 150, 1],
  ] as const) {
    const laid = tiles(count, side, side, wide, high);
    expect(laid.scale).toBe(scale);
    expect(laid.columns * laid.rows).toBeGreaterThanOrEqual(count);
    expect((laid.rows - 1) * laid.columns).toBeLessThan(count);
    expect(laid.columns * laid.rows - count).toBeLessThan(laid.rows);
    if (side < 100) expect(laid.width).toBeLessThanOrEqual(wide);
  }
});

test("on a phone there are more rows rather than smaller maps", () => {
  const laid = tiles(48, 14, 14, 366, 150);
  expect(laid.scale).toBe(3);
  expect(laid.columns).toBe(7);
  expect(laid.rows).toBe(7);
});
