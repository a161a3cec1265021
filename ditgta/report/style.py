"""The style sheet of the HTML page."""

STYLE = """
:root{--paper:#fff;--ink:#1f2328;--quiet:#59636e;--line:#d5d9de;--wash:#f5f7f9;--good:#00704f;--bad:#b04300;--warn:#fff6e0;--edge:#d9a400}
@media screen and (prefers-color-scheme:dark){:root{--paper:#14171b;--ink:#dfe3e8;--quiet:#9aa4af;--line:#3a4048;--wash:#1d2126;
--good:#3fcf9f;--bad:#ff9a5c;--warn:#2c2512;--edge:#b08900}img.curve{filter:invert(.92) hue-rotate(180deg)}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:76rem;margin:0 auto;padding:2rem 1.25rem 4rem}
h1{font-size:2.1rem;line-height:1.15;margin:0 0 1rem;overflow-wrap:anywhere}
h2{font-size:1.3rem;margin:2.75rem 0 .75rem;padding-bottom:.3rem;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:0 0 .25rem}
p{margin:.5rem 0;max-width:46rem}
.kind{color:var(--quiet);margin:0;font-size:.95rem}
.answer{font-size:1.1rem;max-width:none}
.note{color:var(--quiet);font-size:.875rem;max-width:52rem}
.caution,.warnings{background:var(--warn);border-left:4px solid var(--edge);padding:.6rem .9rem;margin:.9rem 0;max-width:52rem}
.warnings ul{margin:0;padding-left:1.2rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:1rem 0 0;font-size:.925rem;max-width:56rem}
dt{color:var(--quiet)}
dd{margin:0;overflow-wrap:anywhere}
.wide{overflow-x:auto;margin:.5rem 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.925rem;line-height:1.3}
table.main,table.differences{width:100%}
th,td{padding:.45rem .6rem;text-align:right;vertical-align:top;white-space:nowrap}
thead th{font-weight:600;vertical-align:bottom;border-bottom:2px solid var(--line)}
thead th{white-space:normal}
table.main th,table.main td{padding-left:.4rem;padding-right:.4rem}
tbody tr+tr>*{border-top:1px solid var(--line)}
th.name{text-align:left;font-weight:600;position:sticky;left:0;background:var(--paper);white-space:normal;overflow-wrap:break-word;
min-width:7rem;max-width:20rem}
tbody th{font-weight:500}
tr.step th{text-align:left;background:var(--wash);color:var(--quiet);font-weight:600}
tr.step span{position:sticky;left:.6rem}
tr.step+tr>*{border-top:0}
.baseline tr>*{border-top:2px solid var(--line);color:var(--quiet)}
td strong{font-weight:750;text-decoration:underline 2px;text-underline-offset:.18em}
td small,th small{display:block;margin-top:.15em;color:var(--quiet);font-weight:400;font-size:.86em}
sup{line-height:0;font-size:.75em;margin-left:.1em}
.absent{color:var(--quiet)}
.words,th.words{text-align:left}
td.words{white-space:normal;min-width:9rem;max-width:15rem}
.whisker{text-align:center}
svg{vertical-align:middle;stroke:currentColor;fill:currentColor;stroke-width:2}
svg .zero{stroke:var(--quiet);stroke-width:1;stroke-dasharray:2 2}
.better{color:var(--good)}
.worse{color:var(--bad)}
.open{color:var(--quiet)}
td.better,td.worse{font-weight:600}
.swatch{display:inline-block;width:.7em;height:.7em;border-radius:2px;margin-right:.45em;print-color-adjust:exact;-webkit-print-color-adjust:exact}
.notes{list-style:none;padding:0;margin:.25rem 0;color:var(--quiet);font-size:.875rem}
h3{margin-top:1.5rem}
figure{margin:1rem 0}
.beside{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:0 1.5rem;align-items:start}
.beside figure{margin:.5rem 0}
img{max-width:100%;height:auto;display:block}
img.curve{width:100%;max-width:36rem}
details{margin:.75rem 0}
summary{cursor:pointer;font-weight:600;font-size:.95rem}
span.words{white-space:normal;overflow-wrap:anywhere}
details details{margin-left:1rem}
pre{background:var(--wash);padding:.75rem;overflow-x:auto;font-size:.8rem;white-space:pre-wrap;overflow-wrap:anywhere}
code{font-size:.9em}
@media (max-width:40rem){main{padding:1.25rem .9rem 3rem}h1{font-size:1.6rem}dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.4rem}
th,td{padding:.4rem .45rem}th.name{min-width:5.5rem;max-width:8.5rem}table.differences th.name{min-width:8.5rem}}
@media print{@page{margin:12mm}html,body{font-size:9pt}main{max-width:none;padding:0}h2{break-after:avoid;margin-top:1.25rem}
figure,tr,pre,.note{break-inside:avoid}.wide{overflow:visible}table{font-size:7.5pt}th,td{padding:.2rem .3rem}th.name{position:static;min-width:4rem}
table.differences td{white-space:normal}td.words{min-width:4rem}
table.main{font-size:6.5pt}table.main th,table.main td{padding-left:.15rem;padding-right:.15rem}
.beside{grid-template-columns:1fr 1fr}.grids{grid-template-columns:repeat(3,1fr)}summary{list-style:none}
details.raw{display:none}details::details-content{content-visibility:visible;height:auto}}
"""
