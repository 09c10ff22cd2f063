// The live page. Everything that comes from the station is set as text, never as HTML.
import { drawBars, drawRoll, drawTrend, logOdds, probability } from "/charts.js";
import { showStrip } from "/strip.js";
import { followThresholds, listenToThresholds, openThresholds } from "/thresholds.js";

const $ = id => document.getElementById(id);
const SILENT_MS = 3000, TREND = 120, FRAME_MS = 150, SCORES_MS = 2000, SLOTS = 24;
let state = null, heardAt = 0, scores = null, isTried = false, effect = "";
const roll = { number: 0, after: 0, records: [], isAsking: false };

function text(id, value) {
  const node = typeof id === "string" ? $(id) : id, wanted = String(value);
  if (node.textContent !== wanted) node.textContent = wanted;
}
function kind(node, name) { if (node.className !== name) node.className = name; }
const short = value => value === null || value === undefined ? "–" : value >= 0.9995 || value < 0.0005 ?
  Number(value).toPrecision(4) : value.toFixed(3);
const ms = value => value === null ? "–" : (value < 9.95 ? value.toFixed(1) : value.toFixed(0)) + " ms";

function show() {
  if (!state) return;
  const status = state.status, isLost = performance.now() - heardAt > SILENT_MS;
  const name = isLost ? "no connection" : status ? status.state : "starting";
  text("title", state.title);
  if (document.title !== state.title) document.title = state.title;
  text("state", name);
  kind($("state"), "state " + (isLost ? "offline" : name));
  document.body.classList.toggle("web", state.roll !== null);
  showVerdict(status, name, isLost);
  showNumbers(status);
  showLists(status);
  if (state.roll) showRoll(); else showTrends();
  followThresholds(state);
  showGallery();
}

function showVerdict(status, name, isLost) {
  const last = state.last;
  let word = "–", style = "waiting", which = "", why = "";
  if (isLost || name === "fault" || name === "offline") {
    [word, style, why] = [name.toUpperCase(), name === "fault" ? "ng" : "waiting", (status && status.faults[0]) || ""];
  } else if (state.roll) {
    const count = status ? status.defects : 0;
    [word, style] = [count + (count === 1 ? " DEFECT" : " DEFECTS"), count ? "ng" : "ok"];
    which = state.roll.name + ", " + state.roll.metres.toFixed(1) + " m";
  } else if (last) {
    word = { "ok": "OK", "ng": "NG", "not judged": "NOT JUDGED" }[last.verdict];
    style = { "ok": "ok", "ng": "ng", "not judged": "lost" }[last.verdict];
    which = "part " + last.number + (last.part_id ? " (" + last.part_id + ")" : "");
    why = last.reason || (last.decided_by ? "by " + (last.decided_by === "both" ? "score and peak" : last.decided_by) : "");
  }
  text("word", word);
  $("word").classList.toggle("long", word.length > 4);
  text("which", which);
  text("why", why);
  kind($("verdict"), "verdict " + style);
}

function showNumbers(status) {
  if (!status) return;
  const isWeb = state.roll !== null, times = state.latency_ms;
  document.querySelectorAll(".time").forEach(item => { item.hidden = isWeb; });
  text("n1", isWeb ? "metres" : "judged");
  text("n2", isWeb ? "defects" : "NG");
  text("n3", isWeb ? "lines lost" : "not judged");
  text("judged", isWeb ? state.roll.metres.toFixed(1) : status.judged);
  text("ng", isWeb ? status.defects : status.ng);
  text("lost", isWeb ? status.lines_lost : status.not_judged);
  $("lost").classList.toggle("bad", (isWeb ? status.lines_lost : status.not_judged) > 0);
  text("p50", ms(times.p50));
  text("p99", ms(times.p99));
  text("deadline", ms(times.deadline));
  $("p99").classList.toggle("bad", times.deadline !== null && times.p99 > times.deadline);
}

function fill(list, items, empty) {
  const wanted = items.length ? items : [["empty", empty, ""]];
  while (list.children.length > wanted.length) list.lastChild.remove();
  wanted.forEach(([style, words, more], index) => {
    let item = list.children[index];
    if (!item) {
      item = document.createElement("li");
      item.append(document.createElement("b"), document.createElement("span"));
      list.append(item);
    }
    kind(item, style);
    text(item.firstChild, words);
    text(item.lastChild, more);
  });
}

function showLists(status) {
  if (!status) return;
  const cameras = Object.entries(status.cameras).map(([name, isThere]) =>
    [isThere ? "" : "bad", name, isThere ? " camera" : " camera, away"]);
  const outputs = state.outputs.map(output => [output.problem ? "bad" : "", output.name,
    (output.problem ? " " + output.problem : " output") + (output.dropped ? ", " + output.dropped + " given up" : "")]);
  fill($("machine"), [...cameras, ...outputs], "none");
  fill($("notes"), [...status.faults.map(each => ["fault", "", each]), ...status.warnings.map(each => ["", "", each])],
    "none");
}

function showTrends() {
  const last = state.last, from = state.thresholds || {};
  text("score", short(last && last.score));
  text("peak", short(last && last.peak));
  text("score-from", short(from.score));
  text("peak-from", short(from.peak));
  drawTrend($("score-trend"), state.trend, 2, from.score, TREND);
  drawTrend($("peak-trend"), state.trend, 3, from.peak, TREND);
}

// The frame: the next is asked for when the last is there, so a slow connection sees fewer, and the newest.
function followCamera(index, figure) {
  const [image, caption] = figure.children;
  let shown = "", address = "";
  async function turn() {
    const names = Object.keys(state.shown), name = names[index], which = $("bare").checked ? "picture" : "overlay";
    const isWeb = state.roll !== null, number = isWeb ? state.pictures.at(-1) : state.shown[name];
    const wanted = number + which;
    if (number !== undefined && wanted !== shown && !document.hidden) {
      const answer = await fetch(isWeb ? `/api/pictures/${number}/${which}` : `/api/frames/${index}/${which}`);
      if (answer.ok) {
        shown = wanted;
        const next = URL.createObjectURL(await answer.blob());
        image.src = next;
        if (address) URL.revokeObjectURL(address);
        address = next;
        const verdict = answer.headers.get("X-Verdict");
        text(caption, isWeb ? "newest defect, record " + number : `${name}: part ${answer.headers.get("X-Part")}` +
          (verdict ? ", " + verdict.toUpperCase() : ""));
        kind(caption, verdict || "");
      }
    }
  }
  const again = () => turn().catch(() => null).then(() => setTimeout(again, FRAME_MS)); // away: said by `show`
  again();
}

function keepFrames() {
  if (!state) return;
  const wanted = Math.max(1, Object.keys(state.shown).length), frames = $("frames");
  while (frames.children.length < wanted) {
    const figure = document.createElement("figure"), image = document.createElement("img");
    image.alt = "newest frame under its anomaly map";
    figure.append(image, document.createElement("figcaption"));
    frames.append(figure);
    followCamera(frames.children.length - 1, figure);
  }
}

// Slots stay where they are, and what they show is held while somebody points at them.
function showGallery() {
  const list = $("gallery"), isHeld = list.matches(":hover, :focus-within");
  text("gallery-title", (state.roll ? "Newest defects" : "Newest NG") + (isHeld ? " (held while you point here)" : ""));
  if (isHeld) return;
  const wanted = state.pictures.slice(-SLOTS).reverse();
  while (list.children.length < wanted.length) list.append(makeSlot());
  [...list.children].forEach((slot, index) => {
    const number = wanted[index], button = slot.firstChild;
    slot.hidden = number === undefined;
    if (slot.hidden || slot.dataset.number === String(number)) return;
    slot.dataset.number = number;
    button.firstChild.src = `/api/pictures/${number}/overlay`;
    text(button.lastChild, "#" + number);
  });
}

function makeSlot() {
  const slot = document.createElement("li"), button = document.createElement("button");
  const image = document.createElement("img");
  button.type = "button";
  image.alt = "";
  image.loading = "lazy";
  button.append(image, document.createElement("span"));
  button.addEventListener("click", () => view(Number(slot.dataset.number)));
  slot.append(button);
  return slot;
}

function view(number) {
  text("viewer-title", (state.roll ? "Defect, record " : "Part ") + number);
  $("viewer-picture").src = `/api/pictures/${number}/overlay`;
  $("viewer-picture").alt = "picture " + number;
  $("review").hidden = !state.reviews;
  $("contradicted").hidden = true;
  text("reviewed", "");
  $("viewer").dataset.number = number;
  $("viewer").showModal();
}

async function review(mark) {
  const number = $("viewer").dataset.number;
  try {
    const answer = await fetch("/api/review/" + number, { method: "POST", body: mark });
    const found = await answer.json();
    text("reviewed", answer.ok ? ["noted: " + found.mark, found.proposal].filter(Boolean).join("; ") : found.error);
    $("contradicted").hidden = !found.proposal || state.roll !== null;
  } catch {
    text("reviewed", "no connection");
  }
}

async function showRoll() {
  const now = state.roll;
  if (now.number !== roll.number) Object.assign(roll, { number: now.number, after: 0, records: [] });
  text("roll-name", now.name);
  text("roll-length", now.metres.toFixed(1) + " m");
  drawRoll($("roll-map"), now, roll.records);
  showStrip($("strip"), now, roll.records);
  if (roll.isAsking || now.last_defect <= roll.after) return;
  roll.isAsking = true;
  try {
    const found = await (await fetch("/api/defects?after=" + roll.after)).json();
    if (now.number === roll.number) {
      roll.records = roll.records.concat(found.records).slice(-5000);
      roll.after = Math.max(found.last, roll.after + (found.records.length ? 0 : 1));
    }
  } catch { /* no connection: `show` says so */ } finally { roll.isAsking = false; }
}

const quantity = () => document.querySelector("input[name=quantity]:checked").value;

async function askScores() {
  if (!document.hidden && !state.roll) {
    try {
      scores = await (await fetch("/api/scores")).json();
      showBars();
    } catch { /* no connection: `show` says so */ }
  }
  setTimeout(askScores, SCORES_MS);
}

function showBars() {
  if (!scores || !scores.score) return;
  const name = quantity(), other = name === "score" ? "peak" : "score";
  const threshold = scores[name + "_threshold"], others = scores[other + "_threshold"];
  if (!isTried && threshold !== null) $("threshold").value = logOdds(threshold);
  const trial = isTried || threshold === null ? probability(Number($("threshold").value)) : threshold;
  text("count", scores[name].length);
  text("trial", short(trial));
  drawBars($("bars"), scores[name], threshold, trial);
  let more = 0, fewer = 0, ng = 0;
  scores[name].forEach((value, index) => {
    const isOther = others !== null && scores[other][index] >= others;
    const before = isOther || (threshold !== null && value >= threshold), after = isOther || value >= trial;
    ng += after;
    more += after && !before;
    fewer += before && !after;
  });
  effect = `${more + fewer} would change: ${more} more NG, ${fewer} more OK; ${ng} NG in all.`;
  text("effect", isTried ? effect : "NG from here on. " + (state.thresholds ? state.thresholds.statement : ""));
  $("effect").title = state.thresholds ? state.thresholds.statement : "";
}

// Of the dialog: what the line of the histogram was moved to.
function tried() {
  return isTried ? { quantity: quantity(), value: probability(Number($("threshold").value)), effect } : null;
}

async function forgetTrial() {
  isTried = false;
  scores = await (await fetch("/api/scores")).json();
  showBars();
}

function connect() {
  const source = new EventSource("/events");
  source.onmessage = message => {
    const isFirst = state === null;
    state = JSON.parse(message.data);
    if (isFirst) askScores();
    heardAt = performance.now();
    keepFrames();
    requestAnimationFrame(show);
  };
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  };
}

$("threshold").addEventListener("input", () => { isTried = true; showBars(); });
for (const choice of document.querySelectorAll("input[name=quantity]"))
  choice.addEventListener("change", () => { isTried = false; showBars(); });
for (const button of document.querySelectorAll("#review [data-mark]"))
  button.addEventListener("click", () => review(button.dataset.mark));
listenToThresholds(() => forgetTrial().catch(() => null));
$("open-thresholds").addEventListener("click", () => openThresholds(tried()));
$("contradicted").addEventListener("click", () => { $("viewer").close(); openThresholds(null); });
$("close").addEventListener("click", () => $("viewer").close());
addEventListener("resize", () => { show(); showBars(); });
setInterval(show, 1000);
connect();
