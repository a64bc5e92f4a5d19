// The icons, each one path in a square of 20 x 20. Lines are drawn two thick, areas are filled.

export const ICONS = {
  close: { line: "M5 5l10 10M15 5L5 15" },
  left: { line: "M12 4l-6 6 6 6" },
  right: { line: "M8 4l6 6-6 6" },
  minus: { line: "M4 10h12" },
  plus: { line: "M4 10h12M10 4v12" },
  whole: { line: "M4 8V4h4M16 8V4h-4M4 12v4h4M16 12v4h-4" },
  undo: { line: "M7 3.5 3 7.5l4 4M3.5 7.5H12a4.5 4.5 0 0 1 0 9H7" },
  redo: { line: "m13 3.5 4 4-4 4M16.5 7.5H8a4.5 4.5 0 0 0 0 9h5" },
  start: { area: "M4 4h2v12H4zM16 4v12L7 10z" },
  back: { area: "M13 4v12L5 10z" },
  forward: { area: "M7 4v12l8-6z" },
  play: { area: "M5 3.5v13L16 10z" },
  pause: { area: "M5 4h3.5v12H5zM11.5 4H15v12h-3.5z" },
} as const satisfies Record<string, { line: string } | { area: string }>;

export type IconName = keyof typeof ICONS;
