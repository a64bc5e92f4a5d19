// A drawing as vectors: strokes in units of the pad's side, so that it can be drawn at any size and in any colours.

export type Tool = "pen" | "eraser";

export interface Stroke {
  tool: Tool;
  /** x0, y0, x1, y1, ... in units of the pad's side, from its top left corner; beyond 0..1 is outside. */
  points: number[];
}

export type Drawing = readonly Stroke[];

/** Widths of the tools in units of the pad's side. */
export const WIDTHS: Record<Tool, number> = { pen: 10 / 256, eraser: 28 / 256 };

// Nearer points say nothing new; a mouse sends up to a thousand a second.
const NEAREST = 1 / 400;

/** Add a point to a stroke; false if it is too near to the last one to be kept. */
export function extend(stroke: Stroke, x: number, y: number): boolean {
  const { points } = stroke;
  const [beforeX, beforeY] = points.slice(-2);
  if (beforeX !== undefined && Math.hypot(x - beforeX, y - beforeY!) < NEAREST) return false;
  points.push(x, y);
  return true;
}

/** The part of a canvas's path that a stroke needs. */
export interface Path {
  moveTo(x: number, y: number): void;
  lineTo(x: number, y: number): void;
  quadraticCurveTo(controlX: number, controlY: number, x: number, y: number): void;
}

/** The stroke's middle line: each point pulls a quadratic curve from one middle between neighbours to the next. */
export function outline(path: Path, points: readonly number[], side: number): void {
  const at = (k: number) => [side * points[2 * k]!, side * points[2 * k + 1]!] as const;
  const last = points.length / 2 - 1;
  path.moveTo(...at(0));
  for (let k = 1; k < last; k++) {
    const [x, y] = at(k);
    const [nextX, nextY] = at(k + 1);
    path.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
  }
  path.lineTo(...at(last));
}

type Context = CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D;

/** Draw strokes in `colour` on a transparent canvas; the eraser makes it transparent again. */
export function paint(context: Context, drawing: Drawing, side: number, colour: string): void {
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = context.fillStyle = colour;
  for (const { tool, points } of drawing) {
    context.globalCompositeOperation = tool === "pen" ? "source-over" : "destination-out";
    context.lineWidth = WIDTHS[tool] * side;
    context.beginPath();
    if (points.length === 2) {
      context.arc(points[0]! * side, points[1]! * side, (WIDTHS[tool] * side) / 2, 0, 2 * Math.PI);
      context.fill();
    } else {
      outline(context, points, side);
      context.stroke();
    }
  }
  context.globalCompositeOperation = "source-over";
}

/** Whether `drawing` begins with the very strokes of `first`. */
export function continues(drawing: Drawing, first: Drawing): boolean {
  return drawing.length >= first.length && first.every((stroke, k) => stroke === drawing[k]);
}
