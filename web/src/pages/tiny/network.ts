// The network of the Tiny page: 5x5 pixels, 3x3 filters, 2x2 max pooling with stride 1, two outputs; forwards, backwards, its error.
// As package texts: `conv(F, 3, padding=valid, bias=false) maxpool(2, stride=1) flatten dense`, in a row
// `conv(1, 3, padding=valid, bias=false) relu conv(1, 3, bias=false) maxpool(2, stride=1) flatten dense`. All in float64.
import type { Backward, Parameters, Pass, Picture, Place, Shape } from "./types";

/** The pixel under filter number k at map cell p is `CORNER[p] + OFFSET[k]`. */
export const CORNER = [0, 1, 2, 5, 6, 7, 10, 11, 12] as const;
export const OFFSET = [0, 1, 2, 5, 6, 7, 10, 11, 12] as const;

/** The four cells of a 3x3 map that each pooled cell looks at. */
export const WINDOWS = [
  [0, 1, 3, 4],
  [1, 2, 4, 5],
  [3, 4, 6, 7],
  [4, 5, 7, 8],
] as const;

/** In a row: the cell of the 3x3 map under number k of the second filter at cell p, -1 in the border of zeros; `UNDER[9 p + k]`. */
export const UNDER = Int8Array.from({ length: 81 }, (_, at) => {
  const row = Math.floor(at / 27) + Math.floor((at % 9) / 3) - 1;
  const column = (Math.floor(at / 9) % 3) + (at % 3) - 1;
  return row < 0 || row > 2 || column < 0 || column > 2 ? -1 : 3 * row + column;
});

/** Where the parts of `Parameters` begin; `second` is null unless in a row. */
export interface Slices {
  filters: number;
  second: number | null;
  weights: number;
  biases: number;
  count: number;
}

export function slices(shape: Shape): Slices {
  const second = shape.inARow ? 9 : null;
  const weights = shape.inARow ? 18 : 9 * shape.filters;
  const biases = weights + 8 * shape.filters;
  return { filters: 0, second, weights, biases, count: biases + 2 };
}

/** How many numbers are learnt: 19, 36, 53, 70 for 1 to 4 filters, 28 in a row. */
export function count(shape: Shape): number {
  return slices(shape).count;
}

/** Numbers 0 <= x < 1 from a seed (Mulberry32, by Tommy Ettinger, public domain). */
export function random(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Starting numbers as PyTorch draws them: uniform within 1 / sqrt(inputs of the unit). */
export function initial(shape: Shape, seed: number): Parameters {
  const { weights, count } = slices(shape);
  const draw = random(seed);
  const dense = 1 / Math.sqrt(4 * shape.filters);
  return Float64Array.from({ length: count }, (_, at) => (2 * draw() - 1) * (at < weights ? 1 / 3 : dense));
}

function cells(filters: number, count: number): Float64Array<ArrayBuffer>[] {
  return Array.from({ length: filters }, () => new Float64Array(count));
}

/** A pass with nothing in it yet, for `forward` to fill. */
export function emptyPass(shape: Shape): Pass {
  return {
    pixels: new Float64Array(25),
    maps: cells(shape.filters, 9),
    first: shape.inARow ? { map: new Float64Array(9), relu: new Float64Array(9) } : null,
    pooled: cells(shape.filters, 4),
    winners: Array.from({ length: shape.filters }, () => new Uint8Array(4)),
    scores: [0, 0],
    probabilities: [0.5, 0.5],
  };
}

export function emptyBackward(shape: Shape): Backward {
  return {
    loss: 0,
    gradients: new Float64Array(count(shape)),
    scoreDelta: [0, 0],
    pooledDelta: cells(shape.filters, 4),
    mapDelta: cells(shape.filters, 9),
    first: shape.inARow ? { relu: new Float64Array(9), map: new Float64Array(9) } : null,
  };
}

function convolve(
  pixels: Float64Array,
  parameters: Parameters,
  filter: number,
  map: Float64Array<ArrayBuffer>,
): void {
  for (let p = 0; p < 9; p++) {
    let sum = 0;
    for (let k = 0; k < 9; k++) sum += parameters[filter + k]! * pixels[CORNER[p]! + OFFSET[k]!]!;
    map[p] = sum;
  }
}

/**
 * What the score is lowered by before its exponential. Nothing, as in a book, unless the exponentials would overflow or all vanish.
 */
export function shift(scores: readonly [number, number]): number {
  const larger = Math.max(scores[0], scores[1]);
  return Math.abs(larger) > 500 ? larger : 0;
}

/** One image through the network. `into`, a pass of the same shape, is overwritten and returned. */
export function forward(
  shape: Shape,
  parameters: Parameters,
  pixels: Float64Array<ArrayBuffer>,
  into: Pass = emptyPass(shape),
): Pass {
  const { maps, first, pooled, winners, scores } = into;
  const { second, weights, biases } = slices(shape);
  into.pixels = pixels;
  if (first !== null && second !== null) {
    convolve(pixels, parameters, 0, first.map);
    for (let p = 0; p < 9; p++) first.relu[p] = Math.max(0, first.map[p]!);
    for (let p = 0; p < 9; p++) {
      let sum = 0;
      for (let k = 0; k < 9; k++) {
        const under = UNDER[9 * p + k]!;
        if (under >= 0) sum += parameters[second + k]! * first.relu[under]!;
      }
      maps[0]![p] = sum;
    }
  } else {
    for (let f = 0; f < shape.filters; f++) convolve(pixels, parameters, 9 * f, maps[f]!);
  }

  for (let f = 0; f < shape.filters; f++) {
    const map = maps[f]!;
    for (let i = 0; i < 4; i++) {
      const window = WINDOWS[i]!;
      let winner: number = window[0];
      for (let at = 1; at < 4; at++) if (map[window[at]!]! > map[winner]!) winner = window[at]!;
      winners[f]![i] = winner;
      pooled[f]![i] = map[winner]!;
    }
  }

  const inputs = 4 * shape.filters;
  for (let o = 0; o < 2; o++) {
    let sum = 0;
    for (let f = 0; f < shape.filters; f++) {
      const start = weights + o * inputs + 4 * f;
      for (let i = 0; i < 4; i++) sum += parameters[start + i]! * pooled[f]![i]!;
    }
    scores[o] = sum + parameters[biases + o]!;
  }
  const lowered = shift(scores);
  const exponential0 = Math.exp(scores[0] - lowered);
  const exponential1 = Math.exp(scores[1] - lowered);
  const total = exponential0 + exponential1;
  into.probabilities[0] = exponential0 / total;
  into.probabilities[1] = exponential1 / total;
  return into;
}

/** The class a pass is taken for: the larger score, the first of equals. */
export function answer(pass: Pass): 0 | 1 {
  return pass.scores[1] > pass.scores[0] ? 1 : 0;
}

/** Below this a probability is no longer exact; -ln p is then the scores' difference to the last digit. */
export const LEAST_PROBABILITY = 1e-300;

/** Cross-entropy of one pass. */
export function error(pass: Pass, label: 0 | 1): number {
  const probability = pass.probabilities[label];
  if (probability < LEAST_PROBABILITY) return pass.scores[1 - label]! - pass.scores[label];
  return 0 - Math.log(probability);
}

/** The derivatives of one image's error; `pass` is its `forward`. `into` is overwritten and returned. */
export function backward(
  shape: Shape,
  parameters: Parameters,
  pass: Pass,
  label: 0 | 1,
  into: Backward = emptyBackward(shape),
): Backward {
  const { gradients, scoreDelta, pooledDelta, mapDelta, first } = into;
  const { second, weights, biases } = slices(shape);
  const inputs = 4 * shape.filters;
  into.loss = error(pass, label);
  for (let o = 0; o < 2; o++) {
    const delta = pass.probabilities[o]! - (o === label ? 1 : 0);
    scoreDelta[o] = delta;
    gradients[biases + o] = delta;
    for (let f = 0; f < shape.filters; f++) {
      const start = weights + o * inputs + 4 * f;
      for (let i = 0; i < 4; i++) gradients[start + i] = delta * pass.pooled[f]![i]!;
    }
  }
  for (let f = 0; f < shape.filters; f++) {
    const winners = pass.winners[f]!;
    mapDelta[f]!.fill(0);
    for (let i = 0; i < 4; i++) {
      const start = weights + 4 * f + i;
      const delta = parameters[start]! * scoreDelta[0] + parameters[start + inputs]! * scoreDelta[1];
      pooledDelta[f]![i] = delta;
      mapDelta[f]![winners[i]!]! += delta;
    }
  }
  if (first !== null && second !== null && pass.first !== null) {
    const delta = mapDelta[0]!;
    first.relu.fill(0);
    for (let k = 0; k < 9; k++) {
      let sum = 0;
      for (let p = 0; p < 9; p++) {
        const under = UNDER[9 * p + k]!;
        if (under >= 0) sum += delta[p]! * pass.first.relu[under]!;
      }
      gradients[second + k] = sum;
    }
    for (let p = 0; p < 9; p++) {
      for (let k = 0; k < 9; k++) {
        const under = UNDER[9 * p + k]!;
        if (under >= 0) first.relu[under]! += delta[p]! * parameters[second + k]!;
      }
    }
    for (let p = 0; p < 9; p++) first.map[p] = pass.first.map[p]! > 0 ? first.relu[p]! : 0;
    filterGradient(pass.pixels, first.map, gradients, 0);
  } else {
    for (let f = 0; f < shape.filters; f++) filterGradient(pass.pixels, mapDelta[f]!, gradients, 9 * f);
  }
  return into;
}

function filterGradient(
  pixels: Float64Array,
  delta: Float64Array,
  gradients: Float64Array<ArrayBuffer>,
  filter: number,
): void {
  for (let k = 0; k < 9; k++) {
    let sum = 0;
    for (let p = 0; p < 9; p++) sum += delta[p]! * pixels[CORNER[p]! + OFFSET[k]!]!;
    gradients[filter + k] = sum;
  }
}

type Mean = (shape: Shape, parameters: Parameters, pictures: readonly Picture[], scratch?: Pass) => number;

/** The mean of a number that each picture gives; NaN without pictures. `scratch` saves making a pass. */
function mean(of: (pass: Pass, label: 0 | 1) => number): Mean {
  return (shape, parameters, pictures, scratch = emptyPass(shape)) => {
    let sum = 0;
    for (const { pixels, label } of pictures) sum += of(forward(shape, parameters, pixels, scratch), label);
    return sum / pictures.length;
  };
}

/** Mean cross-entropy. */
export const loss = mean(error);

/** The share of pictures answered rightly, 0..1. */
export const accuracy = mean((pass, label) => Number(answer(pass) === label));

/** Which of `Parameters` is at a place; null if that is no number of the network. */
export function parameterOf(place: Place, shape: Shape): number | null {
  const [kind, first = "", second = ""] = place.split(":");
  const part = slices(shape);
  const a = Number(first);
  const b = Number(second);
  const inputs = 4 * shape.filters;
  const index = (value: number, end: number) => Number.isInteger(value) && value >= 0 && value < end;
  if (kind === "filter" && index(a, shape.filters) && index(b, 9)) return part.filters + 9 * a + b;
  if (kind === "second" && part.second !== null && index(a, 9)) return part.second + a;
  if (kind === "weight" && index(a, 2) && index(b, inputs)) return part.weights + inputs * a + b;
  if (kind === "bias" && index(a, 2)) return part.biases + a;
  return null;
}

/** The place of number `index` of `Parameters`. */
export function placeOf(index: number, shape: Shape): Place {
  const { second, weights, biases } = slices(shape);
  const inputs = 4 * shape.filters;
  if (index >= biases) return `bias:${index - biases}`;
  if (index >= weights)
    return `weight:${Math.floor((index - weights) / inputs)}:${(index - weights) % inputs}`;
  if (second !== null && index >= second) return `second:${index - second}`;
  return `filter:${Math.floor(index / 9)}:${index % 9}`;
}

/** What a place's value is looked up in; a training step's places need `step`. */
export interface Seen {
  shape: Shape;
  parameters: Parameters;
  pass: Pass | null;
  step?: { backward: Backward; label: 0 | 1; rate: number } | null;
}

/** The number at a place; null where there is none (yet): no pass, no training step, no such place. */
export function value(place: Place, seen: Seen): number | null {
  const { shape, parameters, pass, step } = seen;
  const at = parameterOf(place, shape);
  if (at !== null) return parameters[at]!;
  const [kind = "", ...rest] = place.split(":");
  if (kind === "rate") return step?.rate ?? null;
  if (kind === "delta" || kind === "gradient" || kind === "new" || kind === "target" || kind === "error") {
    return step ? ofStep(kind, rest, shape, parameters, step) : null;
  }
  if (kind === "border") return 0;
  if (pass === null) return null;
  const [a = 0, b = 0] = rest.map(Number);
  const lowered = shift(pass.scores);
  switch (kind) {
    case "pixel":
      return pass.pixels[a] ?? null;
    case "first":
      return pass.first?.map[a] ?? null;
    case "relu":
      return pass.first?.relu[a] ?? null;
    case "slope":
      return pass.first && a in pass.first.map ? Number(pass.first.map[a]! > 0) : null;
    case "map":
      return pass.maps[a]?.[b] ?? null;
    case "pooled":
    case "input":
      return pass.pooled[a]?.[b] ?? null;
    case "score":
      return pass.scores[a] ?? null;
    case "exponential":
      return a in pass.scores ? Math.exp(pass.scores[a]! - lowered) : null;
    case "shift":
      return lowered;
    case "total":
      return Math.exp(pass.scores[0] - lowered) + Math.exp(pass.scores[1] - lowered);
    case "probability":
      return pass.probabilities[a] ?? null;
  }
  return null;
}

function ofStep(
  kind: "delta" | "gradient" | "new" | "target" | "error",
  rest: string[],
  shape: Shape,
  parameters: Parameters,
  { backward, label, rate }: NonNullable<Seen["step"]>,
): number | null {
  if (kind === "error") return backward.loss;
  if (kind === "target") return rest[0] === "0" || rest[0] === "1" ? Number(Number(rest[0]) === label) : null;
  if (kind === "gradient" || kind === "new") {
    const at = parameterOf(rest.join(":"), shape);
    if (at === null) return null;
    return kind === "gradient" ? backward.gradients[at]! : parameters[at]! - rate * backward.gradients[at]!;
  }
  const [a = 0, b = 0] = rest.slice(1).map(Number);
  switch (rest[0]) {
    case "score":
      return backward.scoreDelta[a] ?? null;
    case "pooled":
    case "input":
      return backward.pooledDelta[a]?.[b] ?? null;
    case "map":
      return backward.mapDelta[a]?.[b] ?? null;
    case "relu":
      return backward.first?.relu[a] ?? null;
    case "first":
      return backward.first?.map[a] ?? null;
  }
  return null;
}
