// The widths of the window, CSS pixels, at which the pages change. A media query cannot use a variable: it repeats the number, and a
// test finds any that is not in this list.

export const BREAKPOINTS = {
  /** Up to here the frame and Convolve are one column. */
  phone: 640,
  /** Up to here Tiny and Draw are. */
  tablet: 760,
  /** Below, Tiny's figure from left to right would have digits of less than 12 pixels. */
  figure: 1064,
  /** Up to here Convolve has its two panes above its numbers. */
  panes: 1100,
  /** Up to here Tiny's training images are above its figure. */
  beside: 1279,
  /** From here Convolve's products are written larger. */
  wall: 1700,
} as const;
