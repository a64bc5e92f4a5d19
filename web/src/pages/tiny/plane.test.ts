import { expect, test } from "vitest";
import { Plane } from "./plane";

const plane = new Plane({ a: 1, b: -2, half: 2 }, 70, 400);

test("the corners of the extent are the corners of the square", () => {
  expect([plane.x(-1), plane.y(0)]).toEqual([70, 0]);
  expect([plane.x(3), plane.y(-4)]).toEqual([470, 400]);
});

test("what is under the pointer is what is drawn there", () => {
  const box = { left: 70, top: 0, width: 400, height: 400 } as DOMRect;
  for (const point of [
    { a: 1, b: -2 },
    { a: -0.5, b: -3.25 },
  ]) {
    const at = plane.at({ clientX: plane.x(point.a), clientY: plane.y(point.b) }, box);
    expect(at.a).toBeCloseTo(point.a, 1);
    expect(at.b).toBeCloseTo(point.b, 1);
  }
});

test("arrow keys move a little, and never off the plane", () => {
  expect(plane.moved({ a: 1, b: -2 }, "ArrowRight", false)).toEqual({ a: 1.1, b: -2 });
  expect(plane.moved({ a: 1, b: -2 }, "ArrowDown", true)).toEqual({ a: 1, b: -2.02 });
  expect(plane.moved({ a: 3, b: 0 }, "ArrowUp", false)).toEqual({ a: 3, b: 0 });
  expect(plane.moved({ a: 1, b: -2 }, "Enter", false)).toBeNull();
});

test("ticks are round, few, and on the plane", () => {
  for (const half of [0.05, 0.3, 1, 7, 60, 500]) {
    const { a } = new Plane({ a: 0.37, b: 0, half }, 0, 100).ticks;
    expect(a.length).toBeLessThanOrEqual(7);
    for (const tick of a) expect(Math.abs(tick - 0.37)).toBeLessThanOrEqual(half);
  }
  expect(plane.ticks).toEqual({ a: [-1, 0, 1, 2, 3], b: [-4, -3, -2, -1, 0], digits: 0 });
});

test("a path leaves out what is no number and keeps what is far away finite", () => {
  const path = { a: [1, NaN, 1e30], b: [-2, 0, -2] };
  expect(plane.line(path, 0, 3)).toBe("270.0,200.0 100000.0,200.0");
  expect(plane.has({ a: NaN, b: 0 })).toBe(false);
});
