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

export function percent(share: number, digits = 0): string {
  return `${show(100 * share, digits)} %`;
}

/** What somebody typed, in either notation; null if it is not a number. */
export function read(text: string): number | null {
  const plain = text.trim().replace("−", "-").replace(",", ".");
  const value = plain === "" ? NaN : Number(plain);
  return Number.isFinite(value) ? value : null;
}
