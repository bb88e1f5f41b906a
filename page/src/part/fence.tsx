import { Component, type ComponentChildren } from "preact";

import { troubleOf, type Trouble } from "../bus/trouble";
import { TroubleBox } from "./trouble";

/** Keeps what breaks in a view from taking the whole page with it. */
export class Fence extends Component<{ children: ComponentChildren }, { trouble: Trouble | null }> {
  override state = { trouble: null };

  override componentDidCatch(error: unknown): void {
    console.error(error);
    this.setState({ trouble: { ...troubleOf(error), remedy: "load the page again; the bus is not concerned" } });
  }

  override render() {
    const { trouble } = this.state;
    return trouble ? <TroubleBox trouble={trouble} title="This view broke" /> : this.props.children;
  }
}
