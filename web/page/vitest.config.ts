import { defineConfig } from "vitest/config";

// Tests are of logic alone and run in Node.js; what needs a browser is tried in real ones (test/e2e).
export default defineConfig({ test: { include: ["src/**/*.test.ts"], environment: "node" } });
