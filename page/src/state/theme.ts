// Light or dark: as the system has it, until the reader chooses.

import { effect, signal } from "@preact/signals";

import { ofBrowser } from "../kept";

export type Theme = "system" | "light" | "dark";

const KEY = "taskbus.theme";
const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };

export const theme = signal<Theme>(saved());

export function start(): void {
  effect(() => {
    if (theme.value === "system") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = theme.value;
    ofBrowser.setItem(KEY, theme.value);
  });
}

export function nextTheme(): void {
  theme.value = NEXT[theme.value];
}

function saved(): Theme {
  const value = ofBrowser.getItem(KEY);
  return value === "light" || value === "dark" ? value : "system";
}
