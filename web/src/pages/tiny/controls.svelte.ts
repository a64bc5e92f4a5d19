// How the numbers of the figure are operated: pointed at, pinned, dragged, typed, and moved among by keys.
import { on } from "svelte/events";
import { read, show } from "../../lib/numbers";
import type { Experiment } from "./experiment.svelte";
import { groupsOf, neighbour } from "./groups";
import type { Layout } from "./layout";
import { parameterOf } from "./network";
import type { Place } from "./types";

interface Drag {
  place: Place;
  x: number;
  y: number;
  /** The number at the beginning. */
  value: number;
  moved: boolean;
}

/** So far a press may move and is still a press, CSS pixels. */
const STILL = 4;

function placeOf(event: Event): Place | null {
  return (event.target as Element).closest<SVGElement>("[data-place]")?.dataset["place"] ?? null;
}

function stepOf(event: KeyboardEvent): number {
  return event.shiftKey ? 0.01 : 0.1;
}

export class Controls {
  /** The number that is open for typing. */
  editing = $state<{ place: Place; text: string; typed: boolean } | null>(null);
  #active = $state<Record<number, Place>>({});
  #drag: Drag | null = null;
  #surface: HTMLElement | null = null;
  #experiment: Experiment;
  #layout: () => Layout;

  constructor(experiment: Experiment, layout: () => Layout) {
    this.#experiment = experiment;
    this.#layout = layout;
  }

  readonly #groups = $derived.by(() => groupsOf(this.#layout()));
  readonly #groupOf = $derived(
    new Map(
      this.#groups.flatMap((group, at) => group.places.map((place) => [place, { ...group, at }] as const)),
    ),
  );
  /** Where Tab comes to: one number of each group. */
  readonly reachable: ReadonlySet<Place> = $derived(
    new Set(
      this.#groups.map(({ places }, at) =>
        places.includes(this.#active[at] ?? "") ? this.#active[at]! : places[0]!,
      ),
    ),
  );

  /** Whether a number can be changed: it is learnt, or a pixel of an image that is shown. */
  editable(place: Place): boolean {
    const { shape, shown } = this.#experiment;
    return parameterOf(place, shape) !== null || (place.startsWith("pixel:") && shown !== null);
  }

  /** Listen to the figure; the function that comes back ends it. */
  attach = (element: HTMLElement): (() => void) => {
    this.#surface = element;
    const experiment = this.#experiment;
    const ends = [
      on(element, "pointerover", (event) => {
        if (!this.#drag && event.pointerType !== "touch") experiment.hovered = placeOf(event);
      }),
      on(element, "pointerleave", () => {
        if (!this.#drag) experiment.hovered = null;
      }),
      on(element, "focusin", (event) => this.#focused(event)),
      on(element, "focusout", () => (experiment.hovered = null)),
      on(element, "pointerdown", (event) => this.#press(event)),
      on(element, "pointermove", (event) => this.#pull(event)),
      on(element, "pointercancel", () => (this.#drag = null)),
      // what is selected in a field of text would be dragged away as text
      on(element, "dragstart", (event) => event.preventDefault()),
      // touch-action alone does not hold the page still under cells of an SVG in every browser
      on(element, "touchmove", (event) => this.#drag && event.preventDefault(), { passive: false }),
      on(element, "click", (event) => this.#click(event)),
      on(element, "keydown", (event) => this.#key(event)),
    ];
    return () => ends.forEach((end) => end());
  };

  #cellAt(place: Place): SVGElement | null {
    return this.#surface?.querySelector<SVGElement>(`svg [data-place="${place}"]`) ?? null;
  }

  #focused(event: FocusEvent): void {
    const place = placeOf(event);
    if (place === null) return;
    this.#active[this.#groupOf.get(place)!.at] = place;
    if ((event.target as Element).matches(":focus-visible")) this.#experiment.hovered = place;
  }

  // --- dragging

  #press(event: PointerEvent): void {
    // a number that is being typed can be dragged all the same
    const typing = event.target instanceof HTMLInputElement;
    const place = typing ? (this.editing?.place ?? null) : placeOf(event);
    if (event.button !== 0 || place === null || !this.editable(place)) return;
    if (this.editing?.place === place) this.take();
    else this.#cellAt(place)?.setPointerCapture(event.pointerId);
    const value = this.#experiment.number(place) ?? 0;
    this.#drag = { place, x: event.clientX, y: event.clientY, value, moved: false };
  }

  #pull(event: PointerEvent): void {
    const drag = this.#drag;
    if (!drag) return;
    const distance = event.clientX - drag.x - (event.clientY - drag.y);
    if (!drag.moved && Math.abs(distance) < STILL) return;
    if (!drag.moved) {
      const cell = this.#cellAt(drag.place);
      cell?.focus(); // takes it from the field, which then goes
      cell?.setPointerCapture(event.pointerId);
    }
    drag.moved = true;
    this.#experiment.pinned = drag.place;
    const unit = event.shiftKey ? 1000 : 100;
    this.#experiment.change(drag.place, Math.round(drag.value * unit + distance) / unit);
  }

  #click(event: MouseEvent): void {
    const place = placeOf(event);
    const moved = this.#drag?.moved ?? false;
    this.#drag = null;
    if (place === null || moved) return;
    if (this.editable(place)) this.#edit(place);
    else this.#pin(place);
  }

  #pin(place: Place): void {
    this.#experiment.pinned = this.#experiment.pinned === place ? null : place;
  }

  // --- keys

  #key(event: KeyboardEvent): void {
    const place = placeOf(event);
    if (place === null || event.ctrlKey || event.metaKey || event.altKey) return;
    const { key } = event;
    const changes = this.editable(place);
    if (changes && (key === "ArrowUp" || key === "ArrowDown")) {
      this.#nudge(place, key === "ArrowUp" ? stepOf(event) : -stepOf(event));
    } else if (/^(Arrow|Home$|End$)/.test(key)) {
      const next = neighbour(this.#groupOf.get(place)!, place, key);
      if (next !== null) this.#cellAt(next)?.focus();
    } else if (changes && key === "Enter") this.#edit(place);
    else if (key === "Enter" || key === " ") this.#pin(place);
    else if (changes && /^[-−\d.,]$/.test(key)) this.#edit(place, key);
    else return;
    event.preventDefault();
  }

  #nudge(place: Place, by: number): void {
    const value = this.#experiment.number(place);
    if (value === null) return;
    this.#experiment.change(place, Math.round((value + by) * 1e6) / 1e6);
    if (this.editing) this.editing.text = show(this.#experiment.number(place) ?? 0);
  }

  // --- typing

  #edit(place: Place, text?: string): void {
    if (!this.editable(place)) return;
    this.#experiment.pinned = place;
    const value = this.#experiment.number(place) ?? 0;
    this.editing = { place, text: text ?? show(value), typed: text !== undefined };
  }

  /** The field is ready to be typed into as soon as it is there. */
  begin = (field: HTMLInputElement): void => {
    field.focus();
    if (/\d.*\d/.test(field.value)) field.select();
  };

  /** Take over what was typed. */
  take(): void {
    if (!this.editing) return;
    const value = read(this.editing.text);
    // what was only looked at keeps its hidden digits
    if (value !== null && this.editing.typed) this.#experiment.change(this.editing.place, value);
    this.editing.typed = false;
  }

  close(refocus = false): void {
    const place = this.editing?.place;
    this.editing = null;
    if (refocus && place !== undefined) this.#cellAt(place)?.focus();
  }

  /** A key in the field. */
  typed(event: KeyboardEvent): void {
    if (!this.editing) return;
    if (event.key === "Enter") {
      this.take();
      this.close(true);
    } else if (event.key === "Escape") {
      this.close(true);
    } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      this.take();
      this.#nudge(this.editing.place, event.key === "ArrowUp" ? stepOf(event) : -stepOf(event));
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
