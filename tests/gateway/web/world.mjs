// What the tests of the web client's protocol part stand on: the modules as they are
// served, each tab in a JavaScript context of its own, and time that passes only when a
// test says so. No browser, no network, no copy of our code.
//
// A `World` is one browser: its tabs share storage and locks, and reach one `Server`.

import { readFileSync } from "node:fs";
import vm from "node:vm";

import { Server } from "./server.mjs";

const CODE = new URL("../../../gateway/web/static/js/", import.meta.url);
const START = Date.UTC(2026, 0, 5, 12);

/** Everything that is ready to run has run. */
export const settled = async () => {
  for (let turn = 0; turn < 5; turn++) await new Promise((done) => setImmediate(done));
};

/** True time, for the server and all tabs: their own clocks may be wrong. */
class Time {
  elapsed = 0;
  #timers = new Map();
  #last = 0;

  get now() {
    return START + this.elapsed;
  }

  set = (work, ms = 0) => {
    const at = this.elapsed + Math.max(0, Number(ms) || 0);
    this.#timers.set(++this.#last, { at, work });
    return this.#last;
  };

  clear = (id) => this.#timers.delete(id);

  async pass(ms) {
    const end = this.elapsed + ms;
    await settled();
    for (;;) {
      const due = [...this.#timers].filter(([, { at }]) => at <= end);
      if (!due.length) break;
      const [id, { at, work }] = due.sort((a, b) => a[1].at - b[1].at || a[0] - b[0])[0];
      this.#timers.delete(id);
      this.elapsed = Math.max(this.elapsed, at);
      work();
      await settled();
    }
    this.elapsed = end;
  }

  /** Lets time pass in small steps until `check()` holds; fails after `withinMs`. */
  async until(check, withinMs = 60_000) {
    for (let waited = 0; waited <= withinMs; waited += 50) {
      await settled();
      if (check()) return;
      await this.pass(50);
    }
    throw new Error(`not within ${withinMs} ms: ${check}`);
  }
}

/** `localStorage`: keys are properties, and a tab hears of what the others write. */
class Disk {
  full = false;
  items = new Map();
  views = [];

  view(tab) {
    const change = (key, value) => {
      if (this.full && value !== undefined) throw new Error("QuotaExceededError");
      if (value === undefined) this.items.delete(key);
      else this.items.set(key, value);
      for (const each of this.views) {
        if (each !== tab) each.dispatch("storage", { key, newValue: value ?? null });
      }
    };
    this.views.push(tab);
    const methods = {
      getItem: (key) => this.items.get(key) ?? null,
      setItem: (key, value) => change(key, String(value)),
      removeItem: (key) => this.items.has(key) && change(key),
    };
    return new Proxy(methods, {
      get: (target, key) => target[key],
      ownKeys: () => [...this.items.keys()],
      getOwnPropertyDescriptor: () => ({ enumerable: true, configurable: true }),
    });
  }
}

/** `navigator.locks`, of one browser. */
class Locks {
  #queues = new Map();

  request = async (name, work) => {
    const before = this.#queues.get(name);
    const mine = (async () => {
      await before;
      return work();
    })();
    this.#queues.set(
      name,
      mine.then(
        () => {},
        () => {},
      ),
    );
    return mine;
  };
}

export class World {
  time = new Time();
  server = new Server(this.time);
  disk = new Disk();
  locks = new Locks();
  tabs = [];

  /**
   * A page. `skewMs`: how wrong its machine's clock is; `locks: false`: not a secure
   * context; `storage: false`: the browser refuses to keep anything for the site.
   */
  async tab(options = {}) {
    const tab = new Tab(this, options);
    this.tabs.push(tab);
    tab.protocol = await tab.load("protocol.js");
    return tab;
  }

  /** A page with somebody signed in. */
  async signedIn(options) {
    const tab = await this.tab(options);
    const signing = tab.protocol.Session.signIn("user_1", "token");
    await this.time.pass(this.server.latencyMs * 2 + 1);
    tab.session = await signing;
    return tab;
  }

  /** One more page of the same browser, or the same after a reload. */
  async again(options) {
    const tab = await this.tab(options);
    tab.session = tab.protocol.Session.stored();
    return tab;
  }
}

class Tab {
  faults = []; // what reached the console
  #listeners = new Map();
  #modules = new Map();

  constructor(world, { skewMs = 0, locks = true, storage = true, random = 0.5 }) {
    this.world = world;
    const { time, server } = world;
    const began = time.elapsed;
    const listening = (target) => ({
      addEventListener: (type, listener) => this.#of(target, type).add(listener),
      removeEventListener: (type, listener) => this.#of(target, type).delete(listener),
    });
    this.navigator = { onLine: true, locks: locks ? world.locks : undefined };
    this.document = { hidden: false, getElementById: () => null, ...listening("document") };
    const globals = {
      ...listening("window"),
      setTimeout: (work, ms) => time.set(() => this.closed || work(), ms),
      clearTimeout: time.clear,
      navigator: this.navigator,
      document: this.document,
      location: { origin: server.origin },
      performance: {
        timeOrigin: START + began + skewMs,
        now: () => time.elapsed - began,
      },
      console: { error: (fault) => this.faults.push(fault) },
      crypto: globalThis.crypto,
      URL,
      matchMedia: () => ({ matches: false }),
      AbortSignal: { timeout: (ms) => ({ ms }) },
      fetch: (path, request) => server.fetch(this, path, request),
      WebSocket: Object.assign(
        function (url) {
          return server.dial(url);
        },
        { OPEN: 1 },
      ),
      sessionStorage: new Disk().view(this),
    };
    this.context = vm.createContext(globals);
    const disk = world.disk.view(this);
    Object.defineProperty(this.context, "localStorage", {
      get: () => {
        if (!storage) throw new Error("SecurityError");
        return disk;
      },
    });
    this.context.clock = () => time.now + skewMs;
    this.context.chance = () => random;
    vm.runInContext("Date.now = clock; Math.random = chance;", this.context);
  }

  /** A module of gateway/web/static/js, and what it imports. */
  async load(name) {
    const module = this.#module(new URL(name, CODE).href);
    if (module.status === "unlinked") {
      await module.link((wanted, from) => this.#module(new URL(wanted, from.identifier).href));
    }
    await module.evaluate();
    return module.namespace;
  }

  #module(href) {
    let module = this.#modules.get(href);
    if (!module) {
      const source = readFileSync(new URL(href), "utf8");
      const initializeImportMeta = (meta) => (meta.url = href);
      const options = { identifier: href, context: this.context, initializeImportMeta };
      module = new vm.SourceTextModule(source, options);
      this.#modules.set(href, module);
    }
    return module;
  }

  #of(target, type) {
    const key = `${target} ${type}`;
    if (!this.#listeners.has(key)) this.#listeners.set(key, new Set());
    return this.#listeners.get(key);
  }

  /** An event of the window; other tabs' events come in a task of their own. */
  dispatch(type, event = {}) {
    const tell = () => this.#of("window", type).forEach((listener) => listener(event));
    if (type === "storage") this.world.time.set(() => this.closed || tell());
    else tell();
  }

  /** The page is gone, as by a crash: nothing of it runs any more. */
  close() {
    this.closed = true;
    this.world.disk.views = this.world.disk.views.filter((each) => each !== this);
    this.world.server.forget(this);
  }

  /** Joins a room and collects what it tells. */
  join(messenger, roomId) {
    const room = messenger.join(roomId);
    const told = [];
    for (const type of ["messages", "pending", "failed", "dropped", "refused", "delayed", "final", "state"]) {
      room.on(type, (detail) => told.push([type, detail]));
    }
    return { room, told };
  }
}

/** The value without its realm: what a deepEqual of another context can compare. */
export const plain = (value) => JSON.parse(JSON.stringify(value));
