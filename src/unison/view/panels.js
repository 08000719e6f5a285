// What is shown of a trace? Its rows as text and as maps, its results, its facts.

/** Return the panel of a trace: its element, and a view of each row that is shown. */
function panelOf(trace, rows, seek) {
  const views = rows.map((number) => rowView(trace, number, seek));
  const head = make("h2", { class: "name" }, badge(trace), " ", trace.name);
  const about = make("p", { class: "about" }, aboutOf(trace));
  const element = make("article", { class: "panel" }, head, about, ...views.map((v) => v.element));
  return { element, trace, views };
}

function aboutOf(trace) {
  const most = Math.max(0, ...trace.rows.map((row) => row.nfe));
  return `${trace.label} · ${counted(trace.last, "step")} · ${counted(most, "evaluation")}`;
}

function rowView(trace, number, seek) {
  const row = trace.rows[number];
  const name = `${letterOf(trace.number)}, row ${number}`;
  const view = cellsOf(trace, row, name);
  view.map = mapOf(trace, row, name, seek);
  view.number = number;
  view.caption = make("p", { class: "caption" });
  view.element = make("div", { class: "row" }, view.caption, view.box, view.map.box);
  walkable(view);
  return view;
}

/** Show a step in a row. */
function showRow(view, clock, shade) {
  const step = stepOf(clock, view.trace);
  if (!view.sight || view.sight.step !== step) {
    view.sight = lookAt(view.trace, view.row, step);
    view.uncounted = true;
  }
  view.map.move(step);
  view.map.draw(shade);
}

/** Say how far a row is, and how many tokens differ from the row it is compared with. */
function captionRow(view, several) {
  const { written, open } = counts(view.row, view.sight);
  const step = view.sight.step;
  const taken = view.row.steps.findLastIndex((each) => each <= step) + 1;
  const cost = view.row.moments ? view.row.nfe / view.row.moments : 1;
  const rest = view.trace.mask === null ? " decided" : "";
  const parts = [
    ...(several ? [`row ${view.number}, prompt ${view.row.prompt}`] : []),
    `${written}/${open} tokens${rest}`,
    counted(taken * cost, "evaluation"),
  ];
  if (taken && written) parts.push(`${(written / (taken * cost)).toFixed(2)} tokens each`);
  if (view.differs) parts.push(`${counted(view.differs.count, "token")} unlike ${view.unlike}`);
  view.caption.textContent = parts.join(" · ");
}

/** Mark where each trace's rows show another token than the same row of the first trace. */
function compare(panels, wanted) {
  const [first, ...others] = panels;
  for (const view of first.views) view.differs = null;
  for (const panel of others) {
    panel.views.forEach((view, i) => {
      const base = wanted ? first.views.find((each) => each.number === view.number) : undefined;
      view.differs = base ? difference(base, view) : null;
      view.unlike = letterOf(first.trace.number);
      if (!view.differs) return;
      base.differs ??= new Uint8Array(base.row.length);
      view.differs.forEach((differs, place) => {
        if (place < base.differs.length) base.differs[place] |= differs;
      });
      base.unlike = panels.length > 2 ? "others" : letterOf(panel.trace.number);
    });
  }
  for (const view of panels.flatMap((panel) => panel.views)) {
    if (view.differs) view.differs.count = sum(view.differs);
  }
}

/**
 * Return 1 where two rows have decided on different texts, or one has no such position: by text, for
 * tokenizers number differently.
 */
function difference(base, view) {
  return Uint8Array.from({ length: view.row.length }, (_, place) => {
    if (place >= base.row.length) return 1;
    if (!decided(base.sight.state[place]) || !decided(view.sight.state[place])) return 0;
    const said = (each) => shown(each.trace, each.sight.token[place]);
    return Number(said(base) !== said(view));
  });
}

/** The final text of every row shown; what was given is fainter. */
function resultsOf(panels) {
  const texts = panels.map(({ trace, views }) =>
    make("div", {}, ...views.map(({ row, number }) =>
      make("div", { class: "result" },
        make("h3", {}, badge(trace), ` row ${number}`),
        make("p", { class: "text", "data-row": `${trace.number}.${number}` }, ...pieces(trace, row))))),
  );
  return part("results", "Final text", make("div", { class: "panels" }, ...texts));
}

function pieces(trace, row) {
  const made = [];
  for (let place = 0; place < row.length; place++) {
    const token = tokenAt(row, place, trace.last);
    if (trace.ends.has(token)) continue;
    const kind = row.given[place] ? "was-given" : "was-written";
    const last = made[made.length - 1];
    if (last && last.className === kind) last.textContent += textOf(trace, token);
    else made.push(make("span", { class: kind }, textOf(trace, token)));
  }
  return made;
}

/** What each trace says of its run, side by side; names whose values differ are marked. */
function factsOf(traces) {
  const told = traces.map((trace) => new Map(trace.facts));
  const names = merged(traces.map((trace) => trace.facts.map(([name]) => name)));
  const lines = names.map((name) => {
    const values = told.map((facts) => facts.get(name) ?? "–");
    const differ = new Set(values).size > 1;
    const mark = differ ? [" ", make("abbr", { title: "differs", class: "unequal" }, "≠")] : [];
    return make("tr", { class: differ ? "differ" : "" },
      make("th", { scope: "row" }, name, ...mark),
      ...values.map((value) => make("td", {}, value)));
  });
  const heads = traces.map((trace) => make("th", { scope: "col" }, badge(trace), " ", trace.name));
  const table = make("table", { class: "facts" },
    make("thead", {}, make("tr", {}, make("td"), ...heads)), make("tbody", {}, ...lines));
  return part("facts", "The run", wide(table, "What the traces say of their runs"));
}

/** Return all names in one order: one that only some have stands behind the one before it there. */
function merged(lists) {
  const all = [];
  for (const names of lists) {
    let at = -1;
    for (const name of names) {
      const found = all.indexOf(name);
      if (found < 0) all.splice(++at, 0, name);
      else at = found;
    }
  }
  return all;
}

/** A table in a box of its own that scrolls where it is wider than the page. */
function wide(table, name) {
  return make("div", { class: "wide", role: "region", tabindex: 0, "aria-label": name }, table);
}

/** The list of all traces, to choose those that are shown. */
function indexOf(traces, chosen, choose) {
  const columns = ["trace", "process, strategy", "rows", "steps", "NFE", "tokens per forward", "seed"];
  const lines = traces.map((trace) => {
    const facts = new Map(trace.facts);
    const box = make("input", {
      type: "checkbox", id: `show-${trace.number}`, change: () => choose(trace, box.checked),
    });
    box.checked = chosen.has(trace);
    const name = make("label", { for: box.id }, badge(trace), " ", trace.name);
    const values = [trace.label, trace.rows.length, trace.last, facts.get(NFE), facts.get(RATE), facts.get("seed") ?? "–"];
    return make("tr", {}, make("td", {}, box, " ", name), ...values.map((value) => make("td", {}, String(value))));
  });
  const head = make("tr", {}, ...columns.map((name) => make("th", { scope: "col" }, name)));
  const table = make("table", { class: "index" }, make("thead", {}, head), make("tbody", {}, ...lines));
  return part("index", `${traces.length} traces`, wide(table, "Traces to show"));
}

const NFE = "network evaluations (NFE), most of a row";
const RATE = "tokens per forward, mean of rows";
