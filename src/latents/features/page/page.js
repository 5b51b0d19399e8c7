"use strict";
// What src/features/page/pack.rs has written: columns of numbers, one number a latent; the texts of all contexts, as numbers of tokens, in one
// pool; and a record a latent, read when it is looked at.
const meta = JSON.parse(document.getElementById("meta").textContent);
const holder = document.getElementById("data");
const bytes = (() => {
  const text = atob(holder.textContent.trim()), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  holder.textContent = "";
  return bytes;
})();
const N = meta.d_sae, vocabulary = meta.vocabulary;
const section = (Kind, name) => new Kind(bytes.buffer, meta.sections[name][0], meta.sections[name][1]);
const columns = Object.fromEntries(meta.columns.map(column => [column.key, section(Float32Array, column.key)]));
const starts = section(Uint32Array, "starts"), records = section(Uint8Array, "records");
const pool = meta.sections.pool ? section(Uint16Array, "pool") : section(Uint32Array, "wide_pool");

// ---- records ----

function reader(latent) {
  let at = starts[latent];
  const number = () => {
    let value = 0, factor = 1, byte;
    do { byte = records[at++]; value += (byte & 127) * factor; factor *= 128; } while (byte & 128);
    return value;
  };
  const half = () => {
    const bits = records[at] | records[at + 1] << 8, exponent = bits >> 10 & 31, fraction = bits & 1023;
    at += 2;
    const size = exponent === 0 ? fraction * 2 ** -24 : exponent === 31 ? Infinity : (1 + fraction / 1024) * 2 ** (exponent - 15);
    return bits & 0x8000 ? -size : size;
  };
  const many = one => Array.from({ length: number() }, one);
  return { number, half, many };
}

function contextOf(r, max) {
  const context = { start: r.number(), length: r.number(), at: r.number(), sequence: r.number(), position: r.number(), fires: new Map() };
  for (let n = r.number(); n > 0; n--) {
    const place = r.number(), share = (r.number()) / 65535;
    context.fires.set(place, share);
  }
  context.activation = (context.fires.get(context.at) || 0) * max;
  return context;
}

function recordOf(latent) {
  const r = reader(latent), max = columns.max[latent];
  const one = () => contextOf(r, max), token = () => ({ token: r.number(), score: r.half() });
  return {
    top: r.many(one),
    bands: r.many(() => ({ title: meta.bands[r.number()], least: r.half() * max, most: r.half() * max, contexts: r.many(one) })),
    bins: { first: r.number(), step: r.number(), counts: r.many(r.number) },
    raised: r.many(token), lowered: r.many(token), embedding: r.many(token), table: r.many(token),
    cofiring: r.many(() => ({ latent: r.number(), tokens: r.number(), jaccard: r.half() })),
  };
}

// ---- words ----

function significant(x) {
  if (x === 0 || !isFinite(x)) return String(x);
  const size = Math.abs(x);
  if (size >= 1e7 || size < 1e-4) return x.toExponential(2);
  return x.toFixed(Math.max(0, 2 - Math.floor(Math.log10(size) + 1e-9)));
}
const percent = x => x === 0 ? "0 %" : x < 0.00995 ? `${Number((100 * x).toPrecision(2))} %` : `${(100 * x).toFixed(1)} %`;
const marks = { " ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍" };
const quoted = text => JSON.stringify(text);

function element(name, { text, children = [], ...properties } = {}) {
  const made = Object.assign(document.createElement(name), properties);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

/// A token's text with white space as pale marks.
function visible(text) {
  if (text === "") return [element("i", { text: "∅" })];
  return text.split(/(\s)/u).filter(part => part !== "").map(part =>
    /^\s$/u.test(part) ? element("i", { text: marks[part] || "␣" }) : document.createTextNode(part));
}

// ---- one latent ----

function contextElement(context, max, words) {
  const text = [];
  const found = words === "" ? null : foundIn(context, words);
  for (let i = 0; i < context.length; i++) {
    const share = context.fires.get(i) || 0;
    const span = element("span", { className: "token", children: visible(vocabulary[pool[context.start + i]]) });
    if (share > 0) {
      span.style.background = `rgba(var(--shade),${(0.14 + 0.52 * Math.min(1, share)).toFixed(2)})`;
      span.title = `activation ${significant(share * max)}`;
    }
    if (i === context.at) span.classList.add("peak");
    if (found && found.has(i)) span.classList.add("found");
    text.push(span, element("wbr"));
  }
  const value = element("span", { text: significant(context.activation), title: `sequence ${context.sequence}, position ${context.position}` });
  return element("div", { className: "context", children: [value, element("span", { children: text })] });
}

/// The tokens of a context that hold the words.
function foundIn(context, words) {
  const ends = [], found = new Set();
  let text = "";
  for (let i = 0; i < context.length; i++) { text += lowered(pool[context.start + i]); ends.push(text.length); }
  for (let from = text.indexOf(words); from >= 0; from = text.indexOf(words, from + 1)) {
    for (let i = ends.findIndex(end => end > from); i < ends.length && (i === 0 ? 0 : ends[i - 1]) < from + words.length; i++) found.add(i);
  }
  return found;
}

function table(title, rows, definition) {
  const cells = rows.map(row => element("tr", { children: row.map(cell => element("td", cell instanceof Node ? { children: [cell] } : { text: cell })) }));
  return element("table", { children: [element("caption", { text: title, title: definition || "" }), element("tbody", { children: cells })] });
}

function histogram(bins) {
  const width = 400, height = 130, foot = 34, side = 6, n = bins.counts.length;
  const make = (name, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const svg = make("svg", { width, height: height + foot, viewBox: `0 0 ${width} ${height + foot}`, role: "img", "aria-label": "histogram of activations" });
  const most = Math.max(...bins.counts), edge = i => 2 ** ((bins.first + i * bins.step) / meta.per_octave + meta.low);
  const left = i => side + i / n * (width - 2 * side);
  bins.counts.forEach((count, i) => {
    const size = count / most * (height - 14);
    const bar = make("rect", { x: left(i) + 0.5, y: height - size, width: Math.max(1, left(1) - left(0) - 1), height: size });
    bar.append(make("title", {}, `${significant(edge(i))} to ${significant(edge(i + 1))}: ${count} tokens`));
    svg.append(bar);
  });
  svg.append(make("line", { x1: side, x2: width - side, y1: height + 0.5, y2: height + 0.5, stroke: "currentColor", "stroke-opacity": 0.5 }));
  const every = Math.ceil(n / 6);
  for (let i = 0; i <= n; i += every) svg.append(make("text", { x: left(i), y: height + 14, "text-anchor": i === 0 ? "start" : "middle" }, significant(edge(i))));
  svg.append(make("text", { x: width / 2, y: height + 30, "text-anchor": "middle" }, "activation where it fires (logarithmic)"));
  svg.append(make("text", { x: side, y: 10 }, `tokens (highest bar ${most})`));
  return svg;
}

function show(latent) {
  chosen = latent;
  const one = document.getElementById("one"), record = recordOf(latent), max = columns.max[latent];
  const words = search.where === "contexts" ? search.words : "";
  const facts = [["density", percent(columns.density[latent])], ["firings", String(record.bins.counts.reduce((a, b) => a + b, 0))],
    ["mean where it fires", significant(columns.mean[latent])], ["max", significant(max)]];
  const scores = (title, list, definition) => list.length ? [table(title, list.map(({ token, score }) => [quoted(vocabulary[token]), significant(score)]), definition)] : [];
  const link = other => element("a", { href: `#latent=${other}`, text: String(other) });
  const together = record.cofiring.map(other => [link(other.latent), percent(other.jaccard), String(other.tokens)]);
  const children = [
    element("h2", { text: `Latent ${latent}` }),
    element("div", { className: "blocks", children: [table("", facts), ...(max > 0 ? [histogram(record.bins)] : [])] }),
    element("h3", { text: "What it points at" }),
    element("div", { className: "blocks", children: [
      ...scores("Raises", record.raised, meta.effect), ...scores("Lowers", record.lowered, meta.effect),
      ...scores("Nearest in W_E", record.embedding, "cosine of the latent's row of W_dec and the token's of W_E"),
      ...scores("Nearest in W_lookup", record.table, "cosine of the latent's row of W_dec and the token's of W_lookup"),
      ...(together.length ? [table("Fires together with", together, `latent; tokens on which both fire as a share of those on which at least one does; how many, of ${meta.cofiring_tokens} counted`)] : []),
    ] }),
  ];
  if (max === 0) children.push(element("p", { text: `It fires on none of ${meta.tokens} tokens.` }));
  if (record.top.length) children.push(element("h3", { text: "Strongest contexts, at most one a sequence" }), ...record.top.map(context => contextElement(context, max, words)));
  for (const band of record.bands) {
    children.push(element("h3", { text: `Drawn at random ${band.title}, activation ${significant(band.least)} to ${significant(band.most)}` }));
    children.push(...band.contexts.map(context => contextElement(context, max, words)));
  }
  one.replaceChildren(...children);
  one.scrollTop = 0;
  remember();
  draw();
}

// ---- search ----

const search = { words: "", where: "contexts" };
const lower = new Array(vocabulary.length);
const lowered = token => lower[token] ??= vocabulary[token].toLowerCase();
let index = null;

/// All texts as one, and which contexts begin at each token of it; made when first needed.
function indexed() {
  if (index) return index;
  const ends = new Uint32Array(pool.length), parts = new Array(pool.length);
  let end = 0;
  for (let i = 0; i < pool.length; i++) { parts[i] = lowered(pool[i]); end += parts[i].length; ends[i] = end; }
  const first = new Int32Array(pool.length).fill(-1), next = [], latents = [], lengths = [], peaks = new Array(N);
  let longest = 0;
  for (let latent = 0; latent < N; latent++) {
    const r = reader(latent), tokens = new Set();
    const skim = strongest => {
      const start = r.number(), length = r.number(), at = r.number();
      r.number(); r.number();
      for (let n = 2 * r.number(); n > 0; n--) r.number();
      if (strongest) tokens.add(pool[start + at]);
      next.push(first[start]); latents.push(latent); lengths.push(length);
      first[start] = next.length - 1;
      longest = Math.max(longest, length);
    };
    for (let n = r.number(); n > 0; n--) skim(true);
    for (let bands = r.number(); bands > 0; bands--) { r.number(); r.half(); r.half(); for (let n = r.number(); n > 0; n--) skim(false); }
    peaks[latent] = [...tokens];
  }
  index = { text: parts.join(""), ends, first, next: Int32Array.from(next), latents: Int32Array.from(latents), lengths: Uint16Array.from(lengths), longest, peaks };
  return index;
}

/// Which latents have a context with the words in it.
function byContext(words) {
  const { text, ends, first, next, latents, lengths, longest } = indexed(), found = new Uint8Array(N);
  let token = 0;
  for (let from = text.indexOf(words); from >= 0; from = text.indexOf(words, from + 1)) {
    // The token in which the match begins: further on than the last one.
    let low = token, high = ends.length - 1;
    while (low < high) { const middle = low + high >> 1; if (ends[middle] > from) high = middle; else low = middle + 1; }
    token = low;
    let last = token;
    while (ends[last] < from + words.length) last++;
    for (let start = Math.max(0, last - longest + 1); start <= token; start++) {
      for (let context = first[start]; context >= 0; context = next[context]) if (start + lengths[context] > last) found[latents[context]] = 1;
    }
  }
  return found;
}

/// Which latents have a token with the words in it in one of their lists.
function byToken(words, tokensOf) {
  const hits = new Uint8Array(vocabulary.length), found = new Uint8Array(N);
  for (let token = 0; token < vocabulary.length; token++) hits[token] = lowered(token).includes(words) ? 1 : 0;
  for (let latent = 0; latent < N; latent++) found[latent] = tokensOf(latent).some(token => hits[token]) ? 1 : 0;
  return found;
}

const lists = names => latent => { const record = recordOf(latent); return names.flatMap(name => record[name].map(one => one.token)); };
const places = {
  contexts: ["in contexts", byContext],
  peaks: ["in tokens it fires most on", words => byToken(words, latent => indexed().peaks[latent])],
  raised: ["in tokens it raises", words => byToken(words, lists(["raised"]))],
  lowered: ["in tokens it lowers", words => byToken(words, lists(["lowered"]))],
  near: ["in nearest tokens", words => byToken(words, lists(["embedding", "table"]))],
};

// ---- the list ----

const HEIGHT = 30;
const list = document.getElementById("list"), space = document.getElementById("space"), status = document.getElementById("status");
let order = [], chosen = -1, ascending = true;
const get = id => document.getElementById(id);

function refresh() {
  const start = performance.now();
  search.words = get("query").value.toLowerCase();
  search.where = get("where").value;
  const number = /^\s*#?(\d+)\s*$/.exec(search.words);
  const found = search.words === "" ? null : places[search.where][1](search.words);
  if (number && Number(number[1]) < N) found[Number(number[1])] = 1;
  const alive = get("alive").checked;
  order = [];
  for (let latent = 0; latent < N; latent++) if ((!alive || columns.max[latent] > 0) && (!found || found[latent])) order.push(latent);
  const key = get("sort").value, column = columns[key], sign = ascending ? 1 : -1;
  if (column) order.sort((a, b) => sign * (column[a] - column[b]) || a - b);
  else if (!ascending) order.reverse();
  if (number && order.includes(Number(number[1]))) order = [Number(number[1]), ...order.filter(latent => latent !== Number(number[1]))];
  // A browser's longest scroll is 10 million pixels or more: 300,000 latents.
  space.style.height = `${order.length * HEIGHT}px`;
  list.scrollTop = 0;
  const taken = performance.now() - start;
  status.textContent = `${order.length} of ${N} latents · ${taken.toFixed(0)} ms`;
  document.body.dataset.search = taken.toFixed(1);
  remember();
  draw();
}

function draw() {
  const first = Math.max(0, Math.floor(list.scrollTop / HEIGHT) - 5), last = Math.min(order.length, first + Math.ceil(list.clientHeight / HEIGHT) + 10);
  const rows = [];
  for (let i = first; i < last; i++) {
    const latent = order[i];
    const row = element("div", { className: latent === chosen ? "row chosen" : "row", children: [
      element("span", { text: String(latent) }), element("span", { text: percent(columns.density[latent]) }),
      element("span", { text: significant(columns.max[latent]) }),
      element("span", { text: significant(columns[meta.likeness][latent]) }), element("span", { children: snippet(latent) }),
    ] });
    row.style.top = `${i * HEIGHT}px`;
    row.dataset.latent = latent;
    rows.push(row);
  }
  list.replaceChildren(space, ...rows);
}

/// The strongest context, from three tokens before the one it is about.
function snippet(latent) {
  const r = reader(latent);
  if (r.number() === 0) return [];
  const context = contextOf(r, 1), from = Math.max(0, context.at - 3), to = Math.min(context.length, context.at + 6), shown = [];
  for (let i = from; i < to; i++) {
    const span = element("span", { children: visible(vocabulary[pool[context.start + i]]) });
    if (i === context.at) { span.className = "peak"; span.style.background = "rgba(var(--shade),.5)"; }
    shown.push(span);
  }
  return shown;
}

// ---- what the address says ----

function remember() {
  const state = new URLSearchParams();
  if (chosen >= 0) state.set("latent", chosen);
  if (search.words) { state.set("q", get("query").value); state.set("in", search.where); }
  if (get("sort").value !== "number") state.set("sort", get("sort").value);
  if (!ascending) state.set("order", "down");
  if (!get("alive").checked) state.set("dead", "1");
  history.replaceState(null, "", `#${state}`);
}

function recall() {
  const state = new URLSearchParams(location.hash.slice(1));
  const latent = Number(state.get("latent"));
  if (state.has("latent") && Number.isInteger(latent) && latent >= 0 && latent < N) {
    chosen = latent;
    if (state.size === 1 && order.length) return show(latent);
  }
  if (state.has("q")) get("query").value = state.get("q");
  if (state.has("in") && places[state.get("in")]) get("where").value = state.get("in");
  if (state.has("sort") && [...get("sort").options].some(option => option.value === state.get("sort"))) get("sort").value = state.get("sort");
  if (state.has("sort")) ascending = state.get("order") !== "down";
  if (state.has("dead")) get("alive").checked = false;
  get("order").textContent = ascending ? "↑" : "↓";
  refresh();
  const one = chosen >= 0 ? chosen : order[0];
  if (one !== undefined) show(one);
}

for (const [key, [name]] of Object.entries(places)) get("where").append(new Option(name, key));
get("sort").append(new Option("by number", "number"));
for (const { key, name } of meta.columns) get("sort").append(new Option(`by ${name}`, key));
get("likeness").textContent = "cosine";
get("likeness").title = meta.columns.find(column => column.key === meta.likeness).name;
get("about").textContent = meta.about;
let waiting = 0;
get("query").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(refresh, 120); });
get("tools").addEventListener("submit", event => { event.preventDefault(); refresh(); });
get("where").addEventListener("change", refresh);
get("alive").addEventListener("change", refresh);
const turn = up => { ascending = up; get("order").textContent = up ? "↑" : "↓"; refresh(); };
get("sort").addEventListener("change", () => turn(get("sort").value === "number"));
get("order").addEventListener("click", () => turn(!ascending));
get("random").addEventListener("click", () => { if (order.length) show(order[Math.floor(Math.random() * order.length)]); });
list.addEventListener("scroll", () => requestAnimationFrame(draw));
addEventListener("resize", draw);
addEventListener("hashchange", recall);
list.addEventListener("click", event => { const row = event.target.closest("[data-latent]"); if (row) show(Number(row.dataset.latent)); });
list.addEventListener("keydown", event => {
  const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20 }[event.key];
  if (!step || !order.length) return;
  event.preventDefault();
  const at = Math.min(order.length - 1, Math.max(0, order.indexOf(chosen) + step)), top = at * HEIGHT;
  if (top < list.scrollTop) list.scrollTop = top;
  if (top + HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = top + HEIGHT - list.clientHeight;
  show(order[at]);
});
recall();
document.body.dataset.open = performance.now().toFixed(0);
setTimeout(indexed, 50);
