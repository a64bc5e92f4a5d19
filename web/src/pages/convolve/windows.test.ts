import { expect, test } from "vitest";
import type { Step } from "../../api/client";
import { cases } from "./reference";
import { fedBy, geometry, nearest, windowOf, type Border } from "./windows";

test.each(cases)(
  "$name: the outputs that a pixel feeds are those that change with it",
  ({ pixels, steps, fed }) => {
    const shape = geometry(steps[0]!, pixels.height, pixels.width)!;
    for (const { y, x, outputs } of fed) {
      expect(fedBy(shape, y, x).map((place) => [place.y, place.x])).toEqual(outputs);
    }
  },
);

test.each(cases)("$name: sizes are those of the package", ({ pixels, steps, results }) => {
  let { height, width } = pixels;
  steps.forEach((step, index) => {
    const { down, across } = geometry(step, height, width)!;
    ({ height, width } = results[index]!);
    expect([down.places, across.places]).toEqual([height, width]);
  });
});

test("a pixel feeds exactly the outputs whose window shows its number", () => {
  for (const { pixels, steps } of cases) {
    const shape = geometry(steps[0]!, pixels.height, pixels.width)!;
    const shown = new Map<string, Set<string>>();
    for (let y = 0; y < shape.down.places; y++) {
      for (let x = 0; x < shape.across.places; x++) {
        for (const { source } of windowOf(shape, y, x)) {
          if (!source) continue;
          const key = `${source.y},${source.x}`;
          shown.set(key, (shown.get(key) ?? new Set()).add(`${y},${x}`));
        }
      }
    }
    for (let y = 0; y < pixels.height; y++) {
      for (let x = 0; x < pixels.width; x++) {
        const found = fedBy(shape, y, x).map((place) => `${place.y},${place.x}`);
        expect(new Set(found)).toEqual(shown.get(`${y},${x}`) ?? new Set());
      }
    }
  }
});

/** A kernel of 3 x 3. */
function convolve(border: Border): Step {
  const kernel = [1, 1, 1].map(() => [1, 1, 1]);
  return { kind: "convolve", kernel, border, stride: 1, dilation: 1 };
}

test("a cell of the border feeds only where a window lies on it", () => {
  const shape = geometry(convolve("zeros"), 4, 4)!;
  expect(fedBy(shape, -1, -1)).toEqual([{ y: 0, x: 0 }]);
  expect(fedBy(shape, -1, 1)).toEqual([
    { y: 0, x: 0 },
    { y: 0, x: 1 },
    { y: 0, x: 2 },
  ]);
});

test("what does not fit has no geometry", () => {
  expect(geometry({ kind: "pool", pool: "max", size: 3, stride: 1 }, 2, 9)).toBeNull();
});

test("the nearest window is the one around a cell", () => {
  const pool = geometry({ kind: "pool", pool: "max", size: 2, stride: 2 }, 6, 6)!;
  expect([0, 1, 2, 3, 5].map((x) => nearest(pool, 0, x).x)).toEqual([0, 0, 1, 1, 2]);
  const plain = geometry(convolve("none"), 6, 6)!;
  expect(nearest(plain, 2, 2)).toEqual({ y: 1, x: 1 });
  expect(nearest(plain, 0, 5)).toEqual({ y: 0, x: 3 });
});
