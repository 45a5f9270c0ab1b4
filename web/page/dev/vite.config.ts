import { defineConfig } from "vite";
import page from "../vite.config";
import { fixtures } from "./fixtures";

// The page with a make-believe node, to look at it without a baton: npm run dev, then sign in as alice or bob with any password.
export default defineConfig({ ...page, root: ".", plugins: [...(page.plugins ?? []), fixtures()] });
