// What is said aloud, where the keyboard goes, and what its keys mean.

import { within } from "./dom.js";

/** A screen reader says it when it has finished what it is saying. @param {string} text */
export function announce(text, urgent = false) {
  const region = within(document, urgent ? "#assertive" : "#polite");
  const line = document.createElement("p");
  line.textContent = text;
  region.append(line);
  // Old lines go: the region is for what is new.
  while (region.childElementCount > 5) region.firstElementChild?.remove();
}

/**
 * One tab stop for a group: arrows, Home and End move within it.
 *
 * @param {HTMLElement} group
 * @param {() => HTMLElement[]} items in their order; the group need not be told of changes
 */
export function roving(group, items, { horizontal = false, columns = 1 } = {}) {
  /** @type {Record<string, number>} */
  const steps = horizontal
    ? { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }
    : { ArrowUp: -1, ArrowDown: 1 };
  /** @param {HTMLElement} [chosen] */
  const settle = (chosen) => {
    for (const item of items()) item.tabIndex = item === chosen ? 0 : -1;
  };
  group.addEventListener("keydown", (event) => {
    const all = items();
    const at = all.findIndex((item) => item === document.activeElement);
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
    const item = items().find((each) => each === target);
    if (item) settle(item);
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
 * @param {HTMLElement} button
 * @param {HTMLElement} panel
 */
export function popover(button, panel) {
  button.setAttribute("aria-expanded", "false");
  panel.hidden = true;
  /** @param {boolean} refocus */
  const close = (refocus) => {
    if (panel.hidden) return;
    panel.hidden = true;
    button.setAttribute("aria-expanded", "false");
    document.removeEventListener("pointerdown", outside, true);
    if (refocus) button.focus();
  };
  /** @param {Event} event */
  const outside = (event) => {
    const path = event.composedPath();
    if (!path.includes(panel) && !path.includes(button)) close(false);
  };
  button.addEventListener("click", () => {
    if (!panel.hidden) return close(true);
    panel.hidden = false;
    button.setAttribute("aria-expanded", "true");
    document.addEventListener("pointerdown", outside, true);
    /** @type {HTMLElement | null} */
    const first = panel.querySelector("button, input");
    first?.focus();
  });
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    close(true);
  });
  panel.addEventListener("focusout", ({ relatedTarget }) => {
    const inside = relatedTarget instanceof Node && panel.contains(relatedTarget);
    if (relatedTarget && !inside && relatedTarget !== button) close(false);
  });
  return () => close(true);
}

/**
 * Whether a key belongs to composing a character (Japanese, Chinese, accents, …) and not
 * to us. Safari ends the composition before it tells of the Enter that ended it; what is
 * left to know it by is `keyCode` 229.
 * @param {KeyboardEvent} event
 */
export function composing({ isComposing, keyCode }) {
  return isComposing || keyCode === 229;
}

/** Whether this key says "send". @param {KeyboardEvent} event */
export function sends(event) {
  return event.key === "Enter" && !event.shiftKey && !composing(event);
}
