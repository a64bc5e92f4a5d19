// Where the parts of a network's drawing stand: an image, stacks of maps, columns of neurons, from left to right.
import type { PadModelDetail } from "../../api/client";

type Layer = PadModelDetail["layers"][number];

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Column {
  /** The name of the layer that made it; `input` for the image. */
  name: string;
  kind: string;
  /** As it stands in the model's text. */
  text: string;
  /** What follows without changing the shape: `relu`, `norm`, ... */
  then: string[];
  /** Height, width and count of maps; null for a column of neurons. */
  maps: { height: number; width: number; count: number } | null;
  units: number;
  parameters: number;
  /** Around all that is drawn. */
  box: Box;
  /** The maps that are drawn; all of them, unless there are too many. */
  tiles: Box[];
  /** The neurons that are drawn, with their number; where some are left out, `gap` is where the dots stand. */
  dots: { x: number; y: number; unit: number }[];
  gap: { x: number; y: number } | null;
  /** Horizontal middle, and how much room there is for words. */
  middle: number;
  room: number;
}

export interface Schematic {
  columns: Column[];
  width: number;
  height: number;
}

const HEIGHT = 216;
const BETWEEN = 36;
const ROOM = 104;
const NAMES = 116;
const TILE_GAP = 4;
const MOST_TILES = 64;
const WIDEST = 190;
const LARGEST_TILE = 60;
const PRIMES = new Set([5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61]);
const PITCH = 13;
const NAMED_PITCH = 20;
const MOST_DOTS = 16;

/** What layers are for that only work on the numbers of the layer before. */
const FOLLOWERS: ReadonlySet<Layer["role"]> = new Set(["activation", "norm", "dropout"]);

/** Layers that change the shape, each with those that only work on its numbers; what is inside a block counts as the block. */
export function folded(layers: readonly Layer[]): { layer: Layer; then: string[]; parameters: number }[] {
  const steps: { layer: Layer; then: string[]; parameters: number }[] = [];
  const inside = new Map<string, number>();
  const blocks = layers
    .map((layer) => layer.name)
    .filter((name) => layers.some((other) => other.name.startsWith(`${name}.`)));
  for (const layer of layers) {
    const block = blocks.find((name) => layer.name.startsWith(`${name}.`));
    if (block !== undefined) {
      inside.set(block, (inside.get(block) ?? 0) + layer.parameters);
      continue;
    }
    const parameters = layer.parameters + (inside.get(layer.name) ?? 0);
    const last = steps.at(-1);
    if (layer.role === "reshape") continue;
    if (last && FOLLOWERS.has(layer.role)) {
      last.then.push(layer.kind);
      last.parameters += parameters;
    } else {
      steps.push({ layer, then: [], parameters });
    }
  }
  return steps;
}

/** The drawing of a network; `input` is height, width, channels. */
export function schematic(
  input: readonly [number, number, number],
  layers: readonly Layer[],
  outputs: number,
): Schematic {
  const steps = folded(layers);
  const named = outputs <= 24;
  const height = Math.max(HEIGHT, named ? outputs * NAMED_PITCH : 0);
  const columns: Column[] = [];
  let x = 0;
  const image: Layer = {
    name: "input",
    kind: "image",
    role: "other",
    output: [...input],
    parameters: 0,
    text: "",
  };
  for (const { layer, then, parameters } of [{ layer: image, then: [], parameters: 0 }, ...steps]) {
    const last = layer === steps.at(-1)?.layer;
    const column =
      layer.output.length === 3
        ? stack(layer.output as [number, number, number], height)
        : line(layer.output[0]!, height, last && named ? NAMED_PITCH : PITCH, last && named);
    const room = Math.max(column.box.width, ROOM);
    const shift = x + (room - column.box.width) / 2;
    columns.push({
      name: layer.name,
      kind: layer.kind,
      text: layer.text,
      then,
      parameters,
      maps: column.maps,
      units: column.units,
      box: moved(column.box, shift),
      tiles: column.tiles.map((tile) => moved(tile, shift)),
      dots: column.dots.map((dot) => ({ ...dot, x: dot.x + shift })),
      gap: column.gap && { ...column.gap, x: column.gap.x + shift },
      middle: x + room / 2,
      room,
    });
    x += room + BETWEEN;
  }
  return { columns, width: x - BETWEEN + (named ? Math.max(NAMES - ROOM / 2, 0) : 0), height };
}

type Part = Pick<Column, "maps" | "units" | "box" | "tiles" | "dots" | "gap">;

function moved<T extends { x: number }>(part: T, shift: number): T {
  return { ...part, x: part.x + shift };
}

function stack([height, width, count]: [number, number, number], high: number): Part {
  const shown = Math.min(count, MOST_TILES);
  const natural = LARGEST_TILE * Math.sqrt(Math.max(height, width) / 28);
  const space = Math.min(high, HEIGHT);
  let best = { columns: 1, side: 0 };
  for (let columns = 1; columns <= shown; columns++) {
    // Full rows only, where the number of maps allows them.
    if (shown % columns > 0 && !PRIMES.has(shown)) continue;
    const rows = Math.ceil(shown / columns);
    const fits = Math.min((WIDEST + TILE_GAP) / columns, (space + TILE_GAP) / rows) - TILE_GAP;
    const side = Math.floor(Math.min(natural, fits, 64));
    if (side > best.side) best = { columns, side };
  }
  const { columns, side } = best;
  const rows = Math.ceil(shown / columns);
  const step = side + TILE_GAP;
  const box = { x: 0, y: 0, width: columns * step - TILE_GAP, height: rows * step - TILE_GAP };
  box.y = (high - box.height) / 2;
  const tiles = Array.from({ length: shown }, (_, k) => ({
    x: (k % columns) * step,
    y: box.y + Math.floor(k / columns) * step,
    width: side,
    height: side,
  }));
  return { maps: { height, width, count }, units: 0, box, tiles, dots: [], gap: null };
}

function line(units: number, high: number, pitch: number, all: boolean): Part {
  const most = all ? units : Math.min(MOST_DOTS, units);
  const left = most < units;
  const places = left ? most + 1 : most;
  const top = (high - places * pitch) / 2 + pitch / 2;
  const dots: Column["dots"] = [];
  let gap: Column["gap"] = null;
  for (let place = 0; place < places; place++) {
    const y = top + place * pitch;
    if (left && place === most / 2) gap = { x: 6, y };
    else dots.push({ x: 6, y, unit: left && place > most / 2 ? units - (places - place) : place });
  }
  return {
    maps: null,
    units,
    box: { x: 0, y: top - pitch / 2, width: 12, height: places * pitch },
    tiles: [],
    dots,
    gap,
  };
}
