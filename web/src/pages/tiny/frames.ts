// A pass, and a step of training, as a film: each frame writes out the sums of one moment. Floats added in the order shown give
// exactly the numbers of `forward` and `backward`.
import {
  CORNER,
  LEAST_PROBABILITY,
  OFFSET,
  UNDER,
  WINDOWS,
  backward,
  count,
  forward,
  placeOf,
  shift,
  slices,
  value,
  type Seen,
} from "./network";
import type { Frame, Parameters, Pass, Picture, Place, Shape, Sum, Term } from "./types";

/** What a sum's terms come to. */
export function evaluate({ how, terms }: Pick<Sum, "how" | "terms">): number {
  const sum = terms.reduce((sum, { product, minus }) => (minus ? sum - product : sum + product), 0);
  switch (how) {
    case "sum":
      return sum;
    case "relu":
      return Math.max(0, sum);
    case "largest":
      return Math.max(...terms.map((term) => term.product));
    case "exponential":
      return Math.exp(sum);
    case "share":
      return terms[0]!.product / terms[1]!.product;
    case "logarithm":
      return 0 - Math.log(terms[0]!.product);
  }
}

/** One after the other, each frame with all that is known by then. */
class Film {
  readonly frames: Frame[] = [];
  #known: ReadonlySet<Place>;

  constructor(
    private readonly seen: Seen,
    known: Iterable<Place>,
  ) {
    this.#known = new Set(known);
  }

  /** The product of the numbers at places. */
  term(...places: Place[]): Term {
    const factors = places.map((place) => ({ place, value: value(place, this.seen)! }));
    return { factors, product: factors.reduce((product, factor) => product * factor.value, 1) };
  }

  sum(place: Place, terms: Term[], how: Sum["how"] = "sum"): Sum {
    return { place, how, terms, result: evaluate({ how, terms }) };
  }

  add(kind: Frame["kind"], sums: Sum[], alsoTo: Place[] = []): void {
    const from = new Set(
      sums.flatMap((sum) => sum.terms.flatMap((term) => term.factors.map((f) => f.place))),
    );
    const to = [...sums.map((sum) => sum.place), ...alsoTo];
    for (const place of to) from.delete(place);
    this.#known = new Set([...this.#known, ...to]);
    this.frames.push({ kind, sums, from: [...from], to, known: this.#known });
  }
}

const NINE = [0, 1, 2, 3, 4, 5, 6, 7, 8] as const;
const FOUR = [0, 1, 2, 3] as const;
const TWO = [0, 1] as const;

function given(shape: Shape): Place[] {
  const parameters = Array.from({ length: count(shape) }, (_, at) => placeOf(at, shape));
  return [...Array.from({ length: 25 }, (_, at) => `pixel:${at}`), "border", ...parameters];
}

function filtersOf(shape: Shape): number[] {
  return Array.from({ length: shape.filters }, (_, f) => f);
}

function convolved(film: Film, shape: Shape, f: number, p: number): Sum {
  const terms = NINE.map((k) => film.term(`filter:${f}:${k}`, `pixel:${CORNER[p]! + OFFSET[k]!}`));
  return film.sum(shape.inARow ? `first:${p}` : `map:${f}:${p}`, terms);
}

function rectified(film: Film): Sum[] {
  return NINE.map((p) => film.sum(`relu:${p}`, [film.term(`first:${p}`)], "relu"));
}

function convolvedAgain(film: Film, p: number): Sum {
  const terms = NINE.map((k) => {
    const under = UNDER[9 * p + k]!;
    return under >= 0
      ? film.term(`second:${k}`, `relu:${under}`)
      : { ...film.term(`second:${k}`, "border"), product: 0, border: true };
  });
  return film.sum(`map:0:${p}`, terms);
}

function pooled(film: Film, pass: Pass, f: number, i: number): Sum {
  const winner = pass.winners[f]![i]!;
  const terms = WINDOWS[i]!.map((cell) => {
    const term = film.term(`map:${f}:${cell}`);
    return cell === winner ? { ...term, winner: true } : term;
  });
  return film.sum(`pooled:${f}:${i}`, terms, "largest");
}

function scored(film: Film, shape: Shape, o: number): Sum {
  const terms = filtersOf(shape).flatMap((f) =>
    FOUR.map((i) => film.term(`weight:${o}:${4 * f + i}`, `input:${f}:${i}`)),
  );
  return film.sum(`score:${o}`, [...terms, film.term(`bias:${o}`)]);
}

function softmax(film: Film, pass: Pass): void {
  const lowered: Place[] = shift(pass.scores) === 0 ? [] : ["shift"];
  const exponential = (o: number) => {
    const terms = [
      film.term(`score:${o}`),
      ...lowered.map((place) => ({ ...film.term(place), minus: true })),
    ];
    return film.sum(`exponential:${o}`, terms, "exponential");
  };
  const total = film.sum(
    "total",
    TWO.map((o) => film.term(`exponential:${o}`)),
  );
  const share = (o: number) =>
    film.sum(`probability:${o}`, [film.term(`exponential:${o}`), film.term("total")], "share");
  film.add("softmax", [...TWO.map(exponential), total, ...TWO.map(share)], lowered);
}

/** The pooled cells as inputs of the two outputs: known with them. */
function inputs(sums: Sum[]): Place[] {
  return sums.map((sum) => sum.place.replace("pooled", "input"));
}

/**
 * The way of one image through the network: each filter slides over the image and is pooled, then scores and probabilities.
 * 16 frames for one filter, 13 more for each further one; 26 in a row.
 */
export function animation(shape: Shape, parameters: Parameters, pass: Pass): Frame[] {
  const film = new Film({ shape, parameters, pass }, given(shape));
  for (const f of filtersOf(shape)) {
    for (const p of NINE) film.add("convolve", [convolved(film, shape, f, p)]);
    if (shape.inARow) {
      film.add("relu", rectified(film));
      for (const p of NINE) film.add("second", [convolvedAgain(film, p)]);
    }
    for (const i of FOUR) {
      const sums = [pooled(film, pass, f, i)];
      film.add("pool", sums, inputs(sums));
    }
  }
  for (const o of TWO) film.add("score", [scored(film, shape, o)]);
  softmax(film, pass);
  return film.frames;
}

/**
 * One step of gradient descent with one image, opened: forwards (a frame for each layer), the error, back through the layers
 * (deltas and the gradients that follow from them), and the update of every number.
 */
export function trainingStep(shape: Shape, parameters: Parameters, picture: Picture, rate: number): Frame[] {
  const { pixels, label } = picture;
  const pass = forward(shape, parameters, pixels);
  const step = { backward: backward(shape, parameters, pass, label), label, rate };
  const film = new Film({ shape, parameters, pass, step }, [...given(shape), "target:0", "target:1", "rate"]);
  const filters = filtersOf(shape);

  for (const f of filters) {
    film.add(
      "convolve",
      NINE.map((p) => convolved(film, shape, f, p)),
    );
  }
  if (shape.inARow) {
    film.add(
      "relu",
      rectified(film),
      NINE.map((q) => `slope:${q}`),
    );
    film.add(
      "second",
      NINE.map((p) => convolvedAgain(film, p)),
    );
  }
  for (const f of filters) {
    const sums = FOUR.map((i) => pooled(film, pass, f, i));
    film.add("pool", sums, inputs(sums));
  }
  film.add(
    "score",
    TWO.map((o) => scored(film, shape, o)),
  );
  softmax(film, pass);
  film.add("error", [lost(film, pass, label)]);

  film.add(
    "delta",
    TWO.map((o) =>
      film.sum(`delta:score:${o}`, [
        film.term(`probability:${o}`),
        { ...film.term(`target:${o}`), minus: true },
      ]),
    ),
  );
  for (const o of TWO) {
    const weights = filters.flatMap((f) =>
      FOUR.map((i) =>
        film.sum(`gradient:weight:${o}:${4 * f + i}`, [film.term(`delta:score:${o}`, `input:${f}:${i}`)]),
      ),
    );
    film.add("gradient", [...weights, film.sum(`gradient:bias:${o}`, [film.term(`delta:score:${o}`)])]);
  }
  for (const f of filters) {
    film.add(
      "delta",
      FOUR.map((i) =>
        film.sum(
          `delta:pooled:${f}:${i}`,
          TWO.map((o) => film.term(`weight:${o}:${4 * f + i}`, `delta:score:${o}`)),
        ),
      ),
    );
  }
  for (const f of filters) {
    const won = (p: number) => FOUR.filter((i) => pass.winners[f]![i] === p);
    film.add(
      "delta",
      NINE.map((p) =>
        film.sum(
          `delta:map:${f}:${p}`,
          won(p).map((i) => film.term(`delta:pooled:${f}:${i}`)),
        ),
      ),
    );
  }
  if (shape.inARow) backThroughSecond(film);
  const delta = (f: number, p: number) => (shape.inARow ? `delta:first:${p}` : `delta:map:${f}:${p}`);
  for (const f of filters) {
    for (const k of NINE) {
      const terms = NINE.map((p) => film.term(delta(f, p), `pixel:${CORNER[p]! + OFFSET[k]!}`));
      film.add("gradient", [film.sum(`gradient:filter:${f}:${k}`, terms)]);
    }
  }
  for (const group of groups(shape)) {
    film.add(
      "update",
      group.map((place) =>
        film.sum(`new:${place}`, [
          film.term(place),
          { ...film.term("rate", `gradient:${place}`), minus: true },
        ]),
      ),
    );
  }
  return film.frames;
}

/** -ln p; for a p too small to be exact the difference of the scores, which it then is to the last digit. */
function lost(film: Film, pass: Pass, label: 0 | 1): Sum {
  if (pass.probabilities[label] < LEAST_PROBABILITY) {
    return film.sum("error", [
      film.term(`score:${1 - label}`),
      { ...film.term(`score:${label}`), minus: true },
    ]);
  }
  return film.sum("error", [film.term(`probability:${label}`)], "logarithm");
}

function backThroughSecond(film: Film): void {
  for (const k of NINE) {
    const terms = NINE.map((p) => {
      const under = UNDER[9 * p + k]!;
      return under >= 0
        ? film.term(`delta:map:0:${p}`, `relu:${under}`)
        : { ...film.term(`delta:map:0:${p}`, "border"), product: 0, border: true };
    });
    film.add("gradient", [film.sum(`gradient:second:${k}`, terms)]);
  }
  film.add(
    "delta",
    NINE.map((q) => {
      const terms = NINE.flatMap((p) => {
        const k = NINE.find((k) => UNDER[9 * p + k] === q);
        return k === undefined ? [] : [film.term(`delta:map:0:${p}`, `second:${k}`)];
      });
      return film.sum(`delta:relu:${q}`, terms);
    }),
  );
  film.add(
    "delta",
    NINE.map((q) => film.sum(`delta:first:${q}`, [film.term(`delta:relu:${q}`, `slope:${q}`)])),
  );
}

/** The numbers as they are shown together: each filter, the second filter, each output's weights with its bias. */
function groups(shape: Shape): Place[][] {
  const { second, weights, biases } = slices(shape);
  const range = (begin: number, length: number) =>
    Array.from({ length }, (_, at) => placeOf(begin + at, shape));
  const half = 4 * shape.filters;
  return [
    ...filtersOf(shape).map((f) => range(9 * f, 9)),
    ...(second === null ? [] : [range(second, 9)]),
    ...TWO.map((o) => [...range(weights + o * half, half), ...range(biases + o, 1)]),
  ];
}
