// A place of the network in words.
import type { Texts } from "../../texts/languages/en";
import type { Place, Shape } from "./types";

/** The name of a class as the language has it. */
export function className(t: Texts["tiny"], name: string | undefined): string {
  return name === undefined ? "" : (t.class[name] ?? name);
}

export function placeName(place: Place, t: Texts["tiny"], classes: readonly string[], shape: Shape): string {
  const [kind = "", ...rest] = place.split(":");
  const [a = 0, b = 0] = rest.map(Number);
  const inner = () => placeName(rest.join(":"), t, classes, shape);
  const output = className(t, classes[a]);
  const part = (kind: keyof Texts["tiny"]["parts"], filter: number) =>
    shape.filters > 1 ? t.numbered(t.parts[kind], filter + 1) : t.parts[kind];
  const cell = (name: string, at: number, columns: number) =>
    t.cell(name, Math.floor(at / columns) + 1, (at % columns) + 1);
  switch (kind) {
    case "pixel":
      return cell(t.parts.pixel, a, 5);
    case "first":
    case "relu":
    case "second":
      return cell(t.parts[kind], a, 3);
    case "filter":
    case "map":
      return cell(part(kind, a), b, 3);
    case "pooled":
      return cell(part("pooled", a), b, 2);
    case "input":
      return t.input(4 * a + b + 1);
    case "weight":
      return t.weight(b + 1, output);
    case "bias":
      return t.biasOf(output);
    case "score":
      return t.score(output);
    case "probability":
      return t.probability(output);
    case "exponential":
      return t.exponential(output);
    case "target":
      return t.target(output);
    case "total":
    case "error":
    case "border":
    case "shift":
    case "slope":
      return t[kind];
    case "rate":
      return t.rateName;
    case "delta":
      return t.delta(inner());
    case "gradient":
      return t.gradient(inner());
    case "new":
      return t.fresh(inner());
  }
  return place;
}
