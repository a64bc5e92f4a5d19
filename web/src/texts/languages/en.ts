// English: the catalogue that the others follow. Texts with a number in them are functions.
export const name = "English";
export const decimal = ".";

export const texts = {
  frame: {
    skip: "Skip to the page",
    pages: "Pages",
    tiny: "Tiny",
    convolve: "Convolve",
    draw: "Draw",
    language: "Language",
    theme: "Light or dark",
    system: "As the system",
    light: "Light",
    dark: "Dark",
    lost: "The studio does not answer. Is it still running in the terminal?",
    ended: "This page's session has ended. Open the address that the terminal shows.",
    again: "Try again",
  },
  player: {
    play: "Play",
    pause: "Pause",
    back: "One step back",
    forward: "One step on",
    start: "To the start",
    position: "Position",
    speed: "Speed",
    slow: "slow",
    fast: "fast",
    of: (position: number, length: number) => `${position} of ${length}`,
  },
  scale: {
    negative: "negative",
    positive: "positive",
  },
  tiny: {},
  convolve: {},
  draw: {},
};

export type Texts = typeof texts;
