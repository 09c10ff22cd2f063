// The dialog in which an administrator sets thresholds, takes them back, or accepts what reviews propose.
const $ = id => document.getElementById(id);
const short = value => value === null || value === undefined ? "–" : Number(value).toPrecision(4);
let now = null, proposal = null, trial = null, mayChange = false, due = null, seen = "";

function text(id, value) {
  if ($(id).textContent !== String(value)) $(id).textContent = value;
}

async function ask(path, body) {
  text("answer", "");
  for (const button of $("thresholds").querySelectorAll("button.changes")) button.disabled = true;
  try {
    const answer = await fetch(path, { method: "POST", body: body === undefined ? "" : JSON.stringify(body) });
    const found = await answer.json();
    text("answer", !answer.ok ? found.error : found.now ? "done" : "");
    return answer.ok;
  } catch {
    text("answer", "no connection");
    return false;
  } finally {
    await renew();
  }
}

async function renew() {
  try {
    ({ now, due, proposal, may_change: mayChange } = await (await fetch("/api/thresholds")).json());
    if (now) show();
  } catch { /* no connection: the page says so */ }
}

function show() {
  if (trial && trial.seen !== now.record) trial = null; // its effect was on others
  const mine = mayChange && !now.fixed;
  text("now-rule", words(now.score, now.peak));
  text("statement", now.statement);
  text("fixed", now.fixed || (mayChange ? "" : "Changes need the administrator's token."));
  $("as-administrator").hidden = mayChange;
  text("wanted", trial === null ? "Move the line of the histogram first." :
    `NG from ${words(...wanted())}. ${trial.effect} Nothing is promised of a threshold that is set by hand.`);
  $("set").disabled = !mine || trial === null;
  $("restore").disabled = !mine || !now.record;
  text("due", due || "Reviews do not contradict the thresholds.");
  const state = proposal ? proposal.state : "";
  $("propose").disabled = !mine || state === "working";
  text("proposal", !proposal ? "" : state === "ready" ?
    `NG from ${words(proposal.score, proposal.peak)}. ${proposal.words}` : proposal.words);
  fill($("facts"), proposal ? proposal.facts : []);
  for (const id of ["accept", "drop"]) $(id).hidden = !proposal;
  $("accept").disabled = !mine || state !== "ready";
  $("drop").disabled = !mine;
}

function fill(list, facts) {
  list.replaceChildren(...facts.map(fact => {
    const item = document.createElement("li");
    item.textContent = fact;
    return item;
  }));
}

const words = (score, peak) => `score ${short(score)}` + (peak === null ? "" : ` or peak ${short(peak)}`);
const wanted = () => trial.quantity === "score" ? [trial.value, now.peak] : [now.score, trial.value];

// tried: { quantity, value, effect }, or null where the line was not moved.
export async function openThresholds(tried) {
  text("answer", "");
  await renew();
  if (!now) return;
  trial = tried && { ...tried, seen: now.record };
  show();
  $("thresholds").showModal();
}

// Whenever the station tells its state.
export function followThresholds(state) {
  const key = JSON.stringify([state.thresholds, state.proposal]);
  if (key === seen) return;
  seen = key;
  ({ thresholds: now, proposal } = state);
  if (now && $("thresholds").open) show();
}

export function listenToThresholds(taken) {
  $("set").addEventListener("click", async () => {
    const [score, peak] = wanted();
    if (await ask("/api/thresholds", { score, peak, seen: now.record })) taken();
  });
  $("restore").addEventListener("click", async () => {
    if (await ask("/api/thresholds/restore", { seen: now.record })) taken();
  });
  $("propose").addEventListener("click", () => ask("/api/proposal"));
  $("accept").addEventListener("click", async () => {
    if (await ask("/api/proposal/accept", { proposal: proposal.id, seen: now.record })) taken();
  });
  $("drop").addEventListener("click", () => ask("/api/proposal/drop"));
  $("thresholds-close").addEventListener("click", () => $("thresholds").close());
}
