// What the page Convolve works on: an image, a chain of steps, what the server made of them, and the number that is looked at.
import { untrack } from "svelte";
import { numbersOf, numbersOfPixels, mapsOf, type Numbers } from "../../api/arrays";
import { Refused, ask } from "../../api/client";
import type { ChainResult, NamedKernel, Pixels, Refusal, Sample, Step } from "../../api/client";
import { address } from "../../lib/address.svelte";
import {
  VIEWS,
  channelOf,
  drawn,
  keepsPicture,
  prepared,
  readDrawing,
  toGrey,
  writeDrawing,
  type View,
} from "./picture";
import { MOST_STEPS, readSteps, writeSteps } from "./steps";
import { digitsOf, largest, reckon } from "./arithmetic";
import { geometry, nearest, type Place } from "./windows";

export type Source =
  | { kind: "sample"; id: string }
  | { kind: "file"; file: Blob }
  | { kind: "drawing"; ink: Uint8Array<ArrayBuffer> };

/** What the pointer rests on. */
export type Spot =
  { part: "input" | "output"; y: number; x: number } | { part: "window"; row: number; column: number };

/** A worked example; each language has its name. */
export interface Example {
  id: string;
  sample: string;
  side?: number;
  steps: Step[];
  cell: { step: number; y: number; x: number };
}

/** An array of the chain with what is needed to draw it. */
export interface Result {
  maps: Numbers;
  sizeText: string[];
  /** Its numbers go from black to white. */
  picture: boolean;
  /** The largest number, without its sign. */
  largest: number;
  /** Digits behind the decimal sign. */
  digits: number;
}

type Asked = Pick<Shown, "image" | "pixels" | "full" | "view" | "steps">;

/** A chain with its results: what the panes show, also while the next ones are under way. */
interface Shown {
  /** Before the first step, as it was sent. */
  image: Numbers;
  start: Result;
  pixels: Numbers;
  full: 255 | 1;
  view: View;
  steps: Step[];
  results: Result[];
  refusal: Refusal | null;
}

export const SIDES = [16, 32, 64, 128, 256, 512] as const;
/** A request that is older when the next one comes is given up; a younger one is awaited, so that results keep coming. */
const PATIENCE_MS = 250;
const ADDRESS_PAUSE_MS = 400;
const FIRST = { sample: "photograph", side: 64, steps: "conv:sobel_x;relu;pool:max:2:2", view: "grey" };

function described(maps: Numbers, sizeText: string[], picture: boolean): Result {
  return { maps, sizeText, picture, largest: largest(maps.values), digits: digitsOf(maps.values) };
}

export class Bench {
  samples: Sample[] = $state.raw([]);
  named: NamedKernel[] = $state.raw([]);
  ready = $state(false);

  source: Source | null = $state.raw(null);
  /** The longer side to which large images are made smaller. */
  side = $state<number>(FIRST.side);
  /** The image as it came, 0..255. */
  pixels: Numbers | null = $state.raw(null);
  notes: string[] = $state.raw([]);
  chosenView = $state<View>("grey");
  full = $state<255 | 1>(255);
  steps: Step[] = $state.raw([]);
  /** Which step's window is shown. */
  selected = $state(0);

  shown: Shown | null = $state.raw(null);
  renewing = $state(false);
  /** Why an image or a result did not come; `passing`: it may come when it is asked for again. */
  problem: { message: string; hint: string; passing: boolean } | null = $state.raw(null);

  /** The cell of the result. */
  place: Place = $state.raw({ y: 0, x: 0 });
  pinned = $state(false);
  playing = $state(false);
  spot: Spot | null = $state.raw(null);

  readonly view: View = $derived(this.pixels?.channels === 1 ? "grey" : this.chosenView);
  readonly image = $derived(this.pixels && prepared(this.pixels, this.view, this.full));

  /** The step that is shown with its window; null where its result is missing. */
  readonly stage = $derived.by(() => {
    const { shown, selected } = this;
    const step = shown?.steps[selected];
    const result = shown?.results[selected];
    if (!shown || !step || !result) return null;
    const before = selected === 0 ? shown.start : shown.results[selected - 1]!;
    const { maps: input } = before;
    const shape = geometry(step, input.height, input.width);
    return shape && { step, before, input, result, output: result.maps, shape };
  });
  /** The channel that is looked at, of an array with this many. */
  channel(channels: number): number {
    return channels === 1 ? 0 : channelOf(this.shown?.view ?? this.view);
  }
  /** The place, kept within the result. */
  readonly at: Place = $derived.by(() => {
    const output = this.stage?.output;
    return {
      y: Math.min(this.place.y, (output?.height ?? 1) - 1),
      x: Math.min(this.place.x, (output?.width ?? 1) - 1),
    };
  });
  readonly reckoning = $derived.by(() => {
    const { stage, at } = this;
    return (
      stage && reckon(stage.step, stage.shape, stage.input, this.channel(stage.input.channels), at.y, at.x)
    );
  });

  #newest: Asked | null = null;
  #pending: { request: AbortController; since: number } | null = null;
  #loading: AbortController | null = null;
  #known = "";

  /** Fetch what the page needs and keep the results in step; to be called in a component, and ends with it. */
  start(): void {
    $effect(() => {
      if (!this.ready) void this.prepare();
    });
    $effect(() => {
      const text = JSON.stringify(
        ["sample", "drawing", "side", "steps", "view", "full", "cell"].map((name) => address.get(name)),
      );
      if (!this.ready || text === this.#known) return;
      // What was chosen while the page was not ready yet is newer than the address.
      if (this.#known === "" && this.#loading) {
        this.#known = text;
        return;
      }
      // The plain link of this page comes back to what was left.
      if (this.source !== null && ["sample", "drawing", "steps"].every((name) => address.get(name) === ""))
        return;
      this.#known = text;
      untrack(() => this.read());
    });
    $effect(() => {
      const { image, pixels, steps, full, view } = this;
      void [image, pixels, steps, full, view];
      untrack(() => this.renew());
    });
    $effect(() => {
      const { selected, at, pinned } = this;
      if (!this.ready || this.source === null || address.page !== "convolve") return;
      const changes = {
        sample: this.source.kind === "sample" ? this.source.id : null,
        drawing: this.source.kind === "drawing" ? writeDrawing(this.source.ink) : null,
        side: this.side,
        steps: this.steps.length > 0 ? writeSteps(this.steps, this.named) : "none",
        view: this.chosenView,
        full: this.full === 1 ? 1 : null,
        cell: pinned ? `${selected},${at.y},${at.x}` : null,
      };
      const timer = setTimeout(() => {
        this.#known = JSON.stringify(
          Object.values(changes).map((value) => (value === null ? "" : String(value))),
        );
        address.set(changes);
      }, ADDRESS_PAUSE_MS);
      return () => clearTimeout(timer);
    });
  }

  async prepare(): Promise<void> {
    try {
      [this.samples, this.named] = await Promise.all([
        ask<Sample[]>("/api/samples"),
        ask<NamedKernel[]>("/api/kernels"),
      ]);
      this.problem = null;
      this.ready = true;
    } catch (fault) {
      this.#report(fault);
    }
  }

  /** Take over the view of the address; what it does not say is as at first. */
  read(): void {
    const ink = readDrawing(address.get("drawing"));
    const id = address.get("sample", FIRST.sample);
    const known = this.samples.some((sample) => sample.id === id);
    const source: Source = ink ? { kind: "drawing", ink } : { kind: "sample", id: known ? id : FIRST.sample };
    const side = SIDES.find((each) => String(each) === address.get("side")) ?? FIRST.side;
    const text = address.get("steps");
    const first = readSteps(FIRST.steps, this.named) ?? [];
    const steps = text === "none" ? [] : (readSteps(text, this.named) ?? first);
    const cell = address.get("cell");
    const [step, y, x] = /^\d+,\d+,\d+$/.test(cell) ? cell.split(",").map(Number) : [];
    const view = VIEWS.find((each) => each === address.get("view")) ?? "grey";
    const full = address.get("full") === "1" ? 1 : 255;
    void this.open(source, side, () => {
      this.steps = steps;
      this.chosenView = view;
      this.full = full;
      this.selected = Math.min(step ?? 0, Math.max(steps.length - 1, 0));
      this.place = { y: y ?? 0, x: x ?? 0 };
      this.pinned = y !== undefined;
    });
  }

  show(example: Example): void {
    const side = SIDES.find((each) => each === example.side) ?? FIRST.side;
    void this.open({ kind: "sample", id: example.sample }, side, () => {
      this.steps = example.steps;
      this.full = 255;
      this.chosenView = "colour";
      this.selected = example.cell.step;
      this.place = { y: example.cell.y, x: example.cell.x };
      this.pinned = true;
    });
  }

  /** Take another image, and with it do what `also` does. One that cannot be had leaves everything as it is and says why. */
  async open(source: Source, side = this.side, also?: () => void): Promise<void> {
    this.#loading?.abort();
    const request = (this.#loading = new AbortController());
    const { signal } = request;
    try {
      let pixels: Numbers;
      let notes: string[] = [];
      if (source.kind === "drawing") pixels = drawn(source.ink);
      else {
        const path =
          source.kind === "sample" ? `/api/samples/${encodeURIComponent(source.id)}` : "/api/images";
        const bytes = source.kind === "file" ? { bytes: source.file } : {};
        const answer = await ask<Pixels>(`${path}?side=${side}`, { signal, ...bytes });
        if (signal.aborted) return;
        pixels = numbersOfPixels(answer);
        notes = answer.notes ?? [];
      }
      this.source = source;
      this.side = side;
      this.pixels = pixels;
      this.notes = notes;
      this.playing = false;
      this.problem = null;
      also?.();
    } catch (fault) {
      if (!signal.aborted) this.#report(fault);
    }
  }

  resize(side: number): void {
    if (this.source) void this.open(this.source, side);
  }

  /** Ask for the results of what is set now; `start` does so at every change. */
  renew(): void {
    const { image, pixels, full, view, steps } = this;
    if (!image || !pixels) return;
    this.#newest = { image, pixels, full, view, steps };
    this.renewing = true;
    if (!this.#pending) void this.#convolve();
    else if (performance.now() - this.#pending.since > PATIENCE_MS) this.#pending.request.abort();
  }

  /** Ask for the newest chain until there is no newer one. */
  async #convolve(): Promise<void> {
    try {
      while (this.#newest) {
        const asked = this.#newest;
        this.#newest = null;
        const request = new AbortController();
        this.#pending = { request, since: performance.now() };
        try {
          const json = { image: mapsOf(asked.image), steps: asked.steps };
          const answer: ChainResult =
            asked.steps.length === 0
              ? { steps: [] }
              : await ask<ChainResult>("/api/convolve", { json, signal: request.signal });
          let picture = true;
          const results = answer.steps.map((each, index) => {
            picture &&= keepsPicture(asked.steps[index]!);
            return described(numbersOf(each.maps), each.size_text, picture);
          });
          this.shown = {
            ...asked,
            start: described(asked.image, [], true),
            results,
            refusal: answer.refusal ?? null,
          };
          this.problem = null;
        } catch (fault) {
          if (!request.signal.aborted) this.#report(fault);
        }
      }
    } finally {
      this.#pending = null;
      this.renewing = false;
    }
  }

  #report(fault: unknown): void {
    if (!(fault instanceof Refused)) throw fault;
    this.problem = { message: fault.message, hint: fault.hint, passing: fault.status === 0 };
  }

  /** Ask again after a fault. */
  again(): void {
    this.problem = null;
    if (!this.ready) void this.prepare();
    else if (!this.pixels) this.read();
    else this.steps = [...this.steps];
  }

  // --- steps

  select(index: number): void {
    if (index === this.selected) return;
    this.selected = index;
    this.pinned = false;
    this.playing = false;
    this.spot = null;
  }

  add(step: Step): void {
    if (this.steps.length >= MOST_STEPS) return;
    this.steps = [...this.steps, step];
    this.select(this.steps.length - 1);
  }

  change(step: Step): void {
    this.steps = this.steps.with(this.selected, step);
  }

  remove(): void {
    this.steps = this.steps.toSpliced(this.selected, 1);
    this.selected = Math.max(Math.min(this.selected, this.steps.length - 1), 0);
    this.pinned = false;
  }

  move(by: -1 | 1): void {
    const to = this.selected + by;
    if (to < 0 || to >= this.steps.length) return;
    const [step] = this.steps.slice(this.selected, this.selected + 1);
    this.steps = this.steps.toSpliced(this.selected, 1).toSpliced(to, 0, step!);
    this.selected = to;
  }

  // --- the window

  go(y: number, x: number): void {
    const output = this.stage?.output;
    if (!output) return;
    this.place = {
      y: Math.min(Math.max(y, 0), output.height - 1),
      x: Math.min(Math.max(x, 0), output.width - 1),
    };
  }

  /** Move the window by keys or the player: it stays when the pointer passes. */
  hold(y: number, x: number): void {
    this.go(y, x);
    this.pinned = true;
  }

  hover(part: "input" | "output", cell: Place | null): void {
    this.spot = cell && { part, ...cell };
    if (cell && !this.pinned && !this.playing) this.#lay(part, cell);
  }

  /** Pin the window there; where it is pinned already, free it. */
  press(part: "input" | "output", cell: Place): void {
    const { at, pinned } = this;
    this.playing = false;
    this.#lay(part, cell);
    this.pinned = !(pinned && this.at.y === at.y && this.at.x === at.x);
  }

  #lay(part: "input" | "output", cell: Place): void {
    if (!this.stage) return;
    const { y, x } = part === "input" ? nearest(this.stage.shape, cell.y, cell.x) : cell;
    this.go(y, x);
  }

  free(): void {
    this.pinned = false;
    this.playing = false;
    this.spot = null;
  }

  /** The image as a script writes it: after grey, before the range. */
  get scripted(): Numbers | null {
    return this.shown && (this.shown.view === "grey" ? toGrey(this.shown.pixels) : this.shown.pixels);
  }
}
