import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { PAGES } from "../pages";
import examples from "../pages/convolve/examples.json";
import { language } from "./index.svelte";
import * as english from "./languages/en";

const files = import.meta.glob<typeof english>("./languages/*.ts", { eager: true });
const languages = Object.entries(files).map(([path, module]) => ({ path, ...module }));

test("each file is a language that can be chosen", () => {
  expect(language.choices.map(({ name }) => name)).toEqual(languages.map(({ name }) => name));
  expect(new Set(language.choices.map(({ name }) => name)).size).toBe(languages.length);
});

test.each(languages)("$path names every page and every example", ({ texts }) => {
  for (const { address } of PAGES) expect(texts.frame.page[address]).toMatch(/\S/);
  const names: Record<string, string> = texts.convolve.exampleNames;
  expect(Object.keys(names).sort()).toEqual(examples.map(({ id }) => id).sort());
});

test("the pages have addresses of their own", () => {
  expect(new Set(PAGES.map(({ address }) => address)).size).toBe(PAGES.length);
});

test("the English sentences about the field's words are those of the glossary", () => {
  const glossary = readFileSync(new URL("../../../docs/glossary.md", import.meta.url), "utf8");
  expect(Object.values(english.texts.terms).filter((sentence) => !glossary.includes(sentence))).toEqual([]);
});
