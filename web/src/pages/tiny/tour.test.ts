import { expect, test } from "vitest";
import { texts as german } from "../../texts/languages/de";
import { texts as english } from "../../texts/languages/en";
import { animation } from "./frames";
import { forward, initial } from "./network";
import { STOPS, placeCard, type TourActions } from "./tour";

test("every stop has its words in both languages, and no words are left over", () => {
  const names = STOPS.map((stop) => stop.name);
  expect(new Set(names).size).toBe(names.length);
  for (const { tiny } of [english, german]) expect(Object.keys(tiny.tour.stops)).toEqual(names);
});

test("the frames that the tour stands still at are what it speaks of", () => {
  const shape = { filters: 1, inARow: false } as const;
  const parameters = initial(shape, 0);
  const frames = animation(shape, parameters, forward(shape, parameters, new Float64Array(25)));
  const stood: string[] = [];
  let at: number | null = null;
  const actions: TourActions = {
    chooseSet: () => {},
    setFilters: () => {},
    reset: () => {},
    showImage: () => {},
    hide: () => {},
    playTo: (frame) => (at = frame),
    train: () => {},
    scrub: () => {},
    openPanel: () => {},
  };
  for (const stop of STOPS) {
    at = null;
    stop.arrive(actions);
    if (at !== null) stood.push(`${stop.name}: ${frames[at]!.kind}`);
  }
  expect(stood).toEqual(["filter: convolve", "map: convolve", "pooled: pool", "outputs: softmax"]);
});

test("a card stands clear of what it speaks of where there is room, and on the screen in any case", () => {
  const card = { width: 340, height: 200 };
  for (const screen of [
    { width: 1920, height: 1080 },
    { width: 1366, height: 768 },
    { width: 390, height: 844 },
  ]) {
    for (const left of [0, 0.3, 0.8]) {
      for (const top of [0, 0.4, 0.9]) {
        const target = { left: left * screen.width, top: top * screen.height, width: 120, height: 80 };
        const at = placeCard(target, card, screen);
        expect(at.left).toBeGreaterThanOrEqual(0);
        expect(at.left + card.width).toBeLessThanOrEqual(screen.width);
        expect(at.top).toBeGreaterThanOrEqual(0);
        expect(at.top + card.height).toBeLessThanOrEqual(screen.height);
        const clear =
          at.left >= target.left + target.width ||
          at.left + card.width <= target.left ||
          at.top >= target.top + target.height ||
          at.top + card.height <= target.top;
        expect(clear).toBe(true);
      }
    }
  }
});
