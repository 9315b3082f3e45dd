// Telling somebody who is looking elsewhere: title, sound, toast, system notification.

import { drawing, el, name, within } from "./dom.js";
import { kept } from "./protocol.js";
import { play } from "./sounds.js";

const KEY = "cfm.notifications";
const TOAST_MS = 6000;
const TOASTS = 3;
const toasts = within(document, "#toasts");

// Android's browsers have `Notification` and throw when it is made: there they come from
// a service worker alone, which this client does without.
let available = "Notification" in globalThis;

export function notificationsAreOn() {
  return available && Notification.permission === "granted" && kept.read(KEY) === "on";
}

/** Asks for permission where it is needed; returns whether they are on now. @param {boolean} wanted */
export async function setNotifications(wanted) {
  kept.write(KEY, wanted ? "on" : "off");
  if (wanted && available && Notification.permission !== "granted") {
    await Notification.requestPermission();
  }
  if (wanted && notificationsAreOn()) notify("CF Messenger", { body: "Notifications are on.", tag: KEY });
  return notificationsAreOn();
}

/** @param {string} title @param {NotificationOptions} options */
function notify(title, options) {
  try {
    return new Notification(title, options);
  } catch {
    available = false;
    return undefined;
  }
}

/** @param {number} count */
export function titleCount(count) {
  document.title = count ? `(${count}) CF Messenger` : "CF Messenger";
}

/** @param {Client.News} news */
export function tell(news) {
  const { title, text, tag, sound, open } = news;
  if (sound) play(sound);
  toast(news);
  if (!document.hidden || !notificationsAreOn()) return;
  const shown = notify(title, { body: text, tag });
  if (!shown) return;
  shown.onclick = () => {
    window.focus();
    shown.close();
    open();
  };
}

export function clearToasts() {
  toasts.replaceChildren();
}

// For the eye and the pointer: readers hear the same from the live region, and the
// keyboard reaches the conversation in the bar.
/** @param {Client.News} news */
function toast({ title, text, icon, open }) {
  const made = el(
    "div",
    { class: "toast", "aria-hidden": "true" },
    drawing(icon, "avatar"),
    el("p", {}, el("strong", {}, name(title)), el("span", { dir: "auto" }, text)),
  );
  made.addEventListener("click", () => {
    made.remove();
    open();
  });
  toasts.append(made);
  while (toasts.childElementCount > TOASTS) toasts.firstElementChild?.remove();
  setTimeout(() => made.remove(), TOAST_MS);
}
