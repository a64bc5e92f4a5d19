// Names of classes in the page's language; those that the catalogue does not know are shown as they are.
import { language } from "../../texts/index.svelte";
import type { Thing } from "../../texts/things";

export function nameOf(label: string): Thing {
  const known: Record<string, Thing | undefined> = language.texts.draw.classes;
  return (
    (Object.hasOwn(known, label) ? known[label] : undefined) ?? { name: label, one: label, object: label }
  );
}

export function titleOf(model: { title: string; ready_made: boolean }): string {
  const known: Record<string, string | undefined> = language.texts.draw.titles;
  return (model.ready_made ? known[model.title] : undefined) ?? model.title;
}
