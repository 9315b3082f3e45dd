// Making elements. Text is always a text node: nothing anyone typed is ever markup.

const SVG = "http://www.w3.org/2000/svg";
const DRAWINGS = new URL("../art/drawings.svg", import.meta.url).pathname;

/**
 * `el("button", { class: "x", onclick: f }, "text", child)`. An attribute that is `true`
 * is empty, `false` or undefined is left out; `on…` is a listener; falsy children are
 * left out.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Client.Attributes} [attributes]
 * @param {...(Client.Child | Client.Child[])} children
 */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat()) if (child) made.append(child);
  return made;
}

/** A drawing; hidden from screen readers unless it has a `label`. @param {string} id */
export function drawing(id, className = "", label = "") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", className);
  if (label) {
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
  } else svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `${DRAWINGS}#${id}`);
  svg.append(use);
  return svg;
}

/** Shows another drawing in the same place. @param {Element} svg @param {string} id */
export function redraw(svg, id) {
  within(svg, "use").setAttribute("href", `${DRAWINGS}#${id}`);
}

/** A name: isolated, so that right-to-left letters in it move nothing around it. @param {string} text */
export function name(text, className = "") {
  return el("bdi", { class: className || false }, text);
}

/** @param {string} icon @param {string} label @param {() => void} onclick */
export function iconButton(icon, label, onclick, className = "icon") {
  const attributes = { type: "button", class: className, title: label, onclick };
  return el("button", { ...attributes, "aria-label": label }, drawing(icon));
}

/**
 * Replaces the children only if the text differs: no needless work for readers.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** The first of its kind, which is known to be there. @param {ParentNode} place @param {string} selector */
export function within(place, selector) {
  /** @type {HTMLElement | null} */
  const found = place.querySelector(selector);
  if (!found) throw new Error(`There is no ${selector} in this page.`);
  return found;
}

export const calm = matchMedia("(prefers-reduced-motion: reduce)");
export const touch = matchMedia("(pointer: coarse)");
export const phone = matchMedia("(max-width: 700px)");
