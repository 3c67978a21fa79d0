// The page: what is asked, asking it, and saying what came. The address bar holds the query, so that it can be shared.

import { Filters } from "./filters.js";
import { Grid, captionOf, idInJson, received } from "./grid.js";

const byId = (id) => document.getElementById(id);
const STEP = 48;
const query = { text: "", like: null, picture: null, k: STEP };
let facts = null;
let asking = null; // the AbortController of the request under way
let timer = 0;

const grid = new Grid({ like: (hit) => { set({ like: { ...hit, name: captionOf(hit) } }); ask({ first: true, focus: true }); } });
const filters = new Filters({ changed: () => soon() });

function set({ text = "", like = null, picture = null }) {
  Object.assign(query, { text, like, picture, k: STEP });
  byId("words").value = text;
  const image = byId("sample-image");
  if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
  image.removeAttribute("src");
  if (like?.thumbnail) image.src = like.thumbnail;
  if (picture) image.src = URL.createObjectURL(picture);
  byId("sample").hidden = !like && !picture;
  byId("sample-name").textContent = like ? `like ${like.name}` : picture?.name ?? "";
  byId("words").placeholder = facts?.encoder === "absent" ? "This collection has no model: choose an item for more like it"
    : like || picture ? "…or type words" : "Type words, or drop a picture";
}

function radius() {
  const slider = byId("radius");
  return slider.value === slider.max ? null : Number(slider.value);
}

function sayRadius() {
  const within = radius();
  byId("radius-value").textContent = within === null ? "any distance" : `${within} of ${facts?.n_bits ?? "?"} bits`;
  byId("radius").setAttribute("aria-valuetext", byId("radius-value").textContent);
}

function remember(replace) {
  const params = new URLSearchParams();
  if (query.text) params.set("q", query.text);
  if (query.like) params.set("like", idInJson(query.like));
  if (radius() !== null) params.set("radius", radius());
  filters.save(params);
  const address = params.size ? `?${params}` : location.pathname;
  if (address === (location.search || location.pathname)) return;
  history[replace ? "replaceState" : "pushState"](null, "", address);
}

function likeFrom(text) {
  if (/^-?\d+$/.test(text)) return { id: text, number: true };
  try {
    const id = JSON.parse(text);
    return typeof id === "string" ? { id, number: false } : null;
  } catch {
    return null; // nothing, or an address that somebody typed
  }
}

async function recall() {
  const params = new URLSearchParams(location.search);
  let like = likeFrom(params.get("like") ?? "");
  if (like) {
    const answer = await fetch(`api/item?id=${encodeURIComponent(like.id)}${like.number ? "&number=true" : ""}`).catch(() => null);
    const item = answer?.ok ? received(await answer.json()) : null;
    like = { ...like, name: item ? captionOf(item) : like.id, thumbnail: item?.thumbnail };
  }
  set({ text: params.get("q") ?? "", like });
  byId("radius").value = params.get("radius") ?? byId("radius").max;
  sayRadius();
  filters.load(params);
  await ask({});
}

function request() {
  const options = { k: Math.min(query.k, facts?.limits.k ?? 1000), radius: radius(), where: filters.where() };
  const json = (body) => ({ method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  if (query.picture) {
    const form = new FormData();
    form.set("picture", query.picture, "picture");
    form.set("k", options.k);
    if (options.radius !== null) form.set("radius", options.radius);
    if (options.where) form.set("where", JSON.stringify(options.where));
    return ["api/search/picture", { method: "POST", body: form }];
  }
  if (query.like) return ["api/search/like", json({ id: query.like.id, number: query.like.number, ...options })];
  if (query.text.trim()) return ["api/search/text", json({ text: query.text, ...options })];
  const params = new URLSearchParams({ k: options.k });
  if (options.where) params.set("where", JSON.stringify(options.where));
  return [`api/items?${params}`, {}];
}

async function ask({ first = false, focus = false, remembered = true } = {}) {
  clearTimeout(timer);
  asking?.abort();
  const mine = (asking = new AbortController());
  if (first) query.k = STEP;
  if (remembered) remember(!first);
  grid.wait();
  byId("problem").hidden = true;
  const started = performance.now();
  const ranked = Boolean(query.picture || query.like || query.text.trim());
  try {
    const answer = await patiently(mine.signal);
    const content = await answer.json();
    if (!answer.ok) throw new Error(content.detail ?? `the server said ${answer.status}`);
    const hits = (content.hits ?? content.items).map(received);
    const took = performance.now() - started;
    if (hits.length < query.k || hits.length >= facts.count) { // items come and go meanwhile
      await learn(mine.signal).catch((error) => { if (error.name === "AbortError") throw error; }); // the hits stand without
    }
    grid.show(hits, { ranked });
    say(hits, ranked, took);
    if (focus) { window.scrollTo({ top: 0 }); grid.focusFirst(); }
  } catch (error) {
    if (error.name === "AbortError") return;
    grid.show([], { ranked });
    complain(error);
  }
}

function complain(error) {
  byId("status").textContent = "";
  byId("problem").textContent = error instanceof TypeError ? "The server does not answer; is it still running?" : capital(error.message);
  byId("problem").hidden = false;
  byId("more").hidden = true;
}

// A server that starts, or has too much to do, says when to ask again.
async function patiently(signal) {
  for (let tries = 0; ; tries += 1) {
    const [path, options] = request();
    const answer = await fetch(path, { ...options, signal });
    const seconds = Number(answer.headers.get("Retry-After"));
    if (answer.ok || !seconds || tries === 8) return answer;
    byId("status").textContent = "The server is starting or busy; asking again…";
    await new Promise((done) => setTimeout(done, seconds * 1000));
    signal.throwIfAborted();
  }
}

const capital = (text) => text.slice(0, 1).toUpperCase() + text.slice(1);

function say(hits, ranked, milliseconds) {
  const what = query.picture ? "the picture" : query.like ? `“${query.like.name}”` : `“${query.text.trim()}”`;
  const near = hits.length ? `, the nearest at ${hits[0].distance} of ${facts.n_bits} bits` : "";
  const hint = radius() !== null && hits.length < query.k ? " within this distance" : "";
  byId("status").textContent = !hits.length ? (ranked ? `Nothing found for ${what}${hint}.` : facts.count ? "Nothing matches these filters." : "There are no items yet.")
    : ranked ? `${hits.length} ${hits.length === 1 ? "hit" : "hits"} for ${what}${near} · ${Math.round(milliseconds)} ms`
    : hits.length < facts.count ? `${hits.length} of ${facts.count.toLocaleString()} items; type words to search` : `All ${hits.length} items`;
  byId("more").hidden = hits.length < query.k || query.k >= facts.limits.k || hits.length >= facts.count;
}

function soon() {
  sayRadius();
  clearTimeout(timer);
  timer = setTimeout(() => ask({}), 300);
}

async function lookFor(file) {
  if (!file) return;
  if (!file.type.startsWith("image/")) { complain(new Error(`the file ${file.name} is no picture that this browser knows.`)); return; }
  set({ picture: await smaller(file) });
  ask({ first: true });
}

// A photo of a telephone has many megabytes, and the encoder looks at few pixels.
async function smaller(file) {
  if (file.size < 2 << 20) return file;
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, 1024 / Math.max(bitmap.width, bitmap.height));
    const canvas = Object.assign(document.createElement("canvas"), { width: Math.round(bitmap.width * scale), height: Math.round(bitmap.height * scale) });
    const pen = canvas.getContext("2d");
    pen.fillStyle = "white"; // below what is transparent, as everywhere; JPEG would have it black
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
    return new File([blob], file.name, { type: "image/jpeg" });
  } catch {
    return file; // a kind of picture that this browser does not know; the server may
  }
}

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  if (byId("words").value.trim() || !(query.like || query.picture)) set({ text: byId("words").value });
  ask({ first: true });
});
byId("words").addEventListener("input", () => {
  if (query.like || query.picture) { const text = byId("words").value; set({ text }); } else query.text = byId("words").value;
  soon();
});
byId("words").addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown") { event.preventDefault(); grid.focusFirst(); }
});
byId("radius").addEventListener("input", soon);
byId("sample-remove").addEventListener("click", () => { set({}); ask({ first: true }); byId("words").focus(); });
byId("choose").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", (event) => { lookFor(event.target.files[0]); event.target.value = ""; });
byId("more").addEventListener("click", () => { query.k += STEP; ask({}); });
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "range";
  if (event.key === "/" && !typing && !byId("detail").open) { event.preventDefault(); byId("words").focus(); byId("words").select(); }
});
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((entry) => entry.type.startsWith("image/"));
  if (file) { event.preventDefault(); lookFor(file); }
});
let inside = 0;
const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragenter", (event) => { if (holdsFiles(event)) { inside += 1; byId("drop").hidden = false; } });
document.addEventListener("dragleave", (event) => { if (holdsFiles(event)) { inside -= 1; byId("drop").hidden = inside > 0 ? false : true; } });
document.addEventListener("dragover", (event) => { if (holdsFiles(event)) event.preventDefault(); });
document.addEventListener("drop", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  inside = 0;
  byId("drop").hidden = true;
  lookFor(event.dataTransfer.files[0]);
});
window.addEventListener("popstate", recall);

// What is served, as it is now.
async function learn(signal) {
  const answer = await fetch("api/collection", { signal });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.detail ?? `the server said ${answer.status}`);
  const known = JSON.stringify(facts?.fields);
  grid.facts = facts = content;
  byId("count").textContent = `${facts.count.toLocaleString()} items`;
  if (JSON.stringify(facts.fields) !== known) filters.setFields(facts.fields);
}

async function begin() {
  grid.wait();
  try {
    await learn();
  } catch (error) {
    grid.show([], { ranked: false });
    complain(error);
    return;
  }
  document.title = `${facts.name} · hashret`;
  byId("name").textContent = facts.name;
  byId("radius").max = facts.n_bits;
  byId("credits").textContent = facts.credits;
  byId("credits").hidden = !facts.credits;
  byId("toggle").hidden = false;
  byId("words").disabled = byId("choose").disabled = facts.encoder === "absent";
  await recall();
}

begin();
