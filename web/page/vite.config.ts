import { rmSync } from "node:fs";
import { defineConfig, type Plugin } from "vite";
import solid from "vite-plugin-solid";

// Everything is a file of this origin: the page is served with the policy default-src 'self', which forbids inline scripts, inline
// styles and data: addresses.
export default defineConfig({
  plugins: [solid(), fresh()],
  base: "/",
  publicDir: "public",
  build: {
    outDir: "dist",
    emptyOutDir: false, // placeholder.txt stays
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
    sourcemap: false,
    chunkSizeWarningLimit: 700,
  },
});

/** fresh takes away what an earlier build has left. */
function fresh(): Plugin {
  return { name: "fresh", apply: "build", buildStart: () => ["assets", "index.html"].forEach((f) => rmSync(`dist/${f}`, { recursive: true, force: true })) };
}
