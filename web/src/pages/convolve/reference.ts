// What the package itself makes of some chains, for tests; tools/make_convolve_reference.py writes it.
import type { Numbers } from "../../api/arrays";
import type { Step } from "../../api/client";
import reference from "./reference.json";

interface Case {
  name: string;
  size: number[];
  full: number;
  pixels: number[];
  steps: unknown[];
  results: { size: number[]; values: number[] }[];
  cell: { y: number; x: number; channel: number; value: number };
  fed: { y: number; x: number; outputs: number[][] }[];
}

export function numbers(size: readonly number[], values: readonly number[]): Numbers {
  const [height, width, channels] = size as [number, number, number];
  return { height, width, channels, values: Float64Array.from(values) };
}

export const cases = (reference.cases as Case[]).map((each) => ({
  ...each,
  full: each.full as 255 | 1,
  pixels: numbers(each.size, each.pixels),
  steps: each.steps as Step[],
  results: each.results.map((result) => numbers(result.size, result.values)),
}));

export const grey = {
  colours: numbers([8, 8, 3], reference.grey.colours),
  grey: reference.grey.grey,
};
