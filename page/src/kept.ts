// What the browser keeps for the page. One that may keep nothing throws at the mere look: for such a
// reader it is forgotten with the page.

type Kept = Pick<Storage, "getItem" | "setItem" | "removeItem">;

export const ofTab = storage(() => sessionStorage);
export const ofBrowser = storage(() => localStorage);

function storage(look: () => Storage): Kept {
  try {
    return look();
  } catch {
    const kept = new Map<string, string>();
    return {
      getItem: (name) => kept.get(name) ?? null,
      setItem: (name, value) => void kept.set(name, value),
      removeItem: (name) => void kept.delete(name),
    };
  }
}
