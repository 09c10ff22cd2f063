// Charts on canvas. Scores crowd near 0 and 1, so their axis is that of log-odds, from 0.0001 to 0.9999.
export const REACH = 9.2;
export const logOdds = p => p <= 0 ? -REACH : p >= 1 ? REACH : Math.max(-REACH, Math.min(REACH, Math.log(p / (1 - p))));
export const probability = x => 1 / (1 + Math.exp(-x));
const TICKS = [0.001, 0.1, 0.5, 0.9, 0.999];

function begin(canvas) {
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "11px system-ui, sans-serif";
  return { pen, width, height, color: name => style.getPropertyValue("--" + name).trim() };
}

function line(pen, color, x1, y1, x2, y2, dash = []) {
  pen.strokeStyle = color;
  pen.setLineDash(dash);
  pen.beginPath();
  pen.moveTo(x1, y1);
  pen.lineTo(x2, y2);
  pen.stroke();
  pen.setLineDash([]);
}

// points: [[number, verdict, score, peak]]; column: 2 or 3.
export function drawTrend(canvas, points, column, threshold, length) {
  const { pen, width, height, color } = begin(canvas), left = 40, top = 5, bottom = height - 5;
  const y = value => bottom - (logOdds(value) + REACH) / (2 * REACH) * (bottom - top);
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const tick of height > 90 ? TICKS : [0.001, 0.5, 0.999]) {
    line(pen, color("line"), left, y(tick), width, y(tick));
    pen.fillStyle = color("pale");
    pen.fillText(String(tick), left - 5, y(tick));
  }
  if (threshold !== null && threshold !== undefined)
    line(pen, color("ng"), left, y(threshold), width, y(threshold), [5, 4]);
  const step = (width - left - 8) / (length - 1);
  points.forEach((point, index) => {
    const x = width - 4 - (points.length - 1 - index) * step;
    if (point[column] === null) {
      pen.fillStyle = color("lost-fill");
      pen.fillRect(x - 1, bottom - 6, 2, 6);
      return;
    }
    pen.fillStyle = color(point[1] === 1 ? "ng" : "accent");
    pen.beginPath();
    pen.arc(x, y(point[column]), point[1] === 1 ? 3 : 2, 0, 7);
    pen.fill();
  });
}

export function drawBars(canvas, values, threshold, trial) {
  const { pen, width, height, color } = begin(canvas), bins = 60, bottom = height - 16;
  const counts = new Array(bins).fill(0);
  for (const value of values)
    counts[Math.min(bins - 1, Math.floor((logOdds(value) + REACH) / (2 * REACH) * bins))]++;
  const most = Math.max(1, ...counts), x = value => (logOdds(value) + REACH) / (2 * REACH) * width;
  counts.forEach((count, bin) => {
    const tall = count ? Math.max(2, count / most * (bottom - 6)) : 0, middle = ((bin + .5) / bins * 2 - 1) * REACH;
    pen.fillStyle = color(middle >= logOdds(trial) ? "ng" : "accent");
    pen.fillRect(bin * width / bins, bottom - tall, width / bins - 1, tall);
  });
  line(pen, color("line"), 0, bottom + .5, width, bottom + .5);
  pen.fillStyle = color("pale");
  pen.textAlign = "center";
  pen.textBaseline = "top";
  for (const tick of TICKS) pen.fillText(String(tick), x(tick), bottom + 3);
  if (threshold !== null) line(pen, color("ng"), x(threshold), 0, x(threshold), bottom, [5, 4]);
  line(pen, color("ink"), x(trial), 0, x(trial), bottom);
}

// records: of /api/defects; the roll's start is at the left.
export function drawRoll(canvas, roll, records) {
  const { pen, width, height, color } = begin(canvas), left = 44, bottom = height - 18;
  const long = Math.max(1000, roll.metres * 1000), wide = Math.max(1, roll.width_mm);
  const x = mm => left + mm / long * (width - left - 6), y = mm => 4 + mm / wide * (bottom - 4);
  pen.fillStyle = color("track");
  pen.fillRect(left, 4, x(roll.metres * 1000) - left, bottom - 4);
  for (const { record } of records) {
    if (record.event === "gap") {
      if (record.reason === "no web") continue;
      pen.fillStyle = color("gap");
      const from = x(record.first_line * roll.mm_per_line);
      pen.fillRect(from, 4, Math.max(1.5, x((record.first_line + record.lines) * roll.mm_per_line) - from), bottom - 4);
    } else if (record.event === "rule") {
      pen.fillStyle = color("accent");
      pen.fillRect(x(record.y_mm) - 3, 0, 6, 8);
    } else {
      pen.fillStyle = color("ng-fill");
      const tall = record.length_mm / long * (width - left - 6), broad = record.width_mm / wide * (bottom - 4);
      pen.beginPath();
      pen.ellipse(x(record.y_mm) + tall / 2, y(record.x_mm) + broad / 2, Math.max(3.5, tall / 2),
        Math.max(3.5, broad / 2), 0, 0, 7);
      pen.fill();
    }
  }
  pen.fillStyle = color("pale");
  pen.textBaseline = "top";
  pen.textAlign = "center";
  for (let part = 0; part <= 4; part++)
    pen.fillText((long * part / 4000).toFixed(long < 4000 ? 2 : long < 20000 ? 1 : 0) + " m", Math.min(width - 20, x(long * part / 4)), bottom + 4);
  pen.textAlign = "right";
  pen.fillText("0 mm", left - 4, 4);
  pen.fillText(wide.toFixed(0), left - 4, bottom - 12);
}
