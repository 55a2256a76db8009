"use strict";
// Draws the points of `facts` into an image, pixel by pixel: 100,000 take some milliseconds, and no graphics card is
// needed, which hosts of trainings and remote desktops often lack. Whatever text comes from a run becomes text content,
// never markup.
(() => {
  const TYPES = { f4: Float32Array, f8: Float64Array, i4: Int32Array, u1: Uint8Array, u2: Uint16Array, u4: Uint32Array };
  const NONE = 0, OTHER = 1, DIMMED = 2, PICKED = 3, FIRST = 4; // places in the table of colours
  const STEPS = 128; // colours of a scale
  const MAX_LISTED = 500; // names in the legend
  const element = (id) => document.getElementById(id);

  const facts = JSON.parse(element("facts").textContent);
  const columns = facts.columns;
  const count = facts.count, width = facts.width, panels = facts.panels;
  const places = decode("f4", facts.points);
  const stage = element("stage"), image = element("points"), marks = element("marks"), values = element("values");

  const sx = new Float32Array(count), sy = new Float32Array(count), depth = new Float32Array(count);
  const paint = new Uint8Array(count), order = new Uint32Array(count);
  const state = { x: 0, y: 0, scale: 1, rotation: facts.rotation.slice(), size: 3, colour: facts.colour, picked: new Set() };
  let rectangles = [], ratio = 1, table = [], waiting = false, hovered = -1;

  function decode(type, text) {
    const binary = atob(text), bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
    return new TYPES[type](bytes.buffer);
  }

  function data(column) {
    column.values ??= decode(column.type, column.data);
    return column.values;
  }

  // --- from the map to the screen ---

  function layOut() {
    ratio = window.devicePixelRatio || 1;
    const w = Math.max(1, Math.round(stage.clientWidth * ratio)), h = Math.max(1, Math.round(stage.clientHeight * ratio));
    for (const canvas of [image, marks]) { canvas.width = w; canvas.height = h; }
    const heading = panels.length > 1 ? 20 * ratio : 0, gap = panels.length > 1 ? 6 * ratio : 0;
    let best = { size: -1, across: 1 };
    for (let across = 1; across <= panels.length; across++) {
      const down = Math.ceil(panels.length / across), size = Math.min(w / across, h / down - heading);
      if (size > best.size) best = { size, across };
    }
    const down = Math.ceil(panels.length / best.across), cellW = w / best.across, cellH = h / down;
    rectangles = panels.map((_, i) => {
      const left = (i % best.across) * cellW, top = Math.floor(i / best.across) * cellH;
      return { left: Math.floor(left + gap), top: Math.floor(top + heading), right: Math.floor(left + cellW - gap), bottom: Math.floor(top + cellH - gap) };
    });
  }

  // Points of one panel lie together: calls back with the first and the last of each.
  function eachPanel(work) {
    for (let i = 0, first = 0; i < panels.length; first += panels[i].count, i++) work(rectangles[i], first, first + panels[i].count, i);
  }

  function project() {
    const [a, b, c, d, e, f, g, h, k] = state.rotation, m = facts.middle;
    eachPanel((r, first, last) => {
      const midX = (r.left + r.right) / 2, midY = (r.top + r.bottom) / 2;
      for (let i = first; i < last; i++) {
        const x = places[i * width] - m[0], y = places[i * width + 1] - m[1], z = width === 3 ? places[i * 3 + 2] - m[2] : 0;
        sx[i] = midX + (a * x + b * y + c * z - state.x) * state.scale;
        sy[i] = midY - (d * x + e * y + f * z - state.y) * state.scale;
        depth[i] = g * x + h * y + k * z;
      }
    });
  }

  function fit() {
    state.rotation = facts.rotation.slice();
    Object.assign(state, { x: 0, y: 0, scale: 1 });
    project();
    let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
    eachPanel((r, first, last) => {
      const midX = (r.left + r.right) / 2, midY = (r.top + r.bottom) / 2;
      for (let i = first; i < last; i++) {
        left = Math.min(left, sx[i] - midX); right = Math.max(right, sx[i] - midX);
        top = Math.min(top, sy[i] - midY); bottom = Math.max(bottom, sy[i] - midY);
      }
    });
    if (!(right >= left)) return;
    state.x = (left + right) / 2;
    state.y = -(top + bottom) / 2;
    const r = rectangles[0];
    state.scale = 0.92 * Math.min((r.right - r.left) / Math.max(right - left, 1e-9), (r.bottom - r.top) / Math.max(bottom - top, 1e-9));
  }

  // --- drawing ---

  function redraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  }

  function draw() {
    project();
    const w = image.width, h = image.height, context = image.getContext("2d");
    const picture = context.createImageData(w, h), pixels = picture.data;
    pixels.fill(255);
    const stamp = stampOf((state.size * ratio) / 2);
    eachPanel((r, first, last) => {
      sortByDepth(first, last);
      const span = depthSpan(first, last);
      // What is not picked lies below.
      if (state.picked.size) for (let i = first; i < last; i++) if (paint[order[i]] === DIMMED) put(order[i], r, stamp, pixels, w, span);
      for (let i = first; i < last; i++) if (!state.picked.size || paint[order[i]] !== DIMMED) put(order[i], r, stamp, pixels, w, span);
    });
    context.putImageData(picture, 0, 0);
    drawMarks();
    stage.dataset.scale = state.scale;
    document.body.dataset.ready = "1";
  }

  function put(i, r, stamp, pixels, w, span) {
    const x0 = Math.round(sx[i]), y0 = Math.round(sy[i]), reach = stamp.reach;
    if (x0 < r.left - reach || x0 >= r.right + reach || y0 < r.top - reach || y0 >= r.bottom + reach) return;
    // What is far off is paler.
    const fade = width === 3 ? 0.65 * (span.high - depth[i]) * span.factor : 0;
    const colour = table[paint[i]];
    const red = colour[0] + (255 - colour[0]) * fade, green = colour[1] + (255 - colour[1]) * fade, blue = colour[2] + (255 - colour[2]) * fade;
    for (let k = 0; k < stamp.count; k++) {
      const x = x0 + stamp.x[k], y = y0 + stamp.y[k];
      if (x < r.left || x >= r.right || y < r.top || y >= r.bottom) continue;
      const at = (y * w + x) * 4, share = stamp.share[k];
      pixels[at] += (red - pixels[at]) * share;
      pixels[at + 1] += (green - pixels[at + 1]) * share;
      pixels[at + 2] += (blue - pixels[at + 2]) * share;
    }
  }

  function stampOf(radius) {
    const reach = Math.ceil(radius), stamp = { x: [], y: [], share: [], count: 0, reach };
    for (let y = -reach; y <= reach; y++) {
      for (let x = -reach; x <= reach; x++) {
        const share = 0.85 * Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(x, y)));
        if (share > 0) { stamp.x.push(x); stamp.y.push(y); stamp.share.push(share); stamp.count++; }
      }
    }
    return stamp;
  }

  function depthSpan(first, last) {
    let low = Infinity, high = -Infinity;
    if (width === 3) for (let i = first; i < last; i++) { low = Math.min(low, depth[i]); high = Math.max(high, depth[i]); }
    return { low, high, factor: high > low ? 1 / (high - low) : 0 };
  }

  // In three dimensions the nearest point is drawn last. A counting sort: it is done for each picture.
  function sortByDepth(first, last) {
    if (width === 2) { for (let i = first; i < last; i++) order[i] = i; return; }
    const span = depthSpan(first, last), buckets = 1024, ends = new Uint32Array(buckets + 1);
    const bucket = (i) => Math.floor((depth[i] - span.low) * span.factor * (buckets - 1));
    for (let i = first; i < last; i++) ends[bucket(i) + 1]++;
    for (let b = 0; b < buckets; b++) ends[b + 1] += ends[b];
    for (let i = first; i < last; i++) order[first + ends[bucket(i)]++] = i;
  }

  function drawMarks() {
    const context = marks.getContext("2d");
    context.clearRect(0, 0, marks.width, marks.height);
    context.font = `${12 * ratio}px system-ui, sans-serif`;
    context.textBaseline = "bottom";
    context.lineWidth = ratio;
    eachPanel((r, first, last, i) => {
      if (panels.length < 2) return;
      context.strokeStyle = "#ccc";
      context.strokeRect(r.left + 0.5, r.top + 0.5, r.right - r.left - 1, r.bottom - r.top - 1);
      context.fillStyle = "#444";
      context.fillText(panels[i].title, r.left, r.top - 3 * ratio, r.right - r.left);
    });
    context.lineWidth = 2 * ratio;
    for (const i of sameSample(hovered)) {
      const r = rectangles[panelOf(i)];
      if (sx[i] < r.left || sx[i] > r.right || sy[i] < r.top || sy[i] > r.bottom) continue;
      context.strokeStyle = "#000";
      context.beginPath();
      context.arc(sx[i], sy[i], (state.size / 2 + 4) * ratio, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  function panelOf(i) {
    let panel = 0;
    for (let end = panels[0].count; i >= end && panel < panels.length - 1; end += panels[++panel].count);
    return panel;
  }

  // The point itself, and where other panels have the same row of the input table.
  function sameSample(point) {
    if (point < 0) return [];
    if (facts.sample < 0 || panels.length < 2) return [point];
    const ids = data(columns[facts.sample]), found = [];
    for (let i = 0; i < count; i++) if (ids[i] === ids[point]) found.push(i);
    return found.length <= 4 * panels.length ? found : [point];
  }

  // --- colours ---

  function rgb(hex) { return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)); }

  function onRamp(share) {
    const at = Math.min(1, Math.max(0, share)) * (facts.ramp.length - 1), low = Math.min(Math.floor(at), facts.ramp.length - 2);
    const a = rgb(facts.ramp[low]), b = rgb(facts.ramp[low + 1]);
    return a.map((value, i) => Math.round(value + (b[i] - value) * (at - low)));
  }

  function colourPoints() {
    const column = columns[state.colour];
    table = [rgb(facts.none), rgb(facts.other), [236, 236, 236], [20, 20, 20]];
    if (!column) {
      table.push(rgb(facts.palette[0]));
      paint.fill(FIRST);
    } else if (column.kind === "category") {
      table.push(...facts.palette.map(rgb));
      const own = new Map(column.top.map((code, i) => [code, FIRST + i])), codes = data(column);
      for (let i = 0; i < count; i++) {
        const code = codes[i], named = code < column.names.length;
        if (state.picked.size && !state.picked.has(named ? code : -1)) paint[i] = DIMMED;
        else if (!named) paint[i] = state.picked.size ? PICKED : NONE;
        else paint[i] = own.get(code) ?? (state.picked.size ? PICKED : OTHER);
      }
    } else {
      for (let i = 0; i < STEPS; i++) table.push(onRamp(i / (STEPS - 1)));
      const numbers = data(column), span = column.high - column.low || 1;
      for (let i = 0; i < count; i++) {
        const share = (numbers[i] - column.low) / span;
        paint[i] = Number.isNaN(share) ? NONE : FIRST + Math.round(Math.min(1, Math.max(0, share)) * (STEPS - 1));
      }
    }
  }

  // --- the legend ---

  function child(parent, kind, text) {
    const made = document.createElement(kind);
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  }

  function drawLegend() {
    const legend = element("legend"), column = columns[state.colour];
    legend.replaceChildren();
    legend.hidden = !column;
    if (!column) return;
    child(legend, "h2", column.title);
    if (column.kind === "category") categoryLegend(legend, column);
    else scaleLegend(legend, column);
  }

  function categoryLegend(legend, column) {
    const counts = new Uint32Array(column.names.length + 1), codes = data(column);
    for (let i = 0; i < count; i++) counts[Math.min(codes[i], column.names.length)]++;
    const own = new Set(column.top), rest = [];
    column.names.forEach((_, code) => { if (!own.has(code) && counts[code]) rest.push(code); });
    column.top.forEach((code, i) => entry(legend, facts.palette[i], column.names[code], counts[code], code));
    if (counts[column.names.length]) entry(legend, facts.none, "none", counts[column.names.length], -1);
    if (rest.length) child(legend, "h2", `other (${rest.length.toLocaleString("en")})`);
    for (const code of rest.slice(0, MAX_LISTED)) entry(legend, facts.other, column.names[code], counts[code], code);
    if (rest.length > MAX_LISTED) child(legend, "small", `and ${(rest.length - MAX_LISTED).toLocaleString("en")} more`);
  }

  // A click shows one category, or several, and dims the others.
  function entry(legend, colour, name, rows, code) {
    const button = child(legend, "button");
    button.type = "button";
    button.setAttribute("aria-pressed", state.picked.has(code));
    child(button, "i").style.background = colour;
    child(button, "span", name);
    child(button, "small", rows.toLocaleString("en"));
    button.addEventListener("click", () => {
      if (!state.picked.delete(code)) state.picked.add(code);
      recolour();
    });
  }

  function scaleLegend(legend, column) {
    const stops = facts.ramp.join(", ");
    const bar = child(legend, "div");
    bar.id = "ramp";
    bar.style.background = `linear-gradient(to right, ${stops})`;
    const ends = child(legend, "div");
    ends.id = "ends";
    child(ends, "span", (column.min < column.low ? "≤ " : "") + text(column, column.low));
    child(ends, "span", (column.max > column.high ? "≥ " : "") + text(column, column.high));
    if (column.missing) child(legend, "small", `none: ${column.missing.toLocaleString("en")}, in grey`);
  }

  function recolour() {
    colourPoints();
    drawLegend();
    redraw();
  }

  // --- the values of a row ---

  function text(column, value) {
    if (column.kind === "category") return column.names[value] ?? "none";
    if (Number.isNaN(value)) return "none";
    if (column.kind === "time" && Math.abs(value) < 8.64e15) return new Date(value).toISOString().replace("T", " ").replace("Z", "");
    return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
  }

  function show(point, x, y) {
    hovered = point;
    values.hidden = point < 0;
    drawMarks();
    if (point < 0) return;
    const list = document.createElement("dl");
    for (const column of columns) {
      child(list, "dt", column.title);
      child(list, "dd", text(column, data(column)[point]));
    }
    child(list, "dt", facts.map);
    child(list, "dd", Array.from(places.subarray(point * width, (point + 1) * width), (value) => Number(value.toPrecision(5))).join(", "));
    values.replaceChildren(list);
    const box = values.getBoundingClientRect();
    values.style.left = `${Math.max(4, x + 16 + box.width > innerWidth ? x - 16 - box.width : x + 16)}px`;
    values.style.top = `${Math.max(4, Math.min(y + 16, innerHeight - box.height - 4))}px`;
  }

  function nearest(x, y) {
    const panel = rectangles.findIndex((r) => x >= r.left && x < r.right && y >= r.top && y < r.bottom);
    let best = -1, least = (12 * ratio) ** 2;
    eachPanel((_, first, last, i) => {
      if (i !== panel) return;
      for (let k = first; k < last; k++) {
        if (state.picked.size && paint[k] === DIMMED) continue;
        const distance = (sx[k] - x) ** 2 + (sy[k] - y) ** 2;
        // Of two at one spot the one that is drawn later is seen.
        if (distance < least || (distance === least && width === 2)) { least = distance; best = k; }
      }
    });
    return best;
  }

  // --- pointer and keys ---

  function zoom(factor, x, y) {
    const r = rectangles.find((one) => x >= one.left && x < one.right && y >= one.top && y < one.bottom) ?? rectangles[0];
    const dx = x - (r.left + r.right) / 2, dy = y - (r.top + r.bottom) / 2, before = state.scale;
    state.scale *= factor;
    state.x += dx / before - dx / state.scale;
    state.y -= dy / before - dy / state.scale;
    show(-1);
    redraw();
  }

  function pan(dx, dy) {
    state.x -= dx / state.scale;
    state.y += dy / state.scale;
    redraw();
  }

  function turn(dx, dy) {
    const [p, q] = [dx * 0.008, dy * 0.008], [cp, sp, cq, sq] = [Math.cos(p), Math.sin(p), Math.cos(q), Math.sin(q)];
    // About the axis that points up, then about the one that points right.
    const by = [cp, 0, sp, sq * sp, cq, -sq * cp, -cq * sp, sq, cq * cp], old = state.rotation;
    state.rotation = by.map((_, i) => [0, 1, 2].reduce((sum, k) => sum + by[Math.floor(i / 3) * 3 + k] * old[k * 3 + (i % 3)], 0));
    redraw();
  }

  function listen() {
    let held = null;
    const at = (event) => { const box = stage.getBoundingClientRect(); return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio]; };
    stage.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY * 0.0015), ...at(event)); }, { passive: false });
    stage.addEventListener("pointerdown", (event) => { held = event; stage.setPointerCapture(event.pointerId); });
    for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { held = null; });
    stage.addEventListener("pointermove", (event) => {
      if (!held) { show(nearest(...at(event)), event.clientX, event.clientY); return; }
      const dx = event.clientX - held.clientX, dy = event.clientY - held.clientY;
      const turns = width === 3 && !event.shiftKey && !(event.buttons & 2);
      held = event;
      show(-1);
      if (turns) turn(dx, dy); else pan(dx * ratio, dy * ratio);
    });
    stage.addEventListener("pointerleave", () => show(-1));
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
    stage.addEventListener("dblclick", reset);
    stage.addEventListener("keydown", (event) => {
      const middle = [(rectangles[0].left + rectangles[0].right) / 2, (rectangles[0].top + rectangles[0].bottom) / 2];
      const keys = { "+": () => zoom(1.3, ...middle), "-": () => zoom(1 / 1.3, ...middle), 0: reset, ArrowLeft: () => pan(40, 0), ArrowRight: () => pan(-40, 0), ArrowUp: () => pan(0, 40), ArrowDown: () => pan(0, -40) };
      if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
    });
    element("reset").addEventListener("click", reset);
    element("size").addEventListener("input", (event) => { state.size = Number(event.target.value); redraw(); });
    element("colour").addEventListener("change", (event) => { state.colour = Number(event.target.value); state.picked.clear(); recolour(); });
    new ResizeObserver(() => { layOut(); fit(); redraw(); }).observe(stage);
  }

  function reset() {
    state.picked.clear();
    fit();
    recolour();
  }

  function start() {
    const select = element("colour");
    child(select, "option", "one colour").value = -1;
    columns.forEach((column, i) => { child(select, "option", column.title).value = i; });
    select.value = state.colour;
    state.size = Math.min(7, Math.max(2.5, 260 / Math.sqrt(count || 1)));
    element("size").value = state.size;
    layOut();
    fit();
    listen();
    recolour();
  }

  start();
})();
