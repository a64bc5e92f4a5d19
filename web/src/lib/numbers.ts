// Numbers as they are shown: a real minus sign, a fixed count of digits, the language's decimal sign.
import { language } from "../texts/index.svelte";

/** `value` with `digits` behind the decimal sign; what rounds to zero has no sign. */
export function show(value: number, digits = 2): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value < 0 ? "−∞" : "∞";
  const text = Math.abs(value).toFixed(digits);
  const sign = value < 0 && Number(text) !== 0 ? "−" : "";
  return sign + (language.decimal === "." ? text : text.replace(".", language.decimal));
}

/** As `show`, but without zeros at the end: 0.5, 3, −1.25. */
export function brief(value: number, digits = 2): string {
  const text = show(value, digits);
  return text.includes(language.decimal) ? text.replace(/0+$/, "").replace(/[.,]$/, "") : text;
}

/** A share 0..1. Only exactly all is 100 % and only exactly nothing 0 %: what would be rounded to one of them gets one
 * more digit (99.9 %), and past that "> 99.9 %" or "< 0.1 %". */
export function percent(share: number, digits = 0): string {
  if (!(share > 0 && share < 1)) return `${show(100 * share, digits)} %`;
  for (const places of [digits, digits + 1]) {
    const rounded = Number((100 * share).toFixed(places));
    if (rounded > 0 && rounded < 100) return `${show(100 * share, places)} %`;
  }
  const least = 10 ** -(digits + 1);
  return share > 0.5 ? `> ${show(100 - least, digits + 1)} %` : `< ${show(least, digits + 1)} %`;
}

/** What somebody typed, in either notation; null if it is not a number. */
export function read(text: string): number | null {
  const plain = text.trim().replace("−", "-").replace(",", ".");
  const value = plain === "" ? NaN : Number(plain);
  return Number.isFinite(value) ? value : null;
}
