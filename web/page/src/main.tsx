import { render } from "solid-js/web";
import { App } from "./components/App";
import { App as Model } from "./store";
import "./style.css";

const app = new Model();
render(() => <App app={app} />, document.getElementById("root")!);
app.start();
