// The page's words. A language is one file in ./languages; adding one is adding a file.
import { recall, remember } from "../lib/memory";
import type { Texts } from "./languages/en";

interface Catalogue {
  name: string;
  decimal: string;
  texts: Texts;
}

const files = import.meta.glob<Catalogue>("./languages/*.ts", { eager: true });
const catalogues = Object.fromEntries(
  Object.entries(files).map(([path, catalogue]) => [path.replace(/^.*\/|\.ts$/g, ""), catalogue]),
);

class Language {
  code = $state("en");
  readonly texts: Texts = $derived(catalogues[this.code]!.texts);
  readonly decimal: string = $derived(catalogues[this.code]!.decimal);
  readonly choices = Object.entries(catalogues).map(([code, { name }]) => ({ code, name }));

  start(): void {
    const wanted = [recall("language"), ...navigator.languages.map((each) => each.slice(0, 2))];
    this.code = wanted.find((code) => code !== null && code in catalogues) ?? "en";
    $effect.root(() => {
      $effect(() => {
        document.documentElement.lang = this.code;
      });
    });
  }

  choose(code: string): void {
    this.code = code;
    remember("language", code);
  }
}

export const language = new Language();
