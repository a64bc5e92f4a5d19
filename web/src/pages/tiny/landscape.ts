// The error as a landscape over two of the network's numbers, all others as they are; and the path of training in it.
import { emptyPass, loss } from "./network";
import type { Training } from "./training";
import type { Parameters, Picture, Shape } from "./types";

/** A square piece of the plane of two numbers. */
export interface Extent {
  /** The middle: the values of the two numbers there. */
  a: number;
  b: number;
  /** Half of the side. */
  half: number;
}

/** Numbers beyond are not looked for in the plane: a training that leaves all bounds passes them on its way. */
export const LARGEST = 1000;

/** The value of an axis at the middle of cell `at` of `cells`. */
export function middleOf(at: number, cells: number, centre: number, half: number): number {
  return centre + half * ((2 * at + 1) / cells - 1);
}

/**
 * Mean cross-entropy over `pictures` in the middles of `cells` x `cells` cells: number `a` grows with the column, number `b` with the
 * row. A generator, so that the caller can stop between two rows; it yields the rows that are done and returns the field, row by row.
 */
export function* landscape(
  shape: Shape,
  parameters: Parameters,
  pictures: readonly Picture[],
  a: number,
  b: number,
  extent: Extent,
  cells: number,
): Generator<number, Float64Array<ArrayBuffer>> {
  const tried = parameters.slice();
  const scratch = emptyPass(shape);
  const field = new Float64Array(cells * cells);
  for (let row = 0; row < cells; row++) {
    tried[b] = middleOf(row, cells, extent.b, extent.half);
    for (let column = 0; column < cells; column++) {
      tried[a] = middleOf(column, cells, extent.a, extent.half);
      field[row * cells + column] = loss(shape, tried, pictures, scratch);
    }
    yield row + 1;
  }
  return field;
}

/** Where the two numbers were at the moments `moments[0]`, `moments[1]`, ... */
export interface Path {
  moments: number[];
  a: Float64Array<ArrayBuffer>;
  b: Float64Array<ArrayBuffer>;
}

/**
 * The path of a training over two of its numbers: every moment, or, of more than `most`, evenly chosen ones; the first, the present
 * and the last are always among them.
 */
export function path(training: Training, a: number, b: number, most = 1500): Path {
  const { length, position } = training;
  const step = Math.max(1, (length - 1) / (most - 1));
  const chosen = new Set<number>();
  for (let at = 0; at < length - 1; at += step) chosen.add(Math.round(at));
  chosen.add(position).add(length - 1);
  const moments = [...chosen].sort((one, other) => one - other);
  const project = (parameter: number) =>
    Float64Array.from(moments, (moment) => training.parameterAt(moment, parameter));
  return { moments, a: project(a), b: project(b) };
}

const HALVES = [1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128] as const;

/** The piece of the plane that shows all points that are not too far, with some ground around them; a round middle and one of a few sizes. */
export function fit({ a, b }: Pick<Path, "a" | "b">): Extent {
  const axis = (values: Float64Array) => {
    const near = values.filter((value) => Math.abs(value) <= LARGEST);
    const low = near.reduce((least, value) => Math.min(least, value), Infinity);
    const high = near.reduce((most, value) => Math.max(most, value), -Infinity);
    const middle = low <= high ? Math.round(low + high) / 2 : 0;
    return { middle, reach: low <= high ? Math.max(high - middle, middle - low) : 0 };
  };
  const [first, second] = [axis(a), axis(b)];
  const reach = 1.25 * Math.max(first.reach, second.reach);
  return {
    a: first.middle,
    b: second.middle,
    half: HALVES.find((half) => half >= Math.max(reach, 1.5)) ?? HALVES.at(-1)!,
  };
}

/** Whether every point that is not too far is in the extent, a little away from its edge. */
export function holds(extent: Extent, { a, b }: Pick<Path, "a" | "b">): boolean {
  const inside = (value: number, centre: number) =>
    !(Math.abs(value) <= LARGEST) || Math.abs(value - centre) <= 0.96 * extent.half;
  return a.every((value) => inside(value, extent.a)) && b.every((value) => inside(value, extent.b));
}

/** The losses at the two ends of the shades. */
export interface Scale {
  low: number;
  high: number;
}

/** The ends of the scale for a field: round numbers around its finite values, with a factor of 5 between them at least. */
export function scaleOf(field: Float64Array): Scale {
  let least = Infinity;
  let most = 0;
  for (const value of field) {
    if (!Number.isFinite(value)) continue;
    least = Math.min(least, value);
    most = Math.max(most, value);
  }
  const low = ROUND.findLast((value) => value <= least) ?? ROUND[0]!;
  const high = ROUND.find((value) => value >= most && value >= 5 * low) ?? ROUND.at(-1)!;
  return { low: Math.min(low, high / 5), high };
}

// 1, 2, 5, 10, 20, ... from 0.0001 to 1,000
const ROUND = Array.from({ length: 22 }, (_, at) => Number(`${[1, 2, 5][at % 3]}e${Math.floor(at / 3) - 4}`));

/** The errors at which contour lines are drawn, each 1.26 times the one before; over a wide scale only every second, or third. */
export function levels({ low, high }: Scale): number[] {
  const steps = Math.round(10 * Math.log10(high / low));
  const every = Math.ceil(steps / 16);
  return Array.from(
    { length: Math.ceil(steps / every) - 1 },
    (_, at) => low * 10 ** (((at + 1) * every) / 10),
  );
}

/** Line pieces of one level, as x1, y1, x2, y2, ... in units of cells from the field's lower left corner (marching squares). */
export function contour(field: Float64Array, cells: number, level: number): number[] {
  const lines: number[] = [];
  for (let row = 0; row < cells - 1; row++) {
    for (let column = 0; column < cells - 1; column++) {
      const at = row * cells + column;
      const a = field[at]!;
      const b = field[at + 1]!;
      const c = field[at + cells + 1]!;
      const d = field[at + cells]!;
      const over = a > level;
      if (b > level === over && c > level === over && d > level === over) continue;
      const [x, y] = [column + 0.5, row + 0.5]; // the middle of cell `at`
      // a saddle gives two pieces; which of the two ways they are joined is not seen at this size
      if (a > level !== b > level) lines.push(x + share(a, b, level), y);
      if (b > level !== c > level) lines.push(x + 1, y + share(b, c, level));
      if (c > level !== d > level) lines.push(x + 1 - share(c, d, level), y + 1);
      if (d > level !== a > level) lines.push(x, y + 1 - share(d, a, level));
    }
  }
  return lines;
}

/** How far from `from` to `to` the level lies, in the logarithm, in which the field is nearly even. */
function share(from: number, to: number, level: number): number {
  const low = Math.log(Math.max(from, 1e-12));
  const way = (Math.log(level) - low) / (Math.log(Math.max(to, 1e-12)) - low);
  return Math.min(Math.max(way, 0), 1);
}

/** The two numbers that the training so far has moved most, from its start to now. */
export function widest(training: Training): [number, number] {
  const moved = Array.from(training.parameters, (value, index) => ({
    index,
    way: Math.abs(value - training.parameterAt(0, index)),
  }));
  const [first, second] = moved.sort((one, other) => other.way - one.way);
  return [first!.index, second!.index];
}
