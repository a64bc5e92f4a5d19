import { expect, test } from "vitest";
import { Pace, rounded } from "./pace";

test("what is left follows from what was seen", () => {
  const pace = new Pace();
  expect(pace.left("a", 10, 60, 0)).toBeNull();
  expect(pace.left("a", 10, 60, 500)).toBeNull();
  expect(pace.left("a", 20, 60, 2000)).toBe(8);
  expect(pace.left("b", 20, 60, 2000)).toBeNull();
  expect(pace.left("a", 0, 60, 3000)).toBeNull();
  expect(pace.left("a", 30, 60, 6000)).toBe(3);
});

test("seconds are rounded as one says them", () => {
  expect([0, 3, 12, 58, 89, 95, 200].map(rounded)).toEqual([5, 5, 10, 60, 90, 120, 180]);
});
