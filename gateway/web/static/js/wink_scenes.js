// The winks as drawings in time.
//
// A scene is made with a source of chance that is seeded by the playback key, and then is
// a pure function of the time: every screen shows the same particles at the same moment,
// and one that comes late joins in the middle.

const TAU = Math.PI * 2;
export const LENGTH_S = 4;

/** @template Made @param {number} n @param {(i: number) => Made} make */
const range = (n, make) => Array.from({ length: n }, (_, i) => make(i));
/** @param {number} x */
const ease = (x) => 1 - (1 - Math.min(Math.max(x, 0), 1)) ** 3;
/** Fades in at the start and out at the end. @param {number} t */
const presence = (t) => Math.min(1, t * 4, (LENGTH_S - t) * 2);

/** @param {CanvasRenderingContext2D} g @param {number} x @param {number} y @param {number} size */
function heartPath(g, x, y, size, turn = 0) {
  g.save();
  g.translate(x, y);
  g.rotate(turn);
  g.scale(size, size);
  g.beginPath();
  g.moveTo(0, 0.9);
  g.bezierCurveTo(-1.4, 0, -0.9, -1, 0, -0.4);
  g.bezierCurveTo(0.9, -1, 1.4, 0, 0, 0.9);
  g.restore();
}

/** @param {CanvasRenderingContext2D} g @param {number} x @param {number} y @param {number} size */
function starPath(g, x, y, size, turn = 0, points = 5) {
  g.beginPath();
  for (let i = 0; i < points * 2; i++) {
    const radius = i % 2 ? size * 0.45 : size;
    const angle = turn + (i * Math.PI) / points - Math.PI / 2;
    g.lineTo(x + Math.cos(angle) * radius, y + Math.sin(angle) * radius);
  }
  g.closePath();
}

/** @param {CanvasRenderingContext2D} g @param {number} x @param {number} y @param {number} radius @param {CanvasFillStrokeStyles["fillStyle"]} fill */
function disc(g, x, y, radius, fill) {
  g.beginPath();
  g.arc(x, y, radius, 0, TAU);
  g.fillStyle = fill;
  g.fill();
}

/** @param {CanvasRenderingContext2D} g @param {number} x @param {number} y @param {number} radius @param {string} light @param {string} dark */
function shine(g, x, y, radius, light, dark) {
  const fill = g.createRadialGradient(x - radius * 0.35, y - radius * 0.4, radius * 0.1, x, y, radius);
  fill.addColorStop(0, light);
  fill.addColorStop(1, dark);
  return fill;
}

/** @type {Client.Wink} */
function hearts(chance) {
  const flock = range(46, () => ({
    x: chance(),
    start: chance() * 2.2,
    speed: 0.35 + chance() * 0.4,
    size: 7 + chance() * 17,
    sway: chance() * TAU,
    hue: 335 + chance() * 30,
  }));
  return (g, t, w, h) => {
    for (const { x, start, speed, size, sway, hue } of flock) {
      const age = t - start;
      if (age < 0) continue;
      const y = h + 30 - age * speed * h;
      heartPath(g, x * w + Math.sin(age * 3 + sway) * 18, y, size, Math.sin(age * 2 + sway) * 0.3);
      g.fillStyle = `hsl(${hue} 90% 62% / .9)`;
      g.fill();
    }
    const beat = 1 + 0.12 * Math.max(0, Math.sin(t * 8)) ** 3;
    const size = Math.min(w, h) * 0.24 * ease(t * 1.6) * beat;
    heartPath(g, w / 2, h * 0.46, size);
    g.fillStyle = shine(g, w / 2, h * 0.44, size * 1.2, "#ff8fab", "#d6114d");
    g.fill();
    g.lineWidth = 4;
    g.strokeStyle = "#fff";
    g.stroke();
  };
}

/** @type {Client.Wink} */
function fireworks(chance) {
  const shots = range(8, (i) => ({
    x: 0.12 + chance() * 0.76,
    y: 0.14 + chance() * 0.4,
    start: i * 0.38,
    hue: chance() * 360,
    sparks: range(70, () => ({ angle: chance() * TAU, speed: 0.25 + chance() * 0.75 })),
  }));
  return (g, t, w, h) => {
    g.fillStyle = `rgb(8 12 40 / ${0.93 * presence(t)})`;
    g.fillRect(0, 0, w, h);
    g.globalCompositeOperation = "lighter";
    for (const { x, y, start, hue, sparks } of shots) {
      const age = t - start;
      if (age < 0) continue;
      if (age < 0.5) {
        const at = h - ease(age * 2) * (h - y * h);
        disc(g, x * w, at, 3, "#fff2c4");
        continue;
      }
      const blown = age - 0.5;
      const fade = Math.max(0, 1 - blown / 1.3);
      for (const { angle, speed } of sparks) {
        const reach = ease(blown * 0.9) * speed * Math.min(w, h) * 0.36;
        const px = x * w + Math.cos(angle) * reach;
        const py = y * h + Math.sin(angle) * reach + blown * blown * 38;
        disc(g, px, py, 3.6 * fade + 0.5, `hsl(${hue + speed * 50} 100% 68% / ${fade})`);
      }
    }
  };
}

/** @type {Client.Wink} */
function rocket(chance) {
  const stars = range(70, () => ({ x: chance(), y: chance(), size: 0.6 + chance() * 1.8 }));
  const smoke = range(60, () => ({ turn: chance() * TAU, size: 6 + chance() * 16 }));
  /** @param {number} t @param {number} w @param {number} h */
  const at = (t, w, h) => {
    const way = Math.max(0, (t - 0.8) / 2.4) ** 2;
    return { x: w * (0.22 + way * 0.66), y: h * (0.82 - way * 1.25) };
  };
  return (g, t, w, h) => {
    const night = g.createLinearGradient(0, 0, 0, h);
    night.addColorStop(0, `rgb(12 18 60 / ${0.9 * presence(t)})`);
    night.addColorStop(1, `rgb(64 100 190 / ${0.75 * presence(t)})`);
    g.fillStyle = night;
    g.fillRect(0, 0, w, h);
    for (const { x, y, size } of stars) {
      disc(g, x * w, ((y + t * 0.06) % 1) * h, size, "rgb(255 255 255 / .85)");
    }
    smoke.forEach(({ turn, size }, i) => {
      const born = 0.6 + i * 0.045;
      const age = t - born;
      if (age < 0 || age > 1.6) return;
      const from = at(born, w, h);
      const grown = size * (0.4 + age);
      const fade = 0.7 * (1 - age / 1.6);
      const x = from.x - 12 + Math.cos(turn) * age * 24;
      disc(g, x, from.y + 34 + age * 40, grown, `rgb(235 238 250 / ${fade})`);
    });
    const { x, y } = at(t, w, h);
    const shake = t < 0.8 ? Math.sin(t * 80) * 2 : 0;
    g.save();
    g.translate(x + shake, y);
    g.rotate(0.42);
    g.scale(1.5, 1.5);
    for (const [length, fill] of /** @type {[number, string][]} */ ([
      [30 + Math.sin(t * 60) * 7, "#ff922b"],
      [17 + Math.sin(t * 70) * 5, "#ffe066"],
    ])) {
      g.beginPath();
      g.moveTo(-8, 22);
      g.quadraticCurveTo(0, 22 + length * 1.6, 8, 22);
      g.fillStyle = fill;
      g.fill();
    }
    g.beginPath();
    g.moveTo(-11, 6);
    g.lineTo(-22, 26);
    g.lineTo(22, 26);
    g.lineTo(11, 6);
    g.fillStyle = "#e03131";
    g.fill();
    g.beginPath();
    g.moveTo(0, -38);
    g.quadraticCurveTo(20, -12, 11, 24);
    g.lineTo(-11, 24);
    g.quadraticCurveTo(-20, -12, 0, -38);
    g.fillStyle = "#f8f9fa";
    g.fill();
    disc(g, 0, -8, 7, "#228be6");
    disc(g, -2, -10, 2.4, "#d0ebff");
    g.restore();
  };
}

/** @type {Client.Wink} */
function disco(chance) {
  const beams = range(9, () => ({ turn: chance() * TAU, speed: (chance() - 0.5) * 2, hue: chance() * 360 }));
  const spots = range(50, () => ({ x: chance(), y: chance(), hue: chance() * 360, beat: chance() * TAU }));
  return (g, t, w, h) => {
    g.fillStyle = `rgb(24 6 48 / ${0.86 * presence(t)})`;
    g.fillRect(0, 0, w, h);
    const x = w / 2;
    const radius = Math.min(w, h) * 0.17;
    const y = -radius + ease(t * 1.2) * (h * 0.36 + radius);
    g.globalCompositeOperation = "lighter";
    for (const { turn, speed, hue } of beams) {
      const angle = turn + speed * t;
      g.beginPath();
      g.moveTo(x, y);
      g.arc(x, y, w + h, angle, angle + 0.16);
      g.fillStyle = `hsl(${hue + t * 60} 100% 60% / .3)`;
      g.fill();
    }
    for (const { x: sx, y: sy, hue, beat } of spots) {
      const lit = Math.max(0, Math.sin(t * 7 + beat));
      disc(g, ((sx + t * 0.12) % 1) * w, sy * h, 5, `hsl(${hue} 100% 72% / ${lit})`);
    }
    g.globalCompositeOperation = "source-over";
    g.fillStyle = "#adb5bd";
    g.fillRect(x - 1, 0, 2, Math.max(0, y - radius));
    disc(g, x, y, radius, shine(g, x, y, radius, "#fff", "#5c677d"));
    g.save();
    g.beginPath();
    g.arc(x, y, radius, 0, TAU);
    g.clip();
    g.strokeStyle = "rgb(30 30 60 / .45)";
    g.lineWidth = 1;
    for (let i = -5; i <= 5; i++) {
      g.beginPath();
      g.ellipse(x, y, Math.abs(radius * Math.sin((i * 0.3 + t) % Math.PI)), radius, 0, 0, TAU);
      g.moveTo(x - radius, y + (i * radius) / 5);
      g.lineTo(x + radius, y + (i * radius) / 5);
      g.stroke();
    }
    g.restore();
  };
}

/** @type {Client.Wink} */
function balloons(chance) {
  const bunch = range(17, () => ({
    x: 0.06 + chance() * 0.88,
    start: chance() * 1.4,
    speed: 0.42 + chance() * 0.25,
    size: 20 + chance() * 20,
    hue: chance() * 360,
    sway: chance() * TAU,
  }));
  return (g, t, w, h) => {
    for (const { x, start, speed, size, hue, sway } of bunch) {
      const age = t - start;
      if (age < 0) continue;
      const px = x * w + Math.sin(age * 2 + sway) * 14;
      const py = h + size * 2 - age * speed * h;
      g.beginPath();
      g.moveTo(px, py + size);
      g.bezierCurveTo(px - 10, py + size * 1.8, px + 10, py + size * 2.2, px, py + size * 3);
      g.strokeStyle = "rgb(80 80 90 / .7)";
      g.lineWidth = 1.4;
      g.stroke();
      g.beginPath();
      g.ellipse(px, py, size * 0.84, size, 0, 0, TAU);
      g.fillStyle = shine(g, px, py, size, `hsl(${hue} 95% 80%)`, `hsl(${hue} 80% 48%)`);
      g.fill();
      g.beginPath();
      g.moveTo(px - 4, py + size + 5);
      g.lineTo(px, py + size - 2);
      g.lineTo(px + 4, py + size + 5);
      g.fillStyle = `hsl(${hue} 80% 42%)`;
      g.fill();
    }
  };
}

/** @type {Client.Wink} */
function snow(chance) {
  const flakes = range(150, () => ({
    x: chance(),
    y: chance(),
    size: 1 + chance() * 3.6,
    speed: 0.15 + chance() * 0.3,
    sway: chance() * TAU,
  }));
  return (g, t, w, h) => {
    g.fillStyle = `rgb(120 165 215 / ${0.62 * presence(t)})`;
    g.fillRect(0, 0, w, h);
    const ground = h - ease(t / 2.4) * h * 0.16;
    g.beginPath();
    g.ellipse(w / 2, h + h * 0.02, w * 0.75, h + h * 0.02 - ground, 0, 0, TAU);
    g.fillStyle = "#fff";
    g.fill();
    const grow = ease((t - 0.5) / 1.1);
    const s = Math.min(w, h) * 0.1 * grow;
    if (s > 0) {
      const x = w / 2;
      disc(g, x, ground - s * 0.7, s * 1.3, shine(g, x, ground - s * 0.7, s * 1.3, "#fff", "#c9dcf0"));
      const top = ground - s * 2.5;
      disc(g, x, top, s * 0.9, shine(g, x, top, s * 0.9, "#fff", "#c9dcf0"));
      disc(g, x - s * 0.3, top - s * 0.2, s * 0.1, "#222");
      disc(g, x + s * 0.3, top - s * 0.2, s * 0.1, "#222");
      g.beginPath();
      g.moveTo(x, top);
      g.lineTo(x + s * 0.7, top + s * 0.14);
      g.lineTo(x, top + s * 0.22);
      g.fillStyle = "#f76707";
      g.fill();
      g.fillStyle = "#2b2d42";
      g.fillRect(x - s * 0.85, top - s * 0.86, s * 1.7, s * 0.16);
      g.fillRect(x - s * 0.5, top - s * 1.6, s, s * 0.8);
      const wave = Math.sin(t * 6) * 0.4;
      g.strokeStyle = "#7f5539";
      g.lineWidth = s * 0.12;
      g.beginPath();
      g.moveTo(x + s * 1.1, ground - s);
      g.lineTo(x + s * 2.1, ground - s * (1.7 + wave));
      g.moveTo(x - s * 1.1, ground - s);
      g.lineTo(x - s * 2.1, ground - s * 1.5);
      g.stroke();
    }
    for (const { x, y, size, speed, sway } of flakes) {
      const px = x * w + Math.sin(t * 2 + sway) * 20;
      disc(g, px, ((y + t * speed) % 1) * h, size, "rgb(255 255 255 / .92)");
    }
  };
}

/** @type {Client.Wink} */
function giggle(chance) {
  const tears = range(26, () => ({ side: chance() < 0.5 ? -1 : 1, start: 0.5 + chance() * 3, push: 0.5 + chance() }));
  return (g, t, w, h) => {
    const radius = Math.min(w, h) * 0.29 * ease(t * 1.8);
    if (radius < 1) return;
    const x = w / 2;
    const y = h * 0.47 + Math.abs(Math.sin(t * 9)) * -12;
    for (const { side, start, push } of tears) {
      const age = t - start;
      if (age < 0 || age > 0.9) continue;
      const px = x + side * radius * (0.6 + age * push * 1.2);
      const py = y - radius * 0.1 - age * radius * 0.9 + age * age * radius * 2.6;
      disc(g, px, py, radius * 0.07, "#4dabf7");
    }
    g.save();
    g.translate(x, y);
    g.rotate(Math.sin(t * 9) * 0.09);
    disc(g, 0, 0, radius, shine(g, 0, 0, radius, "#fff3a3", "#f7b500"));
    g.lineWidth = radius * 0.035;
    g.strokeStyle = "#a86b00";
    g.stroke();
    g.strokeStyle = "#4a2c00";
    g.lineWidth = radius * 0.09;
    g.lineCap = "round";
    for (const side of [-1, 1]) {
      g.beginPath();
      g.arc(side * radius * 0.37, -radius * 0.14, radius * 0.19, Math.PI * 1.1, Math.PI * 1.9);
      g.stroke();
    }
    const open = 0.5 + 0.12 * Math.sin(t * 18);
    g.beginPath();
    g.arc(0, radius * 0.14, radius * open, 0, Math.PI);
    g.closePath();
    g.fillStyle = "#6b1d1d";
    g.fill();
    g.save();
    g.clip();
    disc(g, 0, radius * (0.16 + open), radius * 0.3, "#ff6b81");
    g.fillStyle = "#fff";
    g.fillRect(-radius, radius * 0.14, radius * 2, radius * 0.11);
    g.restore();
    g.restore();
  };
}

/** @type {Client.Wink} */
function rainbow(chance) {
  const glitter = range(60, () => ({ at: chance(), off: chance() - 0.5, size: 4 + chance() * 7, start: chance() * 2.4 }));
  const BANDS = ["#fa5252", "#fd7e14", "#fcc419", "#40c057", "#228be6", "#7048e8"];
  return (g, t, w, h) => {
    const grown = ease(t / 1.8);
    const radius = Math.min(w * 0.46, h * 0.66);
    const x = w / 2;
    const y = h * 0.86;
    g.globalAlpha = presence(t);
    g.lineWidth = radius * 0.07;
    BANDS.forEach((fill, i) => {
      g.beginPath();
      g.arc(x, y, radius - i * radius * 0.07, Math.PI, Math.PI * (1 + grown));
      g.strokeStyle = fill;
      g.stroke();
    });
    const head = Math.PI * (1 + grown);
    const mid = radius * 0.82;
    for (const { at, off, size, start } of glitter) {
      const age = t - start;
      if (age < 0 || age > 1.4 || at > grown) continue;
      const angle = Math.PI * (1 + at);
      const reach = mid + off * radius * 0.8;
      starPath(g, x + Math.cos(angle) * reach, y + Math.sin(angle) * reach + age * 30, size * (1 - age / 1.4), age * 3);
      g.fillStyle = "#ffd43b";
      g.fill();
    }
    starPath(g, x + Math.cos(head) * mid, y + Math.sin(head) * mid, radius * 0.19, t * 3);
    g.fillStyle = "#ffe066";
    g.fill();
    g.lineWidth = 3;
    g.strokeStyle = "#e67700";
    g.stroke();
  };
}

// For winks of other clients that this one has no drawing for.
/** @type {Client.Wink} */
function surprise(chance) {
  const burst = range(40, () => ({ angle: chance() * TAU, speed: 0.3 + chance() * 0.7, hue: chance() * 360 }));
  return (g, t, w, h) => {
    for (const { angle, speed, hue } of burst) {
      const reach = ease(t / 2) * speed * Math.min(w, h) * 0.6;
      starPath(g, w / 2 + Math.cos(angle) * reach, h / 2 + Math.sin(angle) * reach, 12 * presence(t), t * 4 + angle);
      g.fillStyle = `hsl(${hue} 90% 60%)`;
      g.fill();
    }
  };
}

/** In the menu's order. @type {Record<string, [name: string, make: Client.Wink]>} */
export const WINKS = {
  hearts: ["Heartbeat", hearts],
  fireworks: ["Fireworks", fireworks],
  rocket: ["Lift-off", rocket],
  disco: ["Disco", disco],
  balloons: ["Balloons", balloons],
  snow: ["Snowman", snow],
  giggle: ["Giggle", giggle],
  rainbow: ["Rainbow", rainbow],
};

/** The scene of a wink for one playback. @param {string} winkId @param {string} playbackKey */
export function sceneOf(winkId, playbackKey) {
  const make = Object.hasOwn(WINKS, winkId) ? WINKS[winkId][1] : surprise;
  return make(seeded(playbackKey));
}

/** @param {string} winkId */
export function nameOf(winkId) {
  return Object.hasOwn(WINKS, winkId) ? WINKS[winkId][0] : winkId;
}

// mulberry32: small, even, and the same in every browser.
/** @param {string} key */
function seeded(key) {
  let state = Number.parseInt(key.slice(0, 8), 16) | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
