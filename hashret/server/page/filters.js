// Filters: chips and ranges made from the collection's metadata fields, and a filter in JSON; together one `where`.

import { element } from "./grid.js";

const byId = (id) => document.getElementById(id);
const keyOf = (name) => name.replaceAll(".", "\\.");

export class Filters {
  constructor({ changed }) {
    this.changed = changed;
    this.fields = [];
    this.picked = new Map(); // field -> Set of values
    this.ranges = new Map(); // field -> [low, high], texts
    this.problem = ""; // of the filter in JSON
    byId("toggle").addEventListener("click", () => this.open(byId("filters").hidden));
    byId("clear").addEventListener("click", () => { this.clear(); this.changed(); });
    byId("where").addEventListener("input", () => { if (this.checkJson()) this.changed(); });
  }

  open(wanted) {
    byId("filters").hidden = !wanted;
    byId("toggle").setAttribute("aria-expanded", String(wanted));
  }

  clear() {
    this.picked.clear();
    this.ranges.clear();
    byId("where").value = "";
    this.checkJson();
    this.draw();
  }

  setFields(fields) {
    this.fields = fields;
    this.draw();
  }

  toggle(field, value) {
    const values = this.picked.get(field) ?? new Set();
    if (!values.delete(value)) values.add(value);
    if (values.size) this.picked.set(field, values);
    else this.picked.delete(field);
    this.mark();
    this.changed();
  }

  draw() {
    byId("fields").replaceChildren(...this.fields.map((field) => element("fieldset", {},
      element("legend", { title: field.name }, field.name),
      ...(field.values.length && field.kind !== "date" ? field.values.map((value) => this.chip(field.name, value)) : this.range(field)))));
    this.mark();
  }

  chip(name, value) {
    return element("button", { type: "button", class: "pill", "data-chip": JSON.stringify([name, value]), onclick: () => this.toggle(name, value) }, String(value));
  }

  range(field) {
    const now = this.ranges.get(field.name) ?? ["", ""];
    const date = field.kind === "date";
    return ["from", "to"].map((word, side) => element("input", {
      ...(date ? { type: "date", min: field.values[0], max: field.values[1] } : { type: "number", step: "any", placeholder: `${word} ${side ? field.high : field.low}` }),
      value: now[side], title: `${field.name} ${word}`, "aria-label": `${field.name} ${word}`,
      oninput: (event) => {
        const both = this.ranges.get(field.name) ?? ["", ""];
        both[side] = event.target.value;
        if (both.some(Boolean)) this.ranges.set(field.name, both);
        else this.ranges.delete(field.name);
        this.mark();
        this.changed();
      },
    }));
  }

  mark() {
    for (const chip of document.querySelectorAll("[data-chip]")) {
      const [name, value] = JSON.parse(chip.dataset.chip);
      chip.setAttribute("aria-pressed", String(this.picked.get(name)?.has(value) ?? false));
    }
    const chosen = [...this.picked].flatMap(([name, values]) => [...values].map((value) => [name, value]));
    const ranges = [...this.ranges].map(([name, [low, high]]) => [name, `${low || "…"} – ${high || "…"}`]);
    byId("chosen").replaceChildren(
      ...chosen.map(([name, value]) => this.chosen(name, value, () => this.toggle(name, value))),
      ...ranges.map(([name, text]) => this.chosen(name, text, () => { this.ranges.delete(name); this.draw(); this.changed(); })));
    const count = chosen.length + ranges.length + (byId("where").value.trim() ? 1 : 0);
    byId("chosen-count").textContent = count ? ` (${count})` : "";
    byId("clear").disabled = !count;
  }

  chosen(name, text, remove) {
    return element("li", {}, `${name} = ${text}`, element("button", { type: "button", "aria-label": `Remove the filter ${name} = ${text}`, onclick: remove }, "×"));
  }

  checkJson() {
    const text = byId("where").value.trim();
    let problem = "";
    this.json = null;
    if (text) {
      try {
        this.json = JSON.parse(text);
        if (this.json === null || typeof this.json !== "object" || Array.isArray(this.json)) problem = 'A filter is an object such as {"year": 2019}.';
      } catch (error) {
        problem = `This is no JSON yet: ${error.message}`;
      }
    }
    byId("where-problem").textContent = this.problem = problem;
    this.mark();
    return !problem;
  }

  where() {
    if (this.problem) throw new Error(this.problem); // without it more would be found than was asked for
    const parts = [];
    for (const [name, values] of this.picked) {
      const list = this.fields.find((field) => field.name === name)?.kind === "list";
      const key = keyOf(name);
      parts.push(list ? { or: [...values].map((value) => ({ [key]: { contains: value } })) } : { [key]: { in: [...values] } });
    }
    for (const [name, [low, high]] of this.ranges) {
      const date = this.fields.find((field) => field.name === name)?.kind === "date";
      const [from, to] = date ? [low, `${high}T99`] : [Number(low), Number(high)]; // T99: to the end of the day
      parts.push({ [keyOf(name)]: { ...(low ? { gte: from } : {}), ...(high ? { lte: to } : {}) } });
    }
    if (this.json) parts.push(this.json);
    return parts.length ? { and: parts } : null;
  }

  save(params) {
    if (this.picked.size) params.set("pick", JSON.stringify([...this.picked].map(([name, values]) => [name, [...values]])));
    if (this.ranges.size) params.set("range", JSON.stringify([...this.ranges]));
    if (byId("where").value.trim()) params.set("where", byId("where").value.trim());
  }

  load(params) {
    const read = (name) => { try { return new Map(JSON.parse(params.get(name) ?? "[]")); } catch { return new Map(); } };
    this.picked = new Map([...read("pick")].filter(([, values]) => Array.isArray(values)).map(([name, values]) => [name, new Set(values)]));
    this.ranges = new Map([...read("range")].filter(([, both]) => Array.isArray(both)).map(([name, both]) => [name, both.map(String)]));
    byId("where").value = params.get("where") ?? "";
    this.checkJson();
    this.draw();
  }
}
