// What is said aloud, where the keyboard goes, and what its keys mean.

const polite = document.getElementById("polite");
const assertive = document.getElementById("assertive");

/** A screen reader says it when it has finished what it is saying. */
export function announce(text, urgent = false) {
  const region = urgent ? assertive : polite;
  const line = document.createElement("p");
  line.textContent = text;
  region.append(line);
  // Old lines go: the region is for what is new.
  while (region.childElementCount > 5) region.firstChild.remove();
}

/**
 * One tab stop for a group: arrows, Home and End move within it.
 *
 * `items()` are the elements in their order; the group need not be told of changes.
 */
export function roving(group, items, { horizontal = false, columns = 1 } = {}) {
  const steps = horizontal
    ? { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }
    : { ArrowUp: -1, ArrowDown: 1 };
  const settle = (chosen) => {
    for (const item of items()) item.tabIndex = item === chosen ? 0 : -1;
  };
  group.addEventListener("keydown", (event) => {
    const all = items();
    const at = all.indexOf(document.activeElement);
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    let next;
    if (event.key === "Home") next = 0;
    else if (event.key === "End") next = all.length - 1;
    else if (event.key in steps) next = at + steps[event.key];
    else return;
    event.preventDefault();
    all[Math.max(0, Math.min(next, all.length - 1))].focus();
  });
  group.addEventListener("focusin", ({ target }) => {
    if (items().includes(target)) settle(target);
  });
  /** After a change of the items: exactly one can be tabbed to. */
  return () => {
    const all = items();
    settle(all.find((item) => item.tabIndex === 0) ?? all[0]);
  };
}

/**
 * A button that opens a panel over the page: Escape and a click elsewhere close it, the
 * first item gets the focus, and the button gets it back.
 */
export function popover(button, panel) {
  button.setAttribute("aria-expanded", "false");
  panel.hidden = true;
  const close = (refocus) => {
    if (panel.hidden) return;
    panel.hidden = true;
    button.setAttribute("aria-expanded", "false");
    document.removeEventListener("pointerdown", outside, true);
    if (refocus) button.focus();
  };
  const outside = ({ target }) => {
    if (!panel.contains(target) && !button.contains(target)) close(false);
  };
  button.addEventListener("click", () => {
    if (!panel.hidden) return close(true);
    panel.hidden = false;
    button.setAttribute("aria-expanded", "true");
    document.addEventListener("pointerdown", outside, true);
    panel.querySelector("button, input")?.focus();
  });
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    close(true);
  });
  panel.addEventListener("focusout", ({ relatedTarget }) => {
    if (relatedTarget && !panel.contains(relatedTarget) && relatedTarget !== button) {
      close(false);
    }
  });
  return () => close(true);
}

/**
 * Whether a key belongs to composing a character (Japanese, Chinese, accents, …) and not
 * to us. Safari ends the composition before it tells of the Enter that ended it; what is
 * left to know it by is `keyCode` 229.
 */
export function composing({ isComposing, keyCode }) {
  return isComposing || keyCode === 229;
}

/** Whether this key says "send". */
export function sends(event) {
  return event.key === "Enter" && !event.shiftKey && !composing(event);
}
