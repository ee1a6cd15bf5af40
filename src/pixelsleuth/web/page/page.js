"use strict";
const at = (id) => document.getElementById(id);
const STEPS = { input: "input", restoration: "restoration", map: "unusual", look: "where to look" };
let pictures = {};
let steps = [];
let current = 0;
let most = Infinity;

function headers() {
  return at("token").value ? { Authorization: "Bearer " + at("token").value } : {};
}

async function asked(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: headers() });
  } catch {
    throw new Error("The server does not answer. Look whether pixelsleuth serve still runs, then try again.");
  }
  if (answer.status === 401) {
    at("token-form").hidden = false;
    throw new Error("This server wants its token: the text after --token.");
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.reason || "the server answered " + answer.status);
  }
  return answer;
}

function show() {
  const value = Number(at("slider").value);
  const low = Math.min(Math.max(0, steps.length - 2), Math.floor(value));
  const of = (k) => pictures[steps[Math.min(k, steps.length - 1)]];
  at("under").src = of(low).uri;
  at("over").src = of(low + 1).uri;
  at("over").style.opacity = value - low;
  const caption = of(Math.round(value)).caption;
  at("shown").textContent = caption;
  at("under").alt = caption;
  at("slider").setAttribute("aria-valuetext", caption);
}

function lookAt(record) {
  steps = Object.keys(STEPS).filter((name) => pictures[name]);
  at("looks").hidden = steps.length === 0;
  if (steps.length === 0) return;
  at("slider").max = Math.max(1, steps.length - 1);
  // An alarm asks where: what few normal images have, or, where nothing stands out so far, where to look. Of a normal
  // picture the tint would only mislead.
  const alarm = ["anomalous", "unsure"].includes(record.verdict);
  at("slider").value = alarm ? Math.max(0, steps.indexOf(record.regions.length ? "map" : "look")) : 0;
  at("steps").replaceChildren(...steps.map((name) => {
    const label = document.createElement("span");
    label.textContent = STEPS[name];
    return label;
  }));
  show();
}

function present(told) {
  const record = told.record;
  pictures = told.pictures;
  at("words").textContent = told.words;
  at("words").className = record.verdict;
  at("explained").textContent = told.explained;
  const judged = record.verdict !== "not_applicable";
  at("meaning").hidden = !judged;
  at("no-signal").textContent = judged ? told.no_signal : "";
  lookAt(record);
  const parsed = new DOMParser().parseFromString(told.section, "text/html");
  const parts = (...names) => names.flatMap((name) => [...parsed.querySelectorAll(`[data-part="${name}"]`)])
    .map((part) => document.importNode(part, true));
  at("cautions").replaceChildren(...parts("cautions"));
  at("legend").replaceChildren(...parts("legend"));
  at("drawings").replaceChildren(...parts("timeline", "histogram", "faces", "notes"));
  at("regions").hidden = record.regions.length === 0;
  const body = at("regions").tBodies[0];
  body.replaceChildren(...record.regions.map((region) => {
    const row = document.createElement("tr");
    const depth = region.depth ? "; slices " + region.depth.join(" to ") : "";
    for (const text of [region.box.join(", ") + depth, region.p_value.toFixed(4)]) {
      row.appendChild(document.createElement("td")).textContent = text;
    }
    return row;
  }));
  at("record").textContent = JSON.stringify(record, null, 1);
  at("finding").hidden = false;
  at("words").focus();
}

async function fetchReport(id) {
  const blob = await (await asked("api/jobs/" + id + "/report")).blob();
  const link = at("report");
  if (link.href.startsWith("blob:")) URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(blob);
}

function told(problem) {
  at("progress").textContent = "";
  at("problem").textContent = problem;
}

function remember(name, told_) {
  const item = document.createElement("li");
  const button = item.appendChild(document.createElement("button"));
  button.type = "button";
  button.textContent = name + ": " + told_.words;
  button.addEventListener("click", () => {
    current++;
    told("");
    present(told_);
    fetchReport(told_.id).catch(() => told("Its report is no longer kept; send the file again for one."));
  });
  at("history").prepend(item);
  at("past").hidden = false;
}

async function ended(id, mine) {
  for (;;) {
    const job = await (await asked("api/jobs/" + id)).json();
    if (job.state === "failed") throw new Error(job.reason);
    if (job.state === "done") return job;
    if (mine === current) at("progress").textContent = job.state === "waiting" ? "Waiting for its turn…" : "Looking at it…";
    await new Promise((go) => setTimeout(go, 250));
  }
}

async function judge(file) {
  const mine = ++current;
  at("finding").hidden = true;
  if (file.size > most) {
    told(`${file.name} has ${file.size.toLocaleString("en")} bytes, at most ${most.toLocaleString("en")} are taken; send a smaller one.`);
    return;
  }
  told("");
  at("progress").textContent = "Sending " + file.name + "…";
  try {
    const form = new FormData();
    form.append("file", file);
    const { id } = await (await asked("api/jobs", { method: "POST", body: form })).json();
    const job = await ended(id, mine);
    remember(file.name, job);
    if (mine !== current) return;
    await fetchReport(id);
    present(job);
    told("");
  } catch (error) {
    if (mine === current) told(error.message);
  }
}

async function greet() {
  const [model] = await (await asked("api/models")).json();
  most = model.most_bytes;
  const size = (most / 1e6).toLocaleString("en", { maximumFractionDigits: 1 });
  const scans = model.takes.includes("volume");
  at("takes").textContent = scans ? "a volume" : "a picture or a video";
  at("limit").textContent = (scans ? "NIfTI, Analyze, MGH, NRRD, DICOM in one file" : "JPEG, PNG, HEIC, AVIF, WebP, TIFF, GIF, MP4, MOV, WebM …") + `, up to ${size} MB`;
  for (const word of document.querySelectorAll(".kind")) word.textContent = scans ? "volume" : "picture";
  at("model").textContent = `Model ${model.name}, calibrated on ${model.n_calibration.toLocaleString("en")} normal images; at most `
    + `${(100 * model.max_false_alarm).toLocaleString("en")}% of normal images are called unusual by mistake.`;
  const names = scans ? [] : await (await asked("api/examples")).json();
  at("try").hidden = names.length === 0;
  at("examples").replaceChildren(...names.map((name) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name.replace("_s_", "’s ").replaceAll("_", " ");
    button.addEventListener("click", async () => {
      try {
        const blob = await (await asked("api/examples/" + name)).blob();
        judge(new File([blob], name + ".jpg", { type: "image/jpeg" }));
      } catch (error) {
        told(error.message);
      }
    });
    return button;
  }));
}

async function start() {
  at("file").addEventListener("change", () => { if (at("file").files[0]) judge(at("file").files[0]); at("file").value = ""; });
  at("slider").addEventListener("input", show);
  at("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    told("");
    greet().then(() => { at("token-form").hidden = true; }).catch((error) => told(error.message));
  });
  const drop = at("drop");
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files[0]) judge(event.dataTransfer.files[0]);
    });
  }
  await greet();
}

start().catch((error) => told(error.message));
