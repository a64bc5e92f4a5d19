// Draws an array of numbers with its border cells into a canvas, and what is lit above it.
import type { Numbers } from "../../api/arrays";
import { css, inkOn, mix, signed, type Palette, type Rgb } from "../../lib/colour";
import { show } from "../../lib/numbers";
import { source, type Geometry, type Place } from "./windows";
import type { Extent, View } from "./view";

export interface Picture {
  numbers: Numbers;
  /** Which channel; of `rgb` all. */
  channel: number;
  look: "signed" | "grey" | "rgb";
  /** The number drawn in full colour, or white. */
  range: number;
  digits: number;
  /** Whose border cells are drawn around it. */
  shape: Geometry | null;
}

/** What is lit, in rows and columns of the array; border cells are outside of it. */
export interface Marks {
  /** The window's cells. */
  window: readonly Place[];
  /** The one cell that is looked at. */
  strong: Place | null;
  /** Cells that are lit lightly. */
  faint: readonly Place[];
  /** Cells of another window, drawn thinly. */
  other: readonly Place[];
}

export const NUMBERS_FROM = 30;
const FONT = '"DejaVu Sans", system-ui, sans-serif';
const LIGHT = "#f3b61f"; // --light is the same in light and dark

export function extentOf({ numbers, shape }: Picture): Extent & { top: number; left: number } {
  const { before: top = 0, after: bottom = 0 } = shape?.down ?? {};
  const { before: left = 0, after: right = 0 } = shape?.across ?? {};
  return { top, left, rows: numbers.height + top + bottom, columns: numbers.width + left + right };
}

/** The number at a row and column, border cells included. */
export function numberAt({ numbers, shape }: Picture, y: number, x: number, channel: number): number {
  const sourceY = shape ? source(shape.down, y) : y;
  const sourceX = shape ? source(shape.across, x) : x;
  if (sourceY === null || sourceX === null) return 0;
  return numbers.values[(sourceY * numbers.width + sourceX) * numbers.channels + channel]!;
}

function colourAt(picture: Picture, y: number, x: number, palette: Palette): Rgb {
  const { look, range, channel, numbers } = picture;
  const level = (which: number): number =>
    Math.min(Math.max(Math.round((255 * numberAt(picture, y, x, which)) / range), 0), 255);
  const plain: Rgb =
    look === "signed"
      ? signed(numberAt(picture, y, x, channel), range, palette)
      : look === "rgb"
        ? [level(0), level(1), level(2)]
        : [level(channel), level(channel), level(channel)];
  const outside = y < 0 || x < 0 || y >= numbers.height || x >= numbers.width;
  return outside ? mix(plain, [124, 124, 134], 0.62) : plain;
}

/** A picture with one pixel a cell, border cells included, and what was found out about its numbers and colours. */
export interface Raster {
  canvas: HTMLCanvasElement;
  texts: Map<number, string>;
  inks: Map<number, string>;
}

export function raster(picture: Picture, palette: Palette): Raster {
  const { rows, columns, top, left } = extentOf(picture);
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d")!;
  const image = context.createImageData(columns, rows);
  let at = 0;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const colour = colourAt(picture, row - top, column - left, palette);
      image.data[at++] = colour[0];
      image.data[at++] = colour[1];
      image.data[at++] = colour[2];
      image.data[at++] = 255;
    }
  }
  context.putImageData(image, 0, 0);
  return { canvas, texts: new Map(), inks: new Map() };
}

/** Set a canvas up for drawing in CSS pixels. */
export function prepare(canvas: HTMLCanvasElement, side: number): CanvasRenderingContext2D {
  const ratio = window.devicePixelRatio || 1;
  const pixels = Math.round(side * ratio);
  if (canvas.width !== pixels) canvas.width = canvas.height = pixels;
  const context = canvas.getContext("2d")!;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, side, side);
  return context;
}

export function paint(
  canvas: HTMLCanvasElement,
  side: number,
  picture: Picture,
  cells: Raster,
  view: View,
  palette: Palette,
): void {
  const context = prepare(canvas, side);
  const { rows, columns, top, left } = extentOf(picture);
  const { cell } = view;
  const x = (column: number): number => (column - view.left) * cell;
  const y = (row: number): number => (row - view.top) * cell;
  context.imageSmoothingEnabled = false;
  context.drawImage(cells.canvas, x(0), y(0), columns * cell, rows * cell);
  if (cell >= 10) {
    context.strokeStyle = css(mix(palette.ground, palette.ink, 0.22));
    context.lineWidth = 1;
    context.beginPath();
    for (let row = Math.max(Math.ceil(view.top), 0); row <= Math.min(view.top + side / cell, rows); row++) {
      context.moveTo(Math.max(x(0), 0), Math.round(y(row)) + 0.5);
      context.lineTo(Math.min(x(columns), side), Math.round(y(row)) + 0.5);
    }
    for (
      let column = Math.max(Math.ceil(view.left), 0);
      column <= Math.min(view.left + side / cell, columns);
      column++
    ) {
      context.moveTo(Math.round(x(column)) + 0.5, Math.max(y(0), 0));
      context.lineTo(Math.round(x(column)) + 0.5, Math.min(y(rows), side));
    }
    context.stroke();
  }
  if (top || left || rows > picture.numbers.height || columns > picture.numbers.width) {
    context.strokeStyle = css(palette.ink);
    context.lineWidth = cell >= 10 ? 2 : 1;
    context.strokeRect(x(left), y(top), picture.numbers.width * cell, picture.numbers.height * cell);
  }
  if (cell >= NUMBERS_FROM) paintNumbers(context, side, picture, cells, view, palette);
}

function paintNumbers(
  context: CanvasRenderingContext2D,
  side: number,
  picture: Picture,
  { texts: known, inks }: Raster,
  view: View,
  palette: Palette,
): void {
  const { rows, columns, top, left } = extentOf(picture);
  const { cell } = view;
  const channels = picture.look === "rgb" ? [0, 1, 2] : [picture.channel];
  const texts: { text: string; x: number; y: number; colour: string }[] = [];
  let longest = 1;
  const lastRow = Math.min(Math.ceil(view.top + side / cell), rows);
  const lastColumn = Math.min(Math.ceil(view.left + side / cell), columns);
  for (let row = Math.max(Math.floor(view.top), 0); row < lastRow; row++) {
    for (let column = Math.max(Math.floor(view.left), 0); column < lastColumn; column++) {
      const ground = colourAt(picture, row - top, column - left, palette);
      const code = (ground[0] << 16) | (ground[1] << 8) | ground[2];
      const colour = inks.get(code) ?? inkOn(ground);
      inks.set(code, colour);
      channels.forEach((channel, index) => {
        const number = numberAt(picture, row - top, column - left, channel);
        const text = known.get(number) ?? show(number, picture.digits);
        known.set(number, text);
        longest = Math.max(longest, text.length);
        const offset = (index - (channels.length - 1) / 2) * 0.3;
        texts.push({
          text,
          x: (column + 0.5 - view.left) * cell,
          y: (row + 0.5 + offset - view.top) * cell,
          colour,
        });
      });
    }
  }
  // A digit is about 0.6 of its height wide.
  const size = Math.min(cell * (channels.length === 1 ? 0.4 : 0.27), (cell - 4) / (longest * 0.62), 19);
  if (size < 9.5) return;
  context.font = `${size}px ${FONT}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  // One ink after the other: to change it costs more than a number.
  for (const ink of new Set(inks.values())) {
    context.fillStyle = ink;
    for (const { text, x, y, colour } of texts) {
      if (colour === ink) context.fillText(text, x, y + size * 0.06);
    }
  }
}

export function paintMarks(
  canvas: HTMLCanvasElement,
  side: number,
  picture: Picture,
  marks: Marks,
  view: View,
): void {
  const context = prepare(canvas, side);
  const { top, left } = extentOf(picture);
  const { cell } = view;
  const box = (place: Place): [number, number, number, number] => [
    (place.x + left - view.left) * cell,
    (place.y + top - view.top) * cell,
    cell,
    cell,
  ];
  context.fillStyle = LIGHT;
  context.globalAlpha = 0.45;
  for (const place of marks.faint) context.fillRect(...box(place));
  context.globalAlpha = 1;
  if (marks.other.length > 0) {
    context.setLineDash([4, 3]);
    outline(context, around(marks.other, box), 1.5);
    context.setLineDash([]);
  }
  if (marks.window.length > 0) {
    const bounds = around(marks.window, box);
    const [x, y, width, height] = bounds;
    const least = 7;
    const shown: typeof bounds =
      width < least
        ? [x + (width - least) / 2, y + (height - least) / 2, least, Math.max(height, least)]
        : bounds;
    const partial = marks.window.length * cell * cell < bounds[2] * bounds[3] * 0.99;
    if (partial && cell >= 4) for (const place of marks.window) outline(context, box(place), 1.5);
    outline(context, shown, cell >= 6 ? 3 : 2);
  }
  if (marks.strong) {
    const [x, y] = box(marks.strong);
    const size = Math.max(cell, 7);
    outline(context, [x + (cell - size) / 2, y + (cell - size) / 2, size, size], cell >= 6 ? 3 : 2);
  }
}

function around(
  places: readonly Place[],
  box: (place: Place) => [number, number, number, number],
): [number, number, number, number] {
  const [x, y] = box(places[0]!);
  const [lastX, lastY, width, height] = box(places.at(-1)!);
  return [x, y, lastX + width - x, lastY + height - y];
}

/** A line that is seen on every ground: yellow on near-black. */
function outline(
  context: CanvasRenderingContext2D,
  [left, top, across, down]: readonly [number, number, number, number],
  width: number,
): void {
  // At the pane's own edge the line is moved in, to be seen whole.
  const side = context.canvas.width / context.getTransform().a;
  const inner = (at: number): number =>
    Math.abs(at) < width ? width / 2 + 1 : Math.abs(at - side) < width ? side - width / 2 - 1 : at;
  const [x, y] = [inner(left), inner(top)];
  const box = [x, y, inner(left + across) - x, inner(top + down) - y] as const;
  context.strokeStyle = "#111214";
  context.lineWidth = width + 2;
  context.strokeRect(...box);
  context.strokeStyle = LIGHT;
  context.lineWidth = width;
  context.strokeRect(...box);
}
