// Log in: with the token from the address that was printed, or pasted here.

import type { TargetedSubmitEvent } from "preact";
import { useEffect, useRef } from "preact/hooks";

import { link, linkTrouble, login, logout } from "../bus/session";
import { Heading } from "../part/heading";
import { TroubleBox } from "../part/trouble";

export function LoginView() {
  const field = useRef<HTMLInputElement>(null);
  const isJoining = link.value === "joining";
  const trouble = linkTrouble.value;
  useEffect(() => {
    if (trouble && !isJoining) field.current?.focus();
  }, [trouble]);

  const submit = (event: TargetedSubmitEvent<HTMLFormElement>) => {
    event.preventDefault();
    void login(field.current!.value);
  };

  return (
    <div class="login">
      <Heading title="taskbus">Log in</Heading>
      <form onSubmit={submit} class="card">
        <label for="token">Token</label>
        <input id="token" ref={field} type="password" autocomplete="off" spellcheck={false}
          aria-describedby="token-help" aria-invalid={trouble ? true : undefined} disabled={isJoining} />
        <div class="actions">
          <button type="submit" class="primary" disabled={isJoining}>{isJoining ? "Connecting" : "Log in"}</button>
          {isJoining && <button type="button" onClick={logout}>Cancel</button>}
        </div>
        {isJoining && trouble && (
          <p role="status">The bus does not answer yet, it is tried again: {trouble.message}</p>
        )}
        {!isJoining && trouble && <TroubleBox trouble={trouble} title="That did not work" />}
      </form>
      <section id="token-help" class="help">
        <h2>Where is a token?</h2>
        <ul>
          <li>In the address that <code>make run</code> and <code>taskbus up --detach</code> print: open
            it, or paste it here as a whole.</li>
          <li>In the file <code>var/secrets/browser</code>, on the machine of the bus.</li>
          <li>An access key, <code>tb_…</code>, is one, too: <code>taskbus key create</code> makes it. What
            you see and may do is then what its scopes say.</li>
        </ul>
        <p class="soft">It is kept in this tab, and tabs you open from it, until you log out or close them.</p>
      </section>
    </div>
  );
}
