// Which numbers of the figure belong together for the keyboard: Tab comes to one of a group, arrow keys move inside it.
import type { Layout } from "./layout";
import type { Place } from "./types";

export interface Group {
  places: readonly Place[];
  columns: number;
}

export function groupsOf({ grids, inputs, weights, outputs }: Layout): Group[] {
  const line = (places: Place[]): Group => ({ columns: 1, places });
  const half = weights.length / 2;
  return [
    ...grids.map(({ cells, columns }) => ({ columns, places: cells.map((cell) => cell.place) })),
    line(inputs.map((node) => node.place)),
    line(weights.slice(0, half).map((node) => node.place)),
    line(weights.slice(half).map((node) => node.place)),
    line(outputs.map((output) => output.score.place)),
    line(outputs.map((output) => output.bias.place)),
    line(outputs.map((_, output) => `probability:${output}`)),
  ];
}

/** The place of a group to which a key moves from `place`; null where the key does not move or there is nothing. */
export function neighbour({ places, columns }: Group, place: Place, key: string): Place | null {
  const at = places.indexOf(place);
  const to: Record<string, number> = {
    ArrowRight: at + 1,
    ArrowLeft: at - 1,
    ArrowUp: at - columns,
    ArrowDown: at + columns,
    Home: 0,
    End: places.length - 1,
  };
  return places[to[key] ?? -1] ?? null;
}
