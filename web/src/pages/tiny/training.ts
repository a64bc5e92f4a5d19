// Plain stochastic gradient descent on the page, and what is kept of it: every epoch's numbers, for the curve and the time machine.
import {
  accuracy,
  answer,
  backward,
  count,
  emptyBackward,
  emptyPass,
  error,
  forward,
  initial,
  random,
} from "./network";
import type { Parameters, Picture, Shape } from "./types";

/** The error (mean cross-entropy over the training images) that counts as small. */
export const SMALL_ERROR = 0.05;
/** Of 1,000 random starts with one filter this learns lines 999 times without a fault within 300 epochs, shapes and fruits always. */
export const DEFAULT_RATE = 0.05;

/** One moment of a training. */
export interface Moment {
  /** How many epochs are behind it. */
  epoch: number;
  /** How many images of the running epoch are behind it, 0 at an epoch's end. */
  step: number;
  parameters: Parameters;
  /** Mean cross-entropy over the training images. */
  loss: number;
  /** Shares of right answers, 0..1. */
  trainAccuracy: number;
  testAccuracy: number;
}

/** Where `Training.run` stops by itself. */
export interface Goal {
  /** Below this loss. */
  loss?: number;
  /** At the end of this epoch, counted from the beginning. */
  epoch?: number;
}

/** The order in which an epoch goes through its images, a function of seed and epoch alone. Written into `order`. */
export function shuffle(order: Uint16Array, seed: number, epoch: number): void {
  const draw = random(Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(epoch + 1, 0x85ebca6b));
  for (let at = 0; at < order.length; at++) order[at] = at;
  for (let at = order.length - 1; at > 0; at--) {
    const other = Math.floor(draw() * (at + 1));
    const kept = order[at]!;
    order[at] = order[other]!;
    order[other] = kept;
  }
}

const RESULTS = 3;

/** Rows of a network's numbers with loss and accuracies; grows by doubling. */
class Rows {
  length = 0;
  #values: Float64Array<ArrayBuffer>;

  constructor(private readonly parameters: number) {
    this.#values = new Float64Array(64 * (parameters + RESULTS));
  }

  set(row: number, parameters: Parameters, results: readonly number[]): void {
    const width = this.parameters + RESULTS;
    if ((row + 1) * width > this.#values.length) {
      const wider = new Float64Array(2 * this.#values.length);
      wider.set(this.#values);
      this.#values = wider;
    }
    this.#values.set(parameters, row * width);
    for (let at = 0; at < RESULTS; at++) this.#values[row * width + this.parameters + at] = results[at]!;
    this.length = Math.max(this.length, row + 1);
  }

  parametersAt(row: number): Parameters {
    const start = row * (this.parameters + RESULTS);
    return this.#values.slice(start, start + this.parameters);
  }

  get(row: number, column: number): number {
    return this.#values[row * (this.parameters + RESULTS) + column]!;
  }
}

/**
 * A network in training. Its moments have an index: 0 the start, then the end of each epoch, then each single step since the
 * last epoch. `position` is the present one; training on from an earlier one drops what lay ahead.
 *
 * Plain state, not reactive: whoever shows it looks again after each call.
 */
export class Training {
  /** Step size of gradient descent. */
  rate: number;
  readonly parameters: Parameters;
  #train: readonly Picture[];
  #test: readonly Picture[];
  #position = 0;
  readonly #epochs: Rows;
  readonly #steps: Rows;
  #order: Uint16Array<ArrayBuffer>;
  #shuffled = -1;
  readonly #pass;
  readonly #backward;
  readonly #results = [0, 0, 0];

  /** @param train at least one picture */
  constructor(
    readonly shape: Shape,
    readonly seed: number,
    train: readonly Picture[],
    test: readonly Picture[],
    rate: number = DEFAULT_RATE,
  ) {
    this.rate = rate;
    this.parameters = initial(shape, seed);
    this.#train = train;
    this.#test = test;
    this.#order = new Uint16Array(train.length);
    this.#epochs = new Rows(count(shape));
    this.#steps = new Rows(count(shape));
    this.#pass = emptyPass(shape);
    this.#backward = emptyBackward(shape);
    this.#epochs.length = 1;
    this.#record();
  }

  get train(): readonly Picture[] {
    return this.#train;
  }

  get test(): readonly Picture[] {
    return this.#test;
  }

  /** How many moments there are: the start, the epochs, the steps since the last of them. */
  get length(): number {
    return this.#epochs.length + this.#steps.length;
  }

  /** How many whole epochs are recorded; the moments 0 .. `epochs` are the start and their ends. */
  get epochs(): number {
    return this.#epochs.length - 1;
  }

  get position(): number {
    return this.#position;
  }

  /** Whole epochs behind the present moment. */
  get epoch(): number {
    return Math.min(this.#position, this.epochs);
  }

  /** Steps of the running epoch behind the present moment. */
  get step(): number {
    return this.#position - this.epoch;
  }

  /** False once a number has left all bounds, as after too large a rate. */
  get finite(): boolean {
    return this.parameters.every(Number.isFinite);
  }

  at(index: number): Moment {
    const [rows, row] = this.#find(index);
    const width = this.parameters.length;
    return {
      epoch: Math.min(index, this.epochs),
      step: Math.max(index - this.epochs, 0),
      parameters: rows.parametersAt(row),
      loss: rows.get(row, width),
      trainAccuracy: rows.get(row, width + 1),
      testAccuracy: rows.get(row, width + 2),
    };
  }

  get present(): Moment {
    return this.at(this.#position);
  }

  /** One number of the network at a moment, without copying the others. */
  parameterAt(index: number, parameter: number): number {
    const [rows, row] = this.#find(index);
    return rows.get(row, parameter);
  }

  lossAt(index: number): number {
    const [rows, row] = this.#find(index);
    return rows.get(row, this.parameters.length);
  }

  trainAccuracyAt(index: number): number {
    const [rows, row] = this.#find(index);
    return rows.get(row, this.parameters.length + 1);
  }

  testAccuracyAt(index: number): number {
    const [rows, row] = this.#find(index);
    return rows.get(row, this.parameters.length + 2);
  }

  /** Be at an earlier or later moment. */
  scrub(index: number): void {
    this.#position = Math.min(Math.max(Math.round(index), 0), this.length - 1);
    const [rows, row] = this.#find(this.#position);
    this.parameters.set(rows.parametersAt(row));
  }

  /** Numbers set by hand: they replace those of the present moment, what lay ahead is dropped. */
  edit(changes: ReadonlyMap<number, number>): void {
    for (const [parameter, value] of changes) this.parameters[parameter] = value;
    this.#dropAhead();
    this.#record();
  }

  /** Other images, from now on; at least one to learn from. A running epoch goes on with them, in their order. */
  setPictures(train: readonly Picture[], test: readonly Picture[]): void {
    this.#train = train;
    this.#test = test;
    this.#order = new Uint16Array(train.length);
    this.#shuffled = -1;
    this.#dropAhead();
    if (this.step >= train.length) this.#advance(train.length);
    else this.#record();
  }

  /** The image that the next step learns from. */
  get next(): Picture {
    this.#shuffle();
    return this.#train[this.#order[this.step]!]!;
  }

  /** One step: one image, one update of all numbers. */
  learn(): void {
    this.#dropAhead();
    this.#update(this.step);
    this.#advance(this.step + 1);
  }

  /** On to the end of the running epoch: each training image once. */
  runEpoch(): void {
    this.#dropAhead();
    for (let at = this.step; at < this.#train.length; at++) this.#update(at);
    this.#advance(this.#train.length);
  }

  /**
   * Whole epochs until `budgetMs` milliseconds are used up or the goal is reached.
   *
   * @returns `going` if there is more to do, `small` below the goal's loss, `limit` at its epoch, `broken` if a number is no
   * longer finite
   */
  run(budgetMs: number, goal: Goal = {}): "going" | "small" | "limit" | "broken" {
    const end = performance.now() + budgetMs;
    for (;;) {
      if (!this.finite) return "broken";
      if (goal.loss !== undefined && this.lossAt(this.#position) < goal.loss) return "small";
      if (goal.epoch !== undefined && this.epoch >= goal.epoch) return "limit";
      if (performance.now() >= end) return "going";
      this.runEpoch();
    }
  }

  #find(index: number): [Rows, number] {
    const epochs = this.#epochs.length;
    return index < epochs ? [this.#epochs, index] : [this.#steps, index - epochs];
  }

  #shuffle(): void {
    if (this.#shuffled === this.epoch) return;
    this.#shuffled = this.epoch;
    shuffle(this.#order, this.seed, this.epoch);
  }

  #update(at: number): void {
    this.#shuffle();
    const { shape, parameters, rate } = this;
    const { pixels, label } = this.#train[this.#order[at]!]!;
    forward(shape, parameters, pixels, this.#pass);
    const { gradients } = backward(shape, parameters, this.#pass, label, this.#backward);
    for (let k = 0; k < parameters.length; k++) parameters[k]! -= rate * gradients[k]!;
  }

  /** To the moment after `step` images of the running epoch; after the last one that is the epoch's end. */
  #advance(step: number): void {
    const epoch = this.epoch;
    if (step < this.#train.length) {
      this.#position = epoch + step;
    } else {
      this.#steps.length = 0;
      this.#position = epoch + 1;
      this.#epochs.length = epoch + 2;
    }
    this.#record();
  }

  #dropAhead(): void {
    if (this.#position <= this.epochs) {
      this.#epochs.length = this.#position + 1;
      this.#steps.length = 0;
    } else {
      this.#steps.length = this.step;
    }
  }

  #record(): void {
    const { shape, parameters } = this;
    let lost = 0;
    let right = 0;
    for (const { pixels, label } of this.#train) {
      forward(shape, parameters, pixels, this.#pass);
      lost += error(this.#pass, label);
      if (answer(this.#pass) === label) right++;
    }
    this.#results[0] = lost / this.#train.length;
    this.#results[1] = right / this.#train.length;
    this.#results[2] = accuracy(shape, parameters, this.#test, this.#pass);
    const [rows, row] = this.#find(this.#position);
    rows.set(row, parameters, this.#results);
  }
}
