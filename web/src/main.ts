import { mount } from "svelte";
import App from "./App.svelte";
import { address } from "./lib/address.svelte";
import { theme } from "./lib/theme.svelte";
import { PAGES } from "./pages";
import "./styles/tokens.css";
import "./styles/base.css";
import { language } from "./texts/index.svelte";

language.start();
theme.start();
address.start(PAGES.map((page) => page.address));
mount(App, { target: document.getElementById("app")! });
