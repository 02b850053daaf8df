"""The stylesheet of report.html: readable tables, light and dark, on paper too."""

STYLE = """
:root {
  color-scheme: light dark;
  --text: #1d2329; --soft: #5c6670; --line: #dfe3e8; --page: #fff; --shade: #f5f7f9; --link: #2f6db3;
  --warn: #b25c00; --warn-shade: #fff6e9; --note-shade: #eef5fc; --good: #2c7a52; --good-shade: #edf8f1;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #dde2e7; --soft: #98a3ad; --line: #353c44; --page: #15191d; --shade: #1e2429; --link: #7fb2e8;
    --warn: #f0a549; --warn-shade: #2e2416; --note-shade: #17232f; --good: #6fc496; --good-shade: #16281f;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 1060px; margin: 0 auto; padding: 8px 24px 80px; }
nav {
  position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: 4px 18px; padding: 10px 24px;
  background: var(--page); border-bottom: 1px solid var(--line); font-size: 14px; justify-content: center;
}
nav a { color: var(--link); text-decoration: none; }
nav a:hover { text-decoration: underline; }
h1 { font-size: 30px; line-height: 1.2; margin: 28px 0 8px; letter-spacing: -0.01em; }
h2 { font-size: 22px; margin: 0 0 10px; padding-top: 14px; border-top: 1px solid var(--line); }
h3 { font-size: 17px; margin: 26px 0 8px; }
section { margin-top: 40px; scroll-margin-top: 44px; }
p, ul, ol { margin: 10px 0; max-width: 78ch; }
code { font: 0.88em/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
:not(pre) > code { background: var(--shade); border-radius: 4px; padding: 1px 5px; overflow-wrap: anywhere; }
pre {
  background: var(--shade); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; overflow-x: auto;
}
.wide { overflow-x: auto; margin: 12px 0 18px; }
table { border-collapse: collapse; font-size: 14.5px; font-variant-numeric: tabular-nums; }
th { font-weight: 600; color: var(--soft); text-align: left; vertical-align: bottom; }
th, td { padding: 5px 16px 5px 0; border-bottom: 1px solid var(--line); }
td { vertical-align: top; }
tbody tr:hover { background: var(--shade); }
thead:not(:has(th:not(:empty))) { display: none; }
td code { overflow-wrap: break-word; }
td:first-child code { white-space: nowrap; overflow-wrap: normal; }
dl { display: flex; flex-wrap: wrap; gap: 10px; margin: 18px 0; }
dl div { background: var(--shade); border: 1px solid var(--line); border-radius: 8px; padding: 8px 16px; }
dt { color: var(--soft); font-size: 13px; }
dd { margin: 0; font-size: 20px; font-weight: 600; font-variant-numeric: tabular-nums; }
figure { margin: 16px 0; }
img { width: 100%; display: block; background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 8px; }
aside {
  border-left: 4px solid var(--link); background: var(--note-shade); border-radius: 0 8px 8px 0; padding: 2px 18px;
  margin: 16px 0;
}
aside.warning { border-color: var(--warn); background: var(--warn-shade); }
aside.tip { border-color: var(--good); background: var(--good-shade); }
details { border: 1px solid var(--line); border-radius: 8px; padding: 8px 16px; margin: 14px 0; }
summary { cursor: pointer; color: var(--link); }
@media print { nav { display: none; } section { break-inside: auto; } figure, table { break-inside: avoid; } }
"""
