// Which part of an image a square pane shows, and how large its cells are drawn.

export interface Extent {
  /** Rows and columns, border cells included. */
  rows: number;
  columns: number;
}

export interface View {
  /** CSS pixels of a cell's side. */
  cell: number;
  /** The row and column, border cells included, at the pane's upper left corner; negative where there is room to spare. */
  top: number;
  left: number;
}

const LARGEST_CELL = 96;

/** The whole image, in the middle. */
export function fitted({ rows, columns }: Extent, side: number): View {
  const cell = side / Math.max(rows, columns);
  return { cell, top: (rows - side / cell) / 2, left: (columns - side / cell) / 2 };
}

export function isFitted(view: View, extent: Extent, side: number): boolean {
  return view.cell <= fitted(extent, side).cell * 1.001;
}

/** Larger or smaller by `factor`; what is at (x, y) CSS pixels stays there. */
export function zoomed(view: View, extent: Extent, side: number, factor: number, x: number, y: number): View {
  const least = fitted(extent, side).cell;
  const cell = Math.min(Math.max(view.cell * factor, least), Math.max(LARGEST_CELL, least));
  return kept(
    { cell, top: view.top + y / view.cell - y / cell, left: view.left + x / view.cell - x / cell },
    extent,
    side,
  );
}

/** Moved by CSS pixels. */
export function moved(view: View, extent: Extent, side: number, dx: number, dy: number): View {
  return kept({ ...view, top: view.top - dy / view.cell, left: view.left - dx / view.cell }, extent, side);
}

/** The rows `top` to `bottom` and columns `left` to `right` in the middle, where they and one cell around were not in sight. */
export function revealing(
  view: View,
  extent: Extent,
  side: number,
  top: number,
  left: number,
  bottom: number,
  right: number,
): View {
  const span = side / view.cell;
  // In the middle and not just in sight: a window that slides moves the image now and then, and not with each step.
  const along = (from: number, first: number, last: number): number =>
    first - 1 < from || last + 2 > from + span ? (first + last + 1 - span) / 2 : from;
  const to = kept(
    { ...view, top: along(view.top, top, bottom), left: along(view.left, left, right) },
    extent,
    side,
  );
  return to.top === view.top && to.left === view.left ? view : to;
}

/** The cell at CSS pixels (x, y); null beside the image. */
export function cellAt(
  view: View,
  extent: Extent,
  x: number,
  y: number,
): { row: number; column: number } | null {
  const row = Math.floor(view.top + y / view.cell);
  const column = Math.floor(view.left + x / view.cell);
  return row >= 0 && row < extent.rows && column >= 0 && column < extent.columns ? { row, column } : null;
}

/** No empty room is shown where there is image instead; what is smaller than the pane is in its middle. */
function kept(view: View, { rows, columns }: Extent, side: number): View {
  const span = side / view.cell;
  const along = (from: number, size: number): number =>
    size <= span ? (size - span) / 2 : Math.min(Math.max(from, 0), size - span);
  return { cell: view.cell, top: along(view.top, rows), left: along(view.left, columns) };
}
