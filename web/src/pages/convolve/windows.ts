// Where a sliding window is: which cells of the input feed a cell of the output, and the other way round. Rows and columns are
// alike and independent of each other, so everything is said of one axis and then multiplied.
import type { Step } from "../../api/client";

export type Border = "none" | "zeros" | "reflect" | "replicate";

export interface Axis {
  /** Cells of the input's side. */
  size: number;
  /** Cells of the window's side. */
  cells: number;
  stride: number;
  dilation: number;
  border: Border;
  /** Border cells before the first and after the last cell. */
  before: number;
  after: number;
  /** Cells of the output's side; below 1 where the window does not fit. */
  places: number;
}

export interface Geometry {
  down: Axis;
  across: Axis;
}

export interface Place {
  y: number;
  x: number;
}

/** One cell of a window. */
export interface Tap extends Place {
  /** The kernel's cell. */
  row: number;
  column: number;
  /** The cell of the input whose number is used there: itself, or the one that a border repeats; null in a border of zeros. */
  source: Place | null;
  /** It is outside the input. */
  outside: boolean;
}

export function axis(size: number, cells: number, border: Border = "none", stride = 1, dilation = 1): Axis {
  const reach = (cells - 1) * dilation;
  const before = border === "none" ? 0 : Math.floor(reach / 2);
  const after = border === "none" ? 0 : reach - before;
  const places = Math.floor((size + before + after - reach - 1) / stride) + 1;
  return { size, cells, stride, dilation, border, before, after, places };
}

/** How a step's window moves over an input; null where it has no place. */
export function geometry(step: Step, height: number, width: number): Geometry | null {
  const [down, across] =
    step.kind === "convolve"
      ? [axisOf(height, step.kernel.length), axisOf(width, step.kernel[0]?.length ?? 0)]
      : step.kind === "pool"
        ? [axis(height, step.size, "none", step.stride), axis(width, step.size, "none", step.stride)]
        : [axis(height, 1), axis(width, 1)];
  return down.places < 1 || across.places < 1 ? null : { down, across };

  function axisOf(size: number, cells: number): Axis {
    const { border, stride, dilation } = step as Extract<Step, { kind: "convolve" }>;
    return axis(size, cells, border, stride, dilation);
  }
}

/** The cell whose number is used at `at`, which may be in the border; null: it is a zero of the border. */
export function source({ size, border }: Axis, at: number): number | null {
  if (at >= 0 && at < size) return at;
  if (border === "replicate") return at < 0 ? 0 : size - 1;
  if (border === "reflect") return at < 0 ? -at : 2 * (size - 1) - at;
  return null;
}

/** The cells that feed output (y, x), row by row. */
export function windowOf({ down, across }: Geometry, y: number, x: number): Tap[] {
  const taps: Tap[] = [];
  for (let row = 0; row < down.cells; row++) {
    const atY = y * down.stride - down.before + row * down.dilation;
    const sourceY = source(down, atY);
    for (let column = 0; column < across.cells; column++) {
      const atX = x * across.stride - across.before + column * across.dilation;
      const sourceX = source(across, atX);
      taps.push({
        row,
        column,
        y: atY,
        x: atX,
        source: sourceY === null || sourceX === null ? null : { y: sourceY, x: sourceX },
        outside: atY < 0 || atX < 0 || atY >= down.size || atX >= across.size,
      });
    }
  }
  return taps;
}

/** The outputs that the cell (y, x) feeds. A cell of the input counts with all its copies in the border. */
export function fedBy(geometry: Geometry, y: number, x: number): Place[] {
  const { down, across } = geometry;
  const outside = y < 0 || x < 0 || y >= down.size || x >= across.size;
  const columns = places(across, x, outside);
  return places(down, y, outside).flatMap((row) => columns.map((column) => ({ y: row, x: column })));
}

/** The places along an axis whose window holds `at`, or (unless `alone`) one of its copies; in order. */
function places(axis: Axis, at: number, alone: boolean): number[] {
  const found = new Set<number>();
  for (let copy = -axis.before; copy < axis.size + axis.after; copy++) {
    if (alone ? copy !== at : source(axis, copy) !== at) continue;
    for (let cell = 0; cell < axis.cells; cell++) {
      const place = (copy + axis.before - cell * axis.dilation) / axis.stride;
      if (Number.isInteger(place) && place >= 0 && place < axis.places) found.add(place);
    }
  }
  return [...found].sort((a, b) => a - b);
}

/** The output whose window is best centred on the cell (y, x). */
export function nearest({ down, across }: Geometry, y: number, x: number): Place {
  return { y: along(down, y), x: along(across, x) };

  function along({ before, cells, dilation, stride, places }: Axis, at: number): number {
    const place = Math.round((at + before - ((cells - 1) * dilation) / 2) / stride);
    return Math.min(Math.max(place, 0), places - 1);
  }
}
