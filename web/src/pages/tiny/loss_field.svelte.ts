// The loss over a piece of the plane, computed between the frames of the screen: coarse at once, fine when nothing changes any more.
import type { Extent, landscape } from "./landscape";

export interface Field {
  /** Cells x cells losses, row by row from below. */
  values: Float64Array;
  cells: number;
  extent: Extent;
}

type Job = ReturnType<typeof landscape>;

const COARSE = 24;
const FINE = 96;
const BUDGET_MS = 2;

export class LossField {
  shown = $state.raw<Field | null>(null);
  #extent: () => Extent;
  #open: (extent: Extent, cells: number) => Job;
  #job: Job | null = null;
  #aim: Extent | null = null;
  #cells = COARSE;
  #changed = true;
  #frame = 0;

  /** `extent`: the piece that is shown; `open` begins to compute one. */
  constructor(extent: () => Extent, open: (extent: Extent, cells: number) => Job) {
    this.#extent = extent;
    this.#open = open;
  }

  /** The network, its images or the piece have changed. */
  renew(): void {
    this.#changed = true;
    if (this.#frame === 0) this.#frame = requestAnimationFrame(() => this.#work());
  }

  stop(): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#job = null;
  }

  #begin(cells: number): void {
    this.#cells = cells;
    this.#aim = this.#extent();
    this.#changed = false;
    this.#job = this.#open(this.#aim, cells);
  }

  #work(): void {
    this.#frame = 0;
    const moved = this.#aim !== this.#extent();
    // A coarse one is finished though it is no longer quite true: otherwise nothing would be seen while training goes on.
    if (this.#changed && (this.#job === null || this.#cells === FINE || moved)) this.#begin(COARSE);
    const end = performance.now() + BUDGET_MS;
    while (this.#job !== null && performance.now() < end) {
      const done = this.#job.next();
      if (!done.done) continue;
      this.shown = { values: done.value, cells: this.#cells, extent: this.#aim! };
      this.#job = null;
      if (!this.#changed && this.#cells === COARSE) this.#begin(FINE);
    }
    if (this.#job !== null || this.#changed) this.#frame = requestAnimationFrame(() => this.#work());
  }
}
