// The steps of a chain, their kernels, and their short text in the address:
// `conv:sobel_x:zeros:2;relu;pool:max:2:2;conv:0,1/1,0`.
import type { NamedKernel, Step } from "../../api/client";
import type { Border } from "./windows";

export type ConvolveStep = Extract<Step, { kind: "convolve" }>;
export type PoolStep = Extract<Step, { kind: "pool" }>;
export type Kernel = ConvolveStep["kernel"];
/** The numbers of a kernel for one channel. */
export type Plane = number[][];

export const MOST_STEPS = 8;
export const BORDERS: readonly Border[] = ["none", "zeros", "reflect", "replicate"];
export const POOLS: readonly PoolStep["pool"][] = ["max", "mean", "sum"];
const LARGEST_KERNEL = 15;
const MOST_CHANNELS = 3;

export function convolveStep(kernel: Kernel): ConvolveStep {
  return { kind: "convolve", kernel, border: "none", stride: 1, dilation: 1 };
}

export function poolStep(): PoolStep {
  return { kind: "pool", pool: "max", size: 2, stride: 2 };
}

/** The channels that a kernel sums over; null: it goes over each channel by itself. */
export function depth(kernel: Kernel): number | null {
  const cell = kernel[0]?.[0];
  return Array.isArray(cell) ? cell.length : null;
}

export function plane(kernel: Kernel, channel: number): Plane {
  return kernel.map((row) => row.map((cell) => (typeof cell === "number" ? cell : (cell[channel] ?? 0))));
}

/** A kernel with one number changed. */
export function changed(kernel: Kernel, channel: number, row: number, column: number, to: number): Kernel {
  if (depth(kernel) === null) return replaced(kernel as number[][], row, column, to);
  const deep = kernel as number[][][];
  return replaced(deep, row, column, deep[row]![column]!.with(channel, to));
}

function replaced<T>(rows: T[][], row: number, column: number, to: T): T[][] {
  return rows.with(row, rows[row]!.with(column, to));
}

/** A kernel of another side: the middle stays, new cells are 0. */
export function resized(kernel: Kernel, side: number): Kernel {
  const channels = depth(kernel);
  const top = Math.trunc((side - kernel.length) / 2);
  const left = Math.trunc((side - kernel[0]!.length) / 2);
  const nothing = channels === null ? 0 : Array<number>(channels).fill(0);
  return Array.from({ length: side }, (_, row) =>
    Array.from({ length: side }, (_, column) => kernel[row - top]?.[column - left] ?? nothing),
  ) as Kernel;
}

/** The name of a kernel with these numbers. */
export function nameOf(kernel: Kernel, named: readonly NamedKernel[]): string | null {
  const text = JSON.stringify(kernel);
  return named.find((each) => JSON.stringify(each.rows) === text)?.name ?? null;
}

export function writeSteps(steps: readonly Step[], named: readonly NamedKernel[]): string {
  return steps.map((step) => writeStep(step, named)).join(";");
}

function writeStep(step: Step, named: readonly NamedKernel[]): string {
  if (step.kind === "relu") return "relu";
  if (step.kind === "pool") return `pool:${step.pool}:${step.size}:${step.stride}`;
  const kernel = nameOf(step.kernel, named) ?? writeKernel(step.kernel);
  const parts = ["conv", kernel, step.border, String(step.stride), String(step.dilation)];
  const usual = ["", "", "none", "1", "1"];
  while (parts.at(-1) === usual[parts.length - 1]) parts.pop();
  return parts.join(":");
}

function writeKernel(kernel: Kernel): string {
  const channels = Array.from({ length: depth(kernel) ?? 1 }, (_, channel) => plane(kernel, channel));
  return channels.map((rows) => rows.map((row) => row.join(",")).join("/")).join("|");
}

/** Steps from their text; null where it is none. */
export function readSteps(text: string, named: readonly NamedKernel[]): Step[] | null {
  const steps = text.split(";").map((part) => readStep(part, named));
  return steps.length <= MOST_STEPS && steps.every((step) => step !== null) ? steps : null;
}

function readStep(text: string, named: readonly NamedKernel[]): Step | null {
  const [kind, first = "", second, third, ...more] = text.split(":");
  if (kind === "relu") return text === "relu" ? { kind: "relu" } : null;
  if (kind === "pool") {
    const pool = POOLS.find((each) => each === first);
    const size = whole(second ?? "2", 512);
    const stride = whole(third ?? String(size), 512);
    return pool && size && stride && more.length === 0 ? { kind: "pool", pool, size, stride } : null;
  }
  if (kind !== "conv" || more.length > 1) return null;
  const kernel = named.find((each) => each.name === first)?.rows ?? readKernel(first);
  const border = BORDERS.find((each) => each === (second ?? "none"));
  const stride = whole(third ?? "1", 64);
  const dilation = whole(more[0] ?? "1", 64);
  return kernel && border && stride && dilation
    ? { kind: "convolve", kernel, border, stride, dilation }
    : null;
}

function readKernel(text: string): Kernel | null {
  const planes = text.split("|").map((each) => each.split("/").map((row) => row.split(",").map(real)));
  const [first] = planes as [Plane, ...Plane[]];
  const width = first[0]!.length;
  const fits = planes.every(
    (rows) =>
      rows.length === first.length &&
      rows.every((row) => row.length === width && row.every((value) => Number.isFinite(value))),
  );
  if (!fits || Math.max(first.length, width) > LARGEST_KERNEL || planes.length > MOST_CHANNELS) return null;
  return planes.length === 1
    ? first
    : first.map((row, y) => row.map((_, x) => planes.map((rows) => rows[y]![x]!)));
}

function real(text: string): number {
  return text.trim() === "" ? NaN : Number(text);
}

function whole(text: string, most: number): number | null {
  const value = real(text);
  return Number.isInteger(value) && value >= 1 && value <= most ? value : null;
}
