import { render } from "preact";

import "./style/base.css";
import "./style/frame.css";
import "./style/parts.css";
import "./style/jobs.css";
import "./style/job.css";
import "./style/call.css";
import "./style/text.css";

import { App } from "./app";
import * as session from "./bus/session";
import * as route from "./route";
import * as api from "./state/api";
import * as now from "./state/now";
import * as theme from "./state/theme";

void session.start(); // first: a token in the address is taken out before anything else looks at it
route.start();
theme.start();
now.start();
api.start();
render(<App />, document.body);
