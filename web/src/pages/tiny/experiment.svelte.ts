// The state of the page Tiny: the images, the network in training, the image that is looked at, the moment of an animation.
// Which set, which network and which panel is in the address; everything here follows from there.
import { tick } from "svelte";
import { ask, type TinySet } from "../../api/client";
import { address } from "../../lib/address.svelte";
import { animation, trainingStep } from "./frames";
import { relations } from "./layout";
import { answer, forward, parameterOf, value } from "./network";
import { DEFAULT_RATE, SMALL_ERROR, Training, type Moment } from "./training";
import type { Frame, Parameters, Pass, Picture, Place, Shape, Sum } from "./types";

export const SETS = ["lines", "shapes", "fruits"] as const;
export type SetName = (typeof SETS)[number];
export const ARRANGEMENTS = ["1", "2", "3", "4", "row"] as const;
export type Arrangement = (typeof ARRANGEMENTS)[number];
export const TABS = ["train", "animation", "step", "landscape", "flips", "own"] as const;
export type Tab = (typeof TABS)[number];
export const RATES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1] as const;

/** How many epochs one press of Train goes at most, or exactly where the error's size is no matter. */
export const EPOCHS = 1000;
const LARGEST_SEED = 999_999;
const LARGEST = 999; // of a number that is typed or dragged
const BUDGET_MS = 2; // of a frame; drawing all the numbers anew takes about as much again
const SLOWEST = 2; // epochs a second, at first
const QUICKEST = 3000;
const DOUBLING = 20; // after this many epochs it goes twice as fast: the first ones are worth watching

export interface Shown {
  picture: Picture;
  /** Where it is among the thumbnails; `hand` once its pixels were changed. */
  part: "train" | "test" | "hand";
  index: number;
}

/** How the last run of Train ended; `going` while it lasts. */
export type Progress = "idle" | "going" | "small" | "limit" | "broken";

function among<T extends string>(values: readonly T[], value: string): T {
  return values.find((each) => each === value) ?? values[0]!;
}

/** The largest size among numbers, at least 1. */
function largest(parts: readonly ArrayLike<number>[]): number {
  let most = 1;
  for (const part of parts) {
    for (let at = 0; at < part.length; at++) {
      const size = Math.abs(part[at]!);
      if (size > most && size < Infinity) most = size;
    }
  }
  return most;
}

export class Experiment {
  readonly set = $derived(among(SETS, address.get("set")));
  readonly seed = $derived(address.number("seed", 0, 0, LARGEST_SEED));
  readonly arrangement = $derived(among(ARRANGEMENTS, address.get("filters")));
  /** Which random numbers the network begins with. */
  readonly start = $derived(address.number("start", this.seed, 0, LARGEST_SEED));
  readonly tab = $derived(among(TABS, address.get("tab")));
  readonly shape: Shape = $derived(
    this.arrangement === "row"
      ? { filters: 1, inARow: true }
      : { filters: Number(this.arrangement) as Shape["filters"], inARow: false },
  );

  classes = $state.raw<string[]>([]);
  train = $state.raw<readonly Picture[]>([]);
  test = $state.raw<readonly Picture[]>([]);
  /** Why there are no images. */
  trouble = $state<string | null>(null);

  /** Null until there are images. Plain state: `moment` is renewed after each call. */
  training = $state.raw<Training | null>(null);
  moment = $state.raw<Moment | null>(null);
  /** Counts up with every change of `training`. */
  version = $state(0);
  rate = $state(DEFAULT_RATE);
  /** 0 slow .. 1 as fast as it goes. */
  pace = $state(0.25);
  untilSmall = $state(true);
  progress = $state<Progress>("idle");
  #goal = { loss: SMALL_ERROR, epoch: EPOCHS };
  #from = 0;
  #due = 0;

  shown = $state.raw<Shown | null>(null);
  /** The image that somebody draws. */
  drawing = $state.raw<Picture["pixels"]>(new Float64Array(25));
  hovered = $state<Place | null>(null);
  pinned = $state<Place | null>(null);
  position = $state(0);
  playing = $state(false);
  speed = $state(0.35);
  #walk: ReturnType<typeof setInterval> | undefined;

  readonly parameters: Parameters | null = $derived(this.moment?.parameters ?? null);
  readonly pass: Pass | null = $derived(
    this.shown && this.parameters ? forward(this.shape, this.parameters, this.shown.picture.pixels) : null,
  );

  /** The moments of the panel that shows one after the other. */
  readonly frames: Frame[] = $derived.by(() => {
    if (this.parameters === null || this.pass === null || this.shown === null) return [];
    if (this.tab === "animation") return animation(this.shape, this.parameters, this.pass);
    if (this.tab === "step") return trainingStep(this.shape, this.parameters, this.shown.picture, this.rate);
    return [];
  });
  readonly frame: Frame | null = $derived(
    this.frames[Math.min(this.position, this.frames.length - 1)] ?? null,
  );
  /** Numbers that may be seen; null if all may. */
  readonly known: ReadonlySet<Place> | null = $derived(this.frame?.known ?? null);
  readonly looked: Place | null = $derived(this.pinned ?? (this.playing ? null : this.hovered));
  /** What lights up: a place that is looked at goes before the moment of an animation. */
  readonly lit: { from: readonly Place[]; to: readonly Place[]; at: Place | null } = $derived.by(() => {
    if (this.looked !== null) return { ...relations(this.looked, this.shape), at: this.looked };
    return this.frame
      ? { from: this.frame.from, to: this.frame.to, at: null }
      : { from: [], to: [], at: null };
  });
  readonly #sums: ReadonlyMap<Place, Sum> = $derived.by(() => {
    const made = this.looked !== null && this.number(this.looked) !== null && !this.#given(this.looked);
    if (this.parameters === null || this.pass === null || !made) return new Map<Place, Sum>();
    const all = animation(this.shape, this.parameters, this.pass).flatMap((frame) => frame.sums);
    return new Map(all.map((sum) => [sum.place, sum]));
  });
  /** Learnt or a pixel: what no sum leads to. */
  #given(place: Place): boolean {
    return place.startsWith("pixel:") || parameterOf(place, this.shape) !== null;
  }

  /** How the place that is looked at came about; null for what is learnt or given, and for what is not known yet. */
  readonly sum: Sum | null = $derived.by(() => {
    if (this.looked === null || (this.known !== null && !this.known.has(this.looked))) return null;
    return this.#sums.get(this.looked.replace("input", "pooled")) ?? null;
  });

  /** The ends of the two scales in blue and red: of what is learnt and of what is calculated. */
  readonly ranges: { learnt: number; calculated: number } = $derived.by(() => {
    const { parameters, pass } = this;
    const calculated = pass ? [...pass.maps, pass.first?.map ?? []] : [];
    return { learnt: largest([parameters ?? []]), calculated: largest(calculated) };
  });

  readonly wrongTrain: readonly boolean[] = $derived(this.#wrong(this.train));
  readonly wrongTest: readonly boolean[] = $derived(this.#wrong(this.test));

  #wrong(pictures: readonly Picture[]): boolean[] {
    const { parameters, shape } = this;
    if (parameters === null) return pictures.map(() => false);
    return pictures.map(({ pixels, label }) => answer(forward(shape, parameters, pixels)) !== label);
  }

  #loading: Promise<void> = Promise.resolve();

  /** Fetch the images of the address. */
  load(signal: AbortSignal): void {
    this.#loading = this.#load(signal);
  }

  /** When the images of the address are there. */
  async ready(): Promise<void> {
    // what was just written into the address is fetched after the next update
    await tick();
    await this.#loading;
  }

  async #load(signal: AbortSignal): Promise<void> {
    const { set, seed } = this;
    try {
      const found = await ask<TinySet>(`/api/tiny/${set}?seed=${seed}`, { signal });
      const pictures = (images: TinySet["train"]) =>
        images.map(({ pixels, label }) => ({
          pixels: Float64Array.from(pixels),
          label: label as Picture["label"],
        }));
      this.classes = found.classes;
      this.train = pictures(found.train);
      this.test = pictures(found.test);
      this.trouble = null;
      this.hide();
      this.begin();
      this.#prepare();
    } catch (fault) {
      if (signal.aborted) return;
      this.trouble = fault instanceof Error ? fault.message : String(fault);
    }
  }

  /** A new network with the random numbers of `start`. */
  begin(): void {
    if (this.train.length === 0) return;
    this.pause();
    this.progress = "idle";
    this.pinned = null;
    this.position = 0;
    this.training = new Training(this.shape, this.start, this.train, this.test, this.rate);
    this.#look();
  }

  choose(set: SetName): void {
    // pressed again, it deals anew
    const seed = set === this.set ? (this.seed + 1) % LARGEST_SEED : this.seed;
    address.set({ set, seed, start: null });
  }

  arrange(arrangement: Arrangement): void {
    address.set({ filters: arrangement });
  }

  /** Other random numbers to begin with. */
  reset(): void {
    address.set({ start: (this.start + 1) % LARGEST_SEED });
  }

  open(tab: Tab): void {
    if (tab === this.tab) return;
    this.playing = false;
    this.position = 0;
    this.pinned = null;
    address.set({ tab: tab === TABS[0] ? null : tab });
    this.#prepare();
  }

  /** A panel that speaks of an image has one to speak of. */
  #prepare(): void {
    if (this.tab === "own") this.showPicture({ pixels: this.drawing, label: 0 });
    else if (this.shown === null && this.tab === "step") this.show("train", 0);
    else if (this.shown === null && (this.tab === "animation" || this.tab === "flips")) this.show("test", 0);
  }

  show(part: "train" | "test", index: number): void {
    const picture = this[part][index];
    if (picture === undefined) return;
    this.shown = { picture, part, index };
    this.pinned = null;
    this.position = 0;
    this.playing = false;
  }

  /** Look at an image that is none of the set's, for instance a changed one. */
  showPicture(picture: Picture): void {
    this.shown = { picture, part: "hand", index: -1 };
    this.position = 0;
  }

  /** Stop at this frame of the animation; on the way there every one before it is seen. */
  playTo(frame: number, stepMs: number): void {
    this.open("animation");
    this.playing = false;
    this.stopWalking();
    if (this.position > frame || stepMs === 0) this.position = frame;
    this.#walk = setInterval(() => {
      if (this.position < frame && this.tab === "animation") this.position++;
      else this.stopWalking();
    }, stepMs);
  }

  stopWalking(): void {
    clearInterval(this.#walk);
  }

  hide(): void {
    this.shown = null;
    this.pinned = null;
    this.hovered = null;
    this.playing = false;
    this.position = 0;
  }

  /** One step back from what was opened: what is pinned, then the image. */
  escape(): void {
    if (this.pinned !== null) this.pinned = null;
    else this.hide();
  }

  addPicture(picture: Picture): void {
    this.train = [...this.train, picture];
    this.training?.setPictures(this.train, this.test);
    this.#look();
  }

  /** Give a learnt number or a pixel of the shown image another value. */
  change(place: Place, to: number): void {
    const index = parameterOf(place, this.shape);
    if (index !== null) this.changeNumbers(new Map([[index, Math.min(Math.max(to, -LARGEST), LARGEST)]]));
    else if (place.startsWith("pixel:") && this.shown) {
      const pixels = this.shown.picture.pixels.slice();
      pixels[Number(place.slice(6))] = Math.min(Math.max(to, 0), 1);
      this.shown = { picture: { ...this.shown.picture, pixels }, part: "hand", index: -1 };
    }
  }

  changeNumbers(changes: ReadonlyMap<number, number>): void {
    if (!this.training) return;
    this.pause();
    this.training.edit(changes);
    this.progress = "idle";
    this.#look();
  }

  /** The number at a place; null where there is none yet. */
  number(place: Place): number | null {
    const { parameters, pass, shape } = this;
    return parameters === null ? null : value(place, { shape, parameters, pass });
  }

  /** On and on, until the error is small or the epochs are through; frame by frame, see `work`. */
  go(epochs = EPOCHS): void {
    if (!this.training) return;
    const small = this.untilSmall && this.training.present.loss >= SMALL_ERROR;
    // a network that is good already learns on all the same when somebody presses
    this.#goal = { loss: small ? SMALL_ERROR : -1, epoch: this.training.epoch + epochs };
    this.#from = this.training.epoch;
    this.#due = 1;
    this.progress = "going";
  }

  pause(): void {
    if (this.progress === "going") this.progress = "idle";
  }

  /** As much training as fits into a frame of the screen, at most what the pace asks for. */
  work(elapsedMs: number): void {
    const { training } = this;
    if (!training || this.progress !== "going") return;
    training.rate = this.rate;
    let until = this.#goal.epoch;
    if (this.pace < 0.995) {
      const faster = 1 + (training.epoch - this.#from) / DOUBLING;
      this.#due += (elapsedMs / 1000) * faster * SLOWEST * (QUICKEST / SLOWEST) ** this.pace;
      const whole = Math.floor(this.#due);
      this.#due -= whole;
      if (whole === 0) return;
      until = Math.min(until, training.epoch + whole);
    }
    const result = training.run(BUDGET_MS, { loss: this.#goal.loss, epoch: until });
    if (result === "limit") this.progress = training.epoch >= this.#goal.epoch ? "limit" : "going";
    else this.progress = result;
    this.#look();
  }

  oneEpoch(): void {
    this.#by((training) => training.runEpoch());
  }

  oneStep(): void {
    this.#by((training) => training.learn());
  }

  /** Apply the opened training step: one update with the image that is looked at. */
  applyStep(): void {
    const { frames } = this;
    const changes = new Map<number, number>();
    for (const { place, result } of frames.flatMap((frame) => (frame.kind === "update" ? frame.sums : []))) {
      const index = parameterOf(place.replace("new:", ""), this.shape);
      if (index !== null) changes.set(index, result);
    }
    this.changeNumbers(changes);
    this.position = 0;
    this.playing = false;
  }

  scrub(index: number): void {
    this.#by((training) => training.scrub(index));
  }

  #by(act: (training: Training) => void): void {
    if (!this.training) return;
    this.pause();
    this.progress = "idle";
    this.training.rate = this.rate;
    act(this.training);
    this.#look();
  }

  #look(): void {
    this.moment = this.training?.present ?? null;
    this.version++;
  }
}
