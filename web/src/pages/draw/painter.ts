// Draws a drawing that grows: finished strokes are kept on a layer of their own, so that a moment's work is one stroke.
import { continues, paint, type Drawing, type Stroke } from "./strokes";

export class Painter {
  readonly #shown: CanvasRenderingContext2D;
  readonly #kept: CanvasRenderingContext2D;
  #drawn: Drawing = [];
  #colour = "";

  /** @param reading - whether the canvas is read back after each drawing. */
  constructor(
    readonly canvas: HTMLCanvasElement,
    reading = false,
  ) {
    this.#shown = canvas.getContext("2d", { willReadFrequently: reading })!;
    this.#kept = document.createElement("canvas").getContext("2d", { willReadFrequently: reading })!;
  }

  /** Height and width in pixels. */
  resize(side: number): void {
    if (this.canvas.width === side) return;
    for (const canvas of [this.canvas, this.#kept.canvas]) canvas.width = canvas.height = side;
    this.#drawn = [];
  }

  draw(drawing: Drawing, live: Stroke | null, colour: string): void {
    const side = this.canvas.width;
    if (colour !== this.#colour || !continues(drawing, this.#drawn)) {
      this.#kept.clearRect(0, 0, side, side);
      this.#drawn = [];
      this.#colour = colour;
    }
    paint(this.#kept, drawing.slice(this.#drawn.length), side, colour);
    this.#drawn = drawing;
    this.#shown.clearRect(0, 0, side, side);
    this.#shown.drawImage(this.#kept.canvas, 0, 0);
    if (live) paint(this.#shown, [live], side, colour);
  }

  /** Ink of every pixel, row by row: 0 paper, 255 ink. */
  ink(): Uint8Array<ArrayBuffer> {
    const side = this.canvas.width;
    const { data } = this.#shown.getImageData(0, 0, side, side);
    const ink = new Uint8Array(side * side);
    for (let pixel = 0; pixel < ink.length; pixel++) ink[pixel] = data[4 * pixel + 3]!;
    return ink;
  }
}
