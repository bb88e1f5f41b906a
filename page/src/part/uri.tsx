import { visible } from "../text/visible";

/** A URI that, where there is no room, goes on in the next line behind a dot. */
export function Uri({ uri }: { uri: string }) {
  const [first = "", ...rest] = visible(uri).split(".");
  return <>{first}{rest.map((part) => <><wbr />.{part}</>)}</>;
}
