// The sheet of paper on the pad: its strokes, the one being drawn, and what can be undone.
import { extend, type Drawing, type Stroke, type Tool } from "./strokes";

/** `during` a stroke, or `after` it; `at` is the moment on the clock of `performance.now()`. */
export type Changed = (when: "during" | "after", at: number) => void;

export class Sheet {
  tool = $state<Tool>("pen");
  /** Grows with every change, so that views know when to draw the live stroke again. */
  version = $state(0);
  /** The stroke being drawn; its points grow in place. */
  live: Stroke | null = null;
  #past = $state.raw<readonly Drawing[]>([[]]);
  #present = $state(0);
  readonly strokes: Drawing = $derived(this.#past[this.#present]!);
  readonly canUndo = $derived(this.#present > 0);
  readonly canRedo = $derived(this.#present < this.#past.length - 1);
  readonly #changed: Changed;

  constructor(changed: Changed = () => undefined) {
    this.#changed = changed;
  }

  get empty(): boolean {
    return this.strokes.length === 0 && this.live === null;
  }

  begin(x: number, y: number, at: number, tool = this.tool): void {
    if (this.live) this.end(at);
    this.live = { tool, points: [x, y] };
    this.#report("during", at);
  }

  /** Further points of the stroke, x and y in turn. */
  extend(points: readonly number[], at: number): void {
    const { live } = this;
    if (!live) return;
    let longer = false;
    for (let k = 0; k < points.length; k += 2) longer = extend(live, points[k]!, points[k + 1]!) || longer;
    if (longer) this.#report("during", at);
  }

  end(at: number): void {
    const { live } = this;
    if (!live) return;
    this.live = null;
    this.#keep([...this.strokes, live], at);
  }

  /** Forget the stroke being drawn. */
  cancel(at: number): void {
    if (!this.live) return;
    this.live = null;
    this.#report("after", at);
  }

  undo(at: number): void {
    if (this.live) this.cancel(at);
    else if (this.canUndo) {
      this.#present--;
      this.#report("after", at);
    }
  }

  redo(at: number): void {
    if (this.live || !this.canRedo) return;
    this.#present++;
    this.#report("after", at);
  }

  /** An empty sheet; can be undone. */
  reset(at: number): void {
    this.live = null;
    if (this.strokes.length > 0) this.#keep([], at);
    else this.#report("after", at);
  }

  /** A new sheet, with nothing to be undone. */
  renew(at: number): void {
    this.live = null;
    this.tool = "pen";
    this.#past = [[]];
    this.#present = 0;
    this.#report("after", at);
  }

  #keep(drawing: Drawing, at: number): void {
    this.#past = [...this.#past.slice(0, this.#present + 1), drawing];
    this.#present++;
    this.#report("after", at);
  }

  #report(when: "during" | "after", at: number): void {
    this.version++;
    this.#changed(when, at);
  }
}
