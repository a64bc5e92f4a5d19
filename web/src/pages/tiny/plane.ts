// The plane of two numbers as it lies on the screen: from numbers to pixels and back, its ticks, its path.
import { middleOf, type Extent } from "./landscape";

/** Where something is on the plane: the number across and the number upwards. */
export interface Point {
  a: number;
  b: number;
}

const FAR = 1e5; // outside every screen, CSS pixels
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100];

/** A training that has left all bounds has gone farther than an attribute of SVG can say. */
function near(pixel: number): number {
  return Math.min(Math.max(pixel, -FAR), FAR);
}

export function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}

export class Plane {
  /** `left` and `side`: where the square begins and how long it is, CSS pixels. */
  constructor(
    readonly extent: Extent,
    readonly left: number,
    readonly side: number,
  ) {}

  x(value: number): number {
    const { a, half } = this.extent;
    return near(this.left + (this.side * (value - a + half)) / (2 * half));
  }

  y(value: number): number {
    const { b, half } = this.extent;
    return near((this.side * (b + half - value)) / (2 * half));
  }

  /** Whether a point has a place at all: a number that is none has not. */
  has({ a, b }: Point): boolean {
    return Number.isFinite(this.x(a)) && Number.isFinite(this.y(b));
  }

  /** The points `from` to `to` (not included) of a path, as SVG takes them. */
  line(path: { a: ArrayLike<number>; b: ArrayLike<number> }, from: number, to: number): string {
    const points: string[] = [];
    for (let at = from; at < to; at++) {
      const point = { a: path.a[at]!, b: path.b[at]! };
      if (this.has(point)) points.push(`${this.x(point.a).toFixed(1)},${this.y(point.b).toFixed(1)}`);
    }
    return points.join(" ");
  }

  /** The point under the pointer; `box` is the square on the screen. */
  at(pointer: { clientX: number; clientY: number }, box: DOMRect): Point {
    const { a, b, half } = this.extent;
    return {
      a: rounded(middleOf(pointer.clientX - box.left - 0.5, box.width, a, half)),
      b: rounded(-middleOf(pointer.clientY - box.top - 0.5, box.height, -b, half)),
    };
  }

  /** The point to which an arrow key moves; it stays on the plane. Null for another key. */
  moved(from: Point, key: string, fine: boolean): Point | null {
    const step = this.extent.half / (fine ? 100 : 20);
    const move = (
      { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowDown: [0, -step], ArrowUp: [0, step] } as const
    )[key];
    if (!move) return null;
    const within = (value: number, centre: number) =>
      rounded(Math.min(Math.max(value, centre - this.extent.half), centre + this.extent.half));
    return { a: within(from.a + move[0], this.extent.a), b: within(from.b + move[1], this.extent.b) };
  }

  /** Round numbers along both axes, at most seven each, and the digits they need. */
  get ticks(): { a: number[]; b: number[]; digits: number } {
    const { a, b, half } = this.extent;
    const step = STEPS.find((step) => (2 * half) / step <= 6) ?? 200;
    const along = (centre: number) => {
      const first = Math.ceil((centre - half) / step);
      const last = Math.floor((centre + half) / step);
      return Array.from({ length: last - first + 1 }, (_, at) => (first + at) * step);
    };
    return { a: along(a), b: along(b), digits: step < 1 ? 1 : 0 };
  }
}
