// The words of the Tiny page: the network's shape, its numbers, one pass through it, and what a moment of an animation shows.

/** `filters` 3x3 filters side by side; or, `inARow`, two filters one behind the other with a relu between them (then `filters` is 1). */
export interface Shape {
  filters: 1 | 2 | 3 | 4;
  inARow: boolean;
}

/**
 * All numbers of the network in PyTorch's order: the filters (9 each, row by row), in a row the second filter (9), the weights
 * (2 outputs x 4 inputs for each filter; output by output), the two biases. 19 numbers for one filter.
 */
export type Parameters = Float64Array<ArrayBuffer>;

/** A 5x5 image of a class. */
export interface Picture {
  /** 25 numbers 0..1, row by row; 0 is paper. */
  pixels: Float64Array<ArrayBuffer>;
  label: 0 | 1;
}

/** What one image becomes on its way through the network. */
export interface Pass {
  pixels: Float64Array<ArrayBuffer>;
  /** Each filter's 3x3 map; in a row that of the second filter. */
  maps: Float64Array<ArrayBuffer>[];
  /** In a row only: the first filter's map before and after relu. */
  first: { map: Float64Array<ArrayBuffer>; relu: Float64Array<ArrayBuffer> } | null;
  /** Each map's 2x2 pooled one; these are the inputs, filter by filter. */
  pooled: Float64Array<ArrayBuffer>[];
  /** For each pooled cell the cell of the map that won (the first of equals, as in PyTorch). */
  winners: Uint8Array<ArrayBuffer>[];
  scores: [number, number];
  probabilities: [number, number];
}

/** The way back of one image: the derivatives of its error. */
export interface Backward {
  /** Cross-entropy, -ln of the label's probability. */
  loss: number;
  /** By every number of the network, in the order of `Parameters`. */
  gradients: Float64Array<ArrayBuffer>;
  /** By the scores: probability - target. */
  scoreDelta: [number, number];
  /** By the pooled cells (the inputs), filter by filter. */
  pooledDelta: Float64Array<ArrayBuffer>[];
  /** By the cells of each map; in a row of the second filter's. */
  mapDelta: Float64Array<ArrayBuffer>[];
  /** In a row only: by the first filter's map after and before relu. */
  first: { relu: Float64Array<ArrayBuffer>; map: Float64Array<ArrayBuffer> } | null;
}

/**
 * A place in the figure, as text:
 * `pixel:7`, `filter:0:4` (filter 0, its number 4), `second:4`, `first:3`, `relu:3`, `map:0:8`, `pooled:0:3`, `input:0:3`,
 * `weight:1:2` (output 1, input 2 of all), `bias:0`, `score:0`, `exponential:0`, `total` (of the exponentials), `probability:0`,
 * `target:0`, `error`, `rate`, `slope:3` (relu's, 0 or 1), `border` (0), `shift` (what scores beyond 500 are lowered by).
 * In an opened training step also `delta:X`, the derivative of the error by the cell X (`score`, `pooled`, `map`, `relu`, `first`);
 * `gradient:X`, by the parameter X; `new:X`, the parameter X after the update.
 */
export type Place = string;

/** One product of a sum, or one candidate of a pooling. */
export interface Term {
  factors: { place: Place; value: number }[];
  product: number;
  /** It is subtracted. */
  minus?: boolean;
  /** The largest of a pooling window. */
  winner?: boolean;
  /** A cell of the border outside the map: counts as zero. */
  border?: boolean;
}

/**
 * How one number came about. `how`, from the terms' sum s (left to right, those with `minus` subtracted) or from the terms t:
 * `sum` s; `relu` max(0, s); `largest` the largest t; `exponential` e^s; `share` t0 / t1; `logarithm` -ln t0.
 */
export interface Sum {
  place: Place;
  how: "sum" | "relu" | "largest" | "exponential" | "share" | "logarithm";
  terms: Term[];
  result: number;
}

/** One moment of an animation or of an opened training step. */
export interface Frame {
  kind:
    "convolve" | "relu" | "second" | "pool" | "score" | "softmax" | "error" | "delta" | "gradient" | "update";
  /** The numbers written out at this moment; several for moments that belong together (softmax, update). */
  sums: Sum[];
  /** What lights up: what goes in, and what comes out. */
  from: Place[];
  to: Place[];
  /** Numbers known by now; the others are not shown yet. */
  known: ReadonlySet<Place>;
}

/** What a panel is given that asks the network as it is shown. */
export interface NetworkView {
  shape: Shape;
  parameters: Parameters;
  /** Counts up whenever `parameters` has changed in place. */
  version: number;
  /** The two classes, as shown. */
  classes: readonly [string, string];
}
