// What a page has for the same tests.

import * as taskbus from "taskbus";

import {outcome} from "./outcome.js";

Object.assign(globalThis, {taskbus, outcome});
