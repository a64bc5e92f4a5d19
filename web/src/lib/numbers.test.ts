import { expect, test } from "vitest";
import { language } from "../texts/index.svelte";
import { brief, percent, read, show } from "./numbers";

test("numbers have a real minus, fixed digits, and no negative zero", () => {
  expect(show(-1.256)).toBe("−1.26");
  expect(show(-0.001)).toBe("0.00");
  expect(show(2, 0)).toBe("2");
  expect(show(NaN)).toBe("NaN");
  expect(show(-Infinity)).toBe("−∞");
  expect(brief(0.5)).toBe("0.5");
  expect(brief(-3)).toBe("−3");
  expect(brief(100, 0)).toBe("100");
  expect(percent(0.975, 1)).toBe("97.5 %");
});

test("only all is 100 %, and only nothing is 0 %", () => {
  expect(percent(1)).toBe("100 %");
  expect(percent(0)).toBe("0 %");
  expect(percent(0.999)).toBe("99.9 %");
  expect(percent(0.99999)).toBe("> 99.9 %");
  expect(percent(0.99999, 1)).toBe("> 99.99 %");
  expect(percent(0.004)).toBe("0.4 %");
  expect(percent(1e-9)).toBe("< 0.1 %");
  for (let wrong = 0; wrong <= 3000; wrong += 1) {
    const words = percent(1 - wrong / 3000);
    expect(words.includes("100")).toBe(wrong === 0);
    expect(/^0 /.test(words)).toBe(wrong === 3000);
  }
});

test("the decimal sign is the language's", () => {
  language.code = "de";
  expect(show(1.5)).toBe("1,50");
  expect(brief(1.5)).toBe("1,5");
  language.code = "en";
});

test("what is typed is read in either notation", () => {
  expect(read(" −0,5 ")).toBe(-0.5);
  expect(read("1e-3")).toBe(0.001);
  expect(read("")).toBeNull();
  expect(read("x")).toBeNull();
});
