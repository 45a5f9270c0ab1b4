import { createContext, useContext } from "solid-js";
import type { App } from "../store";

export const AppContext = createContext<App>();

/** useApp gives the page's state and actions to a component. */
export function useApp(): App {
  const app = useContext(AppContext);
  if (!app) throw new Error("no App above this component");
  return app;
}
