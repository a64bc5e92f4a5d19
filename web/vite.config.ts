import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

// The page is built into the Python package; `convoscope studio` serves it from there.
export default defineConfig({
  plugins: [svelte()],
  build: {
    outDir: "../src/convoscope/studio/page",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy: { "/api": { target: "http://127.0.0.1:8399", ws: true } } },
  test: { include: ["src/**/*.test.ts"] },
});
