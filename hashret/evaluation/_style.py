"""The style sheet of reports: one column of text, wide figures, light and dark by the reader's system."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --sans: -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans", Arial, sans-serif;
  --serif: "Iowan Old Style", "Palatino Linotype", Palatino, "Liberation Serif", Georgia, serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
  --page: #faf9f6; --card: #ffffff; --ink: #24221f; --soft: #625d55; --grey: #8a857d; --grid: #dedad2; --rule: #e6e2da;
  --accent: #2f6fd0; --right: #15875f; --right-ink: #ffffff;
  --s1: #2f6fd0; --s2: #d9762b; --s3: #1f9d73; --s4: #a259c4; --s5: #c8435a; --s6: #7b8a12; --s7: #0f8fa8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #151618; --card: #1e2023; --ink: #e9e6e0; --soft: #aaa59c; --grey: #837e76;
    --grid: #34363a; --rule: #2f3135;
    --accent: #7fb0ff; --right: #35c48d; --right-ink: #10221a;
    --s1: #6ea5ff; --s2: #f0985a; --s3: #4cc79c; --s4: #c58be2; --s5: #f07d90; --s6: #b5c24a; --s7: #4fc0d8;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.6 var(--sans); }
main, header, footer { max-width: 1180px; margin: 0 auto; padding: 0 32px; }
header { padding-top: 72px; padding-bottom: 8px; }
.kicker { margin: 0 0 14px; color: var(--accent); font-size: 13px; font-weight: 600; letter-spacing: .09em; }
h1 { margin: 0; max-width: 22em; font: 600 44px/1.14 var(--serif); letter-spacing: -.012em; text-wrap: balance; }
.subtitle { max-width: 62ch; margin: 18px 0 0; color: var(--soft); font-size: 19px; line-height: 1.5; }
nav { display: flex; flex-wrap: wrap; gap: 4px 22px; margin-top: 26px; font-size: 14px; }
nav a { color: var(--soft); text-decoration: none; border-bottom: 1px solid var(--rule); }
nav a:hover { color: var(--accent); border-color: currentColor; }
section { margin: 56px 0; scroll-margin-top: 24px; }
h2 { margin: 0 0 6px; font: 600 25px/1.25 var(--serif); letter-spacing: -.005em; }
h3 { margin: 0 0 8px; font-size: 15px; font-weight: 600; }
p { margin: 0 0 14px; max-width: 70ch; }
.note { color: var(--soft); font-size: 15px; line-height: 1.55; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); border-top: 1px solid var(--rule);
  border-bottom: 1px solid var(--rule); margin-top: 8px; }
.fact { padding: 22px 20px 20px 0; }
.fact + .fact { padding-left: 20px; border-left: 1px solid var(--rule); }
.fact b { display: block; font: 600 36px/1.1 var(--serif); font-variant-numeric: lining-nums tabular-nums; }
.fact span { display: block; margin-top: 8px; font-size: 14.5px; line-height: 1.4; }
.fact small { display: block; margin-top: 3px; color: var(--soft); font-size: 13.5px; line-height: 1.4; }
.scroll { overflow-x: auto; margin-top: 14px; }
table { border-collapse: collapse; font-size: 15px; font-variant-numeric: lining-nums tabular-nums; }
th, td { padding: 8px 0 8px 30px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
th:first-child { padding-left: 0; text-align: left; }
td.words { text-align: left; white-space: normal; min-width: 12em; max-width: 44em; }
thead th { vertical-align: bottom; color: var(--soft); font-size: 13px; font-weight: 600; border-color: var(--grey); }
thead th.words { text-align: left; }
tbody th { font-weight: 500; }
tbody tr.aside th, tbody tr.aside td { color: var(--soft); }
tbody tr.aside th { font-style: italic; font-weight: 400; }
td b { font-weight: 700; color: var(--accent); }
figure { margin: 0; }
.plot { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 18px 18px 10px;
  margin-top: 14px; }
.plot svg { display: block; width: 100%; height: auto; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(330px, 1fr)); gap: 18px; margin-top: 14px; }
.plots.half { grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); }
.plots .plot { margin-top: 0; }
figcaption { color: var(--soft); font-size: 14px; margin: 6px 0 4px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 22px; margin: 0 0 18px; color: var(--soft); font-size: 14px; }
.legend i { display: inline-block; width: 12px; height: 12px; margin-right: 7px; border-radius: 4px;
  vertical-align: -1px;  box-shadow: inset 0 0 0 2.5px var(--right); }
.row { display: grid; grid-template-columns: 186px 1fr; gap: 26px; padding: 20px 0; border-top: 1px solid var(--rule); }
.row:last-child { border-bottom: 1px solid var(--rule); }
.asked q { display: block; font: 500 20px/1.32 var(--serif); quotes: "\\201C" "\\201D"; overflow-wrap: anywhere; }
.asked img { display: block; width: 132px; height: 132px; object-fit: contain; background: #fff; border-radius: 8px;
  border: 1px solid var(--rule); }
.asked img + q { margin-top: 10px; font-size: 15px; color: var(--soft); }
.hits { display: grid; grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); gap: 16px 11px;
  align-content: start; }
.hit .frame { position: relative; aspect-ratio: 1; overflow: hidden; border-radius: 8px; background: #fff;
  box-shadow: 0 0 0 1px var(--rule); }
.hit img { display: block; width: 100%; height: 100%; object-fit: contain; }
.hit .words { display: flex; align-items: center; height: 100%; padding: 10px; background: var(--card);
  color: var(--ink); font-size: 12px; line-height: 1.35; overflow: hidden; }
.hit.right .frame { box-shadow: 0 0 0 3px var(--right); }
.hit.right .frame::after { content: "\\2713"; position: absolute; top: 0; right: 0; padding: 0 6px 1px 7px;
  border-bottom-left-radius: 8px; background: var(--right); color: var(--right-ink); font-size: 13px;
  font-weight: 700; }
.hit figcaption { margin: 7px 0 0; font-size: 12px; line-height: 1.35; }
.hit figcaption b { color: var(--ink); font-weight: 600; font-variant-numeric: tabular-nums; }
.hit figcaption span { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden;
  overflow-wrap: anywhere; }
.lines { margin: 0; padding: 0; list-style: none; font-size: 15px; line-height: 1.45; }
.lines li { display: flex; gap: 14px; padding: 4px 0 4px 12px; border-left: 3px solid transparent; color: var(--soft); }
.lines li.right { border-color: var(--right); color: var(--ink); }
.lines li.right::after { content: "\\2713"; color: var(--right); font-weight: 700; }
.lines b { min-width: 2em; text-align: right; font-weight: 600; font-variant-numeric: tabular-nums; color: var(--ink); }
pre { margin: 14px 0 0; padding: 18px 22px; overflow-x: auto; background: var(--card); border: 1px solid var(--rule);
  border-radius: 10px; font: 14px/1.7 var(--mono); }
pre .prompt { color: var(--grey); user-select: none; }
main > section > ul { margin: 12px 0 0; padding: 0; list-style: none; max-width: 80ch; color: var(--soft);
  font-size: 14.5px; }
main > section > ul li { padding: 5px 0; }
footer { margin-top: 72px; padding-top: 18px; padding-bottom: 56px; color: var(--grey); font-size: 13px; }
footer::before { content: ""; display: block; border-top: 1px solid var(--rule); margin-bottom: 18px; }
@media (max-width: 700px) {
  main, header, footer { padding-left: 18px; padding-right: 18px; }
  header { padding-top: 40px; }
  h1 { font-size: 32px; }
  .row { grid-template-columns: 1fr; gap: 14px; }
  .hits { grid-template-columns: repeat(auto-fill, minmax(88px, 1fr)); }
  .plots, .plots.half { grid-template-columns: 1fr; }
  .fact + .fact { padding-left: 0; border-left: 0; border-top: 1px solid var(--rule); }
}
@media print { section, .row, .plot { break-inside: avoid; } body { background: #fff; } }
"""
