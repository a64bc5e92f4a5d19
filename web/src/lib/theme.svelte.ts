// Light or dark: as the system has it, until somebody chooses.
import { PALETTES, type Palette } from "./colour";
import { recall, remember } from "./memory";

export type ThemeChoice = "system" | "light" | "dark";

class Theme {
  choice = $state<ThemeChoice>("system");
  #systemDark = $state(false);
  readonly dark = $derived(this.choice === "system" ? this.#systemDark : this.choice === "dark");
  readonly palette: Palette = $derived(PALETTES[this.dark ? "dark" : "light"]);

  start(): void {
    const stored = recall("theme");
    if (stored === "light" || stored === "dark") this.choice = stored;
    const query = matchMedia("(prefers-color-scheme: dark)");
    this.#systemDark = query.matches;
    query.addEventListener("change", (event) => (this.#systemDark = event.matches));
    $effect.root(() => {
      $effect(() => {
        document.documentElement.dataset["theme"] = this.dark ? "dark" : "light";
      });
    });
  }

  choose(choice: ThemeChoice): void {
    this.choice = choice;
    remember("theme", choice);
  }
}

export const theme = new Theme();
