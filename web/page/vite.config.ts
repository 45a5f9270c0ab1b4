import { defineConfig } from "vite";
import solid from "vite-plugin-solid";

// Everything is a file of this origin: the page is served with the policy default-src 'self', which forbids inline scripts, inline
// styles and data: addresses.
export default defineConfig({
  plugins: [solid()],
  base: "./",
  publicDir: "public",
  build: {
    outDir: "dist",
    emptyOutDir: false, // placeholder.txt stays; scripts/clean.mjs takes the assets of earlier builds away
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
    sourcemap: false,
    chunkSizeWarningLimit: 700,
  },
});
