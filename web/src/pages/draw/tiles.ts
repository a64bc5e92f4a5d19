// How maps are laid out in rows: as large as the space allows, each cell a whole number of pixels.

export interface Tiles {
  /** CSS pixels of a cell. */
  scale: number;
  columns: number;
  rows: number;
  /** Of a tile and the gap after it. */
  stepX: number;
  stepY: number;
  width: number;
  height: number;
}

const GAP = 6;
/** Below this a map is too small to see anything in it, however many there are. */
const SMALLEST = 40;

/**
 * @param high - CSS pixels that should be enough for all rows; more are taken if the tiles would become too small.
 * @param largest - CSS pixels of a tile's longer side at most.
 */
export function tiles(
  count: number,
  height: number,
  width: number,
  wide: number,
  high: number,
  largest = 112,
): Tiles {
  const greatest = Math.max(Math.floor(largest / Math.max(height, width)), 1);
  const least = Math.min(Math.max(Math.ceil(SMALLEST / Math.max(height, width)), 1), greatest);
  for (let scale = greatest; ; scale--) {
    const stepX = width * scale + GAP;
    const stepY = height * scale + GAP;
    const most = Math.min(Math.max(Math.floor((wide + GAP) / stepX), 1), count);
    const rows = Math.ceil(count / most);
    const columns = Math.ceil(count / rows); // rows of equal length
    const fits = columns * stepX - GAP <= wide && rows * stepY - GAP <= high;
    if (fits || scale === least) {
      return { scale, columns, rows, stepX, stepY, width: columns * stepX - GAP, height: rows * stepY - GAP };
    }
  }
}
