// Sums as they are written out for a person.
//
// The rule of digits: a result has the digits that its cell in the figure has (two; four for derivatives, three for probabilities
// and errors). The terms have at least one digit more, and as many more as it takes until the terms as shown, added up and rounded to
// the result's digits, give the result as shown. So whoever adds up the terms as shown gets the result as shown. Factors have three
// digits, without zeros at the end; what is exactly whole has none; candidates of a largest have the digits of the result, for they are compared and not added.
import { brief, show } from "../../lib/numbers";
import type { Place, Sum } from "./types";

export interface WrittenTerm {
  factors: { place: Place; text: string }[];
  product: string;
  minus: boolean;
  winner: boolean;
  border: boolean;
}

export interface Written {
  terms: WrittenTerm[];
  result: string;
}

const MOST = 10;

/** A number in a cell of the figure: at most five characters for what is below a thousand, seldom more beyond. */
export function inCell(value: number): string {
  const size = Math.abs(value);
  if (size >= 99_999.5 && size < Infinity) return value.toExponential(0).replace("e+", "e").replace("-", "−");
  return show(value, size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
}

function digitsOf({ place, how, result }: Sum): number {
  if (/^(delta|gradient|new):/.test(place)) return 4;
  if (how === "exponential" || place === "total")
    return Math.abs(result) >= 0.1 ? 3 : Math.min(MOST - 2, 3 - Math.floor(Math.log10(Math.abs(result))));
  return how === "share" || place === "error" ? 3 : 2;
}

/** `value` as shown with `digits`, as a number again. */
function shown(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

function termDigits({ how, terms, result }: Sum, digits: number): number {
  if (how === "largest" || how === "relu") return digits;
  if (how !== "sum") return digits + 1;
  for (let more = digits + 1; more < MOST; more++) {
    const sum = terms.reduce((sum, { product, minus }) => sum + (minus ? -1 : 1) * shown(product, more), 0);
    if (Math.abs(sum - shown(result, digits)) <= 0.5 * 10 ** -digits + 1e-12) return more;
  }
  return MOST;
}

/** `digits` behind the decimal sign, none for a whole number: what is exactly 0 or 1 says so. */
function exactly(value: number, digits: number): string {
  return show(value, Number.isInteger(value) ? 0 : digits);
}

export function written(sum: Sum): Written {
  const digits = digitsOf(sum);
  const more = termDigits(sum, Number.isFinite(digits) ? digits : 3);
  return {
    terms: sum.terms.map(({ factors, product, minus = false, winner = false, border = false }) => ({
      factors: factors.map(({ place, value }) => ({
        place,
        text: factors.length === 1 ? exactly(value, more) : brief(value, Math.max(3, digits)),
      })),
      product: exactly(product, more),
      minus,
      winner,
      border,
    })),
    result: show(sum.result, Number.isFinite(digits) ? digits : 3),
  };
}
