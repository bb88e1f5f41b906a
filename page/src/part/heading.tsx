import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

let isFirst = true;

/** A view's heading. When a view opens, what is read aloud and where Tab goes on from begins here. */
export function Heading({ title, children }: { title: string; children?: ComponentChildren }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    if (!isFirst) heading.current!.focus({ preventScroll: true });
    isFirst = false;
  }, []);
  useEffect(() => {
    document.title = title === "taskbus" ? title : `${title} - taskbus`;
  }, [title]);
  return <h1 ref={heading} tabIndex={-1}>{children ?? title}</h1>;
}
