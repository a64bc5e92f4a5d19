// What the type checker does not see: promises that nobody waits for. Layout is prettier's, types are svelte-check's.
import svelte from "eslint-plugin-svelte";
import { parser, plugin } from "typescript-eslint";
import svelteConfig from "./svelte.config.js";

const types = {
  parser,
  parserOptions: { projectService: true, extraFileExtensions: [".svelte"] },
};

export default [
  { ignores: ["node_modules", "src/api/schema.d.ts", "*.config.js"] },
  ...svelte.configs.base,
  { files: ["**/*.ts"], languageOptions: types },
  {
    files: ["**/*.svelte"],
    languageOptions: { parserOptions: { ...types.parserOptions, parser, svelteConfig } },
  },
  {
    files: ["**/*.ts", "**/*.svelte"],
    plugins: { "@typescript-eslint": plugin },
    linterOptions: { reportUnusedDisableDirectives: "off" },
    rules: {
      "@typescript-eslint/no-floating-promises": "error",
      "@typescript-eslint/no-misused-promises": "error",
    },
  },
];
