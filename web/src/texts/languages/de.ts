// German.
import type { Texts } from "./en";

export const name = "Deutsch";
export const decimal = ",";

export const texts: Texts = {
  frame: {
    skip: "Zum Inhalt",
    pages: "Seiten",
    tiny: "Winzig",
    convolve: "Falten",
    draw: "Zeichnen",
    language: "Sprache",
    theme: "Hell oder dunkel",
    system: "Wie das System",
    light: "Hell",
    dark: "Dunkel",
    lost: "Das Studio antwortet nicht. Läuft es noch im Terminal?",
    ended: "Die Sitzung dieser Seite ist zu Ende. Öffne die Adresse, die im Terminal steht.",
    again: "Noch einmal versuchen",
  },
  player: {
    play: "Abspielen",
    pause: "Anhalten",
    back: "Einen Schritt zurück",
    forward: "Einen Schritt weiter",
    start: "Zum Anfang",
    position: "Stelle",
    speed: "Tempo",
    slow: "langsam",
    fast: "schnell",
    of: (position, length) => `${position} von ${length}`,
  },
  scale: {
    negative: "negativ",
    positive: "positiv",
  },
  tiny: {},
  convolve: {},
  draw: {},
};
