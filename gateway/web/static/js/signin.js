// Signing in: who, with which status, and the proof of being a person.

import { announce } from "./a11y.js";
import { drawing, el, name } from "./dom.js";
import { ApiError, call, kept, Session } from "./protocol.js";
import { STATUS_NAMES } from "./store.js";

const LAST = "cfm.last";
const SCRIPT = "https://challenges.cloudflare.com/turnstile/v0/api.js?render=explicit";
const AGAIN_MS = 3000;
// Cloudflare's published keys for tests. Nobody is checked with them, and nothing is
// loaded from elsewhere: the form says so and sends the published dummy token.
/** @type {Record<string, string>} */
const TEST_KEYS = {
  "1x00000000000000000000AA": "always passes",
  "1x00000000000000000000BB": "always passes",
  "2x00000000000000000000AB": "always fails",
  "2x00000000000000000000BB": "always fails",
  "3x00000000000000000000FF": "asks for a click",
};
const DUMMY_TOKEN = "XXXX.DUMMY.TOKEN.XXXX";
const REASONS = {
  expired: "Your session has ended. Please sign in again.",
  "signed-out": "You are signed out.",
  replaced: "Somebody else has signed in in this browser.",
};
const FORGETFUL =
  "This browser keeps nothing for this site: you will be signed out when you close or reload the page.";

/**
 * Shows the form in `root`.
 * @param {Element} root
 * @param {Client.EndReason | undefined} reason
 * @param {(session: Session, status?: Wire.Status) => void} entered once somebody is in
 */
export function showSignIn(root, reason, entered) {
  const chosen = { user: kept.read(LAST) };
  const list = el("div", { class: "accounts", role: "radiogroup", "aria-labelledby": "who" });
  const search = el("input", {
    type: "search",
    id: "account-search",
    placeholder: "Search accounts",
    "aria-label": "Search accounts",
    autocomplete: "off",
    spellcheck: "false",
  });
  const status = el(
    "select",
    { id: "sign-in-status" },
    Object.entries(STATUS_NAMES).map(([value, label]) => el("option", { value }, label)),
  );
  const proof = el("div", { class: "proof" });
  const problem = el("p", { class: "problem", role: "alert" });
  const button = el("button", { type: "submit", class: "primary", disabled: true }, "Sign in");
  const form = el(
    "form",
    { class: "signin window active", "aria-labelledby": "sign-in-title", novalidate: true },
    el(
      "header",
      { class: "titlebar" },
      drawing("logo", "glyph"),
      el("p", { class: "title" }, "Welcome"),
    ),
    el(
      "div",
      { class: "brand" },
      drawing("logo", "logo"),
      el("div", {}, el("h1", { id: "sign-in-title" }, "CF Messenger"), el("p", {}, "Nudge someone. It is 2005 somewhere.")),
    ),
    reason && el("p", { class: "reason", role: "status" }, REASONS[reason]),
    !kept.lasting && el("p", { class: "reason" }, FORGETFUL),
    el("h2", { id: "who" }, "Who are you?"),
    search,
    list,
    el("div", { class: "choice" }, el("label", { for: "sign-in-status" }, "Sign in as"), status),
    proof,
    problem,
    button,
  );
  root.replaceChildren(el("div", { class: "welcome" }, form));

  /** @type {Client.Token} */
  const token = { value: "", renew: () => {} };
  const ready = () => {
    button.disabled = !chosen.user || !token.value || form.ariaBusy === "true";
  };
  list.addEventListener("change", ({ target }) => {
    if (target instanceof HTMLInputElement) chosen.user = target.value;
    ready();
  });
  search.addEventListener("input", () => filter(list, search.value));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    busy(true);
    problem.textContent = "";
    try {
      const session = await Session.signIn(chosen.user, token.value);
      kept.write(LAST, chosen.user);
      leave();
      entered(session, /** @type {Wire.Status} */ (status.value));
    } catch (error) {
      busy(false);
      const { code, message, retryAfterS } = ApiError.of(error);
      problem.textContent =
        code === "RATE_LIMITED"
          ? `Too many attempts. Try again in ${retryAfterS || 10} seconds.`
          : message;
      token.renew();
    }
  });
  /** @param {boolean} is */
  const busy = (is) => {
    form.ariaBusy = String(is);
    button.textContent = is ? "Signing in…" : "Sign in";
    ready();
  };
  const onStorage = () => {
    const session = Session.stored();
    if (!session) return;
    leave();
    entered(session);
  };
  const leave = () => {
    removeEventListener("storage", onStorage);
    gone = true;
  };
  let gone = false;
  addEventListener("storage", onStorage);
  load();

  async function load() {
    try {
      const [accounts, config] = await Promise.all([
        call("GET", "/api/auth/accounts"),
        call("GET", "/api/config"),
      ]);
      if (gone) return;
      const people = accounts.filter(({ isAiBot }) => !isAiBot);
      if (!people.some(({ id }) => id === chosen.user)) chosen.user = null;
      list.replaceChildren(...people.map((each) => account(each, chosen.user)));
      if (search.value) filter(list, search.value); // typed before there was a list
      list.querySelector(":checked")?.scrollIntoView({ block: "nearest" });
      problem.textContent = "";
      prove(proof, config.TURNSTILE_SITE_KEY, token, ready);
      ready();
      form.dataset.ready = "";
    } catch (error) {
      if (gone) return;
      problem.textContent = `${ApiError.of(error).message} Trying again…`;
      setTimeout(load, AGAIN_MS * (0.5 + Math.random()));
    }
  }
}

/** @param {Wire.User} person @param {string} [chosen] */
function account({ id, displayName, avatarId, email, personalMessage, status }, chosen) {
  const input = el("input", { type: "radio", name: "account", value: id, checked: id === chosen });
  return el(
    "label",
    { class: "account", "data-find": `${displayName} ${email} ${personalMessage ?? ""}`.toLowerCase() },
    input,
    drawing(`a-${avatarId}`, "avatar"),
    el(
      "span",
      { class: "who" },
      name(displayName),
      el("span", { class: "soft" }, email),
    ),
    status === "offline" ? "" : el("span", { class: "here" }, "signed in"),
  );
}

/** @param {Element} list @param {string} wanted */
function filter(list, wanted) {
  const letters = wanted.trim().toLowerCase();
  let shown = 0;
  for (const row of list.querySelectorAll("label")) {
    row.hidden = !row.dataset.find?.includes(letters);
    shown += row.hidden ? 0 : 1;
  }
  announce(`${shown} accounts`);
}

/** @param {Element} place @param {string} siteKey @param {Client.Token} token @param {() => void} ready */
function prove(place, siteKey, token, ready) {
  /** @param {string} value */
  const got = (value) => {
    token.value = value;
    ready();
  };
  const outcome = TEST_KEYS[siteKey];
  if (siteKey && !outcome) return widget(place, siteKey, token, got);
  const why = siteKey ? `a Turnstile test key that ${outcome}` : "no Turnstile key";
  const note = el(
    "p",
    { class: "standin" },
    el("strong", {}, "Nobody is being checked. "),
    `This server has ${why}, so this is a stand-in for the real question.`,
  );
  if (outcome !== "asks for a click") {
    place.replaceChildren(note);
    return got(DUMMY_TOKEN);
  }
  const box = el("input", { type: "checkbox", onchange: () => got(box.checked ? DUMMY_TOKEN : "") });
  token.renew = () => {
    box.checked = false;
    got("");
  };
  place.replaceChildren(el("label", { class: "click" }, box, "I am a person"), note);
}

/** @param {Element} place @param {string} sitekey @param {Client.Token} token @param {(value: string) => void} got */
function widget(place, sitekey, token, got) {
  const script = el("script", { src: SCRIPT });
  const failed = () => {
    place.replaceChildren(el("p", { class: "problem" }, "The check for people could not be loaded."));
  };
  script.addEventListener("error", failed);
  script.addEventListener("load", () => {
    const { turnstile } = globalThis;
    const id = turnstile.render(place, {
      sitekey,
      callback: got,
      "expired-callback": () => got(""),
      "error-callback": () => got(""),
    });
    // A token is good for one attempt.
    token.renew = () => {
      got("");
      turnstile.reset(id);
    };
  });
  document.head.append(script);
}
