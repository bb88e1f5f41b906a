import type { ComponentChildren, RefObject } from "preact";
import { useId } from "preact/hooks";

interface Props {
  /** Asked by its `showModal`. The element alone knows whether it is open: a copy of that
      would lag behind a quick Escape and Enter, and swallow the question. */
  dialog: RefObject<HTMLDialogElement | null>;
  title: string;
  confirm: string;
  dismiss: string;
  children: ComponentChildren;
  onConfirm: () => void;
}

/** A question that has to be answered first. Escape dismisses it, and so does Enter at first. */
export function Dialog({ dialog, title, confirm, dismiss, children, onConfirm }: Props) {
  const id = useId();
  const close = () => dialog.current!.close();
  return (
    <dialog ref={dialog} aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      {children}
      <div class="actions">
        <button type="button" onClick={close}>{dismiss}</button>
        <button type="button" class="danger" onClick={() => { close(); onConfirm(); }}>{confirm}</button>
      </div>
    </dialog>
  );
}
