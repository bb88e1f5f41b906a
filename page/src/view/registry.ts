// The views: what the navigation shows, and which one a place belongs to. A new one is a line here.

import type { ComponentType } from "preact";

import type { Route } from "../route";
import { CallView } from "./call";
import { ConnectView } from "./connect";
import { JobView } from "./job";
import { JobsView } from "./jobs";

interface View {
  /** The first part of its address: "#/jobs". */
  name: string;
  title: string;
  component: ComponentType<{ route: Route }>;
  /** What stands behind the name, if it can: "#/jobs/ID". */
  detail?: ComponentType<{ route: Route }>;
  /** Also for who is not logged in. */
  isPublic?: boolean;
}

export const VIEWS: readonly View[] = [
  { name: "jobs", title: "Jobs", component: JobsView, detail: JobView },
  { name: "call", title: "Call", component: CallView },
  { name: "connect", title: "Connect", component: ConnectView, isPublic: true },
];

export function viewOf(path: readonly string[]): View {
  return VIEWS.find((view) => view.name === path[0]) ?? VIEWS[0]!;
}
