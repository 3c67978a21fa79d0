// The hits as a grid of cards that arrow keys walk, and one hit in full. Knows nothing of requests.

const byId = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// A hit as the page uses it: its id as text, as numbers lose digits here, and its picture from where the page lies,
// which behind a proxy need not be the server's root.
export function received(hit) {
  return { ...hit, id: hit.id_text ?? String(hit.id), number: typeof hit.id === "number", thumbnail: hit.thumbnail?.replace(/^\//, "") };
}

export const idInJson = ({ id, number }) => (number ? id : JSON.stringify(id));

export function captionOf(hit) {
  const { captions, name, title, caption } = hit.metadata;
  const words = Array.isArray(captions) && captions.length ? captions[0] : name ?? title ?? caption;
  return typeof words === "string" && words ? words : hit.id;
}

const INNER = ["mtime_ns", "content"]; // how an index knows a file again

const written = (value) =>
  Array.isArray(value) ? value.map(written).join("\n")
  : value !== null && typeof value === "object" ? JSON.stringify(value)
  : typeof value === "number" && !Number.isInteger(value) ? String(Math.round(value * 1000) / 1000)
  : String(value);

export class Grid {
  constructor({ like }) {
    this.list = byId("hits");
    this.like = like;
    this.facts = { n_bits: 1, fields: [] };
    this.hits = [];
    this.list.addEventListener("keydown", (event) => this.key(event));
    this.list.addEventListener("focusin", (event) => this.makeCurrent(event.target.closest(".card")));
    this.dialog = byId("detail");
    byId("detail-close").addEventListener("click", () => this.dialog.close());
    byId("detail-like").addEventListener("click", () => { this.dialog.close(); this.like(this.shown); });
    this.dialog.addEventListener("click", (event) => { if (event.target === this.dialog) this.dialog.close(); });
  }

  wait() {
    if (this.hits.length) this.list.classList.add("waiting");
    else this.list.replaceChildren(...Array.from({ length: 12 }, () => element("li", { class: "blank", "aria-hidden": "true" })));
    this.list.setAttribute("aria-busy", "true");
  }

  show(hits, { ranked }) {
    this.hits = hits;
    this.ranked = ranked;
    this.list.classList.remove("waiting");
    this.list.setAttribute("aria-busy", "false");
    this.list.replaceChildren(...hits.map((hit, at) => this.card(hit, at)));
    this.makeCurrent(this.list.firstElementChild);
  }

  card(hit, at) {
    const caption = captionOf(hit);
    const { n_bits } = this.facts;
    const far = this.ranked ? `${hit.distance} of ${n_bits} bits differ` : "";
    const frame = hit.thumbnail
      ? element("span", { class: "frame" }, element("img", {
          src: hit.thumbnail, srcset: `${hit.thumbnail} 320w, ${hit.thumbnail}&side=640 640w`, sizes: "(max-width: 46rem) 45vw, 220px",
          alt: "", width: 320, height: 320, loading: at < 12 ? "eager" : "lazy", decoding: "async",
          onerror: (event) => event.target.parentNode.replaceWith(element("span", { class: "frame bare" }, "no picture")),
        }))
      : element("span", { class: "frame bare" }, hit.id);
    const nearness = Math.max(0, Math.min(1, 1 - hit.distance / (n_bits / 2)));
    const bar = this.ranked ? element("i") : null;
    if (bar) bar.style.width = `${Math.round(nearness * 100)}%`;
    return element("li", { class: "card", "data-id": idInJson(hit) },
      element("button", { type: "button", class: "open", tabindex: "-1", "aria-label": [caption, far].filter(Boolean).join(", "), onclick: () => this.open(hit) },
        frame,
        this.ranked ? element("span", { class: "meter", "aria-hidden": "true" }, bar) : null,
        element("span", { class: "caption", title: caption }, caption),
        element("span", { class: "facts" }, this.brief(hit)),
        this.ranked ? element("span", { class: "badge", title: far }, hit.distance === 0 ? "same code" : `${hit.distance} bits`) : null),
      element("button", { type: "button", class: "like", tabindex: "-1", "aria-label": `More like ${caption}`, onclick: () => this.like(hit) }, "More like this"));
  }

  brief(hit) {
    const telling = this.facts.fields.filter((field) => field.kind !== "number" || field.values.length || field.name === "year");
    const told = telling.map((field) => (field.kind === "date" ? String(hit.metadata[field.name] ?? "").slice(0, 10) : hit.metadata[field.name]));
    return told.filter((value) => value !== undefined && value !== null && value !== "").slice(0, 3).map((value) => written(value).replaceAll("\n", ", ")).join(" · ") || "\u00a0";
  }

  open(hit) {
    this.shown = hit;
    const image = byId("detail-image");
    image.parentNode.classList.toggle("bare", !hit.thumbnail);
    if (hit.thumbnail) { image.src = `${hit.thumbnail}&side=1280`; image.alt = captionOf(hit); } else image.removeAttribute("src");
    byId("detail-title").textContent = captionOf(hit);
    byId("detail-distance").textContent = this.ranked ? `${hit.distance} of ${this.facts.n_bits} bits differ` : "";
    const facts = [["id", hit.id], ...Object.entries(hit.metadata)].filter(([name, value]) => !INNER.includes(name) && value !== null && value !== "" && !(Array.isArray(value) && !value.length));
    byId("detail-facts").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, written(value))]));
    this.dialog.showModal();
    byId("detail-like").focus();
  }

  makeCurrent(card) {
    if (!card || !card.classList.contains("card") || card === this.current) return;
    for (const [which, index] of [[this.current, "-1"], [card, "0"]])
      for (const button of which?.querySelectorAll("button") ?? []) button.setAttribute("tabindex", index);
    this.current = card;
  }

  focusFirst() {
    this.list.querySelector(".open")?.focus();
  }

  key(event) {
    const cards = [...this.list.children];
    const at = cards.indexOf(event.target.closest(".card"));
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const columns = getComputedStyle(this.list).gridTemplateColumns.split(" ").length;
    const steps = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns, ArrowDown: at + columns, Home: 0, End: cards.length - 1 };
    if (event.key in steps) {
      event.preventDefault();
      const to = steps[event.key];
      if (to < 0 && event.key === "ArrowUp") byId("words").focus();
      else cards[Math.max(0, Math.min(cards.length - 1, to))].querySelector(".open").focus();
    } else if (event.key === "m" || event.key === "M") {
      event.preventDefault();
      this.like(this.hits[at]);
    }
  }
}
