// What the guided tour does with the page.
import type { Experiment, Tab } from "./experiment.svelte";
import type { TourActions } from "./tour";

const FRAME_MS = 300;

/** `open` opens a panel as a press on its tab does, and brings it into view. */
export function tourActions(experiment: Experiment, open: (tab: Tab) => void): TourActions {
  return {
    async chooseSet(name) {
      if (name === experiment.set && experiment.training) return;
      experiment.choose(name);
      await experiment.ready();
    },
    setFilters: (filters) => experiment.arrange(`${filters}`),
    reset: () => experiment.begin(),
    showImage: (part, index) => experiment.show(part, index),
    hide: () => experiment.hide(),
    playTo(frame) {
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      if (frame === null) experiment.open("train");
      else experiment.playTo(frame, still ? 0 : FRAME_MS);
    },
    train(epochs) {
      experiment.open("train");
      experiment.go(epochs);
    },
    scrub(share) {
      experiment.open("train");
      experiment.scrub(share * ((experiment.training?.length ?? 1) - 1));
    },
    openPanel: (name) => open(name ?? "train"),
  };
}
