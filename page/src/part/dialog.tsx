import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";

interface Props {
  title: string;
  confirm: string;
  dismiss: string;
  children: ComponentChildren;
  onConfirm: () => void;
  onDismiss: () => void;
}

/** A question that has to be answered first. Escape dismisses it, and so does Enter at first. */
export function Dialog({ title, confirm, dismiss, children, onConfirm, onDismiss }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    dialog.current!.showModal();
  }, []);
  return (
    <dialog ref={dialog} aria-labelledby={id} onClose={onDismiss}>
      <h2 id={id}>{title}</h2>
      {children}
      <div class="actions">
        <button type="button" onClick={() => dialog.current!.close()}>{dismiss}</button>
        <button type="button" class="danger" onClick={onConfirm}>{confirm}</button>
      </div>
    </dialog>
  );
}
