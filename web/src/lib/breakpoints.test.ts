import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { BREAKPOINTS } from "./breakpoints";

const files = Object.keys(import.meta.glob(["../**/*.svelte", "../**/*.css"]));

test("every media query is at one of the breakpoints", () => {
  const known = new Set<number>(Object.values(BREAKPOINTS));
  let found = 0;
  for (const file of files) {
    const text = readFileSync(new URL(file, import.meta.url), "utf8");
    for (const [query, edge, width] of text.matchAll(/@media \((max|min)-width: (\d+)px\)/g)) {
      // the first pixel beyond a breakpoint begins the next width
      const at = Number(width);
      expect(known.has(at) || (edge === "min" && known.has(at - 1)), `${file}: ${query}`).toBe(true);
      found++;
    }
  }
  expect(found).toBeGreaterThan(8);
});
