// The one list of pages. The frame's links, the addresses and the tests follow from it; a page's name is in each language.
import type { Component } from "svelte";
import type { Texts } from "../texts/languages/en";
import Tiny from "./tiny/Tiny.svelte";

export interface Page {
  /** Its address, `#/tiny`, and the key of its name in `frame.page`. */
  readonly address: keyof Texts["frame"]["page"];
  /** Its code; all but the first page's is fetched when the page is first opened. */
  readonly load: () => Promise<{ default: Component }>;
}

export const PAGES: readonly Page[] = [
  { address: "tiny", load: () => Promise.resolve({ default: Tiny }) },
  { address: "convolve", load: () => import("./convolve/Convolve.svelte") },
  { address: "draw", load: () => import("./draw/Draw.svelte") },
];
