import { expect, test } from "vitest";
import { cellAt, fitted, isFitted, moved, revealing, zoomed } from "./view";

const extent = { rows: 10, columns: 20 };

test("at first the whole image is seen, in the middle", () => {
  const view = fitted(extent, 200);
  expect(view).toEqual({ cell: 10, top: -5, left: 0 });
  expect(cellAt(view, extent, 5, 55)).toEqual({ row: 0, column: 0 });
  expect(cellAt(view, extent, 5, 45)).toBeNull();
});

test("what lies under the pointer stays there when it grows", () => {
  const view = zoomed(fitted(extent, 200), extent, 200, 4, 100, 100);
  expect(view.cell).toBe(40);
  expect(cellAt(view, extent, 100, 100)).toEqual(cellAt(fitted(extent, 200), extent, 100, 100));
  expect(isFitted(zoomed(view, extent, 200, 0.01, 0, 0), extent, 200)).toBe(true);
});

test("the image is not moved out of sight", () => {
  const view = zoomed(fitted(extent, 200), extent, 200, 4, 100, 100);
  expect(moved(view, extent, 200, 1e6, 1e6)).toMatchObject({ top: 0, left: 0 });
  expect(moved(view, extent, 200, -1e6, -1e6)).toMatchObject({ top: 5, left: 15 });
});

test("a window comes into sight, and what is in sight stays", () => {
  const view = moved(zoomed(fitted(extent, 200), extent, 200, 4, 0, 0), extent, 200, 1e6, 1e6);
  expect(revealing(view, extent, 200, 1, 1, 3, 3)).toBe(view);
  expect(revealing(view, extent, 200, 6, 12, 8, 14)).toMatchObject({ top: 5, left: 11 });
});
