import { expect, test } from "vitest";
import { moveInGrid } from "./grid";

test("arrows move by a cell and stay at the edges, Home and End go along the row", () => {
  const from = (cell: number) =>
    ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"].map((key) =>
      moveInGrid(cell, key, 5, 4),
    );
  expect(from(7)).toEqual([6, 8, 2, 12, 5, 9]);
  expect(from(0)).toEqual([0, 1, 0, 5, 0, 4]);
  expect(from(19)).toEqual([18, 19, 14, 19, 15, 19]);
  expect(moveInGrid(7, "a", 5, 4)).toBeNull();
});
