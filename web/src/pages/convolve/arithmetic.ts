// What makes one number of a step's result, from the arrays that are shown, in float64.
import type { Numbers } from "../../api/arrays";
import type { Step } from "../../api/client";
import { depth, plane } from "./steps";
import { windowOf, type Geometry, type Tap } from "./windows";

export interface Term extends Tap {
  /** The input's number there. */
  value: number;
  /** The kernel's number; 1 without a kernel. */
  weight: number;
  product: number;
}

export interface Reckoning {
  /** The window's terms, row by row, for each channel that is summed over. */
  channels: { channel: number; terms: Term[]; sum: number }[];
  /** Sum of all products. */
  sum: number;
  /** What the step makes of it. */
  result: number;
  /** Of max pooling the first largest term. */
  winner: Term | null;
  /** The sum of the terms' sizes, by which rounding is judged. */
  size: number;
}

export function at({ width, channels, values }: Numbers, y: number, x: number, channel: number): number {
  return values[(y * width + x) * channels + channel]!;
}

/** How output (y, x) comes about. `channel` counts where each channel goes by itself. */
export function reckon(
  step: Step,
  geometry: Geometry,
  input: Numbers,
  channel: number,
  y: number,
  x: number,
): Reckoning {
  const taps = windowOf(geometry, y, x);
  const deep = step.kind === "convolve" ? depth(step.kernel) : null;
  const which = deep === null ? [channel] : Array.from({ length: deep }, (_, each) => each);
  let sum = 0;
  let size = 0;
  const channels = which.map((each) => {
    const weights = step.kind === "convolve" ? plane(step.kernel, each) : null;
    let part = 0;
    const terms = taps.map((tap): Term => {
      const value = tap.source ? at(input, tap.source.y, tap.source.x, each) : 0;
      const weight = weights ? weights[tap.row]![tap.column]! : 1;
      const product = value * weight;
      part += product;
      size += Math.abs(product);
      return { ...tap, value, weight, product };
    });
    sum += part;
    return { channel: each, terms, sum: part };
  });
  const terms = channels[0]!.terms;
  const winner =
    step.kind === "pool" && step.pool === "max"
      ? terms.reduce((best, term) => (term.value > best.value ? term : best))
      : null;
  const result =
    step.kind === "relu"
      ? Math.max(sum, 0)
      : winner
        ? winner.value
        : step.kind === "pool" && step.pool === "mean"
          ? sum / terms.length
          : sum;
  return { channels, sum, result, winner, size };
}

/** Whether two ways to the same number agree, but for rounding. */
export function agrees(reckoning: Reckoning, given: number): boolean {
  return Math.abs(reckoning.result - given) <= 1e-9 * Math.max(reckoning.size, Number.MIN_VALUE);
}

/** Digits behind the decimal sign with which numbers of this kind are shown. */
export function digitsOf(values: Float64Array | readonly number[]): number {
  let largest = 0;
  let whole = true;
  for (const value of values) {
    largest = Math.max(largest, Math.abs(value));
    whole &&= Number.isInteger(value);
  }
  return whole ? 0 : largest >= 1000 ? 1 : largest >= 10 ? 2 : 3;
}

export function largest(values: Float64Array): number {
  let found = 0;
  for (const value of values) found = Math.max(found, Math.abs(value));
  return found;
}
