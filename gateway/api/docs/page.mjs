// Draws the reference from the two documents that this gateway serves. No framework and
// no markup from strings: text goes into text nodes, so nothing in a document is code.

const page = {
  contents: byId("contents"),
  main: byId("content"),
  find: /** @type {HTMLInputElement} */ (byId("find")),
  links() {
    /** @type {NodeListOf<HTMLElement>} */
    const found = this.contents.querySelectorAll("li:not([hidden]) a");
    return [...found];
  },
};

/** @param {string} id */
function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`The page has no #${id}.`);
  return found;
}

/**
 * The first of its kind in there, which is known to be there.
 * @param {Element} place
 * @param {string} selector
 */
function within(place, selector) {
  /** @type {HTMLElement | null} */
  const found = place.querySelector(selector);
  if (!found) throw new Error(`There is no ${selector} in this.`);
  return found;
}

/**
 * An element: `el("p", { class: "soft" }, "text", child)`. Empty children are left out.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Docs.Attributes} [attributes]
 * @param {...Docs.Child} children
 */
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(key, value);
  }
  /** @param {Docs.Child} child */
  const append = (child) => {
    if (Array.isArray(child)) child.forEach(append);
    else if (child) made.append(child);
  };
  append(children);
  return made;
}

/**
 * Text with `code` and [links](/path) as the documents' descriptions have them.
 * @returns {Docs.Child[]}
 */
function rich(text = "") {
  const parts = text.split(/(`[^`]+`|\[[^\]]+\]\([^)]+\)|\*[^*\s]+\*)/);
  return parts.map((part) => {
    const link = /^\[([^\]]+)\]\((\/[^)]*)\)$/.exec(part);
    if (link) return el("a", { href: link[2] }, link[1]);
    if (/^`.+`$/.test(part)) return el("code", {}, part.slice(1, -1));
    if (/^\*[^*]+\*$/.test(part)) return el("em", {}, part.slice(1, -1));
    return part;
  });
}

function paragraphs(text = "") {
  return text.split(/\n\n+/).map((each) => el("p", {}, rich(each.replace(/\n/g, " "))));
}

/** @param {string} text */
function block(text) {
  const copy = el("button", { type: "button", class: "copy" }, "Copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  });
  const pre = el("pre", { tabindex: "0" }, el("code", {}, text));
  return el("div", { class: "block" }, pre, copy);
}

/** @param {unknown} value */
function json(value) {
  return block(typeof value === "string" ? value : JSON.stringify(value, null, 2));
}

/** @param {Docs.Child} title @param {Docs.Child} content */
function fold(title, content) {
  return el("details", {}, el("summary", {}, title), content);
}

// Schemas.

/**
 * A reader of one document's schemas: references followed, `allOf` put together.
 * @param {Docs.OpenApi | Docs.AsyncApi} document
 */
function schemas(document) {
  /** @type {Docs.Whole} */
  const follow = (schema) => {
    if (!schema?.$ref) return schema ?? {};
    const path = schema.$ref.slice(2).split("/");
    /** @type {any} */
    let found = document; // any part of it, and a schema in the end
    for (const key of path) found = found[key.replaceAll("~1", "/")];
    return { name: lastOf(schema.$ref), ...follow(found) };
  };
  /** @type {Docs.Whole} */
  const whole = (given) => {
    const schema = follow(given);
    const parts = (schema.allOf ?? []).map(whole);
    return parts.reduce(
      (sum, part) => ({
        ...part,
        ...sum,
        properties: merged(sum.properties, part.properties),
        required: [...(sum.required ?? []), ...(part.required ?? [])],
      }),
      schema,
    );
  };
  /** @param {Docs.Schema["properties"]} one @param {Docs.Schema["properties"]} two */
  const merged = (one = {}, two = {}) => {
    const sum = { ...one };
    for (const [key, value] of Object.entries(two)) sum[key] = { ...sum[key], ...value };
    return sum;
  };
  return whole;
}

/** @param {string} reference */
function lastOf(reference) {
  return reference.slice(reference.lastIndexOf("/") + 1);
}

/** @param {Docs.Schema | undefined} given @param {Docs.Whole} whole @returns {string} */
function typeOf(given, whole) {
  const schema = whole(given);
  if (schema.anyOf) return schema.anyOf.map((each) => typeOf(each, whole)).join(" or ");
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) {
    const shown = schema.enum.slice(0, 8).map((each) => JSON.stringify(each));
    const left = schema.enum.length - shown.length;
    return shown.join(" | ") + (left ? ` | ${left} more` : "");
  }
  if (schema.type === "array") return `${typeOf(schema.items, whole)}[]`;
  return schema.name ?? schema.type ?? "any";
}

/** @param {Docs.Schema} given @param {Docs.Whole} whole */
function limits(given, whole) {
  const schema = whole(given);
  const one = schema.anyOf ? whole(schema.anyOf[0]) : schema;
  if (/^must be /.test(one.description ?? "")) return []; // it is all in the words
  /** @type {string[]} */
  const said = [];
  /** @param {number | undefined} low @param {number | undefined} high @param {string} unit */
  const range = (low, high, unit) => {
    if (low === undefined && high === undefined) return;
    const [from, to] = [low, high].map((each) => each?.toLocaleString("en"));
    const text = to === undefined ? `at least ${from}` : from === undefined ? `at most ${to}` : `${from} to ${to}`;
    said.push(`${text}${unit}`);
  };
  range(one.minLength, one.maxLength, " characters");
  range(one.minItems, one.maxItems, " items");
  /** @param {number} [bound] */
  const sane = (bound = Infinity) => (Math.abs(bound) > 1e14 ? undefined : bound);
  range(sane(one.minimum), sane(one.maximum), "");
  if (one.default !== undefined && one.default !== null) said.push(`default ${JSON.stringify(one.default)}`);
  const pattern = one.pattern && one.pattern.length < 60 ? one.pattern.replace(/\(\?!.*?\)\$?$/, "$") : undefined;
  return [
    said.length ? el("span", { class: "rule soft" }, said.join(", ")) : "",
    pattern ? el("span", { class: "rule" }, el("code", {}, pattern)) : "",
  ];
}

/** A rule as the refusal words it, without its "must be". */
function worded(rule = "") {
  return rule.replace(/^must be (.)/, (_, first) => first.toUpperCase());
}

const DEPTH = ["", "nested", "nested two", "nested three"];

/**
 * What a client must send is marked, and what it may not be told.
 * @param {boolean} sent
 * @param {boolean} [required]
 */
function need(sent, required) {
  if (sent) return required ? el("span", { class: "need" }, "required") : "";
  return required ? "" : el("span", { class: "maybe" }, "optional");
}

/**
 * @param {Docs.Schema | undefined} given
 * @param {Docs.Whole} whole
 * @param {boolean} sent
 * @returns {HTMLElement[]}
 */
function rows(given, whole, sent, depth = 0) {
  const schema = whole(given);
  const required = new Set(schema.required);
  return Object.entries(schema.properties ?? {}).flatMap(([name, property]) => {
    const inner = whole(property);
    const below = inner.type === "array" ? whole(inner.items) : inner;
    const row = el("tr", { class: DEPTH[depth] || undefined },
      el("th", { scope: "row" }, el("code", {}, name),
        need(sent, required.has(name))),
      el("td", { class: "type" }, typeOf(property, whole)),
      el("td", {}, rich(worded(property.description ?? inner.description)), limits(property, whole)));
    const deeper = depth < 3 && below.properties ? rows(below, whole, sent, depth + 1) : [];
    return [row, ...deeper];
  });
}

/** @param {Docs.Schema | undefined} given @param {Docs.Whole} whole */
function fields(given, whole, sent = false) {
  const body = rows(given, whole, sent);
  if (!body.length) return el("p", { class: "soft" }, "No fields.");
  return table(["Field", "Type", "Rule"], body);
}

/** @param {string[]} titles @param {HTMLElement[]} body */
function table(titles, body) {
  const head = el("tr", {}, titles.map((title) => el("th", { scope: "col" }, title)));
  return el("div", { class: "scroll" },
    el("table", { class: /type|where/i.test(titles[1]) ? "fields" : undefined }, el("thead", {}, head), el("tbody", {}, body)));
}

/** @param {Docs.Schema} given @param {Docs.Whole} whole */
function shape(given, whole, sent = false) {
  const schema = whole(given);
  if (schema.type !== "array") return fields(schema, whole, sent);
  return [el("p", {}, "A list of ", el("code", {}, typeOf(schema.items, whole)), ":"), fields(schema.items, whole)];
}

// HTTP.

const ACCESS = { none: "No session", optional: "Session optional", session: "Session", socket: "Session or ticket" };

/** @param {Docs.Operation} operation @returns {keyof typeof ACCESS} */
function access(operation) {
  const wanted = operation.security ?? [];
  if (!wanted.length) return "none";
  if (wanted.some((each) => !Object.keys(each).length)) return "optional";
  return wanted.length > 1 ? "socket" : "session";
}

/** @param {string} method @param {string} path @param {Docs.Operation} operation */
function curl(method, path, operation) {
  const query = (operation.parameters ?? []).filter((one) => one.in === "query" && one.example != null).slice(0, 2);
  let url = path;
  for (const one of operation.parameters ?? []) {
    if (one.in === "path") url = url.replace(`{${one.name}}`, encodeURIComponent(one.example ?? ""));
  }
  if (access(operation) === "socket") {
    return `python -m websockets "${location.origin.replace(/^http/, "ws")}${url}?ticket=$TICKET"`;
  }
  const asked = query.map((one) => `${one.name}=${encodeURIComponent(one.example ?? "")}`).join("&");
  const lines = [`curl ${method === "get" ? "" : `-X ${method.toUpperCase()} `}"${location.origin}${url}${asked ? `?${asked}` : ""}"`];
  if (access(operation) !== "none") lines.push('-H "Authorization: Bearer $SESSION"');
  const body = operation.requestBody?.content["application/json"].example;
  if (body) {
    lines.push("-H 'Content-Type: application/json'");
    lines.push(`-d '${JSON.stringify(body).replaceAll("'", "'\\''")}'`);
  }
  return lines.join(" \\\n  ");
}

/** @param {Docs.Operation} operation @param {Docs.Whole} whole */
function parameters(operation, whole) {
  const given = operation.parameters ?? [];
  if (!given.length) return [];
  const body = given.map((one) => el("tr", {},
    el("th", { scope: "row" }, el("code", {}, one.name),
      need(true, one.required)),
    el("td", { class: "type" }, `${one.in}, ${typeOf(one.schema, whole)}`),
    el("td", {}, rich(one.description), limits(one.schema, whole))));
  return [el("h4", {}, "Parameters"), table(["Name", "Where", "Rule"], body)];
}

/** @param {Docs.Operation} operation @param {Docs.OpenApi} openapi */
function refusals(operation, openapi) {
  const everywhere = new Set(openapi["x-everywhere"]);
  /** @typedef {{ status: string, code: string, example: { summary: string, value: unknown } }} Refused */
  /** @type {Refused[]} */
  const own = [];
  /** @type {Refused[]} */
  const shared = [];
  for (const [status, given] of Object.entries(operation.responses)) {
    const response = responseOf(given, openapi);
    const examples = response.content?.["application/json"]?.examples ?? {};
    for (const [code, example] of Object.entries(examples)) {
      (everywhere.has(code) ? shared : own).push({ status, code, example });
    }
  }
  /** @param {Refused} refused */
  const line = ({ status, code, example }) => el("tr", {},
    el("th", { scope: "row" }, status), el("td", {}, el("code", {}, code)), el("td", {}, example.summary));
  const parts = [];
  if (own.length) {
    parts.push(el("h4", {}, "Errors"), table(["Status", "Code", "Meaning"], own.map(line)));
    parts.push(fold("Example of an error", json(own[0].example.value)));
  }
  const title = ["Errors everywhere ", el("span", { class: "soft" }, `(${shared.length})`)];
  parts.push(fold(title, table(["Status", "Code", "Meaning"], shared.map(line))));
  return parts;
}

/** @param {Docs.Response | Docs.Reference} given @param {Docs.OpenApi} openapi */
function responseOf(given, openapi) {
  return "$ref" in given ? openapi.components.responses[lastOf(given.$ref)] : given;
}

/** @param {Docs.Operation} operation @param {Docs.OpenApi} openapi @param {Docs.Whole} whole */
function answer(operation, openapi, whole) {
  const status = Object.keys(operation.responses).find((each) => /^[12]/.test(each));
  if (!status) return [el("p", { class: "soft" }, "Always refused.")];
  const response = responseOf(operation.responses[status], openapi);
  const headers = Object.keys(response.headers ?? {}).filter((name) => name !== "X-Request-Id");
  const title = el("h4", {}, `Answer ${status}`);
  const with_ = headers.length ? el("p", {}, "With ", headers.flatMap((name, i) => [i ? ", " : "", el("code", {}, name)]), ".") : "";
  const [media, content] = Object.entries(response.content ?? {})[0] ?? [];
  if (!content) return [title, el("p", {}, rich(response.description))];
  const data = whole(content.schema).properties?.data;
  return [
    title,
    data ? el("p", {}, el("code", {}, "data"), " of the envelope:") : el("p", {}, el("code", {}, media)),
    with_,
    data ? shape(data, whole) : "",
    content.example === undefined ? "" : fold("Example of an answer", json(content.example)),
  ];
}

/**
 * @param {string} path
 * @param {string} method
 * @param {Docs.Operation} operation
 * @param {Docs.OpenApi} openapi
 * @param {Docs.Whole} whole
 */
function endpoint(path, method, operation, openapi, whole) {
  const body = operation.requestBody?.content["application/json"];
  return card(operation.operationId, {
    head: [el("span", { class: `method ${method}` }, method.toUpperCase()), heading(operation.operationId, path),
      el("span", { class: "access" }, ACCESS[access(operation)])],
    body: [
      el("p", {}, rich(operation.summary)),
      operation.description ? paragraphs(operation.description) : "",
      parameters(operation, whole),
      body ? [el("h4", {}, "Request body"), shape(body.schema, whole, true), fold("Example of a request", json(body.example))] : "",
      answer(operation, openapi, whole),
      refusals(operation, openapi),
      el("h4", {}, access(operation) === "socket" ? "Try it" : "With curl"),
      block(curl(method, path, operation)),
    ],
  });
}

/** @param {string} id @param {string} text */
function heading(id, text) {
  return el("h3", {}, el("a", { href: `#${id}` }, text));
}

/** @param {string} id @param {{ head?: Docs.Child, body: Docs.Child }} parts */
function card(id, { head, body }) {
  return el("article", { id }, el("div", { class: "head" }, head), body);
}

// WebSockets.

/**
 * @param {string} channelName
 * @param {Docs.Action["action"]} action
 * @param {Docs.Reference} reference
 * @param {Docs.Reference[]} answers
 * @param {Docs.AsyncApi} asyncapi
 * @param {Docs.Whole} whole
 */
function messageCard(channelName, action, reference, answers, asyncapi, whole) {
  const name = lastOf(reference.$ref);
  const message = asyncapi.components.messages[name];
  const id = `${channelName}-${name}`;
  const told = answers.map((each) => el("code", {}, each.$ref.split(".").at(-1)));
  return card(id, {
    head: [
      el("span", { class: `method ${action}` }, action === "receive" ? "to server" : "to client"),
      heading(id, message.title),
    ],
    body: [
      el("p", {}, rich(message.summary)),
      el("p", {}, rich(message.description)),
      told.length ? el("p", {}, "Answered with ", told, ".") : "",
      fields(message.payload, whole, action === "receive"),
      fold("Example", json(message.examples[0].payload)),
    ],
  });
}

/** @param {string} name @param {Docs.Channel} channel @param {Docs.AsyncApi} asyncapi @param {Docs.Whole} whole */
function socket(name, channel, asyncapi, whole) {
  const operations = Object.values(asyncapi.operations)
    .filter((each) => each.channel.$ref.endsWith(`/${name}`));
  /** @param {Docs.Action["action"]} action @param {Docs.Reference} message @param {Docs.Reference[]} [answers] */
  const draw = (action, message, answers = []) => messageCard(name, action, message, answers, asyncapi, whole);
  const sent = operations.filter((each) => each.action === "receive")
    .flatMap((each) => each.messages.map((one) => draw("receive", one, each.reply?.messages)));
  const told = operations.filter((each) => each.action === "send").flatMap((each) => each.messages);
  told.push(...operations.flatMap((each) => each.reply?.messages ?? []));
  const query = channel.bindings?.ws?.query;
  return {
    id: `socket-${name}`,
    title: `${channel.title} socket`,
    lead: [
      el("p", {}, el("code", {}, channel.address)),
      paragraphs(channel.description),
      query ? [el("h4", {}, "Query"), fields(query, whole, true)] : "",
    ],
    cards: [...sent, ...told.map((one) => draw("send", one))],
  };
}

/** @param {Docs.AsyncApi} asyncapi */
function closing(asyncapi) {
  /** @param {Docs.AsyncApi["x-close-codes"][number]} each */
  const line = (each) => el("tr", {}, el("th", { scope: "row" }, el("code", {}, String(each.code))),
    el("td", { class: "type" }, each.reconnect ? "reconnect" : "final"), el("td", {}, each.description));
  /** @param {Docs.AsyncApi["x-handshake-errors"][number]} each */
  const refused = (each) => el("tr", {}, el("th", { scope: "row" }, String(each.status)),
    el("td", {}, el("code", {}, each.code)), el("td", {}, each.description));
  /** @param {[string, Docs.AsyncApi["x-error-codes"][string]]} row */
  const answered = ([code, each]) => el("tr", {}, el("th", { scope: "row" }, el("code", {}, code)),
    el("td", { class: "type" }, each.retryable ? "retry" : "final"), el("td", {}, each.description));
  /** @param {string} id @param {string} title @param {string[]} titles @param {HTMLElement[]} body */
  const one = (id, title, titles, body) => card(id, { head: [heading(id, title)], body: [table(titles, body)] });
  return {
    id: "codes",
    title: "Codes of the sockets",
    lead: [],
    cards: [
      one("close-codes", "Close codes", ["Code", "Then", "Meaning"], asyncapi["x-close-codes"].map(line)),
      one("error-codes", "Codes of error frames", ["Code", "Then", "Meaning"], Object.entries(asyncapi["x-error-codes"]).map(answered)),
      one("handshake-codes", "Refused handshakes", ["Status", "Code", "Meaning"], asyncapi["x-handshake-errors"].map(refused)),
    ],
  };
}

// The page.

/** @param {Docs.OpenApi} openapi @param {Docs.AsyncApi} asyncapi */
function sections(openapi, asyncapi) {
  const [http, ws] = [schemas(openapi), schemas(asyncapi)];
  const all = Object.entries(openapi.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })));
  return [
    ...openapi.tags.map((tag) => ({
      id: `tag-${tag.name.toLowerCase().replace(/\W+/g, "-")}`,
      title: tag.name,
      lead: paragraphs(tag.description),
      cards: all.filter((each) => each.operation.tags.includes(tag.name))
        .map((each) => endpoint(each.path, each.method, each.operation, openapi, http)),
    })),
    ...Object.entries(asyncapi.channels).map(([name, channel]) => socket(name, channel, asyncapi, ws)),
    closing(asyncapi),
  ];
}

/** @param {Element} article */
function entry(article) {
  const label = article.querySelector(".method");
  const title = within(article, "h3").textContent;
  const mark = label ? el("span", { class: label.className }, SHORT[label.textContent] ?? label.textContent) : "";
  return el("li", {}, el("a", { href: `#${article.id}` }, mark, title.replace(/^\/api/, "")));
}

/** @type {Record<string, string>} */
const SHORT = { "to server": "send", "to client": "receive", DELETE: "DEL" };

/** @param {Docs.OpenApi} openapi @param {Docs.AsyncApi} asyncapi */
function draw(openapi, asyncapi) {
  byId("version").textContent = openapi.info.version;
  const about = el("section", { id: "about" },
    el("h1", {}, "HTTP and WebSocket reference"),
    paragraphs(openapi.info.description),
    el("p", { class: "soft" }, "For machines: ",
      el("a", { href: "/api/openapi.json" }, "OpenAPI 3.1"), ", ",
      el("a", { href: "/api/asyncapi.json" }, "AsyncAPI 3.0"), "."));
  const drawn = sections(openapi, asyncapi).map(({ id, title, lead, cards }) => {
    const section = el("section", { id, "aria-labelledby": `${id}-title` },
      el("h2", { id: `${id}-title` }, title), lead, cards);
    const list = el("div", { class: "part" }, el("h2", {}, title), el("ul", {}, cards.map(entry)));
    return { section, list };
  });
  const first = drawn.findIndex(({ section }) => section.id.startsWith("socket-"));
  const sockets = el("section", { id: "sockets" }, el("h1", {}, "WebSockets"), paragraphs(asyncapi.info.description));
  const parts = drawn.map(({ section }) => section);
  page.main.replaceChildren(about, ...parts.slice(0, first), sockets, ...parts.slice(first),
    el("p", { id: "nothing", hidden: "" }, "Nothing found."));
  page.contents.replaceChildren(...drawn.map(({ list }) => list));
}

/** @type {Map<Element, string>} */
const texts = new Map();

/** What is searched; an article does not change. @param {Element} article */
function textOf(article) {
  const text = texts.get(article) ?? article.textContent.toLowerCase();
  texts.set(article, text);
  return text;
}

/** Shows what contains every word; everything when there are none. */
function search() {
  const words = page.find.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const article of page.main.querySelectorAll("article")) {
    const text = textOf(article);
    article.hidden = !words.every((word) => text.includes(word));
    shown += article.hidden ? 0 : 1;
    const item = within(page.contents, `a[href="#${CSS.escape(article.id)}"]`).closest("li");
    if (item) item.hidden = article.hidden;
  }
  for (const part of page.contents.querySelectorAll("div")) part.hidden = !part.querySelector("li:not([hidden])");
  for (const section of page.main.querySelectorAll("section")) {
    section.hidden = words.length > 0 && !section.querySelector("article:not([hidden])");
  }
  byId("nothing").hidden = shown > 0;
  byId("found").textContent = words.length ? `${shown} found` : "";
}

/** @param {KeyboardEvent} event */
function keys(event) {
  const target = event.target instanceof Element ? event.target : null;
  const typing = target?.closest("input");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    page.find.select();
  } else if (event.key === "Escape" && typing) {
    page.find.value = "";
    search();
  } else if (event.key === "Enter" && typing) {
    page.links()[0]?.focus();
  } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && target?.closest("nav li")) {
    const links = page.links().filter((each) => each.offsetParent);
    const next = links[links.findIndex((each) => each === target) + (event.key === "ArrowDown" ? 1 : -1)];
    if (next) {
      event.preventDefault();
      next.focus();
    }
  }
}

function follow() {
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      page.contents.querySelector("[aria-current]")?.removeAttribute("aria-current");
      page.contents.querySelector(`a[href="#${CSS.escape(target.id)}"]`)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  for (const article of page.main.querySelectorAll("article")) seen.observe(article);
}

/** Where site data is blocked, a choice lasts as long as the page. @template Text @param {() => Text} access */
function kept(access) {
  try {
    return access();
  } catch {
    return undefined;
  }
}

function theme() {
  const button = byId("theme");
  const dark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const show = () => button.setAttribute("aria-pressed", String(dark()));
  const chosen = kept(() => localStorage.getItem("theme"));
  if (chosen) document.documentElement.dataset.theme = chosen;
  show();
  button.addEventListener("click", () => {
    const next = dark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    kept(() => localStorage.setItem("theme", next));
    show();
  });
}

/** @param {string} path */
async function load(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

theme();
try {
  const [openapi, asyncapi] = await Promise.all([load("/api/openapi.json"), load("/api/asyncapi.json")]);
  draw(openapi, asyncapi);
  follow();
  page.find.value = new URLSearchParams(location.search).get("q") ?? "";
  search();
  page.find.addEventListener("input", search);
  document.addEventListener("keydown", keys);
  // The target did not exist when the browser looked for it.
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView({ behavior: "instant" });
} catch (error) {
  byId("state").textContent = `The documents cannot be shown (${error instanceof Error ? error.message : error}).`;
}
