// Which step is shown? One clock for all traces, and the controls that move it.

const RATES = [1, 2, 4, 8, 16, 32, 64];
const RUN_SECONDS = 8;

/** Return the step of a trace that the clock shows. */
function stepOf(clock, trace) {
  if (clock.sync === "share") return Math.round((clock.at / Math.max(clock.most, 1)) * trace.last);
  return Math.min(clock.at, trace.last);
}

/** Return where on the clock a trace ends. */
function endOf(clock, trace) {
  return clock.sync === "share" ? clock.most : trace.last;
}

/** Return a clock that shows the end of traces. */
function clockOf(traces, sync) {
  const most = Math.max(...traces.map((trace) => trace.last));
  const fitting = RATES.find((rate) => most / rate <= RUN_SECONDS) ?? RATES[RATES.length - 1];
  return { at: most, most, sync, rate: fitting, playing: false };
}

/** Return the controls: their element, and a function that shows the clock in them. */
function transport(clock, changed) {
  const go = (at) => {
    clock.at = Math.min(Math.max(Math.round(at), 0), clock.most);
    changed();
  };
  const play = make("button", { class: "play", type: "button", click: () => toggle() });
  const slider = make("input", {
    type: "range", min: 0, max: clock.most, step: 1, "aria-label": "step", class: "slider",
    input: () => {
      pause();
      go(Number(slider.value));
    },
  });
  const said = make("output", { class: "step" });
  const back = make("button", { type: "button", "aria-label": "one step back", click: () => hop(-1) }, "‹");
  const on = make("button", { type: "button", "aria-label": "one step on", click: () => hop(1) }, "›");
  const rates = RATES.map((rate) => [rate, `${rate} steps/s`]);
  const speed = choice(rates, clock.rate, (rate) => (clock.rate = Number(rate)));
  speed.setAttribute("aria-label", "speed");
  const element = make("div", { class: "transport", role: "group", "aria-label": "steps" },
    play, back, on, slider, said, speed);
  const pause = () => {
    clock.playing = false;
    face();
  };
  const hop = (by) => {
    pause();
    go(clock.at + by);
  };
  const toggle = () => {
    clock.playing = !clock.playing;
    face();
    if (!clock.playing) return;
    if (clock.at === clock.most) go(0);
    run(clock, go, pause);
  };
  const face = () => {
    play.textContent = clock.playing ? "❚❚" : "▶";
    play.setAttribute("aria-label", clock.playing ? "pause" : "play");
  };
  const show = () => {
    slider.max = clock.most;
    slider.value = clock.at;
    slider.setAttribute("aria-valuetext", `step ${clock.at} of ${clock.most}`);
    said.textContent = `${clock.at} / ${clock.most}`;
  };
  face();
  return { element, show, go, hop, toggle, pause };
}

/** Move on with time until the end or a pause; where drawing is slow, steps are left out. */
function run(clock, go, pause) {
  let from = performance.now(), owed = 0;
  const tick = (now) => {
    if (!clock.playing) return;
    owed += ((now - from) / 1000) * clock.rate;
    from = now;
    if (owed >= 1) {
      go(clock.at + Math.floor(owed));
      owed %= 1;
    }
    if (clock.at === clock.most) pause();
    else requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
}

/** Let keys move the clock from wherever they are not needed. */
function shortcuts(controls, clock, hide) {
  const keys = {
    ArrowLeft: () => controls.hop(-1),
    ArrowRight: () => controls.hop(1),
    Home: () => controls.hop(-clock.most),
    End: () => controls.hop(clock.most),
    " ": () => controls.toggle(),
  };
  const anywhere = { ",": () => controls.hop(-1), ".": () => controls.hop(1), Escape: hide };
  return (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input[type=search], select");
    const own = event.target.matches("input, select, button, summary, [role=option]");
    const spoken = (!own && keys[event.key]) || ((!typing || event.key === "Escape") && anywhere[event.key]);
    if (!spoken) return;
    event.preventDefault();
    spoken();
  };
}
