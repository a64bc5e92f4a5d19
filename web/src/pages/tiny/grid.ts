// Arrow keys in a grid of cells, row by row.

/** Where a key leads from cell `from`; it stays at the edge. Null for a key that does not move. */
export function moveInGrid(from: number, key: string, columns: number, rows: number): number | null {
  const [row, column] = [Math.floor(from / columns), from % columns];
  switch (key) {
    case "ArrowLeft":
      return from - (column > 0 ? 1 : 0);
    case "ArrowRight":
      return from + (column < columns - 1 ? 1 : 0);
    case "ArrowUp":
      return from - (row > 0 ? columns : 0);
    case "ArrowDown":
      return from + (row < rows - 1 ? columns : 0);
    case "Home":
      return row * columns;
    case "End":
      return row * columns + columns - 1;
  }
  return null;
}
