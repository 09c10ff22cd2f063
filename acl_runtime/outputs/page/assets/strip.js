// The last metres of a web: columns of pixels that scroll to the left, with the roll's defects on them.
const MOST = 4000, EACH_MS = 250;
const kept = document.createElement("canvas");
const view = { strip: 0, stop: 0, lines: 1, isAsking: false, askedAt: 0 };
kept.width = MOST;

async function ask() {
  const answer = await fetch(`/api/strip?strip=${view.strip}&after=${view.stop}`);
  const strip = Number(answer.headers.get("X-Strip")), first = Number(answer.headers.get("X-First"));
  if (strip !== view.strip) Object.assign(view, { strip, stop: 0 });
  if (answer.status !== 200) return;
  view.lines = Number(answer.headers.get("X-Lines"));
  const piece = await createImageBitmap(await answer.blob());
  if (kept.height !== piece.height) kept.height = piece.height; // which clears it
  for (let column = 0; column < piece.width;) { // the canvas is a ring
    const at = (first + column) % MOST, wide = Math.min(MOST - at, piece.width - column);
    kept.getContext("2d").drawImage(piece, column, 0, wide, piece.height, at, 0, wide, piece.height);
    column += wide;
  }
  view.stop = first + piece.width;
  piece.close();
}

function draw(canvas, roll, records) {
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  const style = getComputedStyle(document.documentElement), color = name => style.getPropertyValue("--" + name).trim();
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d"), left = 44, scale = height / kept.height;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.fillStyle = color("track");
  pen.fillRect(0, 0, width, height);
  const columns = Math.min(view.stop, Math.ceil((width - left) / scale), MOST), from = view.stop - columns;
  const x = column => width - (view.stop - column) * scale;
  for (let column = from; column < view.stop;) {
    const at = column % MOST, wide = Math.min(MOST - at, view.stop - column);
    pen.drawImage(kept, at, 0, wide, kept.height, x(column), 0, wide * scale, height);
    column += wide;
  }
  const place = mm => mm / roll.mm_per_line / view.lines;
  pen.lineWidth = 2;
  pen.strokeStyle = color("ng-fill");
  for (const { record } of records) {
    if (record.event === "gap" && record.reason !== "no web") {
      pen.fillStyle = color("gap");
      pen.fillRect(x(record.first_line / view.lines), 0, Math.max(1.5, record.lines / view.lines * scale), height);
    }
    if (record.event !== "defect" || place(record.y_mm + record.length_mm) < from) continue;
    const tall = Math.max(10, record.width_mm / roll.width_mm * height + 6), y = (record.x_mm + record.width_mm / 2) / roll.width_mm * height;
    const begin = x(place(record.y_mm)), wide = Math.max(10, place(record.length_mm) * scale + 6);
    pen.strokeRect(begin - 3, Math.max(1, Math.min(height - tall - 1, y - tall / 2)), wide, Math.min(tall, height - 2));
  }
  pen.fillStyle = color("paper");
  pen.fillRect(0, 0, left, height);
  pen.fillStyle = color("pale");
  pen.font = "11px system-ui, sans-serif";
  pen.textAlign = "right";
  pen.textBaseline = "top";
  pen.fillText("last", left - 4, 4);
  pen.fillText((columns * view.lines * roll.mm_per_line / 1000).toFixed(1) + " m", left - 4, 18);
}

// Called whenever the station tells its state; asks for the rows that are new.
export async function showStrip(canvas, roll, records) {
  if (view.stop) draw(canvas, roll, records);
  if (view.isAsking || document.hidden || performance.now() - view.askedAt < EACH_MS) return;
  view.isAsking = true;
  view.askedAt = performance.now();
  try {
    await ask();
    if (view.stop) draw(canvas, roll, records);
  } catch { /* no connection: the page says so */ } finally { view.isAsking = false; }
}
