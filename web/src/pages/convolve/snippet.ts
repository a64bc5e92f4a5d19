// The same chain as a Python script with PyTorch, which prints the number that is looked at.
import type { Numbers } from "../../api/arrays";
import type { NamedKernel, Step } from "../../api/client";
import { depth, nameOf, plane, type ConvolveStep, type Plane, type PoolStep } from "./steps";
import { geometry } from "./windows";

export interface Wanted {
  /** The image before the first step as pixels 0..255, grey or colour. */
  pixels: Numbers;
  /** 1: the pixels are divided by 255 first. */
  full: 255 | 1;
  /** The steps up to the one that is looked at. */
  steps: readonly Step[];
  named: readonly NamedKernel[];
  /** The number's place in the last step's result. */
  y: number;
  x: number;
  channel: number;
}

const LARGEST_WRITTEN = 16;

export function snippet({ pixels, full, steps, named, y, x, channel }: Wanted): string {
  const small = Math.max(pixels.height, pixels.width) <= LARGEST_WRITTEN;
  const lines = [
    ...(small ? [] : ["import numpy as np"]),
    "import torch",
    "import torch.nn.functional as F",
    ...(small ? [] : ["from PIL import Image"]),
    "",
    ...(small ? written(pixels) : loaded(pixels)),
    ...(full === 1 ? ["maps = maps / 255"] : []),
  ];
  let { height, width, channels } = pixels;
  for (const [index, step] of steps.entries()) {
    const { down, across } = geometry(step, height, width)!;
    lines.push("", `# Step ${index + 1}: ${title(step, named)}`);
    if (step.kind === "relu") lines.push("maps = F.relu(maps)");
    else if (step.kind === "pool") lines.push(pooled(step));
    else {
      lines.push(...convolved(step, channels, [across.before, across.after, down.before, down.after]));
      if (depth(step.kernel) !== null) channels = 1;
    }
    height = down.places;
    width = across.places;
  }
  lines.push(
    "",
    `# Row ${y + 1}, column ${x + 1}; Python counts from 0.`,
    `print(maps[0, ${channel}, ${y}, ${x}].item())`,
  );
  return `${lines.join("\n")}\n`;
}

function title(step: Step, named: readonly NamedKernel[]): string {
  if (step.kind !== "convolve") return step.kind === "relu" ? "relu" : `${step.pool} pooling`;
  const name = nameOf(step.kernel, named);
  return `convolve${name ? ` with ${name}` : ""}, border: ${step.border}`;
}

function written(pixels: Numbers): string[] {
  const { height, width, channels, values } = pixels;
  const planes = Array.from({ length: channels }, (_, channel) =>
    Array.from({ length: height }, (_, y) =>
      Array.from({ length: width }, (_, x) => values[(y * width + x) * channels + channel]!),
    ),
  );
  return [
    `# The image, (1, channels, height, width) = (1, ${channels}, ${height}, ${width}).`,
    `maps = torch.tensor([[${planes.map((rows) => rowsText(rows)).join(", ")}]], dtype=torch.float64)`,
  ];
}

function loaded({ height, width, channels }: Numbers): string[] {
  const mode = channels === 1 ? "L" : "RGB";
  return [
    `# Put your image file's name here. The studio makes an image smaller in its own way, so numbers can differ a little.`,
    `image = Image.open("image.png").convert("${mode}").resize((${width}, ${height}))`,
    `maps = torch.tensor(np.asarray(image), dtype=torch.float64).reshape(1, ${height}, ${width}, ${channels}).permute(0, 3, 1, 2)`,
  ];
}

function rowsText(rows: Plane): string {
  return `[\n${rows.map((row) => `    [${row.join(", ")}],\n`).join("")}]`;
}

function convolved(step: ConvolveStep, channels: number, border: number[]): string[] {
  const deep = depth(step.kernel);
  const planes = Array.from({ length: deep ?? 1 }, (_, channel) => rowsText(plane(step.kernel, channel)));
  const mode = step.border === "zeros" ? "constant" : step.border;
  const alone = deep === null && channels > 1;
  const options = [
    ...(step.stride === 1 ? [] : [`stride=${step.stride}`]),
    ...(step.dilation === 1 ? [] : [`dilation=${step.dilation}`]),
    ...(alone ? [`groups=${channels}`] : []),
  ];
  return [
    `kernel = torch.tensor([[${planes.join(", ")}]], dtype=torch.float64)`,
    ...(alone ? [`kernel = kernel.repeat(${channels}, 1, 1, 1)  # each channel by itself`] : []),
    ...(step.border === "none" || border.every((cells) => cells === 0)
      ? []
      : [`maps = F.pad(maps, (${border.join(", ")}), mode="${mode}")  # left, right, top, bottom`]),
    `maps = F.conv2d(${["maps", "kernel", ...options].join(", ")})`,
  ];
}

function pooled({ pool, size, stride }: PoolStep): string {
  if (pool === "max") return `maps = F.max_pool2d(maps, ${size}, stride=${stride})`;
  const sum = pool === "sum" ? ", divisor_override=1" : "";
  return `maps = F.avg_pool2d(maps, ${size}, stride=${stride}${sum})`;
}
