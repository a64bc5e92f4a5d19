// Numbers outside the figure that name their place (`data-place`) light up their place when pointed at.
import type { Experiment } from "./experiment.svelte";

/** An attachment for the element around them. */
export function pointsAt(experiment: Experiment): (element: HTMLElement) => () => void {
  return (element) => {
    const over = (event: PointerEvent) => {
      if (event.pointerType === "touch") return;
      const place = (event.target as Element).closest<HTMLElement>("[data-place]")?.dataset["place"];
      experiment.hovered = place ?? null;
    };
    const leave = () => (experiment.hovered = null);
    element.addEventListener("pointerover", over);
    element.addEventListener("pointerleave", leave);
    return () => {
      element.removeEventListener("pointerover", over);
      element.removeEventListener("pointerleave", leave);
    };
  };
}
