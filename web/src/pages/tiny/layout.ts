// Where everything in the figure is: a pure function of the network's shape and of whether there is room beside or only below.
// Lengths are CSS pixels at the figure's natural size.
import { CORNER, UNDER, WINDOWS } from "./network";
import type { Place, Shape } from "./types";

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

export type GridKind = "pixel" | "filter" | "first" | "relu" | "second" | "map" | "pooled";

/** Cells in rows and columns; all of one part of the network. */
export interface Grid extends Box {
  kind: GridKind;
  /** Which filter it belongs to. */
  filter: number;
  columns: number;
  cells: (Box & { place: Place })[];
}

/** A number by itself: an input, a score, a weight, a bias. */
export interface Node extends Box {
  place: Place;
}

export interface Output {
  score: Node;
  bias: Node;
  /** The probability's bar at its full length. */
  bar: Box;
  /** Baselines of the class's name, of the percentage, and of the word "bias". */
  name: { x: number; y: number };
  percent: { x: number; y: number };
  biasName: { x: number; y: number };
}

export interface Line {
  path: string;
}

export interface Wire extends Line {
  place: Place;
}

export interface Caption {
  kind: GridKind | "input" | "output";
  /** From 0, or null where there is only one. */
  filter: number | null;
  x: number;
  y: number;
  anchor: "start" | "end";
}

export interface Layout {
  width: number;
  height: number;
  grids: Grid[];
  inputs: Node[];
  weights: Node[];
  outputs: Output[];
  wires: Wire[];
  /** What leads from one part to the next, where there is no number on the way. */
  links: Line[];
  captions: Caption[];
  /** The box of every place in the figure. */
  boxes: ReadonlyMap<Place, Box>;
}

const CAPTION = 26; // the captions' line above the cells
const WEIGHT = { width: 50, height: 25 };
const RADIUS = 29; // of an output

/** The place of cell `at` of a grid. */
function placeIn(kind: GridKind, filter: number, at: number): Place {
  return kind === "filter" || kind === "map" || kind === "pooled"
    ? `${kind}:${filter}:${at}`
    : `${kind}:${at}`;
}

function grid(
  kind: GridKind,
  filter: number,
  x: number,
  y: number,
  columns: number,
  cell: { width: number; height: number },
): Grid {
  const cells = Array.from({ length: columns * columns }, (_, at) => ({
    place: placeIn(kind, filter, at),
    x: x + (at % columns) * cell.width,
    y: y + Math.floor(at / columns) * cell.height,
    width: cell.width,
    height: cell.height,
  }));
  return { kind, filter, columns, cells, x, y, width: columns * cell.width, height: columns * cell.height };
}

function square(side: number): { width: number; height: number } {
  return { width: side, height: side };
}

const right = (box: Box) => ({ x: box.x + box.width, y: box.y + box.height / 2 });
const left = (box: Box) => ({ x: box.x, y: box.y + box.height / 2 });
const above = (box: Box) => ({ x: box.x + box.width / 2, y: box.y });
const below = (box: Box) => ({ x: box.x + box.width / 2, y: box.y + box.height });

function across(from: { x: number; y: number }, to: { x: number; y: number }): string {
  const bend = (to.x - from.x) * 0.5;
  return `M${from.x} ${from.y}C${from.x + bend} ${from.y} ${to.x - bend} ${to.y} ${to.x} ${to.y}`;
}

function down(from: { x: number; y: number }, to: { x: number; y: number }): string {
  const bend = (to.y - from.y) * 0.5;
  return `M${from.x} ${from.y}C${from.x} ${from.y + bend} ${to.x} ${to.y - bend} ${to.x} ${to.y}`;
}

export function layout(shape: Shape, narrow: boolean): Layout {
  return narrow ? stacked(shape) : shape.inARow ? wideRow() : wide(shape);
}

/** Filters side by side, each a row of the figure. */
function wide({ filters }: Shape): Layout {
  // wide enough for "−0.80", and low enough that four of them and a panel fit a laptop's screen
  const cell = { width: 51, height: [47, 40, 33, 27][filters - 1]! };
  const gap = [0, 14, 12, 10][filters - 1]!;
  const pitch = 3 * cell.height + gap;
  const height = Math.max(filters * pitch - gap, 240);
  const top = CAPTION + (height - (filters * pitch - gap)) / 2;
  const image = grid("pixel", 0, 1, CAPTION + (height - 215) / 2, 5, square(43));
  const grids = [image];
  const links: Line[] = [];
  const inputs: Node[] = [];
  const weights: Node[] = [];
  const x = { filter: 248, map: 0, pooled: 0, input: 0, weight: 0 };
  x.map = x.filter + 3 * cell.width + 32;
  x.pooled = x.map + 3 * cell.width + 32;
  x.input = x.pooled + 2 * cell.width + 30;
  const one = filters === 1;
  const pill = one ? square(48) : { width: 50, height: Math.min(23, pitch / 4 - 1.5) };
  x.weight = x.input + pill.width + 16;
  for (let f = 0; f < filters; f++) {
    const y = top + f * pitch;
    const filter = grid("filter", f, x.filter, y, 3, cell);
    const map = grid("map", f, x.map, y, 3, cell);
    const pooled = grid("pooled", f, x.pooled, y + cell.height / 2, 2, cell);
    grids.push(filter, map, pooled);
    links.push({ path: across(right(image), left(filter)) }, { path: across(right(filter), left(map)) });
    links.push({ path: across(right(map), left(pooled)) });
    for (let i = 0; i < 4; i++) {
      // one filter's inputs fill the whole height, several filters' the height of their rows
      const share = one ? height / 4 : pitch / 4;
      const centre = one ? CAPTION + share * (i + 0.5) : y - gap / 2 + share * (i + 0.5);
      const input = { place: `input:${f}:${i}`, x: x.input, y: centre - pill.height / 2, ...pill };
      inputs.push(input);
      const start = { x: pooled.x + pooled.width, y: pooled.y + pooled.height * (i * 0.25 + 0.125) };
      links.push({ path: across(start, left(input)) });
    }
  }
  for (let output = 0; output < 2; output++) {
    inputs.forEach((input, at) => {
      const centre = input.y + input.height / 2;
      weights.push({
        place: `weight:${output}:${at}`,
        x: one ? x.weight : x.weight + output * WEIGHT.width,
        y: one ? centre + (output - 1) * WEIGHT.height : centre - pill.height / 2,
        width: WEIGHT.width,
        height: one ? WEIGHT.height : pill.height,
      });
    });
  }
  const end = x.weight + (one ? 1 : 2) * WEIGHT.width;
  const outputs = [0, 1].map((output) =>
    outputBeside(output, end + (one ? 92 : 80) + RADIUS, CAPTION + height * (0.25 + 0.5 * output) - 14),
  );
  return assembled(grids, inputs, weights, outputs, links, captionsAbove(grids, inputs, outputs, filters), {
    height: CAPTION + height + 8,
    wire: (weight, output) => {
      const from = right(weight);
      const place = one ? from : { x: end, y: from.y + (Number(weight.place.split(":")[1]) - 0.5) * 10 };
      return across(place, left(output.score));
    },
    stub: (input, weight) => (one ? across(right(input), left(weight)) : null),
  });
}

/** Two filters one behind the other, each above its map. */
function wideRow(): Layout {
  const cell = { width: 50, height: 40 };
  const side = 3 * cell.height;
  const height = 2 * side + 34;
  const middle = CAPTION + height / 2;
  const x = { first: 211, relu: 381, map: 551, pooled: 721, input: 843, weight: 903 };
  const image = grid("pixel", 0, 1, middle - 95, 5, square(38));
  const filter = grid("filter", 0, x.first, CAPTION, 3, cell);
  const first = grid("first", 0, x.first, CAPTION + side + 34, 3, cell);
  const relu = grid("relu", 0, x.relu, CAPTION + side + 34, 3, cell);
  const second = grid("second", 0, x.map, CAPTION, 3, cell);
  const map = grid("map", 0, x.map, CAPTION + side + 34, 3, cell);
  const pooled = grid("pooled", 0, x.pooled, middle - cell.height, 2, cell);
  const grids = [image, filter, first, relu, second, map, pooled];
  const links = [
    [right(image), left(filter)],
    [right(image), left(first)],
    [right(first), left(relu)],
    [right(relu), left(map)],
    [right(map), left(pooled)],
  ].map(([from, to]) => ({ path: across(from!, to!) }));
  links.push({ path: down(below(filter), above(first)) }, { path: down(below(second), above(map)) });
  const inputs: Node[] = [];
  const weights: Node[] = [];
  for (let i = 0; i < 4; i++) {
    const input = {
      place: `input:0:${i}`,
      x: x.input,
      y: CAPTION + (height / 4) * (i + 0.5) - 24,
      ...square(48),
    };
    inputs.push(input);
    const start = { x: pooled.x + pooled.width, y: pooled.y + pooled.height * (i * 0.25 + 0.125) };
    links.push({ path: across(start, left(input)) });
  }
  for (let output = 0; output < 2; output++) {
    inputs.forEach((input, at) => {
      const y = input.y + input.height / 2 + (output - 1) * WEIGHT.height;
      weights.push({ place: `weight:${output}:${at}`, x: x.weight, y, ...WEIGHT });
    });
  }
  const outputs = [0, 1].map((output) =>
    outputBeside(
      output,
      x.weight + WEIGHT.width + 52 + RADIUS,
      CAPTION + height * (0.25 + 0.5 * output) - 14,
    ),
  );
  const captions = captionsAbove(grids, inputs, outputs, 1);
  return assembled(grids, inputs, weights, outputs, links, captions, {
    height: CAPTION + height + 8,
    wire: (weight, output) => across(right(weight), left(output.score)),
    stub: (input, weight) => across(right(input), left(weight)),
  });
}

/** For a phone: from top to bottom, 366 wide. */
function stacked(shape: Shape): Layout {
  const width = 366;
  const one = shape.filters === 1 && !shape.inARow;
  const cell = { width: one ? 46 : 42, height: 42 };
  const grids: Grid[] = [];
  const links: Line[] = [];
  let y = CAPTION;
  const image = grid("pixel", 0, 1, y, 5, square(38));
  const filter = grid("filter", 0, width - 3 * cell.width - 1, y + 32, 3, cell);
  grids.push(image);
  const captions: Caption[] = [];
  y += 190 + 38;
  /** Three grids side by side, with little between them. */
  const row = (f: number, kind: "filter" | "second") => {
    const grids = [
      grid(kind, f, 1, y, 3, cell),
      grid("map", f, 141, y, 3, cell),
      grid("pooled", f, 281, y + 21, 2, cell),
    ];
    links.push({ path: across(right(grids[0]!), left(grids[1]!)) });
    links.push({ path: across(right(grids[1]!), left(grids[2]!)) });
    y += 126;
    return grids;
  };
  if (shape.inARow) {
    const first = grid("first", 0, 30, y, 3, cell);
    const relu = grid("relu", 0, 211, y, 3, cell);
    y += 126 + 38;
    grids.push(filter, first, relu, ...row(0, "second"));
    links.push({ path: across(right(image), left(filter)) }, { path: across(right(first), left(relu)) });
    links.push({ path: down(below(image), above(first)) }, { path: down(below(filter), above(first)) });
    links.push({ path: down(below(relu), above(grids[5]!)) });
  } else if (one) {
    const map = grid("map", 0, 50, y, 3, cell);
    const pooled = grid("pooled", 0, 231, y + 21, 2, cell);
    y += 126;
    grids.push(filter, map, pooled);
    links.push({ path: across(right(image), left(filter)) }, { path: across(right(map), left(pooled)) });
    links.push({ path: down(below(image), above(map)) }, { path: down(below(filter), above(map)) });
  } else {
    for (let f = 0; f < shape.filters; f++) {
      if (f > 0) y += 34;
      grids.push(...row(f, "filter"));
    }
    links.unshift({ path: down(below(image), above(grids[1]!)) });
  }
  y += 44;
  const inputs: Node[] = [];
  const weights: Node[] = [];
  const column = width / 4;
  const pill = shape.filters === 1 ? square(40) : { width: 46, height: 26 };
  for (let f = 0; f < shape.filters; f++) {
    for (let i = 0; i < 4; i++) {
      const centre = column * (i + 0.5);
      inputs.push({ place: `input:${f}:${i}`, x: centre - pill.width / 2, y, ...pill });
    }
    y += pill.height + 6 + 28 + 12;
  }
  for (let output = 0; output < 2; output++) {
    inputs.forEach((input, at) => {
      const centre = input.x + input.width / 2;
      weights.push({
        place: `weight:${output}:${at}`,
        x: centre + (output - 1) * 44,
        y: input.y + input.height + 6,
        width: 44,
        height: 28,
      });
    });
  }
  if (shape.filters === 1) {
    const pooled = grids.at(-1)!;
    inputs.forEach((input, i) => {
      const from = { x: pooled.x + pooled.width * (i * 0.25 + 0.125), y: pooled.y + pooled.height };
      links.push({ path: down(from, above(input)) });
    });
  }
  y += 54;
  const outputs = [0, 1].map((output): Output => {
    const centre = width * (0.25 + 0.5 * output);
    return {
      score: { place: `score:${output}`, x: centre - RADIUS, y, width: 2 * RADIUS, height: 2 * RADIUS },
      bias: { place: `bias:${output}`, x: centre - 24, y: y + 2 * RADIUS + 6, width: 48, height: 30 },
      bar: { x: centre - 66, y: y + 128, width: 132, height: 14 },
      name: { x: centre - 66, y: y + 120 },
      percent: { x: centre - 66, y: y + 162 },
      biasName: { x: centre + 30, y: y + 2 * RADIUS + 26 },
    };
  });
  for (const each of grids) {
    const caption = captionOf(each, shape.filters);
    // the last of a row is narrower than its name
    if (each.kind === "pooled") {
      const map = grids.find(({ kind, filter }) => kind === "map" && filter === each.filter)!;
      captions.push({ ...caption, filter: null, x: each.x + each.width, y: map.y - 8, anchor: "end" });
    } else captions.push(caption);
  }
  captions.push({ kind: "input", filter: null, x: 4, y: inputs[0]!.y - 8, anchor: "start" });
  captions.push({ kind: "output", filter: null, x: 4, y: y - 14, anchor: "start" });
  return assembled(grids, inputs, weights, outputs, links, captions, {
    height: y + 172,
    width,
    wire: (weight, output) => down(below(weight), above(output.score)),
    stub: () => null,
  });
}

function outputBeside(output: number, x: number, y: number): Output {
  return {
    score: { place: `score:${output}`, x: x - RADIUS, y: y - RADIUS, width: 2 * RADIUS, height: 2 * RADIUS },
    bias: { place: `bias:${output}`, x: x - 24, y: y + RADIUS + 5, width: 48, height: 26 },
    bar: { x: x + RADIUS + 14, y: y - 6, width: 104, height: 14 },
    name: { x: x + RADIUS + 14, y: y - 14 },
    percent: { x: x + RADIUS + 14, y: y + 27 },
    biasName: { x: x + 30, y: y + RADIUS + 23 },
  };
}

function captionOf(each: Grid, filters: number): Caption {
  const several = filters > 1 && each.kind !== "pixel";
  return {
    kind: each.kind,
    filter: several ? each.filter : null,
    x: each.x,
    y: each.y - 8,
    anchor: "start",
  };
}

/** Above each grid; for several filters only above the first row, where there is room. */
function captionsAbove(grids: Grid[], inputs: Node[], outputs: Output[], filters: number): Caption[] {
  const captions = grids.filter((each) => each.filter === 0).map((each) => captionOf(each, 1));
  captions.push({
    kind: "input",
    filter: null,
    x: inputs[0]!.x,
    y: Math.min(inputs[0]!.y - 6, CAPTION - 8),
    anchor: "start",
  });
  captions.push({ kind: "output", filter: null, x: outputs[0]!.score.x, y: CAPTION - 8, anchor: "start" });
  if (filters > 1) for (const caption of captions) if (caption.kind !== "pixel") caption.y = CAPTION - 8;
  return captions;
}

function assembled(
  grids: Grid[],
  inputs: Node[],
  weights: Node[],
  outputs: Output[],
  links: Line[],
  captions: Caption[],
  rest: {
    height: number;
    width?: number;
    wire: (weight: Node, output: Output) => string;
    stub: (input: Node, weight: Node) => string | null;
  },
): Layout {
  const wires = weights.map((weight, at) => ({
    place: weight.place,
    path: rest.wire(weight, outputs[Math.floor(at / inputs.length)]!),
  }));
  weights.forEach((weight, at) => {
    const path = rest.stub(inputs[at % inputs.length]!, weight);
    if (path !== null) links.push({ path });
  });
  const boxes = new Map<Place, Box>();
  for (const each of grids) for (const cell of each.cells) boxes.set(cell.place, cell);
  for (const node of [...inputs, ...weights]) boxes.set(node.place, node);
  outputs.forEach((output, at) => {
    boxes.set(output.score.place, output.score);
    boxes.set(output.bias.place, output.bias);
    boxes.set(`probability:${at}`, output.bar);
  });
  const width = rest.width ?? outputs[0]!.bar.x + outputs[0]!.bar.width + 2;
  return { width, height: rest.height, grids, inputs, weights, outputs, wires, links, captions, boxes };
}

/** The frame around places of one grid that fill a rectangle, so that a window can be drawn as one; null if they do not. */
export function window(places: readonly Place[], boxes: ReadonlyMap<Place, Box>): Box | null {
  const found = places.map((place) => boxes.get(place)).filter((box) => box !== undefined);
  if (found.length === 0) return null;
  const x = Math.min(...found.map((box) => box.x));
  const y = Math.min(...found.map((box) => box.y));
  const width = Math.max(...found.map((box) => box.x + box.width)) - x;
  const height = Math.max(...found.map((box) => box.y + box.height)) - y;
  const area = found.reduce((sum, box) => sum + box.width * box.height, 0);
  return Math.abs(area - width * height) < 0.5 ? { x, y, width, height } : null;
}

/** Places that light up: what goes in, what comes out, and the one that is looked at. */
export interface Lit<T> {
  from: T;
  to: T;
  at: T;
}

/** The places of the figure among those of a moment; derivatives and new numbers are where the number itself is. */
export function litIn(
  lit: { from: readonly Place[]; to: readonly Place[]; at: Place | null },
  boxes: ReadonlyMap<Place, Box>,
): Lit<ReadonlySet<Place>> {
  const here = (places: readonly Place[]) =>
    places
      .map((place) => place.replace(/^(delta|gradient|new):/, "").replace(/^target/, "probability"))
      .filter((place) => boxes.has(place));
  const at = new Set(here(lit.at === null ? [] : [lit.at]));
  const to = new Set(here(lit.to).filter((place) => !at.has(place)));
  const from = new Set(here(lit.from).filter((place) => !at.has(place) && !to.has(place)));
  return { from, to, at };
}

export interface Outline {
  /** The same from moment to moment for a window that slides. */
  key: string;
  role: keyof Lit<unknown>;
  box: Box;
  round: number;
}

/** The outlines of what lights up: cells of one grid that fill a rectangle as one window, everything else by itself. */
export function outlines(lit: Lit<ReadonlySet<Place>>, boxes: ReadonlyMap<Place, Box>): Outline[] {
  const found: Outline[] = [];
  for (const role of ["from", "to", "at"] as const) {
    const parts = new Map<string, Place[]>();
    for (const place of lit[role]) {
      const part = place.replace(/:\d+$/, "");
      parts.set(part, [...(parts.get(part) ?? []), place]);
    }
    for (const [part, places] of parts) {
      const grid = /^(pixel|filter|first|relu|second|map|pooled)/.test(part);
      const joined = grid ? window(places, boxes) : null;
      if (joined) {
        found.push({ key: `${role} ${part}`, role, box: joined, round: 3 });
        continue;
      }
      for (const place of places) {
        const box = boxes.get(place)!;
        const round = /^(input|score)/.test(place) ? Math.min(box.width, box.height) / 2 : 3;
        found.push({ key: `${role} ${place}`, role, box, round });
      }
    }
  }
  return found;
}

/** What a number is made of, and what it goes into; places only, for any image. */
export function relations(place: Place, shape: Shape): { from: Place[]; to: Place[] } {
  const [kind = "", first = "0", last = "0"] = place.split(":");
  const a = Number(first);
  const b = Number(last);
  const all = (part: string, length: number) => Array.from({ length }, (_, at) => `${part}${at}`);
  const filters = Array.from({ length: shape.filters }, (_, f) => f);
  const firstMap = (f: number) => (shape.inARow ? "first:" : `map:${f}:`);
  const covered = (cell: number) => OFFSETS.map((offset) => `pixel:${CORNER[cell]! + offset}`);
  switch (kind) {
    case "pixel": {
      const cells = CORNER.flatMap((corner, p) => (OFFSETS.includes(a - corner) ? [p] : []));
      return { from: [], to: filters.flatMap((f) => cells.map((p) => `${firstMap(f)}${p}`)) };
    }
    case "filter":
      return { from: [], to: all(firstMap(a), 9) };
    case "first":
      return { from: [...covered(a), ...all("filter:0:", 9)], to: [`relu:${a}`] };
    case "relu": {
      const cells = [...Array(9).keys()].filter((p) => UNDER.subarray(9 * p, 9 * p + 9).includes(a));
      return { from: [`first:${a}`], to: cells.map((p) => `map:0:${p}`) };
    }
    case "second":
      return { from: [], to: all("map:0:", 9) };
    case "map": {
      const under = [...UNDER.subarray(9 * b, 9 * b + 9)].filter((p) => p >= 0).map((p) => `relu:${p}`);
      const from = shape.inARow
        ? [...under, ...all("second:", 9)]
        : [...covered(b), ...all(`filter:${a}:`, 9)];
      const to = WINDOWS.flatMap((cells, i) =>
        (cells as readonly number[]).includes(b) ? [`pooled:${a}:${i}`] : [],
      );
      return { from, to };
    }
    case "pooled":
      return { from: WINDOWS[b]!.map((cell) => `map:${a}:${cell}`), to: [`input:${a}:${b}`] };
    case "input":
      return {
        from: [`pooled:${a}:${b}`],
        to: [`weight:0:${4 * a + b}`, `weight:1:${4 * a + b}`, "score:0", "score:1"],
      };
    case "weight":
      return { from: [`input:${b >> 2}:${b % 4}`], to: [`score:${a}`] };
    case "bias":
      return { from: [], to: [`score:${a}`] };
    case "score":
      return {
        from: [
          ...filters.flatMap((f) => all(`input:${f}:`, 4)),
          ...all(`weight:${a}:`, 4 * shape.filters),
          `bias:${a}`,
        ],
        to: ["probability:0", "probability:1"],
      };
    case "probability":
      return { from: ["score:0", "score:1"], to: [] };
  }
  return { from: [], to: [] };
}

const OFFSETS: readonly number[] = CORNER;
