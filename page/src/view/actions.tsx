// What can be done about a job in its state.

import { useRef, useState } from "preact/hooks";

import { ask } from "../bus/session";
import { troubleOf, type Trouble } from "../bus/trouble";
import { isFinal, type Job, type State } from "../bus/types";
import { Dialog } from "../part/dialog";
import { Icon } from "../part/icon";
import { TroubleBox } from "../part/trouble";
import { to } from "../route";

interface Props {
  job: Job;
  state: State;
  onDone: () => void;
}

export function Actions({ job, state, onDone }: Props) {
  const [isBusy, setBusy] = useState(false);
  const [wrong, setWrong] = useState<Trouble | null>(null);
  const question = useRef<HTMLDialogElement>(null);

  const act = async (procedure: string) => {
    setBusy(true);
    setWrong(null);
    try {
      await ask(procedure, [job.id], {});
      onDone();
      // The button that had the focus may be gone now.
      document.querySelector<HTMLElement>("main h1")?.focus();
    } catch (error) {
      setWrong(troubleOf(error));
    } finally {
      setBusy(false);
    }
  };

  const retries = isFinal(state) ? state !== "succeeded" : state === "scheduled" || state === "retrying";
  return (
    <>
      <div class="actions">
        {!isFinal(state) && (
          <button type="button" class="danger" disabled={isBusy} onClick={() => question.current!.showModal()}>
            <Icon name="stop" /> Cancel
          </button>
        )}
        {retries && (
          <button type="button" disabled={isBusy} onClick={() => act("taskbus.job.retry")}>
            <Icon name="again" /> {isFinal(state) ? "Retry" : "Run now"}
          </button>
        )}
        <a class="button" href={to(["call"], { uri: job.uri, from: job.id })}><Icon name="edit" /> Submit again</a>
      </div>
      {wrong && <TroubleBox trouble={wrong} title="That was refused" />}
      <Dialog dialog={question} title="Cancel this job?" confirm="Cancel the job" dismiss="Let it go on"
        onConfirm={() => act("taskbus.job.cancel")}>
        <p>{state === "running"
          ? "Its processes get five seconds to end, and are killed then."
          : "It will not run. It can be retried later."}</p>
      </Dialog>
    </>
  );
}
