// Setting up a canvas for drawing.

/** The context of a canvas with that many pixels of its own, emptied. */
export function blank(canvas: HTMLCanvasElement, width: number, height: number): CanvasRenderingContext2D {
  const context = canvas.getContext("2d")!;
  // a change of size makes new memory, even to the same size
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  } else {
    context.clearRect(0, 0, width, height);
  }
  return context;
}
