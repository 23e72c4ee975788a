// Draws what the server tells, once a second. No library: lines, bars and a map of slots are small SVG and HTML.
"use strict";
const COLORS = ["#2563a8", "#d9822b", "#3f8f5f", "#8e6bbf", "#b3261e", "#5b6875"];
let chosen = location.hash.slice(1) || "0", last = null;

const escape = text => String(text).replace(/[&<>"']/g, c => `&#${c.charCodeAt(0)};`);
const number = (value, digits = 1) => value === null || value === undefined || Number.isNaN(value) ? "–"
  : Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(digits);
const percent = value => value === null || value === undefined ? "–" : `${Math.round(100 * value)}%`;
const duration = s => s >= 5400 ? `${(s / 3600).toFixed(1)} h` : s >= 90 ? `${(s / 60).toFixed(0)} min` : `${number(s, 0)} s`;

// curves: [{name, points: [[x, y], ...]}]; options: {top, percent, log, mark: {value, name}}
function lines(curves, options = {}) {
  const all = curves.flatMap(curve => curve.points).filter(([, y]) => !options.log || y > 0);
  if (all.length < 2) return '<p class="empty">not enough yet</p>';
  const W = 360, H = 150, L = 46, R = 8, T = 8, B = 20;
  const f = options.log ? Math.log10 : y => y, xs = all.map(p => p[0]), ys = all.map(p => f(p[1]));
  const x0 = Math.min(...xs), x1 = Math.max(...xs, x0 + 1e-9);
  let y0 = options.log ? Math.min(...ys) : 0, y1 = options.top ?? Math.max(...ys, options.mark ? f(options.mark.value) : -Infinity);
  if (y1 - y0 < 1e-9) y1 = y0 + 1;
  const X = x => L + (W - L - R) * (x - x0) / (x1 - x0), Y = y => H - B - (H - T - B) * (Math.min(f(y), y1) - y0) / (y1 - y0);
  const label = v => options.percent ? percent(v) : v !== 0 && Math.abs(v) < 0.1 ? v.toPrecision(2) : number(v);
  const ticks = [y0, (y0 + y1) / 2, y1].map(v => options.log ? 10 ** v : v);
  let out = `<svg viewBox="0 0 ${W} ${H}" role="img" aria-label="${escape(curves.map(c => c.name).join(", "))}">`;
  for (const v of ticks) out += `<line x1="${L}" x2="${W - R}" y1="${Y(v)}" y2="${Y(v)}" stroke="#e6ebf0"/><text x="${L - 4}" y="${Y(v) + 4}" text-anchor="end">${label(v)}</text>`;
  out += `<text x="${L}" y="${H - 5}">${number(x0, 0)}</text><text x="${W - R}" y="${H - 5}" text-anchor="end">${escape(options.x ?? "step")} ${number(x1, 0)}</text>`;
  if (options.mark) out += `<line x1="${L}" x2="${W - R}" y1="${Y(options.mark.value)}" y2="${Y(options.mark.value)}" stroke="#b3261e" stroke-dasharray="4 3"/>`;
  curves.forEach((curve, i) => {
    const points = curve.points.filter(([, y]) => !options.log || y > 0).map(([x, y]) => `${X(x).toFixed(1)},${Y(y).toFixed(1)}`).join(" ");
    out += `<polyline points="${points}" fill="none" stroke="${curve.color ?? COLORS[i % COLORS.length]}" stroke-width="1.8" stroke-linejoin="round"/>`;
  });
  return out + "</svg>" + legend(curves.map((c, i) => [c.name, c.color ?? COLORS[i % COLORS.length]]).concat(options.mark ? [[options.mark.name, "#b3261e"]] : []));
}
const legend = rows => `<div class="legend">${rows.map(([name, color]) => `<span><i style="background:${color}"></i>${escape(name)}</span>`).join("")}</div>`;

function bars(histogram) {
  const rows = histogram.rows;
  if (!rows.length) return '<p class="empty">nothing has been read, or no single trajectory is bounded</p>';
  const W = 360, H = 150, L = 38, R = 10, T = 12, B = 20, bound = histogram.bound;
  const most = Math.max(bound, ...rows.map(r => r[0])) + 1, size = Math.max(1, Math.ceil(most / 60)), bins = new Map();
  for (const [reads, count] of rows) bins.set(Math.floor(reads / size), (bins.get(Math.floor(reads / size)) ?? 0) + count);
  const top = Math.max(...bins.values()), w = (W - L - R) / (most / size), X = reads => L + (W - L - R) * reads / most;
  let out = `<svg viewBox="0 0 ${W} ${H}" role="img" aria-label="reads of trajectories"><line x1="${L}" x2="${W - R}" y1="${H - B}" y2="${H - B}" stroke="#e6ebf0"/>`;
  for (const [bin, count] of bins) {
    const h = (H - T - B) * count / top;
    out += `<rect x="${X(bin * size).toFixed(1)}" y="${(H - B - h).toFixed(1)}" width="${Math.max(1, w - 1).toFixed(1)}" height="${h.toFixed(1)}" fill="${bin * size > bound ? "#b3261e" : "#2563a8"}"/>`;
  }
  const edge = Math.min(X(bound + 1), W - R);
  out += `<line x1="${edge}" x2="${edge}" y1="${T - 8}" y2="${H - B}" stroke="#b3261e" stroke-dasharray="4 3"/>`;
  return out + `<text x="${L - 4}" y="${T + 4}" text-anchor="end">${number(top, 0)}</text><text x="${L}" y="${H - 5}">0</text><text x="${W - R}" y="${H - 5}" text-anchor="end">reads, bound K = ${bound}</text></svg>`;
}

const section = (title, body, kind = "") => `<section class="${kind}"><h2>${title}</h2>${body}</section>`;
const figures = rows => `<div class="figures">${rows.map(([name, value]) => `<div><b>${escape(value)}</b><span>${escape(name)}</span></div>`).join("")}</div>`;
const table = (head, rows) => `<div class="scroll"><table><tr>${head.map(h => `<th>${escape(h)}</th>`).join("")}</tr>${rows.map(r => `<tr>${r.map(c => `<td>${escape(c)}</td>`).join("")}</tr>`).join("")}</table></div>`;
const mood = state => ["streaming", "ended", "evaluating"].includes(state) ? "good" : ["killed", "interrupted"].includes(state) ? "bad" : "busy";

function ringMap(ring) {
  if (!ring) return '<p class="empty">there is no ring now</p>';
  const cells = [...ring.letters].map((letter, i) => `<b class="${letter}">${letter === "r" || letter === "h" ? `<i style="height:${ring.left[i]}%"></i>` : ""}</b>`).join("");
  return `<div class="map" title="height: share of reads left">${cells}</div>` + legend([["ready", "#3f8f5f"], ["held by a reader", "#2563a8"], ["being written", "#d9822b"], ["free", "#edf0f3"]])
    + `<p class="advice">${ring.ready} ready, ${ring.writing} being written, ${ring.free} free of ${ring.num_slots}; ${ring.gib.toFixed(2)} GiB; oldest ${duration(ring.oldest_s)}${ring.over_reads ? `; <b>${ring.over_reads} reads beyond the bound</b>` : ""}</p>`;
}

function one(run, index) {
  const e = run.experience, target = e.target ? `<small> of ${number(e.target)} wanted (${percent(e.now / e.target)})</small>` : "<small> new state-action pairs an iteration</small>";
  const w = run.waiting, deaths = Object.entries(run.deaths ?? {}).filter(([, n]) => n);
  const pictures = (run.live_picture ? `<figure><img src="api/runs/${index}/live.png?${Math.floor(Date.now() / 2000)}" alt="newest trajectory" width="480"><figcaption>first frame of what was published last</figcaption></figure>` : "")
    + run.pictures.slice(0, 4).map(name => `<figure><img src="api/runs/${index}/pictures/${encodeURIComponent(name)}" alt="${escape(name)}"><figcaption>${escape(name.replace(/_|\.png/g, " "))}</figcaption></figure>`).join("");
  return section("E: experience throughput", `<div class="big">${number(e.now)}${target}</div>` + lines([{name: "E", points: e.curve}], {mark: e.target ? {value: e.target, name: "wanted"} : null}))
    + section("Who waits", `<div class="big">${w.side === "nobody" ? "nobody" : `${w.side} ${percent(w[w.side])}`}</div><p class="advice ${w.side}">${escape(w.advice)}</p>` + lines([{name: "workers blocked", points: w.curve.map(p => [p[0], p[1]]), color: "#d9822b"}, {name: "learner waits", points: w.curve.map(p => [p[0], p[2]]), color: "#2563a8"}], {top: 1, percent: true}))
    + section(`Replay: ${escape(run.histogram.of)}`, bars(run.histogram) + `<p class="advice">${number(run.histogram.used_up, 0)} used up, read K times each</p>`)
    + section(run.rings > 1 ? `One of ${run.rings} rings` : "Ring", ringMap(run.ring))
    + section("Now", (run.note ? `<p class="advice">${escape(run.note)}</p>` : "") + figures([["step", `${number(run.step, 0)} / ${number(run.steps, 0)}`], ["trajectories published", number(run.published, 0)], ["trajectories / s", number(run.trajectories_per_s, 2)], ["reads / s", number(run.samples_per_s)], ["age at a read", run.age.now === null ? "–" : duration(run.age.now)], ["reads of a trajectory", number(run.reads)], ["learning for", duration(run.elapsed_s)], ["workers lost", deaths.map(([cause, n]) => `${n} ${cause}`).join(", ") || "0"]]))
    + section("Training loss", lines(Object.entries(run.losses).map(([name, points]) => ({name: name.replace("loss_", ""), points})), {log: true}))
    + (run.held_out.length > 1 ? section("Loss on held-out episodes: action", lines([{name: "held out", points: run.held_out}], {log: true})) : "")
    + section("Age of data at a read [s]", lines([{name: "age", points: run.age.curve}]))
    + (run.people.length ? section("At the ring", table(["pid", "state", "published", "read", "idle", "waits"], run.people.map(p => [p.pid, p.state, number(p.published, 0), number(p.acquired, 0), duration(p.idle_s), p.waits])), "wide") : "")
    + (run.success.length ? section("Closed loop in held-out scenes", table(["pilot", "task", "success", "95%", "progress"], run.success.map(r => [r.pilot, r.task, `${r.successes}/${r.episodes}`, `${percent(r.low)}–${percent(r.high)}`, number(r.progress, 2)])), "wide") : "")
    + (pictures ? section("Frames", `<div class="pictures">${pictures}</div>`, "full") : "");
}

function compare(runs) {
  const curve = pick => runs.map(run => ({name: run.name, points: pick(run)}));
  return section("All runs", table(["run", "recipe", "state", "step", "E", "K", "reads", "workers blocked", "learner waits", "age", "success"], runs.map(run => {
      const policy = run.success.filter(r => r.pilot === "policy"), of = policy.reduce((n, r) => n + r.episodes, 0);
      return [run.name, run.recipe, run.state, `${run.step}/${run.steps}`, number(run.experience.now), run.histogram.bound, number(run.reads), percent(run.waiting.workers), percent(run.waiting.learner), run.age.now === null ? "–" : duration(run.age.now), of ? `${policy.reduce((n, r) => n + r.successes, 0)}/${of}` : "–"];
    })), "full")
    + section("E", lines(curve(run => run.experience.curve)))
    + section("Training loss: action", lines(curve(run => run.losses.loss_action ?? Object.values(run.losses)[0] ?? []), {log: true}))
    + section("Loss on held-out episodes: action", lines(curve(run => run.held_out), {log: true}));
}

function draw() {
  if (!last) return;
  const runs = last.runs, tabs = document.getElementById("tabs");
  const names = (runs.length > 1 ? [["all", "compare"]] : []).concat(runs.map((run, i) => [String(i), run.name]));
  if (!names.some(([key]) => key === chosen)) chosen = names[0]?.[0] ?? "all";
  tabs.innerHTML = names.map(([key, name]) => `<button data-key="${key}" aria-pressed="${key === chosen}">${escape(name)}${key === "all" ? "" : ` <span class="pill ${mood(runs[key].state)}">${escape(runs[key].state)}</span>`}</button>`).join("");
  tabs.querySelectorAll("button").forEach(button => button.onclick = () => { chosen = button.dataset.key; location.hash = chosen; draw(); });
  const scrolls = [...document.querySelectorAll(".scroll")].map(part => part.scrollLeft);
  document.getElementById("main").innerHTML = !runs.length ? '<p class="empty">no run is watched</p>' : chosen === "all" ? compare(runs) : one(runs[chosen], chosen);
  document.querySelectorAll(".scroll").forEach((part, i) => part.scrollLeft = scrolls[i] ?? 0);
  const cluster = document.getElementById("cluster"), seen = last.cluster;
  cluster.hidden = !seen;
  if (seen) { cluster.textContent = `cluster ${seen.address}: ${seen.nodes ? `${seen.nodes.length} nodes, ${seen.nodes.reduce((n, node) => n + node.cores, 0)} cores` : seen.state}`; cluster.className = `pill ${seen.nodes ? "good" : seen.state === "asked" ? "busy" : "bad"}`; cluster.title = seen.what ?? ""; }
}

function connect() {
  const link = document.getElementById("link"), source = new EventSource("api/events");
  source.onmessage = event => { last = JSON.parse(event.data); link.textContent = "live"; link.className = "pill good"; draw(); };
  source.onerror = () => { link.textContent = "no answer, trying again"; link.className = "pill bad"; };
}
connect();
