// The guided tour: what it needs of the figure, and its stops in order. The words are in the catalogue under the stop's name.

export type SetName = "lines" | "shapes" | "fruits";
export type TourPanel = "step" | "landscape" | "flips" | "own";

/**
 * What the tour can do with the figure; the page gives it. Whatever is asked happens at once or soon, the tour does not wait for it
 * except for `chooseSet`.
 */
export interface TourActions {
  /** Load a set of images, unless it is shown already. */
  chooseSet(name: SetName): Promise<void> | void;
  /** This many filters side by side. */
  setFilters(filters: 1 | 2 | 3 | 4): void;
  /** Back to the random start, untrained. */
  reset(): void;
  /** Send an image through the network and show all its numbers. */
  showImage(part: "train" | "test", index: number): void;
  /** Hide the calculation. */
  hide(): void;
  /** Stop at this frame of `animation(...)`, or play up to it; null leaves the animation. */
  playTo(frame: number | null): void;
  /** Train this many epochs, so that it is seen. */
  train(epochs: number): void;
  /** Go to this share of the training so far: 0 its start, 1 its end. */
  scrub(share: number): void;
  /** Open a panel and bring it into view; null closes what the tour opened. */
  openPanel(panel: TourPanel | null): void;
}

/** What a stop speaks of: the element with `data-tour="image"` and so on; it is framed, and the card stays clear of it. */
export type TourTarget =
  | "sets"
  | "image"
  | "filter"
  | "map"
  | "pooled"
  | "outputs"
  | "test"
  | "training"
  | "step"
  | "time"
  | "flips"
  | "landscape";

export type StopName =
  | "welcome"
  | "image"
  | "filter"
  | "map"
  | "pooled"
  | "outputs"
  | "training"
  | "test"
  | "time"
  | "step"
  | "flips"
  | "landscape"
  | "end";

export interface Stop {
  name: StopName;
  target: TourTarget;
  /** What happens on arrival, from the stop before as well as from the one behind. */
  arrive: (actions: TourActions) => void;
}

const EPOCHS = 60;

/** The stops, in order. The frames are those of `animation` for one filter: 9 places, 4 windows, 2 scores, softmax. */
export const STOPS: readonly Stop[] = [
  {
    name: "welcome",
    target: "sets",
    arrive(actions) {
      actions.openPanel(null);
      actions.hide();
    },
  },
  {
    name: "image",
    target: "image",
    arrive(actions) {
      actions.playTo(null);
      actions.showImage("test", 0);
    },
  },
  { name: "filter", target: "filter", arrive: (actions) => actions.playTo(4) },
  { name: "map", target: "map", arrive: (actions) => actions.playTo(8) },
  { name: "pooled", target: "pooled", arrive: (actions) => actions.playTo(11) },
  { name: "outputs", target: "outputs", arrive: (actions) => actions.playTo(15) },
  {
    name: "training",
    target: "training",
    arrive(actions) {
      actions.reset();
      actions.showImage("test", 0);
      actions.train(EPOCHS);
    },
  },
  {
    name: "test",
    target: "test",
    arrive(actions) {
      actions.openPanel(null);
      actions.showImage("test", 1);
    },
  },
  {
    name: "time",
    target: "time",
    arrive: (actions) => actions.scrub(0.15),
  },
  {
    name: "step",
    target: "step",
    arrive(actions) {
      actions.showImage("train", 0);
      actions.openPanel("step");
    },
  },
  {
    name: "flips",
    target: "flips",
    arrive(actions) {
      actions.scrub(1);
      actions.showImage("test", 0);
      actions.openPanel("flips");
    },
  },
  { name: "landscape", target: "landscape", arrive: (actions) => actions.openPanel("landscape") },
  { name: "end", target: "sets", arrive: (actions) => actions.openPanel(null) },
];

/** A rectangle on the screen, CSS pixels. */
export interface Rect {
  left: number;
  top: number;
  width: number;
  height: number;
}

function overlap(one: Rect, other: Rect): number {
  const wide = Math.min(one.left + one.width, other.left + other.width) - Math.max(one.left, other.left);
  const high = Math.min(one.top + one.height, other.top + other.height) - Math.max(one.top, other.top);
  return Math.max(0, wide) * Math.max(0, high);
}

/**
 * Where a card of this size goes beside what it speaks of: below, above, right or left of it, whichever covers least of it;
 * never outside the screen.
 */
export function placeCard(
  target: Rect,
  card: { width: number; height: number },
  screen: { width: number; height: number },
  gap = 16,
): { left: number; top: number } {
  const within = (value: number, size: number, room: number) =>
    Math.max(gap / 2, Math.min(value, room - size - gap / 2));
  const middle = target.left + (target.width - card.width) / 2;
  const level = target.top + (target.height - card.height) / 2;
  const tried = [
    { left: middle, top: target.top + target.height + gap },
    { left: middle, top: target.top - card.height - gap },
    { left: target.left + target.width + gap, top: level },
    { left: target.left - card.width - gap, top: level },
    { left: screen.width, top: screen.height },
  ].map(({ left, top }) => ({
    left: within(left, card.width, screen.width),
    top: within(top, card.height, screen.height),
  }));
  const covered = tried.map((place) => overlap({ ...place, ...card }, target));
  return tried[covered.indexOf(Math.min(...covered))]!;
}
