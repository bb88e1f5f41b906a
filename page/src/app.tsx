// The frame around every view: who and where one is, and whether the bus is there.

import { isIn, link, linkTrouble, logout, who } from "./bus/session";
import { Fence } from "./part/fence";
import { Icon } from "./part/icon";
import { route, to } from "./route";
import { nextTheme, theme } from "./state/theme";
import { visible } from "./text/visible";
import { LoginView } from "./view/login";
import { viewOf, VIEWS } from "./view/registry";

export function App() {
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>Skip to the content</a>
      <header class="top">
        <a class="brand" href="#/jobs"><img src="./icon.svg" alt="" width="24" height="24" /> taskbus</a>
        <Navigation />
        <div class="tools">
          <LinkState />
          <button type="button" class="icon-button" onClick={nextTheme}
            aria-label={`Colours: ${theme.value}`} title={`Colours: ${theme.value}`}>
            <Icon name={theme.value} />
          </button>
          {isIn.value && (
            <button type="button" class="icon-button" onClick={logout} aria-label="Log out" title={`Log out ${who.value}`}>
              <Icon name="leave" />
            </button>
          )}
        </div>
      </header>
      <main id="main" tabIndex={-1}><Place /></main>
    </>
  );
}

function Place() {
  const here = route.value;
  const view = viewOf(here.path);
  if (!isIn.value && !view.isPublic) return <LoginView />;
  const Shown = here.path[1] !== undefined && view.detail ? view.detail : view.component;
  // Another job is another view, with a state of its own.
  const key = view.detail ? here.path.join("/") : view.name;
  return <Fence key={key}><Shown route={here} /></Fence>;
}

function Navigation() {
  const here = viewOf(route.value.path).name;
  const shown = VIEWS.filter((view) => isIn.value || view.isPublic);
  return (
    <nav aria-label="Views">
      <ul>
        {!isIn.value && <li><a href="#/jobs" aria-current={here === "jobs" ? "page" : undefined}>Log in</a></li>}
        {shown.map((view) => (
          <li key={view.name}>
            <a href={to([view.name])} aria-current={view.name === here ? "page" : undefined}>{view.title}</a>
          </li>
        ))}
      </ul>
    </nav>
  );
}

const WORDS = { out: "", joining: "connecting", live: "live", lost: "reconnecting" };

/** Whether what is shown is up to date. */
function LinkState() {
  const state = link.value;
  const why = linkTrouble.value;
  return (
    <span class={`link-state ${state}`} role="status" title={state !== "out" && why ? visible(why.message) : undefined}>
      {WORDS[state]}
    </span>
  );
}

function skip(event: Event): void {
  event.preventDefault(); // the part of the address behind "#" says which view this is
  document.getElementById("main")?.focus();
}
