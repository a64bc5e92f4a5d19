// Which pointer draws: the first one that touches the pad, and a pen before any finger or palm.

interface Pointer {
  pointerId: number;
  pointerType: string;
}

// For so long after the pen was last near, fingers are taken for the palm of the hand that holds it.
const PALM_MS = 800;

export class Hand {
  #drawing: Pointer | null = null;
  #penSeen = -Infinity;

  get busy(): boolean {
    return this.#drawing !== null;
  }

  /** `takes`: it draws from now on; `replaces`: so it does, and what the finger before it drew is void; `waits`: it is ignored. */
  down({ pointerId, pointerType }: Pointer, now: number): "takes" | "replaces" | "waits" {
    this.near(pointerType, now);
    const before = this.#drawing;
    if (before) {
      if (before.pointerType !== "touch" || pointerType !== "pen") return "waits";
      this.#drawing = { pointerId, pointerType };
      return "replaces";
    }
    if (pointerType === "touch" && now - this.#penSeen < PALM_MS) return "waits";
    this.#drawing = { pointerId, pointerType };
    return "takes";
  }

  draws({ pointerId }: Pointer): boolean {
    return this.#drawing?.pointerId === pointerId;
  }

  /** A pointer hovers or moves over the pad. */
  near(pointerType: string, now: number): void {
    if (pointerType === "pen") this.#penSeen = now;
  }

  up(): void {
    this.#drawing = null;
  }
}
